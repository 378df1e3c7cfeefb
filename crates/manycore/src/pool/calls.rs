//! Calls through a pool, and what may be asked of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::flow::{Flow, Pace};
use super::job::{Job, Target};
use super::mapping::{Ordered, Unordered};
use super::owner::Owner;
use super::task::Task;
use super::terms::Terms;
use crate::codec;
use crate::error::{MapError, SendError, TaskError};

/// A pool, and what is asked of the tasks that are handed out through this: by [`Pool::timeout`],
/// [`Pool::retries`] and [`Pool::retry_panics`]. What is not said here is as for the whole pool.
///
/// ```
/// use std::time::Duration;
/// use manycore::Pool;
/// use manycore::error::TaskError;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let pool = Pool::new(2)?;
///     let careful = pool.timeout(Duration::from_millis(500)).retries(2);
///     let endless = |number: u32| if number == 3 { loop {} } else { number };
///     let results = careful.try_map(endless, 0..6);
///     assert!(matches!(results[3], Err(TaskError::TimedOut { .. })));
///     assert_eq!(results[4], Ok(4));
///     Ok(())
/// }
/// ```
///
/// [`Pool::timeout`]: crate::Pool::timeout
/// [`Pool::retries`]: crate::Pool::retries
/// [`Pool::retry_panics`]: crate::Pool::retry_panics
#[derive(Clone, Copy)]
#[must_use = "it does nothing by itself"]
pub struct Calls<'pool> {
    pub(super) owner: &'pool Arc<Owner>,
    pub(super) terms: Terms,
}

impl<'pool> Calls<'pool> {
    /// Each task may run for so long; see [`Pool::timeout`](crate::Pool::timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.terms.timeout = Some(limit);
        self
    }

    /// Each task may run for as long as it takes, whatever was said before.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # manycore::init();
    /// let pool = manycore::Pool::builder().workers(1).timeout(Duration::from_millis(1)).build()?;
    /// let nap = |()| std::thread::sleep(Duration::from_millis(100));
    /// assert!(pool.submit(nap, ()).join().is_err());
    /// assert_eq!(pool.calls().without_timeout().submit(nap, ()).join(), Ok(()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn without_timeout(mut self) -> Self {
        self.terms.timeout = None;
        self
    }

    /// Each task may be handed out so often again; see [`Pool::retries`](crate::Pool::retries).
    pub fn retries(mut self, most: u32) -> Self {
        self.terms.retries = most;
        self
    }

    /// Whether a task that panics is handed out again, too; see
    /// [`Pool::retry_panics`](crate::Pool::retry_panics).
    pub fn retry_panics(mut self, shall: bool) -> Self {
        self.terms.after_panics = shall;
        self
    }

    /// As [`Pool::submit`](crate::Pool::submit).
    pub fn submit<F, A, R>(&self, f: F, arguments: A) -> Task<R>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let job = Arc::new(Job::new(Target::of(f), self.terms));
        self.owner.look_after_when_due();
        match codec::encode(&arguments) {
            Ok(arguments) => self.owner.hand_out(&job, 0, arguments),
            Err(error) => job.refuse(0, TaskError::Unsent(SendError::Encode(error))),
        }
        Task::new(self.owner, job)
    }

    /// As [`Pool::map`](crate::Pool::map).
    ///
    /// # Errors
    /// Of the failed tasks, that of the first item.
    pub fn map<F, I, R>(&self, f: F, items: I) -> Result<Vec<R>, MapError>
    where
        F: Fn(I::Item) -> R + Copy + 'static,
        I: IntoIterator,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let results = self.run_all(f, items, true);
        let numbered = results.into_iter().enumerate();
        numbered
            .map(|(index, result)| result.map_err(|error| MapError { index, error }))
            .collect()
    }

    /// As [`Pool::try_map`](crate::Pool::try_map).
    pub fn try_map<F, I, R>(&self, f: F, items: I) -> Vec<Result<R, TaskError>>
    where
        F: Fn(I::Item) -> R + Copy + 'static,
        I: IntoIterator,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.run_all(f, items, false)
    }

    /// What came of each item that was handed out.
    fn run_all<F, I, R>(&self, f: F, items: I, stop_early: bool) -> Vec<Result<R, TaskError>>
    where
        F: Fn(I::Item) -> R + Copy + 'static,
        I: IntoIterator,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let mut flow = Flow::new(*self, Target::of(f), items.into_iter(), Pace::Bulk);
        let mut results: Vec<Option<Result<R, TaskError>>> = Vec::new();
        while let Some((index, answer)) = flow.next_answer() {
            let result = answer.into_result();
            if stop_early && result.is_err() {
                flow.stop();
            }
            if results.len() <= index {
                results.resize_with(index + 1, || None);
            }
            if let Some(place) = results.get_mut(index) {
                *place = Some(result);
            }
        }
        results.into_iter().flatten().collect()
    }

    /// As [`Pool::map_ordered`](crate::Pool::map_ordered).
    pub fn map_ordered<F, I, R>(&self, f: F, items: I) -> Ordered<'pool, I::IntoIter, R>
    where
        F: Fn(I::Item) -> R + Copy + 'static,
        I: IntoIterator,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let target = Target::of(f);
        Ordered::new(Flow::new(*self, target, items.into_iter(), Pace::Each))
    }

    /// As [`Pool::map_unordered`](crate::Pool::map_unordered).
    pub fn map_unordered<F, I, R>(&self, f: F, items: I) -> Unordered<'pool, I::IntoIter, R>
    where
        F: Fn(I::Item) -> R + Copy + 'static,
        I: IntoIterator,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let target = Target::of(f);
        Unordered::new(Flow::new(*self, target, items.into_iter(), Pace::Each))
    }
}

impl fmt::Debug for Calls<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls")
            .field("timeout", &self.terms.timeout)
            .field("retries", &self.terms.retries)
            .field("retry_panics", &self.terms.after_panics)
            .finish_non_exhaustive()
    }
}
