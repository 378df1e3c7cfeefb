//! Queues between processes.

use std::fmt;
use std::marker::PhantomData;

use manycore_ipc::ring::{Ring, Shape};
use manycore_ipc::wait::Patience;
use manycore_ipc::{HandleError, Hold, Kind};
use manycore_os::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{CreateError, RecvError, SendError};
use crate::{family, handle, item};

/// A queue that any number of processes and threads send to and receive from.
///
/// Messages are copied: what is received is a value of the receiver's own. Each is received once, in
/// the order in which they were sent. A queue travels inside arguments, results and messages, other
/// queues' too, and lives as long as a process or a message has it; a clone is the same queue.
///
/// A process that is killed while it sends or receives leaves the queue in order: its message was sent
/// or was not, and a message that it had not yet received is received by the next.
///
/// ```
/// use manycore::{Process, Queue};
///
/// fn squares((numbers, squares): (Queue<u64>, Queue<u64>)) {
///     for number in numbers.iter() {
///         let number = number.expect("numbers arrive whole");
///         squares.send(&(number * number)).expect("nobody closes it");
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let (numbers, results) = (Queue::new()?, Queue::new()?);
///     let child = Process::spawn(squares, (numbers.clone(), results.clone()))?;
///     numbers.send(&7)?;
///     numbers.close();
///     assert_eq!(results.recv()?, 49);
///     child.join()?;
///     Ok(())
/// }
/// ```
pub struct Queue<T> {
    pub(crate) ring: Hold,
    items: PhantomData<fn(T) -> T>,
}

impl<T> Queue<T> {
    /// Makes a queue for any number of messages. Sending to it never waits.
    ///
    /// # Errors
    /// When there is no shared memory.
    pub fn new() -> Result<Self, CreateError> {
        Self::make(Shape::unbounded())
    }

    /// Makes a queue for at most `most` messages at a time. Sending to it waits while it is full.
    ///
    /// # Errors
    /// When there is no shared memory.
    ///
    /// # Panics
    /// When `most` is zero.
    #[track_caller]
    pub fn bounded(most: usize) -> Result<Self, CreateError> {
        assert!(
            most > 0,
            "a queue for no message at all can never be sent to"
        );
        Self::make(Shape::of_messages(most as u64))
    }

    fn make(shape: Shape) -> Result<Self, CreateError> {
        Ok(Self {
            ring: family::family()?.make_ring(shape)?,
            items: PhantomData,
        })
    }

    fn look<V>(&self, at: impl FnOnce(Ring) -> V) -> Result<V, HandleError> {
        self.ring.ring().map(at)
    }

    /// How many messages are in the queue. Other processes change that at any time.
    #[must_use]
    pub fn len(&self) -> usize {
        // The object is held, so only corrupted memory can hide it; then there is nothing to receive.
        self.look(|ring| usize::try_from(ring.len()).unwrap_or(usize::MAX))
            .unwrap_or(0)
    }

    /// Whether no message is in the queue.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.look(|ring| ring.is_empty()).unwrap_or(true) // as in `len`
    }

    /// Refuses further messages, in all processes. What is in the queue can still be received; then
    /// receivers are told that it is closed, also those that are waiting now.
    pub fn close(&self) {
        let _ = self.look(|ring| ring.close()); // as in `len`
    }

    /// Whether the queue was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.look(|ring| ring.is_closed()).unwrap_or(true) // as in `len`
    }
}

impl<T: Serialize> Queue<T> {
    /// Sends a copy of `message`, waiting while a bounded queue is full. Receiving wakes it up, and so
    /// does closing the queue.
    ///
    /// # Errors
    /// When the queue is closed, the message cannot be encoded, or there is no memory for it.
    pub fn send(&self, message: &T) -> Result<(), SendError> {
        self.send_until(message, Deadline::NEVER)
    }

    /// Sends a copy of `message` if the queue is not full.
    ///
    /// # Errors
    /// As [`Queue::send`], and [`SendError::Full`].
    pub fn try_send(&self, message: &T) -> Result<(), SendError> {
        self.send_until(message, Deadline::PASSED)
    }

    /// Sends a copy of `message`, waiting while the queue is full and the deadline has not passed.
    ///
    /// # Errors
    /// As [`Queue::try_send`].
    pub fn send_until(&self, message: &T, until: Deadline) -> Result<(), SendError> {
        let mut go_on = || true;
        item::send(&self.ring, message, &mut Patience::new(until, &mut go_on))
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Receives a message, waiting while there is none. Sending wakes it up, and so does closing the
    /// queue. That those who would send have died does not, since anybody who has the queue may send: who
    /// started them learns it by [`Child::join`](crate::Child::join) and can close the queue. Of a
    /// [`channel`](crate::channel()) the receivers are told.
    ///
    /// # Errors
    /// When the queue is closed and empty, or a message cannot be decoded; such a message is lost.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::NEVER)
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    /// As [`Queue::recv`], and [`RecvError::Empty`].
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::PASSED)
    }

    /// Receives a message, waiting while there is none and the deadline has not passed.
    ///
    /// # Errors
    /// As [`Queue::try_recv`].
    pub fn recv_until(&self, until: Deadline) -> Result<T, RecvError> {
        item::recv(&self.ring, until)
    }

    /// Receives until the queue is closed and empty.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self }
    }
}

/// The messages of a queue, until it is closed and empty. Waits for each.
#[derive(Debug)]
#[must_use = "iterators do nothing unless they are consumed"]
pub struct Iter<'a, T> {
    queue: &'a Queue<T>,
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    /// A message, or why one was lost.
    type Item = Result<T, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.queue.recv() {
            Err(RecvError::Closed) => None,
            received => Some(received),
        }
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Queue<T> {
    type Item = Result<T, RecvError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            ring: self.ring.clone(),
            items: PhantomData,
        }
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handle::depart(&self.ring)?.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ring = Deserialize::deserialize(deserializer)?;
        Ok(Self {
            ring: handle::arrive(&ring, Kind::Ring)?,
            items: PhantomData,
        })
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
