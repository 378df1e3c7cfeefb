//! Pools of worker processes for functions of this program.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::PoolBuilder;
use super::calls::Calls;
use super::mapping::{Ordered, Unordered};
use super::owner::Owner;
use super::task::Task;
use super::terms::Terms;
use crate::error::{MapError, PoolError, TaskError};

/// Worker processes that run tasks.
///
/// A task is a call of a function: a plain `fn` or a closure that captures nothing, as in
/// [`Process::spawn`](crate::Process::spawn). Workers take tasks one by one, so a long task holds up no
/// other. Each task runs at most once, unless it may be [retried](Pool::retries), and gets exactly one answer:
///
/// * A task that *panics* fails; its worker goes on.
/// * A worker that *dies*, at any instruction, fails the task that it was running and no other, and
///   is replaced.
/// * A task that runs *too long*, where there is a [limit](Pool::timeout), fails and no other; its worker is
///   killed and replaced.
///
/// A pool has no thread, but while a [`Task`] is awaited as a future. Whoever waits for an answer collects those
/// of all threads and looks after the workers every 50 ms. Any number of threads may use a pool. Tasks may have
/// pools of their own.
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
    /// What holds for a task where its call says nothing else.
    terms: Terms,
}

impl Pool {
    /// Starts a pool of this many workers.
    ///
    /// # Errors
    /// When `workers` is zero, [`init`](crate::init) was not called, or the system refuses memory or
    /// processes. No process is left then.
    pub fn new(workers: usize) -> Result<Self, PoolError> {
        Self::builder().workers(workers).build()
    }

    /// Starts a pool with a worker for each CPU that this process may use, by its affinity and its
    /// control groups.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn with_available_cpus() -> Result<Self, PoolError> {
        Self::builder().build()
    }

    /// A pool of which more is to be said than how many workers it has.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    pub(super) fn with_terms(workers: usize, terms: Terms) -> Result<Self, PoolError> {
        let owner = Arc::new(Owner::new(workers)?);
        Ok(Self { owner, terms })
    }

    /// This pool, with what holds for all of its tasks; to ask more of some.
    pub fn calls(&self) -> Calls<'_> {
        Calls {
            owner: &self.owner,
            terms: self.terms,
        }
    }

    /// This pool, for tasks each of which may run for so long, from when a worker begins with it.
    ///
    /// Code cannot be interrupted from outside: the worker of a task that runs longer is killed and replaced,
    /// the task fails by [`TaskError::TimedOut`] and is not tried again, and no other task is affected. It may
    /// take some milliseconds more, never less. Who looks is who waits for any answer of the pool; of a task for
    /// which nobody waits, whoever uses the pool next. A worker that was stopped by a signal before it began with a
    /// task is replaced when tasks have waited for it so long, after a second at least; without a limit that is after
    /// ten seconds.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use manycore::error::TaskError;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # manycore::init();
    /// let pool = manycore::Pool::new(1)?;
    /// let limit = Duration::from_millis(20);
    /// let task = pool.timeout(limit).submit(|()| loop {}, ());
    /// let Err(TaskError::TimedOut { run, .. }): Result<(), _> = task.join() else {
    ///     panic!("it never ends");
    /// };
    /// assert!(run.lasted.is_some_and(|lasted| lasted >= limit));
    /// # Ok(())
    /// # }
    /// ```
    pub fn timeout(&self, limit: Duration) -> Calls<'_> {
        self.calls().timeout(limit)
    }

    /// This pool, for tasks each of which is handed out so often again when the worker that runs it dies.
    ///
    /// Such a task may run more than once, and what it did before its worker died was done. It still has one
    /// answer. Its arguments are kept until then, and the queues and values in them.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # manycore::init();
    /// use manycore::{Pool, Value};
    ///
    /// fn works_the_third_time(runs: Value<u32>) -> u32 {
    ///     runs.update(|runs| *runs += 1).expect("a number fits");
    ///     if runs.get().expect("a number") < 3 {
    ///         std::process::abort();
    ///     }
    ///     42
    /// }
    ///
    /// let pool = Pool::new(1)?;
    /// let runs = Value::new(0)?;
    /// assert_eq!(pool.retries(2).submit(works_the_third_time, runs.clone()).join(), Ok(42));
    /// assert_eq!(runs.get(), Ok(3));
    /// # Ok(())
    /// # }
    /// ```
    pub fn retries(&self, most: u32) -> Calls<'_> {
        self.calls().retries(most)
    }

    /// This pool, for tasks each of which is handed out again also when it panics, as often as
    /// [`Calls::retries`] says.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # manycore::init();
    /// use manycore::{Pool, Queue};
    ///
    /// let pool = Pool::new(1)?;
    /// let numbers = Queue::new()?;
    /// numbers.send(&0_u32)?;
    /// numbers.send(&5)?;
    /// let task = |numbers: Queue<u32>| 100 / numbers.recv().expect("a number");
    /// let patient = pool.retry_panics(true).retries(1);
    /// assert_eq!(patient.submit(task, numbers).join(), Ok(20));
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry_panics(&self, shall: bool) -> Calls<'_> {
        self.calls().retry_panics(shall)
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
        self.calls().submit(f, arguments)
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
        self.calls().map(f, items)
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
        self.calls().try_map(f, items)
    }

    /// What came of `f(item)` for each item, in their order, as soon as it and all before it are known.
    ///
    /// Items are taken as results are, at most 16 for each worker ahead, so there may be infinitely many. When
    /// the iterator is dropped, tasks that were handed out still run. [`PoolMap`](crate::PoolMap) has it as a
    /// method of iterators.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # manycore::init();
    /// let pool = manycore::Pool::new(2)?;
    /// let squares = pool.map_ordered(|number: u64| number * number, 1..);
    /// let small: Vec<u64> = squares.map_while(|square| square.ok().filter(|&it| it < 30)).collect();
    /// assert_eq!(small, [1, 4, 9, 16, 25]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_ordered<F, I, R>(&self, f: F, items: I) -> Ordered<'_, I::IntoIter, R>
    where
        F: Fn(I::Item) -> R + Copy + 'static,
        I: IntoIterator,
        I::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.calls().map_ordered(f, items)
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
        self.calls().map_unordered(f, items)
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

impl<'pool> From<&'pool Pool> for Calls<'pool> {
    fn from(pool: &'pool Pool) -> Self {
        pool.calls()
    }
}
