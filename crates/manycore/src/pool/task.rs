//! A task that was submitted to a pool.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use manycore_os::Deadline;
use serde::de::DeserializeOwned;

use super::job::Job;
use super::owner::Owner;
use crate::error::TaskError;

/// A call that [`Pool::submit`](crate::Pool::submit) has handed out, and its result to be.
///
/// Dropping a `Task` does not stop it: it runs, and its result is thrown away. A task may outlive its
/// pool: what was answered before can still be joined, what was not has failed.
#[must_use = "a task that nobody joins does not tell whether it failed"]
pub struct Task<R> {
    owner: Arc<Owner>,
    job: Arc<Job>,
    result: PhantomData<fn() -> R>,
}

impl<R> Task<R> {
    pub(super) fn new(owner: &Arc<Owner>, job: Arc<Job>) -> Self {
        Self {
            owner: Arc::clone(owner),
            job,
            result: PhantomData,
        }
    }

    /// Whether the task has its answer, so that [`Task::join`] will not wait.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.wait_until(Deadline::PASSED)
    }

    /// Waits until the task has its answer or the deadline has passed; returns whether it has.
    pub fn wait_until(&self, until: Deadline) -> bool {
        let is_done = || self.job.delivered() > 0;
        loop {
            if is_done() {
                return true;
            }
            if !self.owner.collect() {
                if until.has_passed() {
                    self.owner.look_after_when_due(); // for who only ever asks
                    return is_done();
                }
                self.owner.pause(1, until, is_done);
            }
        }
    }
}

impl<R: DeserializeOwned> Task<R> {
    /// Waits until the task has its answer; returns what its function returned.
    ///
    /// The waiting thread collects the answers of all tasks of the pool, and replaces workers that
    /// have died.
    ///
    /// # Errors
    /// Why there is no result: the function panicked, its worker was killed or exited, or the task was
    /// never run.
    pub fn join(self) -> Result<R, TaskError> {
        self.wait_until(Deadline::NEVER);
        let mut arrived = Vec::with_capacity(1);
        self.job.take(&mut arrived);
        let (_, answer) = arrived.pop().expect("a task that is done has its answer");
        answer.into_result()
    }
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("is_answered", &(self.job.delivered() > 0))
            .finish_non_exhaustive()
    }
}
