//! A flag that processes set, clear and wait for.

use std::fmt;

use manycore_ipc::wait::GaveUp;
use manycore_ipc::{HandleError, Hold};
use manycore_os::Deadline;

use super::held::until;
use crate::error::CreateError;
use crate::family;
use crate::handle::travels;

/// A flag that processes set, clear and wait for.
///
/// ```
/// use manycore::Process;
/// use manycore::sync::Event;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let start = Event::new()?;
///     let child = Process::spawn(|start: Event| start.wait().is_ok(), start.clone())?;
///     start.set()?;
///     assert!(child.join()?);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Event {
    hold: Hold,
}

travels!(Event as Event);

impl Event {
    /// Makes an event that is not set.
    ///
    /// # Errors
    /// When there is no shared memory.
    pub fn new() -> Result<Self, CreateError> {
        Ok(Self {
            hold: family::family()?.make_event()?,
        })
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        // The object is held, so only corrupted memory can hide it; `wait` says so.
        self.hold.event().is_ok_and(|event| event.is_set())
    }

    /// Sets it. All who wait go on, however soon it is cleared again.
    ///
    /// # Errors
    /// When the shared memory is corrupted.
    pub fn set(&self) -> Result<(), HandleError> {
        self.hold.event()?.set();
        Ok(())
    }

    /// Clears it.
    ///
    /// # Errors
    /// When the shared memory is corrupted.
    pub fn clear(&self) -> Result<(), HandleError> {
        self.hold.event()?.clear();
        Ok(())
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// When the shared memory is corrupted.
    pub fn wait(&self) -> Result<(), HandleError> {
        self.wait_until(Deadline::NEVER).map(drop)
    }

    /// Waits until it is set; `false` when that has not come by the deadline.
    ///
    /// # Errors
    /// When the shared memory is corrupted.
    pub fn wait_until(&self, deadline: Deadline) -> Result<bool, HandleError> {
        let event = self.hold.event()?;
        let waited: Result<(), GaveUp> = until(deadline, |patience| event.wait(patience));
        Ok(waited.is_ok())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("is_set", &self.is_set())
            .finish_non_exhaustive()
    }
}
