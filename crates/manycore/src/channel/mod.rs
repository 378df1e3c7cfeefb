//! Channels: queues whose ends know when the other side is gone.
//!
//! | module | what it is |
//! |---|---|
//! | `sender` | the end that sends |
//! | `receiver` | the end that receives |
//! | `pipe` | two channels, one in each direction |
//!
//! `PROTOCOL.md` beside this file says how each side learns of the other's end.

mod pipe;
mod receiver;
mod sender;

use manycore_ipc::ring::Shape;

pub use pipe::{Pipe, PipeEnd, pipe};
pub use receiver::{Messages, Receiver};
pub use sender::Sender;

use crate::error::CreateError;
use crate::family;

/// Makes a channel for any number of messages. Sending to it never waits.
///
/// Both ends may be cloned and travel to other processes. When all senders have been dropped, or the
/// processes that had them have ended in whatever way, the receivers get what is left and are told that
/// the channel is closed. When all receivers are gone, so are senders told. The ends that this process
/// keeps count as well: a receiver waits for ever while its own process has a sender.
///
/// ```
/// use manycore::{Process, Sender, channel};
///
/// fn count(numbers: Sender<u32>) {
///     for number in 1..=3 {
///         numbers.send(&number).expect("somebody receives");
///     }
///     std::process::abort(); // whatever becomes of it
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let (sender, receiver) = channel()?;
///     let child = Process::spawn(count, sender)?; // not a clone: this process keeps none
///     let numbers: Result<Vec<u32>, _> = receiver.iter().collect();
///     assert_eq!(numbers?, [1, 2, 3]);
///     assert!(child.join().is_err());
///     Ok(())
/// }
/// ```
///
/// # Errors
/// When there is no shared memory.
pub fn channel<T>() -> Result<(Sender<T>, Receiver<T>), CreateError> {
    make(Shape::unbounded())
}

/// Makes a channel for at most `most` messages at a time. Sending to it waits while it is full.
///
/// ```
/// use manycore::error::SendError;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (sender, receiver) = manycore::bounded_channel(1)?;
///     sender.send(&"first".to_owned())?;
///     assert_eq!(sender.try_send(&"second".to_owned()), Err(SendError::Full));
///     assert_eq!(receiver.recv()?, "first");
///     drop(receiver);
///     assert_eq!(sender.send(&"third".to_owned()), Err(SendError::Closed));
///     Ok(())
/// }
/// ```
///
/// # Errors
/// When there is no shared memory.
///
/// # Panics
/// When `most` is zero.
#[track_caller]
pub fn bounded_channel<T>(most: usize) -> Result<(Sender<T>, Receiver<T>), CreateError> {
    assert!(
        most > 0,
        "a channel for no message at all can never be sent to"
    );
    make(Shape::of_messages(most as u64))
}

fn make<T>(shape: Shape) -> Result<(Sender<T>, Receiver<T>), CreateError> {
    let family = family::family()?;
    let (ring, receivers) = (family.make_ring(shape)?, family.make_source()?);
    let producer = family.open_producer(&ring)?;
    let sender = Sender::new(producer, receivers.handle());
    Ok((sender, Receiver::new(ring, receivers)))
}
