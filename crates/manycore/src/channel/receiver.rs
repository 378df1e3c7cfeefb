//! The end of a channel that receives.

use std::fmt;
use std::marker::PhantomData;

use manycore_ipc::{Hold, Kind, SourceWatch};
use manycore_os::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::RecvError;
use crate::handle::{self, Wire};
use crate::item;

/// The end of a [`channel`](crate::channel()) that receives. A clone, also one in another process, is another
/// receiver of the same channel: each message goes to one of them. When the last is gone, senders are told.
///
/// A message that a killed receiver had not yet received is received by the next. As a
/// [`Sender`](crate::Sender), it belongs to the process that made or received it.
pub struct Receiver<T> {
    presence: Hold, // the first to be dropped
    ring: LastCall,
    items: PhantomData<fn() -> T>,
}

/// Closes the ring if the receiver that was just dropped was the last.
#[derive(Clone)]
struct LastCall {
    ring: Hold,
    receivers: SourceWatch,
}

impl Drop for LastCall {
    fn drop(&mut self) {
        if self.receivers.is_over(self.ring.family()) == Ok(true) {
            if let Ok(ring) = self.ring.ring() {
                ring.close(); // wakes senders that wait for room
            }
        }
    }
}

impl<T> Receiver<T> {
    pub(super) fn new(ring: Hold, presence: Hold) -> Self {
        let receivers = SourceWatch::on(presence.handle());
        Self {
            presence,
            ring: LastCall { ring, receivers },
            items: PhantomData,
        }
    }

    pub(crate) fn ring(&self) -> &Hold {
        &self.ring.ring
    }

    /// How many messages have been sent and not received. Other processes change that at any time.
    #[must_use]
    pub fn len(&self) -> usize {
        let ring = self.ring().ring();
        // The object is held, so only corrupted memory can hide it; then there is nothing to receive.
        ring.map_or(0, |ring| usize::try_from(ring.len()).unwrap_or(usize::MAX))
    }

    /// Whether there is no message now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Receives by `recv`, if this is the process's own.
    pub(crate) fn recv_by<R>(
        &self,
        recv: impl FnOnce(&Hold) -> Result<R, RecvError>,
    ) -> Result<R, RecvError> {
        self.presence.check()?;
        recv(self.ring())
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives a message, waiting while there is none. Sending wakes it up, and so does the end of the
    /// last sender; that it was killed is noticed within a twentieth of a second.
    ///
    /// # Errors
    /// When no sender is left and all messages have been received, or a message cannot be decoded; such a
    /// message is lost.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::NEVER)
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    /// As [`Receiver::recv`], and [`RecvError::Empty`].
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::PASSED)
    }

    /// Receives a message, waiting while there is none and the deadline has not passed.
    ///
    /// # Errors
    /// As [`Receiver::try_recv`].
    pub fn recv_until(&self, until: Deadline) -> Result<T, RecvError> {
        self.recv_by(|ring| item::recv(ring, until))
    }

    /// Receives until no sender is left and all messages have been received.
    pub fn iter(&self) -> Messages<'_, T> {
        Messages { receiver: self }
    }
}

/// The messages of a channel, until no sender is left. Waits for each.
#[derive(Debug)]
#[must_use = "iterators do nothing unless they are consumed"]
pub struct Messages<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T: DeserializeOwned> Iterator for Messages<'_, T> {
    /// A message, or why one was lost.
    type Item = Result<T, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.receiver.recv() {
            Err(RecvError::Closed) => None,
            received => Some(received),
        }
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Receiver<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = Messages<'a, T>;

    fn into_iter(self) -> Messages<'a, T> {
        self.iter()
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self {
            presence: self.presence.clone(),
            ring: self.ring.clone(),
            items: PhantomData,
        }
    }
}

impl<T> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = (
            handle::depart(self.ring())?,
            handle::depart(&self.presence)?,
        );
        parts.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (ring, presence) = <(Wire, Wire)>::deserialize(deserializer)?;
        let ring = handle::arrive(&ring, Kind::Ring)?;
        Ok(Self::new(ring, handle::arrive(&presence, Kind::Source)?))
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
