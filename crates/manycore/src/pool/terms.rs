//! What may be asked of a task beyond being run once.

use std::time::Duration;

use crate::error::TaskError;

/// For how long, and how often, a task may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// How long it may run.
    pub(super) timeout: Option<Duration>,
    /// How often it may be run again.
    pub(super) retries: u32,
    /// Whether it is run again also after it panicked.
    pub(super) after_panics: bool,
}

impl Terms {
    /// Whether a task that failed like this may be run again, if it was not too often.
    pub(super) fn forgive(&self, error: &TaskError) -> bool {
        match error {
            TaskError::Killed { .. } | TaskError::Exited { .. } | TaskError::Vanished { .. } => {
                true
            }
            TaskError::Panicked { .. } => self.after_panics,
            _ => false, // it would fail again, or was not run at all
        }
    }
}
