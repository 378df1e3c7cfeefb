//! Tasks that are awaited as futures, by the smallest of executors.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use manycore::error::TaskError;
use manycore::{Pool, Queue, Task};
use manycore_os::fork::{By, in_child};
use manycore_os::process::{Exit, reap};

use crate::house::{Test, tests, until};
use crate::pools::{is_killed, kill, park, square};

pub(crate) const TESTS: &[Test] = &tests![
    tasks_are_awaited_one_by_one_and_together,
    an_answer_that_is_there_needs_no_thread,
    the_thread_that_collects_ends_when_nothing_is_awaited,
    many_threads_await_tasks,
    what_happens_to_workers_is_told_to_who_awaits,
    who_awaits_a_task_of_a_dropped_pool_is_told,
    a_task_that_was_polled_may_be_dropped_or_joined,
    another_waker_replaces_the_first,
    a_waker_may_use_the_pool_and_end_it,
    a_waker_that_panics_keeps_no_other_from_being_woken,
    a_forked_child_cannot_use_its_parents_pool,
];

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn poll_with<R: serde::de::DeserializeOwned>(
    task: &mut Task<R>,
    waker: &Waker,
) -> Poll<Result<R, TaskError>> {
    pin!(task).poll(&mut Context::from_waker(waker))
}

/// Whether a pool of this process has its thread.
fn is_collecting() -> bool {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut names = threads.filter_map(|it| std::fs::read_to_string(it.path().join("comm")).ok());
    names.any(|name| name.starts_with("manycore-collec"))
}

fn tasks_are_awaited_one_by_one_and_together() {
    let pool = Pool::new(2).unwrap();
    for number in 0..200 {
        assert_eq!(block_on(pool.submit(square, number)), Ok(square(number)));
    }
    let tasks: Vec<_> = (0..1000)
        .map(|number| pool.submit(square, number))
        .collect();
    let sum = block_on(async {
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        sum
    });
    assert_eq!(sum, (0..1000).map(square).sum());
}

fn an_answer_that_is_there_needs_no_thread() {
    let pool = Pool::new(1).unwrap();
    let mut task = pool.submit(square, 3);
    until(|| task.is_done());
    assert_eq!(poll_with(&mut task, Waker::noop()), Poll::Ready(Ok(9)));
    assert!(!is_collecting());
}

fn the_thread_that_collects_ends_when_nothing_is_awaited() {
    let pool = Pool::new(1).unwrap();
    for _ in 0..3 {
        let go = Queue::<u8>::new().unwrap();
        let mut task = pool.submit(|go: Queue<u8>| go.recv().unwrap(), go.clone());
        assert!(poll_with(&mut task, Waker::noop()).is_pending());
        until(is_collecting);
        go.send(&4).unwrap();
        assert_eq!(block_on(task), Ok(4));
        until(|| !is_collecting());
    }
}

fn many_threads_await_tasks() {
    let pool = Pool::new(2).unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for number in 100 * thread..100 * thread + 100 {
                    assert_eq!(block_on(pool.submit(square, number)), Ok(square(number)));
                }
                let squares = pool.map(square, 0..50).unwrap();
                assert!(squares.into_iter().eq((0..50).map(square)));
            });
        }
    });
}

fn what_happens_to_workers_is_told_to_who_awaits() {
    let pool = Pool::new(1).unwrap();
    let ready = Queue::new().unwrap();
    let parked = || (|ready| park::<u8>(&ready), ready.clone());
    let (function, arguments) = parked();
    let task = pool.submit(function, arguments);
    thread::scope(|scope| {
        scope.spawn(|| kill(ready.recv().unwrap()));
        assert!(is_killed(&block_on(task)));
    });
    let (function, arguments) = parked();
    let task = pool
        .timeout(Duration::from_millis(20))
        .submit(function, arguments);
    assert!(matches!(block_on(task), Err(TaskError::TimedOut { .. })));
    ready.recv().unwrap();
    let (function, arguments) = parked();
    let task = pool.retries(1).submit(function, arguments);
    thread::scope(|scope| {
        scope.spawn(|| (0..2).for_each(|_| kill(ready.recv().unwrap())));
        assert!(is_killed(&block_on(task)));
    });
    let panics = block_on(pool.submit(|number: u8| 1 / number, 0));
    assert!(matches!(panics, Err(TaskError::Panicked { .. })));
}

fn who_awaits_a_task_of_a_dropped_pool_is_told() {
    let pool = Pool::new(1).unwrap();
    let ready = Queue::new().unwrap();
    let task = pool.submit(|ready| park::<u8>(&ready), ready.clone());
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(block_on(task), Err(TaskError::Dropped)));
        until(is_collecting);
        drop(pool);
    });
    assert!(!is_collecting());
}

