//! Waiting for the first of several.

use manycore_ipc::Hold;
use manycore_ipc::ring::Ring;
use manycore_ipc::wait::{GaveUp, Patience};
use manycore_os::Deadline;

use crate::{PipeEnd, Queue, Receiver, family, launch};

/// What a [`Select`] can wait for: queues, receivers and pipe ends.
pub trait Selectable: sealed::HasRing {}

impl<S: sealed::HasRing> Selectable for S {}

mod sealed {
    use manycore_ipc::Hold;

    pub trait HasRing {
        fn ring(&self) -> &Hold;
    }
}

impl<T> sealed::HasRing for Queue<T> {
    fn ring(&self) -> &Hold {
        &self.ring
    }
}

impl<T> sealed::HasRing for Receiver<T> {
    fn ring(&self) -> &Hold {
        self.ring()
    }
}

impl<A, B> sealed::HasRing for PipeEnd<A, B> {
    fn ring(&self) -> &Hold {
        self.receiver().ring()
    }
}

/// Waits for the first of several queues, receivers and pipe ends from which there is something to
/// receive: a message, or the news that there will be none any more.
///
/// Where several are ready they come in turn, so that none waits for ever behind a busy one. That one is
/// ready says that its `try_recv` would not have returned [`RecvError::Empty`](crate::error::RecvError::Empty);
/// another process or thread that receives from it may be quicker. One that has ended is ready for good: make
/// a new `Select` without it.
///
/// ```
/// use manycore::error::RecvError;
/// use manycore::{Queue, Select, channel};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let words = Queue::<String>::new()?;
///     let (sender, numbers) = channel::<u32>()?;
///     let mut select = Select::new();
///     let (of_words, of_numbers) = (select.recv(&words), select.recv(&numbers));
///     assert_eq!(select.try_ready(), None);
///     words.send(&"seven".to_owned())?;
///     assert_eq!(select.ready(), of_words);
///     assert_eq!(words.try_recv()?, "seven");
///     drop(sender);
///     assert_eq!(select.ready(), of_numbers);
///     assert_eq!(numbers.try_recv(), Err(RecvError::Closed));
///     Ok(())
/// }
/// ```
#[derive(Debug, Default)]
pub struct Select<'a> {
    rings: Vec<&'a Hold>,
    /// The one to look at first: behind the one that was ready last.
    first: usize,
}

impl<'a> Select<'a> {
    /// One that waits for nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds something to wait for. Returns its number: 0 for the first, and so on.
    pub fn recv(&mut self, from: &'a impl Selectable) -> usize {
        self.rings.push(from.ring());
        self.rings.len() - 1
    }

    /// Waits until one of them is ready; which one.
    ///
    /// # Panics
    /// When nothing was added.
    #[track_caller]
    pub fn ready(&mut self) -> usize {
        self.ready_until(Deadline::NEVER)
            .expect("only a deadline ends the wait")
    }

    /// One of them that is ready now.
    ///
    /// # Panics
    /// When nothing was added.
    #[track_caller]
    pub fn try_ready(&mut self) -> Option<usize> {
        self.ready_until(Deadline::PASSED)
    }

    /// Waits until one of them is ready or the deadline has passed.
    ///
    /// # Panics
    /// When nothing was added.
    #[track_caller]
    pub fn ready_until(&mut self, until: Deadline) -> Option<usize> {
        assert!(!self.rings.is_empty(), "there is nothing to wait for");
        let ready = self.find(until)?;
        self.first = ready + 1;
        Some(ready)
    }

    fn find(&self, until: Deadline) -> Option<usize> {
        let rings: Result<Vec<Ring>, _> = self.rings.iter().map(|hold| hold.ring()).collect();
        let (Ok(rings), Some(family)) = (rings, family::existing()) else {
            // Corrupted memory: whoever receives is told.
            return self.rings.iter().position(|hold| hold.ring().is_err());
        };
        let mut look = || {
            launch::look_after_starting();
            true
        };
        let mut patience = Patience::new(until, &mut look);
        match family.wait_for_any(&rings, self.first, &mut patience) {
            Ok(found) => Some(found),
            Err(GaveUp::TimedOut | GaveUp::Interrupted) => {
                launch::look_after_starting(); // for the next time
                None
            }
        }
    }
}
