//! Two channels, one in each direction.

use manycore_os::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Messages, Receiver, Sender, channel};
use crate::error::{CreateError, RecvError, SendError};

/// Both ends of a pipe.
pub type Pipe<A, B> = (PipeEnd<A, B>, PipeEnd<B, A>);

/// Makes a pipe: what is sent at one end is received at the other. Sending never waits.
///
/// When one end has been dropped, or the process that had it has ended in whatever way, the other one
/// receives what is left and is told that the pipe is closed.
///
/// ```
/// use manycore::error::RecvError;
/// use manycore::{PipeEnd, Process, pipe};
///
/// fn measure(questions: PipeEnd<usize, String>) {
///     for word in &questions {
///         let len = word.expect("words arrive whole").len();
///         questions.send(&len).expect("who asks is there");
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let (mine, theirs) = pipe()?;
///     let mut child = Process::spawn(measure, theirs)?;
///     mine.send(&"woodchuck".to_owned())?;
///     assert_eq!(mine.recv()?, 9);
///     child.kill()?;
///     assert_eq!(mine.recv(), Err(RecvError::Closed));
///     assert!(child.join().is_err());
///     Ok(())
/// }
/// ```
///
/// # Errors
/// When there is no shared memory.
pub fn pipe<A, B>() -> Result<Pipe<A, B>, CreateError> {
    let ((sender, their_receiver), (their_sender, receiver)) = (channel()?, channel()?);
    let theirs = PipeEnd {
        sender: their_sender,
        receiver: their_receiver,
    };
    Ok((PipeEnd { sender, receiver }, theirs))
}

/// One end of a [`pipe`](crate::pipe()): sends `A`, receives `B`. It travels to other processes; a clone is the same end
/// once more, and the end is gone when all its clones are.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct PipeEnd<A, B> {
    sender: Sender<A>,
    receiver: Receiver<B>,
}

impl<A, B> PipeEnd<A, B> {
    /// What this end sends through.
    #[must_use]
    pub fn sender(&self) -> &Sender<A> {
        &self.sender
    }

    /// What this end receives from.
    #[must_use]
    pub fn receiver(&self) -> &Receiver<B> {
        &self.receiver
    }

    /// Both, for who gives one of them to somebody else.
    #[must_use]
    pub fn into_parts(self) -> (Sender<A>, Receiver<B>) {
        (self.sender, self.receiver)
    }
}

impl<A: Serialize, B> PipeEnd<A, B> {
    /// Sends a copy of `message`.
    ///
    /// # Errors
    /// [`SendError::Closed`] when the other end is gone; see [`Sender::send`].
    pub fn send(&self, message: &A) -> Result<(), SendError> {
        self.sender.send(message)
    }
}

impl<A, B: DeserializeOwned> PipeEnd<A, B> {
    /// Receives a message, waiting while there is none.
    ///
    /// # Errors
    /// [`RecvError::Closed`] when the other end is gone and all messages have been received; see
    /// [`Receiver::recv`].
    pub fn recv(&self) -> Result<B, RecvError> {
        self.receiver.recv()
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    /// As [`PipeEnd::recv`], and [`RecvError::Empty`].
    pub fn try_recv(&self) -> Result<B, RecvError> {
        self.receiver.try_recv()
    }

    /// Receives a message, waiting while there is none and the deadline has not passed.
    ///
    /// # Errors
    /// As [`PipeEnd::try_recv`].
    pub fn recv_until(&self, until: Deadline) -> Result<B, RecvError> {
        self.receiver.recv_until(until)
    }

    /// Receives until the other end is gone.
    pub fn iter(&self) -> Messages<'_, B> {
        self.receiver.iter()
    }
}

impl<'a, A, B: DeserializeOwned> IntoIterator for &'a PipeEnd<A, B> {
    type Item = Result<B, RecvError>;
    type IntoIter = Messages<'a, B>;

    fn into_iter(self) -> Messages<'a, B> {
        self.iter()
    }
}

impl<A, B> Clone for PipeEnd<A, B> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            receiver: self.receiver.clone(),
        }
    }
}
