//! Space to receive into.

use std::cell::Cell;

use manycore_ipc::ring::Message;

thread_local! {
    /// A message to receive into, so that its space is used again.
    static INCOMING: Cell<Option<Box<Message>>> = const { Cell::new(None) };
}

/// A message that goes back to its thread when it is dropped.
struct Incoming(Option<Box<Message>>);

impl Drop for Incoming {
    #[inline]
    fn drop(&mut self) {
        let message = self.0.take();
        if message
            .as_ref()
            .is_some_and(|it| it.payload.capacity() <= 1 << 20)
        {
            // A thread that is ending has no use for it.
            let _ = INCOMING.try_with(|slot| slot.set(message));
        }
    }
}

/// Runs `f` with a message of this thread's; a nested call gets a new one.
#[inline]
pub fn with_message<R>(f: impl FnOnce(&mut Message) -> R) -> R {
    let mut incoming = Incoming(INCOMING.take());
    f(incoming.0.get_or_insert_default()) // the result is made where the caller wants it, and not copied
}