fn a_task_that_was_polled_may_be_dropped_or_joined() {
    let pool = Pool::new(1).unwrap();
    let go = Queue::<u8>::new().unwrap();
    let wait = |go: Queue<u8>| go.recv().unwrap();
    let mut tasks = [0; 2].map(|_| pool.submit(wait, go.clone()));
    for task in &mut tasks {
        assert!(poll_with(task, Waker::noop()).is_pending());
    }
    let [dropped, joined] = tasks;
    drop(dropped);
    (1..3).for_each(|number| go.send(&number).unwrap());
    assert_eq!(joined.join(), Ok(2));
    until(|| !is_collecting());
}

fn another_waker_replaces_the_first() {
    let pool = Pool::new(1).unwrap();
    let go = Queue::<u8>::new().unwrap();
    let mut task = pool.submit(|go: Queue<u8>| go.recv().unwrap(), go.clone());
    let first: Waker = Arc::new(Unpark(thread::current())).into();
    let last = Arc::new(Called::default());
    assert!(poll_with(&mut task, &first).is_pending());
    assert!(poll_with(&mut task, &last.clone().into()).is_pending());
    go.send(&1).unwrap();
    until(|| last.times() == 1);
    assert_eq!(poll_with(&mut task, &first), Poll::Ready(Ok(1)));
    until(|| !is_collecting());
    assert_eq!(last.times(), 1);
}

#[derive(Default)]
struct Called(Mutex<u32>);

impl Called {
    fn times(&self) -> u32 {
        *self.0.lock().unwrap()
    }
}

impl Wake for Called {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() += 1;
    }
}

/// Uses the pool when it is called, and drops it.
struct Ends(Mutex<Option<Pool>>, Queue<u64>);

impl Wake for Ends {
    fn wake(self: Arc<Self>) {
        let pool = self.0.lock().unwrap().take().unwrap();
        assert_eq!(pool.worker_ids().len(), 1);
        self.1
            .send(&pool.submit(square, 7).join().unwrap())
            .unwrap();
        drop(pool);
        self.1.close();
    }
}

fn a_waker_may_use_the_pool_and_end_it() {
    let deaths = [false, true];
    for dies in deaths {
        let pool = Pool::new(1).unwrap();
        let (go, said) = (Queue::<()>::new().unwrap(), Queue::new().unwrap());
        let wait = |(go, dies): (Queue<()>, bool)| {
            go.recv().unwrap();
            if dies {
                manycore_os::process::kill_self();
            }
        };
        let mut task = pool.submit(wait, (go.clone(), dies));
        let ends = Arc::new(Ends(Mutex::new(None), said.clone()));
        let waker: Waker = ends.clone().into();
        *ends.0.lock().unwrap() = Some(pool);
        assert!(poll_with(&mut task, &waker).is_pending());
        go.send(&()).unwrap();
        assert_eq!(said.recv(), Ok(49));
        assert!(said.recv().is_err(), "the pool was dropped");
        assert_eq!(block_on(task).is_err(), dies);
        until(|| !is_collecting());
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

fn a_waker_that_panics_keeps_no_other_from_being_woken() {
    let pool = Pool::new(1).unwrap();
    let go = Queue::<u8>::new().unwrap();
    let wait = |go: Queue<u8>| go.recv().unwrap();
    let mut first = pool.submit(wait, go.clone());
    let second = pool.submit(wait, go.clone());
    assert!(poll_with(&mut first, &Arc::new(Panics).into()).is_pending());
    (1..3).for_each(|number| go.send(&number).unwrap());
    assert_eq!(block_on(second), Ok(2));
    assert_eq!(first.join(), Ok(1));
    until(|| !is_collecting());
}

fn a_forked_child_cannot_use_its_parents_pool() {
    let pool = Pool::new(1).unwrap();
    let go = Queue::<u8>::new().unwrap();
    let wait = |go: Queue<u8>| go.recv().unwrap();
    let mut tasks = [0; 3].map(|_| Some(pool.submit(wait, go.clone())));
    let mut take = |at: usize| tasks[at].take().unwrap();
    let (first, second, third) = (take(0), take(1), take(2));
    let child = in_child(By::Fork, || {
        assert_eq!(block_on(first), Err(TaskError::OtherProcess));
        assert_eq!(second.join(), Err(TaskError::OtherProcess));
        assert!(third.is_done());
        assert_eq!(pool.submit(square, 1).join(), Err(TaskError::OtherProcess));
        let results = pool.try_map(square, 0..3);
        assert!(results.iter().all(|it| *it == Err(TaskError::OtherProcess)));
        let own = Pool::new(1).unwrap();
        i32::from(own.map(square, [3]) != Ok(vec![9]))
    });
    assert_eq!(reap(child.unwrap(), true).unwrap(), Some(Exit::Code(0)));
    (0..3).for_each(|number| go.send(&number).unwrap());
    pool.join();
}
