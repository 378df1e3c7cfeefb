//! A place where processes meet.

use std::fmt;

use manycore_ipc::sync::Met;
use manycore_ipc::wait::GaveUp;
use manycore_ipc::{Corrupted, HandleError, Hold, Meeting};
use manycore_os::Deadline;

use super::held::{in_turn, until};
use crate::error::CreateError;
use crate::family;
use crate::handle::travels;

/// A place where processes and threads wait for one another, again and again.
///
/// Should one of them be killed while it waits there, or not come in time, the barrier *breaks*: everybody is told
/// instead of waiting for ever, until [`Barrier::reset`].
///
/// ```
/// use manycore::Process;
/// use manycore::sync::Barrier;
///
/// fn meet(barrier: Barrier) -> bool {
///     barrier.wait().expect("nobody is killed").is_leader()
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let barrier = Barrier::new(3)?;
///     let children = [0; 3].map(|_| Process::spawn(meet, barrier.clone()));
///     let mut leaders = 0;
///     for child in children {
///         leaders += u32::from(child?.join()?);
///     }
///     assert_eq!(leaders, 1);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Barrier {
    hold: Hold,
}

travels!(Barrier as Barrier);

/// What a party is told when all have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: u32,
}

impl BarrierWaitResult {
    /// Whether this is the one of all parties that may do what only one should.
    #[must_use]
    pub fn is_leader(self) -> bool {
        self.index == 0
    }

    /// How many parties came before this one.
    #[must_use]
    pub fn index(self) -> u32 {
        self.index
    }
}

/// Why a party did not meet the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// A party was killed while it waited, did not come in time, or broke the barrier.
    #[error(
        "the barrier is broken: a party was killed while it waited, did not come in time, or called `abort`; \
         `reset` makes it as new"
    )]
    Broken,
    /// The shared memory is corrupted, or full.
    #[error(transparent)]
    Heap(#[from] HandleError),
}

impl Barrier {
    /// Makes a barrier for so many parties.
    ///
    /// # Errors
    /// When there is no shared memory.
    ///
    /// # Panics
    /// When `parties` is zero.
    #[track_caller]
    pub fn new(parties: u32) -> Result<Self, CreateError> {
        assert!(parties > 0, "a barrier for nobody can never be passed");
        Ok(Self {
            hold: family::family()?.make_barrier(parties)?,
        })
    }

    /// Waits until all parties have come.
    ///
    /// # Errors
    /// When the barrier is broken.
    pub fn wait(&self) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(Deadline::NEVER)
    }

    /// Waits until all parties have come. If they have not by the deadline, the barrier breaks.
    ///
    /// # Errors
    /// When the barrier is broken.
    pub fn wait_until(&self, deadline: Deadline) -> Result<BarrierWaitResult, BarrierError> {
        let met = until(deadline, |patience| self.hold.meet(false, patience))?;
        let index = match met {
            Ok(Meeting::Over(Met::All(index))) => index,
            Ok(Meeting::Acts(action)) => {
                // No party has an action here, so the turn ends at once.
                let barrier = self.hold.barrier()?;
                let is_over = in_turn(|patience| barrier.finish(action, patience));
                if is_over.map_err(HandleError::from)? != Ok(true) {
                    return Err(BarrierError::Broken);
                }
                action.index
            }
            Ok(Meeting::Over(Met::Broken)) | Err(_) => return Err(BarrierError::Broken),
        };
        Ok(BarrierWaitResult { index })
    }

    /// Breaks the barrier: all who wait, or come, are told.
    ///
    /// # Errors
    /// When the shared memory is corrupted.
    pub fn abort(&self) -> Result<(), HandleError> {
        let barrier = self.hold.barrier()?;
        done(in_turn(|patience| barrier.abort(patience)))
    }

    /// Makes the barrier as new. Those who wait are told that it is broken.
    ///
    /// # Errors
    /// When the shared memory is corrupted.
    pub fn reset(&self) -> Result<(), HandleError> {
        let barrier = self.hold.barrier()?;
        done(in_turn(|patience| barrier.reset(patience)))
    }

    /// How many have to come.
    #[must_use]
    pub fn parties(&self) -> u32 {
        // The object is held, so only corrupted memory can hide it; `wait` says so.
        self.hold.barrier().map_or(0, |barrier| barrier.parties())
    }

    /// How many have come and wait for the others.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        let barrier = self.hold.barrier();
        barrier.map_or(0, |barrier| barrier.waiting().unwrap_or(0)) // as in `parties`
    }

    /// Whether it is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        let barrier = self.hold.barrier();
        barrier.is_ok_and(|barrier| barrier.is_broken().unwrap_or(false)) // as in `parties`
    }
}

fn done(outcome: Result<Result<(), GaveUp>, Corrupted>) -> Result<(), HandleError> {
    let _never_gives_up = outcome?;
    Ok(())
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("waiting", &self.waiting())
            .field("is_broken", &self.is_broken())
            .finish_non_exhaustive()
    }
}
