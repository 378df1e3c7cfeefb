//! Messages that are bytes, as they are.

use manycore_ipc::wait::Patience;
use manycore_os::Deadline;

use crate::error::{RecvError, SendError};
use crate::{Queue, Receiver, Sender, item};

/// In place of a message type: the messages of a [`Queue`] or a [`channel`](crate::channel()) of `Bytes` are
/// slices of bytes, which are copied as they are. Nothing is encoded, and no memory is taken for a message
/// that fits into the receiver's buffer.
///
/// ```
/// use manycore::{Bytes, Process, Receiver, channel};
///
/// fn checksum(chunks: Receiver<Bytes>) -> u64 {
///     let (mut sum, mut chunk) = (0, Vec::new());
///     while chunks.recv_bytes(&mut chunk).is_ok() {
///         sum += chunk.iter().map(|&byte| u64::from(byte)).sum::<u64>();
///     }
///     sum
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let (sender, receiver) = channel::<Bytes>()?;
///     let child = Process::spawn(checksum, receiver)?;
///     sender.send_bytes(&[1; 1_000_000])?;
///     sender.send_bytes(b"\x02")?;
///     drop(sender);
///     assert_eq!(child.join()?, 1_000_002);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub enum Bytes {}

impl Queue<Bytes> {
    /// As [`Queue::send`].
    ///
    /// # Errors
    /// When the queue is closed, or there is no memory for the message.
    pub fn send_bytes(&self, message: &[u8]) -> Result<(), SendError> {
        self.send_bytes_until(message, Deadline::NEVER)
    }

    /// As [`Queue::send_until`]; with [`Deadline::PASSED`] as [`Queue::try_send`].
    ///
    /// # Errors
    /// As [`Queue::send_bytes`], and [`SendError::Full`].
    pub fn send_bytes_until(&self, message: &[u8], until: Deadline) -> Result<(), SendError> {
        let mut go_on = || true;
        item::send_bytes(&self.ring, message, &mut Patience::new(until, &mut go_on))
    }

    /// As [`Queue::recv`], in place of what is in `into`.
    ///
    /// # Errors
    /// When the queue is closed and empty; then `into` is empty, too.
    pub fn recv_bytes(&self, into: &mut Vec<u8>) -> Result<(), RecvError> {
        self.recv_bytes_until(into, Deadline::NEVER)
    }

    /// As [`Queue::recv_until`], in place of what is in `into`; with [`Deadline::PASSED`] as
    /// [`Queue::try_recv`].
    ///
    /// # Errors
    /// As [`Queue::recv_bytes`], and [`RecvError::Empty`].
    pub fn recv_bytes_until(&self, into: &mut Vec<u8>, until: Deadline) -> Result<(), RecvError> {
        item::recv_bytes(&self.ring, into, until)
    }
}

impl Sender<Bytes> {
    /// As [`Sender::send`].
    ///
    /// # Errors
    /// When no receiver is left, or there is no memory for the message.
    pub fn send_bytes(&self, message: &[u8]) -> Result<(), SendError> {
        self.send_bytes_until(message, Deadline::NEVER)
    }

    /// As [`Sender::send_until`]; with [`Deadline::PASSED`] as [`Sender::try_send`].
    ///
    /// # Errors
    /// As [`Sender::send_bytes`], and [`SendError::Full`].
    pub fn send_bytes_until(&self, message: &[u8], until: Deadline) -> Result<(), SendError> {
        self.send_by(until, |queue, patience| {
            item::send_bytes(queue, message, patience)
        })
    }
}

impl Receiver<Bytes> {
    /// As [`Receiver::recv`], in place of what is in `into`.
    ///
    /// # Errors
    /// When no sender is left and all messages have been received; then `into` is empty, too.
    pub fn recv_bytes(&self, into: &mut Vec<u8>) -> Result<(), RecvError> {
        self.recv_bytes_until(into, Deadline::NEVER)
    }

    /// As [`Receiver::recv_until`], in place of what is in `into`; with [`Deadline::PASSED`] as
    /// [`Receiver::try_recv`].
    ///
    /// # Errors
    /// As [`Receiver::recv_bytes`], and [`RecvError::Empty`].
    pub fn recv_bytes_until(&self, into: &mut Vec<u8>, until: Deadline) -> Result<(), RecvError> {
        self.recv_by(|ring| item::recv_bytes(ring, into, until))
    }
}
