//! A task that was submitted to a pool.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use manycore_os::Deadline;
use serde::de::DeserializeOwned;

use super::job::{Answer, Job};
use super::owner::Owner;
use crate::error::TaskError;

/// A call that [`Pool::submit`](crate::Pool::submit) has handed out, and its result to be.
///
/// Dropping a `Task` does not stop it: it runs, and its result is thrown away. A task may outlive its
/// pool: what was answered before can still be joined, what was not has failed.
///
/// A `Task` is also a future, of what [`Task::join`] returns, for any executor: whichever thread polls it does
/// not wait. From the first pending one on, and until no task has been awaited for a moment, the pool has a
/// thread that collects answers and looks after the workers. A process that this one forks does not have that
/// thread: there the tasks of its parent's pools fail. A future that has been ready must not be polled again.
///
/// ```
/// use std::future::Future;
/// use std::pin::pin;
/// use std::sync::Arc;
/// use std::task::{Context, Poll, Wake};
/// use std::thread::{self, Thread};
///
/// /// The smallest executor: one future, on this thread.
/// fn block_on<F: Future>(future: F) -> F::Output {
///     struct Unpark(Thread);
///     impl Wake for Unpark {
///         fn wake(self: Arc<Self>) {
///             self.0.unpark();
///         }
///     }
///     let waker = Arc::new(Unpark(thread::current())).into();
///     let mut future = pin!(future);
///     loop {
///         match future.as_mut().poll(&mut Context::from_waker(&waker)) {
///             Poll::Ready(output) => return output,
///             Poll::Pending => thread::park(),
///         }
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let pool = manycore::Pool::new(2)?;
///     let sum = block_on(async {
///         let (two, three) = (pool.submit(|n: u32| n * n, 2), pool.submit(|n: u32| n * n, 3));
///         Ok::<u32, manycore::error::TaskError>(two.await? + three.await?)
///     });
///     assert_eq!(sum?, 13);
///     Ok(())
/// }
/// ```
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
        let is_done = || self.job.delivered() > 0 || !self.owner.is_ours();
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
        if !self.owner.is_ours() {
            return Err(TaskError::OtherProcess);
        }
        let answer = self.job.take_one();
        let (_, answer) =
            answer.expect("a task that is done has its answer, unless it was awaited");
        answer.into_result()
    }
}

impl<R: DeserializeOwned> Future for Task<R> {
    type Output = Result<R, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.owner.is_ours() {
            return Poll::Ready(Err(TaskError::OtherProcess));
        }
        let answer = self.owner.poll(&self.job, context.waker());
        answer.map(Answer::into_result)
    }
}

impl<R> Drop for Task<R> {
    fn drop(&mut self) {
        if self.owner.is_ours() {
            self.owner.forget_waker(&self.job);
        }
    }
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("is_answered", &(self.job.delivered() > 0))
            .finish_non_exhaustive()
    }
}
