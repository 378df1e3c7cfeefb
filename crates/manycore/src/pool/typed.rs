//! Pools of worker processes for functions of this program.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZero;
use std::sync::Arc;

use manycore_os::image;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::flow::{Flow, Pace};
use super::job::{Answer, Job};
use super::owner::Owner;
use super::task::Task;
use crate::error::{MapError, PoolError, SendError, TaskError};
use crate::{call, codec};

/// Worker processes that run tasks.
///
/// A task is a call of a function: a plain `fn` or a closure that captures nothing, as in
/// [`Process::spawn`](crate::Process::spawn). Workers take tasks one by one, so a long task holds up no
/// other. Each task runs at most once and gets exactly one answer:
///
/// * A task that *panics* fails; its worker goes on.
/// * A worker that *dies*, at any instruction, fails the task that it was running and no other, and
///   is replaced.
///
/// A pool has no thread. Whoever waits for an answer collects those of all threads and looks after the
/// workers every 50 ms. Any number of threads may use a pool. Tasks may have pools of their own.
///
/// Dropping a pool ends its workers: in order if no task is open, else at once, and tasks without an
/// answer fail. [`Pool::join`] waits for them instead. When this process ends, however it ends, the
/// workers die with it.
///
/// ```
/// use manycore::Pool;
///
/// fn square(number: u64) -> u64 {
///     number * number
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init(); // first in `main`
///     let pool = Pool::new(2)?;
///     assert_eq!(pool.map(square, 1..=5)?, [1, 4, 9, 16, 25]);
///     let task = pool.submit(|(a, b): (u64, u64)| a + b, (40, 2));
///     assert_eq!(task.join()?, 42);
///     Ok(())
/// }
/// ```
pub struct Pool {
    owner: Arc<Owner>,
}

impl Pool {
    /// Starts a pool of this many workers.
    ///
    /// # Errors
    /// When `workers` is zero, [`init`](crate::init) was not called, or the system refuses memory or
    /// processes. No process is left then.
    pub fn new(workers: usize) -> Result<Self, PoolError> {
        Ok(Self {
            owner: Arc::new(Owner::new(workers)?),
        })
    }

    /// Starts a pool with a worker for each CPU that this process may use, by its affinity and its
    /// control groups.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn with_available_cpus() -> Result<Self, PoolError> {
        Self::new(std::thread::available_parallelism().map_or(1, NonZero::get))
    }

    /// How many workers the pool has. One that has died is replaced.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.owner.workers()
    }

    /// The process ids of the present workers.
    #[must_use]
    pub fn worker_ids(&self) -> Vec<u32> {
        self.owner.worker_ids()
    }

    /// Hands out the call `f(arguments)` and does not wait for it.
    ///
    /// There is no limit to how many tasks may be open, but that of memory. What prevents a task
    /// from being run is told by [`Task::join`]. A function that captures something does not compile:
    ///
    /// ```compile_fail,E0080
    /// # fn main() {
    /// let factor = 3;
    /// let pool = manycore::Pool::new(1).unwrap();
    /// let task = pool.submit(move |number: u32| number * factor, 14);
    /// # }
    /// ```
    pub fn submit<F, A, R>(&self, f: F, arguments: A) -> Task<R>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = (f, image::plain_function::<F>()); // only its type travels; here the error is readable
        self.owner.look_after_when_due();
        let job = Arc::<Job>::default();
        match codec::encode(&arguments) {
            Ok(arguments) => {
                let place = image::offset_of(call::entry::<F, A, R>());
                self.owner.hand_out(&job, 0, place, arguments);
            }
            Err(error) => {
                let error = TaskError::Unsent(SendError::Encode(error));
                job.deliver(0, Answer::Failed(error));
            }
        }
        Task::new(&self.owner, job)
    }

    /// The results of `f(item)` for all items, in their order.
    ///
    /// Once a task has failed, no more are handed out, and those that were are waited for. At most 8192
    /// tasks and, if there are several for each worker, 64 MiB of arguments are handed out ahead of
    /// their answers.
    ///
    /// # Errors
    /// Of the failed tasks, that of the first item; see [`Pool::try_map`] for those of all.
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

    /// What came of `f(item)` for each item, in their order. A task that fails does not keep others
    /// from running. As many tasks are handed out ahead as by [`Pool::map`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # manycore::init();
    /// let pool = manycore::Pool::new(1)?;
    /// let halves = pool.try_map(|number: u32| 100 / number, [50, 0, 20]);
    /// assert_eq!(halves[0], Ok(2));
    /// assert!(halves[1].as_ref().unwrap_err().to_string().contains("divide by zero"));
    /// assert_eq!(halves[2], Ok(5));
    /// # Ok(())
    /// # }
    /// ```
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
    fn run_all<F, I, R>(&self, _: F, items: I, stop_early: bool) -> Vec<Result<R, TaskError>>
    where
        F: Fn(I::Item) -> R + Copy + 'static,
        I: IntoIterator,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = image::plain_function::<F>(); // as in `submit`
        let entry = call::entry::<F, I::Item, R>();
        let mut flow = Flow::new(&self.owner, entry, items.into_iter(), Pace::Bulk);
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

    /// What came of `f(item)` for each item, with the number of the item, as soon as it is known.
    ///
    /// Items are taken as answers are, at most 16 for each worker ahead, so there may be infinitely
    /// many. When the iterator is dropped, tasks that were handed out still run.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # manycore::init();
    /// let pool = manycore::Pool::new(2)?;
    /// for (index, result) in pool.map_unordered(|number: u64| number + 1, 10..).take(100) {
    ///     assert_eq!(result?, index as u64 + 11);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_unordered<F, I, R>(&self, f: F, items: I) -> Unordered<'_, I::IntoIter, R>
    where
        F: Fn(I::Item) -> R + Copy + 'static,
        I: IntoIterator,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = (f, image::plain_function::<F>()); // as in `submit`
        let entry = call::entry::<F, I::Item, R>();
        Unordered {
            flow: Flow::new(&self.owner, entry, items.into_iter(), Pace::Each),
            result: PhantomData,
        }
    }

    /// Waits until every task has its answer, then ends the workers.
    pub fn join(self) {
        self.owner.wait_for_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.owner.end();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("workers", &self.workers())
            .field("open_tasks", &self.owner.open())
            .finish_non_exhaustive()
    }
}

/// The results of [`Pool::map_unordered`].
#[must_use = "iterators do nothing unless they are consumed"]
pub struct Unordered<'a, I: Iterator, R> {
    flow: Flow<'a, I>,
    result: PhantomData<fn() -> R>,
}

impl<I, R> Iterator for Unordered<'_, I, R>
where
    I: Iterator,
    I::Item: Serialize,
    R: DeserializeOwned,
{
    /// The number of the item, and what came of it.
    type Item = (usize, Result<R, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        let (index, answer) = self.flow.next_answer()?;
        Some((index, answer.into_result()))
    }
}

impl<I: Iterator, R> fmt::Debug for Unordered<'_, I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unordered").finish_non_exhaustive()
    }
}
