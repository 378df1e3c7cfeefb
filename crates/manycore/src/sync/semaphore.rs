//! So many permits.

use std::fmt;

use manycore_ipc::lock::tokens::MOST;
use manycore_ipc::{HandleError, Hold};
use manycore_os::Deadline;

use super::held::{Held, in_turn, until};
use crate::error::CreateError;
use crate::family;
use crate::handle::travels;

/// So many permits, for which processes and threads wait.
///
/// A permit goes back when it is dropped, and when its process is killed. To signal with a semaphore,
/// [`Semaphore::release`] adds a permit that nobody had, and [`Semaphore::take_until`] takes one for good.
///
/// ```
/// use manycore::Process;
/// use manycore::sync::Semaphore;
///
/// fn work(seats: Semaphore) {
///     let _seat = seats.acquire().expect("the memory is in order");
///     std::process::abort(); // the seat is free again
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let seats = Semaphore::new(2)?;
///     for _ in 0..3 {
///         Process::spawn(work, seats.clone())?.join().unwrap_err();
///     }
///     let _both = (seats.acquire()?, seats.acquire()?);
///     assert!(seats.try_acquire()?.is_none());
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Semaphore {
    hold: Hold,
}

travels!(Semaphore as Semaphore);

/// A permit of a [`Semaphore`], which goes back when this is dropped.
#[must_use = "a permit that is not kept goes back at once"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    held: Held,
}

/// Why no permit was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SemaphoreError {
    /// There are as many permits as there may be.
    #[error("a semaphore has room for {MOST} permits, and there are so many")]
    Full,
    /// The shared memory is corrupted.
    #[error(transparent)]
    Heap(#[from] HandleError),
}

impl Semaphore {
    /// Makes a semaphore with so many permits.
    ///
    /// # Errors
    /// When there is no shared memory.
    ///
    /// # Panics
    /// When these are more than a billion.
    #[track_caller]
    pub fn new(permits: u32) -> Result<Self, CreateError> {
        assert!(permits <= MOST, "a semaphore has room for {MOST} permits");
        Ok(Self {
            hold: family::family()?.make_semaphore(permits, MOST, false)?,
        })
    }

    /// Takes a permit, waiting while there is none.
    ///
    /// # Errors
    /// When the shared memory is corrupted, or full.
    pub fn acquire(&self) -> Result<SemaphorePermit<'_>, HandleError> {
        let permit = self.acquire_until(Deadline::NEVER)?;
        Ok(permit.expect("this patience never ends"))
    }

    /// Takes a permit if there is one.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    pub fn try_acquire(&self) -> Result<Option<SemaphorePermit<'_>>, HandleError> {
        self.acquire_until(Deadline::PASSED)
    }

    /// Takes a permit, waiting until the deadline while there is none.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    pub fn acquire_until(
        &self,
        deadline: Deadline,
    ) -> Result<Option<SemaphorePermit<'_>>, HandleError> {
        let held = Held::new(&self.hold)?;
        let taken = until(deadline, |patience| self.hold.hold_token(patience))?;
        Ok(taken.is_ok().then(|| SemaphorePermit {
            semaphore: self,
            held,
        }))
    }

    /// Takes a permit for good, waiting until the deadline while there is none; `false` when there was none. It is
    /// somebody's signal, and does not come back when this process is killed.
    ///
    /// # Errors
    /// When the shared memory is corrupted.
    pub fn take_until(&self, deadline: Deadline) -> Result<bool, HandleError> {
        let taken = until(deadline, |patience| self.hold.take_token(patience))?;
        Ok(taken.is_ok())
    }

    /// Adds a permit.
    ///
    /// # Errors
    /// When there are as many as there may be, or the shared memory is corrupted.
    pub fn release(&self) -> Result<(), SemaphoreError> {
        if self.hold.semaphore()?.give() {
            Ok(())
        } else {
            Err(SemaphoreError::Full)
        }
    }

    /// How many permits there are. Other processes change that at any time.
    #[must_use]
    pub fn available_permits(&self) -> u32 {
        // The object is held, so only corrupted memory can hide it; `acquire` says so.
        self.hold.semaphore().map_or(0, |tokens| tokens.value())
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        let hold = &self.semaphore.hold;
        if self.held.is_own() {
            let _ = hold
                .semaphore_shares()
                .and_then(|shares| in_turn(|patience| shares.give_back(patience)));
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available_permits", &self.available_permits())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SemaphorePermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphorePermit").finish_non_exhaustive()
    }
}
