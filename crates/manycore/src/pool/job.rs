//! What one caller of a pool waits for.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;

use crate::call;
use crate::codec::Encoded;
use crate::error::TaskError;

/// What came of a task. It is decoded by the thread that waits for it, whoever has received it.
#[derive(Debug)]
pub(super) enum Answer {
    /// What a worker sent.
    Arrived(Encoded),
    /// Why nothing will arrive.
    Failed(TaskError),
}

impl Answer {
    /// The result of the task's function.
    pub(super) fn into_result<R: DeserializeOwned>(self) -> Result<R, TaskError> {
        match self {
            Self::Arrived(answer) => {
                call::result(&answer).map_err(|why| TaskError::Undelivered { why })
            }
            Self::Failed(error) => Err(error),
        }
    }
}

/// The tasks of one caller, and their answers until the caller takes them.
#[derive(Debug, Default)]
pub(super) struct Job {
    arrived: Mutex<Vec<(usize, Answer)>>,
    delivered: AtomicU64,
}

impl Job {
    fn arrived(&self) -> MutexGuard<'_, Vec<(usize, Answer)>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the answer to the caller's task of this number.
    pub(super) fn deliver(&self, index: usize, answer: Answer) {
        self.arrived().push((index, answer));
        // SeqCst, after the answer is there: the caller sees the count, or whoever delivers sees the
        // caller waiting (`Owner::pause`).
        self.delivered.fetch_add(1, SeqCst);
    }

    /// How many answers there have been.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(SeqCst) // see `deliver`
    }

    /// Moves what has arrived behind what is in `into`.
    pub(super) fn take(&self, into: &mut Vec<(usize, Answer)>) {
        into.append(&mut self.arrived());
    }
}
