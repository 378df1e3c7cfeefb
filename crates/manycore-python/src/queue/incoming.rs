//! Space to receive into.

use std::cell::Cell;

use manycore_ipc::ring::Message;

thread_local! {
    /// A message to receive into, so that its space is used again.
    static INCOMING: Cell<Option<Box<Message>>> = const { Cell::new(None) };
}

/// Runs `f` with a message of this thread's; a nested call gets a new one.
pub fn with_message<R>(f: impl FnOnce(&mut Message) -> R) -> R {
    let mut message = INCOMING.take().unwrap_or_default();
    let result = f(&mut message);
    if message.payload.capacity() <= 1 << 20 {
        INCOMING.set(Some(message));
    }
    result
}
