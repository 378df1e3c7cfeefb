//! The end of a channel that sends.

use std::fmt;
use std::marker::PhantomData;

use manycore_ipc::wait::Patience;
use manycore_ipc::{Handle, HandleError, Hold, Kind, Producer, SourceWatch};
use manycore_os::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::SendError;
use crate::handle::{self, Wire};
use crate::{item, launch};

/// The end of a [`channel`](crate::channel()) that sends. A clone, also one in another process, is another
/// sender of the same channel; when the last is gone, the channel ends.
///
/// It belongs to the process that made or received it: a child that this process makes by a plain `fork`
/// has no part in it, and an end that it uses all the same is an error.
pub struct Sender<T> {
    producer: Producer,
    receivers: SourceWatch,
    items: PhantomData<fn(T)>,
}

impl<T> Sender<T> {
    pub(super) fn new(producer: Producer, receivers: Handle) -> Self {
        Self {
            producer,
            receivers: SourceWatch::on(receivers),
            items: PhantomData,
        }
    }

    /// Whether no receiver is left: nobody will ever receive what is sent now. A receiver that was killed
    /// counts once the kernel has marked it, which it does in the moment of its end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let family = self.producer.queue().family();
        // The objects are held, so only corrupted memory can hide them; then nothing can be sent.
        self.receivers.is_over(family).unwrap_or(true)
    }

    /// How many messages have been sent and not received. Other processes change that at any time.
    #[must_use]
    pub fn len(&self) -> usize {
        let ring = self.producer.ring();
        ring.map_or(0, |ring| usize::try_from(ring.len()).unwrap_or(usize::MAX))
    }

    /// Whether all messages have been received.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends by `send`, unless there is nobody to receive or, if it has to wait, will be nobody any more.
    pub(crate) fn send_by(
        &self,
        until: Deadline,
        send: impl FnOnce(&Hold, &mut Patience<'_>) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let (queue, ring) = (self.producer.queue(), self.producer.ring()?);
        let family = queue.family();
        if self.receivers.is_over(family)? {
            return Err(SendError::Closed);
        }
        let mut look_after_receivers = || {
            launch::look_after_starting();
            if self.receivers.look(family, true) == Ok(true) {
                ring.close(); // they do not come back, and this ends the wait
            }
            true
        };
        send(queue, &mut Patience::new(until, &mut look_after_receivers))
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends a copy of `message`, waiting while a bounded channel is full. Receiving wakes it up, and so
    /// does the end of the last receiver.
    ///
    /// # Errors
    /// When no receiver is left, the message cannot be encoded, or there is no memory for it. The
    /// message was not sent, and is still the caller's. That a receiver was there when a message was sent
    /// does not mean that it will be received: receivers may end later.
    pub fn send(&self, message: &T) -> Result<(), SendError> {
        self.send_until(message, Deadline::NEVER)
    }

    /// Sends a copy of `message` if the channel is not full.
    ///
    /// # Errors
    /// As [`Sender::send`], and [`SendError::Full`].
    pub fn try_send(&self, message: &T) -> Result<(), SendError> {
        self.send_until(message, Deadline::PASSED)
    }

    /// Sends a copy of `message`, waiting while the channel is full and the deadline has not passed.
    ///
    /// # Errors
    /// As [`Sender::try_send`].
    pub fn send_until(&self, message: &T, until: Deadline) -> Result<(), SendError> {
        self.send_by(until, |queue, patience| {
            item::send(queue, message, patience)
        })
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            producer: self.producer.clone(),
            receivers: self.receivers.clone(),
            items: PhantomData,
        }
    }
}

impl<T> Serialize for Sender<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = (
            handle::depart(self.producer.queue())?,
            handle::depart(self.producer.source())?,
            Wire::from(self.receivers.source()),
        );
        parts.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sender<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (ring, source, receivers) = <(Wire, Wire, Wire)>::deserialize(deserializer)?;
        let ring = handle::arrive(&ring, Kind::Ring)?;
        let source = handle::arrive(&source, Kind::Source)?;
        let refused = |error: HandleError| de::Error::custom(handle::refuse(error));
        let producer = Producer::of(ring, source).map_err(refused)?;
        Ok(Self::new(producer, receivers.handle()))
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
