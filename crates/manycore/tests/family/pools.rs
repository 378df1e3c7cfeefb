//! Pools: what comes of tasks, and what is left of workers.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use manycore::error::{PoolError, TaskError};
use manycore::{Deadline, Pool, PoolMap, Queue, Value};
use serde::{Deserialize, Serialize};

use crate::house::{Scenario, Test, play, tests, until_ended};

pub(crate) const TESTS: &[Test] = &tests![
    a_map_keeps_the_order_of_its_items,
    a_closure_and_a_tuple_of_arguments_travel,
    an_empty_map_is_empty,
    a_pool_of_nobody_says_what_to_ask_for,
    a_panic_fails_its_task_alone,
    the_first_failing_item_is_named,
    a_worker_killed_in_a_map_fails_one_task,
    a_worker_killed_at_any_time_fails_at_most_its_task,
    the_only_worker_is_replaced,
    an_idle_worker_that_dies_fails_nothing,
    a_worker_that_exits_fails_its_task,
    submitted_tasks_are_joined_in_any_order,
    several_threads_share_a_pool,
    tasks_may_have_pools,
    large_arguments_and_results_arrive,
    queues_and_values_travel_with_tasks,
    many_large_arguments_are_handed_out_a_few_at_a_time,
    what_cannot_travel_fails_its_task_alone,
    endless_items_are_taken_as_they_are_needed,
    an_iterator_may_be_left_early,
    results_in_order_wait_for_the_first_but_not_without_bound,
    an_iterator_is_mapped_in_order_by_a_method_of_its_own,
    a_join_waits_for_all_tasks,
    a_dropped_pool_ends_running_tasks,
    workers_die_with_their_owner,
    workers_that_hide_init_are_told,
];

pub(crate) const SCENARIOS: &[(&str, Scenario)] =
    &[("own-a-pool", own_a_pool), ("start-a-pool", start_a_pool)];

pub(crate) fn square(number: u64) -> u64 {
    number * number
}

pub(crate) fn park<R>(ready: &Queue<u32>) -> R {
    ready.send(&std::process::id()).unwrap();
    loop {
        std::thread::park();
    }
}

/// Whether a task failed because its worker was killed.
pub(crate) fn is_killed<R>(result: &Result<R, TaskError>) -> bool {
    matches!(result, Err(TaskError::Killed { signal: 9, .. }))
}

pub(crate) fn kill(id: u32) {
    manycore_os::process::kill(id).unwrap();
}

fn a_map_keeps_the_order_of_its_items() {
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.workers(), 2);
    let squares = pool.map(square, 0..20_000).unwrap(); // more than are handed out at a time
    assert!(squares.into_iter().eq((0..20_000).map(square)));
    assert_eq!(pool.map(square, vec![3]).unwrap(), [9]);
}

fn a_closure_and_a_tuple_of_arguments_travel() {
    let pool = Pool::new(1).unwrap();
    let repeated = pool.map(
        |(text, count): (String, usize)| text.repeat(count),
        [("ab".to_owned(), 2), ("c".to_owned(), 3)],
    );
    assert_eq!(repeated.unwrap(), ["abab", "ccc"]);
    assert_eq!(pool.submit(|()| (), ()).join(), Ok(()));
}

fn an_empty_map_is_empty() {
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.map(square, []), Ok(vec![]));
    assert_eq!(pool.try_map(square, []), []);
    assert!(pool.map_unordered(square, []).next().is_none());
}

fn a_pool_of_nobody_says_what_to_ask_for() {
    let error = Pool::new(0).unwrap_err();
    assert!(matches!(error, PoolError::NoWorkers));
    assert!(error.to_string().contains("at least 1"));
    assert!(Pool::with_available_cpus().unwrap().workers() >= 1);
}

fn a_panic_fails_its_task_alone() {
    let pool = Pool::new(1).unwrap();
    let line = line!() + 2;
    let checked = |number: u64| {
        assert!(number != 1, "not {number}");
        std::process::id()
    };
    let results = pool.try_map(checked, 0..4);
    let Err(TaskError::Panicked { message, location }) = &results[1] else {
        panic!("{:?}", results[1])
    };
    assert_eq!(message, "not 1");
    assert!(
        location
            .as_ref()
            .unwrap()
            .contains(&format!("pools.rs:{line}:"))
    );
    let workers: Vec<u32> = [0, 2, 3]
        .map(|at: usize| results[at].clone().unwrap())
        .into();
    assert_eq!(workers, [pool.worker_ids()[0]; 3], "the worker lives on");
}

fn the_first_failing_item_is_named() {
    let pool = Pool::new(2).unwrap();
    let error = pool
        .map(
            |number: u64| assert!(number != 100 && number != 150, "{number} is over"),
            0..1_000_000,
        )
        .unwrap_err();
    assert_eq!(error.index, 100);
    let text = error.to_string();
    assert!(
        text.starts_with("item 100: the task panicked at "),
        "{text}"
    );
    assert!(text.ends_with(": 100 is over"), "{text}");
    assert_eq!(pool.map(square, [2]).unwrap(), [4]);
}

/// Twenty times: one of 1000 tasks is killed from outside while it runs.
fn a_worker_killed_in_a_map_fails_one_task() {
    let pool = Pool::new(2).unwrap();
    for round in 0..20_usize {
        let victim = 40 * round + 100;
        let ready = Queue::new().unwrap();
        let items = (0..1000).map(|index| (index, (index == victim).then(|| ready.clone())));
        let task = |(index, ready): (usize, Option<Queue<u32>>)| match ready {
            Some(ready) => park(&ready),
            None => index,
        };
        let results = std::thread::scope(|scope| {
            scope.spawn(|| kill(ready.recv().unwrap()));
            pool.try_map(task, items)
        });
        assert_eq!(results.len(), 1000);
        for (index, result) in results.into_iter().enumerate() {
            if index == victim {
                assert!(is_killed(&result), "{result:?}");
            } else {
                assert_eq!(result, Ok(index), "round {round}");
            }
        }
    }
    assert_eq!(pool.map(square, 1..=5).unwrap(), [1, 4, 9, 16, 25]);
    assert_eq!(pool.worker_ids().len(), 2);
}

/// Whatever the worker is doing just then.
fn a_worker_killed_at_any_time_fails_at_most_its_task() {
    let pool = Pool::new(2).unwrap();
    let made = AtomicU64::new(0);
    for round in 0..20_u64 {
        let victim = pool.worker_ids()[round as usize % 2];
        made.store(0, Relaxed);
        let items = (0..1000_u64).inspect(|number| made.store(*number, Relaxed));
        let results = std::thread::scope(|scope| {
            scope.spawn(|| {
                crate::house::until(|| made.load(Relaxed) >= 45 * round);
                kill(victim);
            });
            pool.try_map(square, items)
        });
        let mut failed = 0;
        for (number, result) in (0..).zip(results) {
            match result {
                Ok(result) => assert_eq!(result, square(number)),
                failure => {
                    assert!(is_killed(&failure), "{failure:?}");
                    failed += 1;
                }
            }
        }
        assert!(failed <= 1, "{failed} tasks failed in round {round}");
        until_ended(victim);
        crate::house::until(|| {
            pool.submit(square, 1).join().unwrap(); // its end is noticed at some time
            !pool.worker_ids().contains(&victim)
        });
    }
}

fn the_only_worker_is_replaced() {
    let pool = Pool::new(1).unwrap();
    let ready = Queue::new().unwrap();
    let (first, second) = (
        pool.submit(|ready| park::<()>(&ready), ready.clone()),
        pool.submit(square, 3),
    );
    kill(ready.recv().unwrap());
    assert_eq!(second.join(), Ok(9));
    let error = first.join().unwrap_err();
    let TaskError::Killed { signal: 9, run } = &error else {
        panic!("{error:?}")
    };
    assert!(run.function.contains("the_only_worker_is_replaced"));
    assert!(run.lasted.is_some() && run.attempts == 1, "{run:?}");
    let text = error.to_string();
    assert!(
        text.starts_with("the worker of this task was killed by signal 9 (SIGKILL)"),
        "{text}"
    );
}

fn an_idle_worker_that_dies_fails_nothing() {
    let pool = Pool::new(1).unwrap();
    for number in 0..8 {
        // More often than workers may fail to start.
        assert_eq!(pool.submit(square, number).join(), Ok(number * number));
        let worker = pool.worker_ids()[0];
        kill(worker);
        until_ended(worker);
    }
    assert_eq!(pool.submit(square, 9).join(), Ok(81));
}

fn a_worker_that_exits_fails_its_task() {
    let pool = Pool::new(1).unwrap();
    let leave = |status: i32| -> u8 { std::process::exit(status) };
    let results = pool.try_map(leave, [0, 3]);
    for (result, status) in results.iter().zip([0, 3]) {
        let Err(TaskError::Exited { code, run }) = result else {
            panic!("{result:?}")
        };
        assert_eq!((*code, run.attempts), (status, 1));
    }
}

fn submitted_tasks_are_joined_in_any_order() {
    let pool = Pool::new(2).unwrap();
    let mut tasks: Vec<_> = (0..2000)
        .map(|number| (number, pool.submit(square, number)))
        .collect();
    drop(tasks.pop());
    assert!(tasks[0].1.wait_until(Deadline::NEVER) && tasks[0].1.is_done());
    for (number, task) in tasks.into_iter().rev() {
        assert_eq!(task.join(), Ok(number * number));
    }
}

fn several_threads_share_a_pool() {
    let pool = Pool::new(2).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..50 {
                    let from = 1000 * thread + round;
                    let squares = pool.map(square, from..from + 20).unwrap();
                    assert!(squares.into_iter().eq((from..from + 20).map(square)));
                    assert_eq!(pool.submit(square, round).join(), Ok(round * round));
                }
            });
        }
    });
}

fn tasks_may_have_pools() {
    let sum = |to: u64| {
        Pool::new(2)
            .unwrap()
            .map(square, 0..to)
            .unwrap()
            .iter()
            .sum::<u64>()
    };
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.map(sum, [1, 2, 3, 4]).unwrap(), [0, 1, 5, 14]);
}

fn large_arguments_and_results_arrive() {
    let pool = Pool::new(2).unwrap();
    let texts: Vec<String> = (0..6).map(|n| n.to_string().repeat(3 << 20)).collect();
    let doubled = pool
        .map(|text: String| text.clone() + &text, texts.clone())
        .unwrap();
    assert!(
        doubled
            .iter()
            .zip(&texts)
            .all(|(two, one)| *two == one.repeat(2))
    );
}

fn queues_and_values_travel_with_tasks() {
    let pool = Pool::new(2).unwrap();
    let total = Value::new(0_u64).unwrap();
    let add = |(total, number): (Value<u64>, u64)| {
        total.update(|total| *total += number).unwrap();
        let own = Queue::new().unwrap();
        own.send(&number).unwrap();
        own
    };
    let queues = pool
        .map(add, (0..100).map(|number| (total.clone(), number)))
        .unwrap();
    assert_eq!(total.get(), Ok(4950));
    for (number, queue) in (0..).zip(queues) {
        assert_eq!(queue.recv(), Ok(number));
    }
}

fn many_large_arguments_are_handed_out_a_few_at_a_time() {
    let (pool, ready) = (Pool::new(1).unwrap(), Queue::<u32>::new().unwrap());
    let go = Queue::<()>::new().unwrap();
    let made = AtomicU64::new(0);
    let items = (0..200).map(|number| {
        made.fetch_add(1, Relaxed);
        (ready.clone(), go.clone(), number, "x".repeat(1 << 20))
    });
    let task = |(ready, go, number, text): (Queue<u32>, Queue<()>, u32, String)| {
        if number == 0 {
            ready.send(&0).unwrap();
            go.recv().unwrap();
        }
        text.len()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            ready.recv().unwrap();
            crate::house::until(|| made.load(Relaxed) >= 64);
            assert!(made.load(Relaxed) < 100, "tasks wait for the first one");
            go.send(&()).unwrap();
        });
        assert_eq!(pool.map(task, items).unwrap(), [1 << 20; 200]);
    });
}

/// Encodes in the process that made it, and in no other, unless it is even.
#[derive(Debug, PartialEq, Deserialize)]
struct Local(u32, u32);

impl Serialize for Local {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.1 % 2 == 1 && self.0 == std::process::id() {
            return Err(serde::ser::Error::custom("not from here"));
        }
        (self.0, self.1).serialize(serializer)
    }
}

fn what_cannot_travel_fails_its_task_alone() {
    let pool = Pool::new(1).unwrap();
    let here = std::process::id();
    let number = |local: Local| local.1;
    let results = pool.try_map(number, [Local(here, 2), Local(here, 3), Local(here, 4)]);
    assert_eq!((&results[0], &results[2]), (&Ok(2), &Ok(4)));
    assert!(
        matches!(results[1], Err(TaskError::Unsent(_))),
        "{results:?}"
    );
    assert!(matches!(
        pool.submit(number, Local(here, 1)).join(),
        Err(TaskError::Unsent(_))
    ));
    let results = pool.try_map(|number| Local(std::process::id(), number), 0..3);
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    let error = results[1].as_ref().unwrap_err();
    assert!(matches!(error, TaskError::Undelivered { .. }), "{error:?}");
    assert!(error.to_string().contains("Local"), "{error}");
}

fn endless_items_are_taken_as_they_are_needed() {
    let pool = Pool::new(2).unwrap();
    let made = AtomicU64::new(0);
    let items = std::iter::repeat_with(|| made.fetch_add(1, Relaxed));
    let mut seen: Vec<usize> = pool
        .map_unordered(square, items)
        .take(500)
        .map(|(index, result)| {
            assert_eq!(result, Ok(square(index as u64)));
            index
        })
        .collect();
    assert!(made.load(Relaxed) <= 500 + 64);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 500);
}

fn an_iterator_may_be_left_early() {
    let pool = Pool::new(2).unwrap();
    for _ in 0..10 {
        assert!(pool.map_unordered(square, 0..100).next().is_some());
    }
    assert_eq!(pool.map(square, [7]).unwrap(), [49]);
}

fn results_in_order_wait_for_the_first_but_not_without_bound() {
    let pool = Pool::new(2).unwrap();
    let go = Queue::<()>::new().unwrap();
    let made = AtomicU64::new(0);
    let items = (0..500_u64).map(|number| {
        made.store(number + 1, Relaxed);
        (number, (number == 0).then(|| go.clone()))
    });
    let task = |(number, go): (u64, Option<Queue<()>>)| {
        if let Some(go) = go {
            go.recv().unwrap();
        }
        number
    };
    let mut results = pool.map_ordered(task, items);
    assert_eq!(
        made.load(Relaxed),
        0,
        "nothing is taken before it is needed"
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            crate::house::until(|| made.load(Relaxed) == 32);
            pool.submit(square, 1).join().unwrap(); // others go on meanwhile
            assert_eq!(made.load(Relaxed), 32, "16 for each worker");
            go.send(&()).unwrap();
        });
        assert_eq!(results.next(), Some(Ok(0)));
    });
    assert!(results.eq((1..500).map(Ok)));
}

fn an_iterator_is_mapped_in_order_by_a_method_of_its_own() {
    let pool = Pool::new(2).unwrap();
    let squares = (0..1000).pool_map(&pool, square);
    assert!(squares.eq((0..1000).map(|number| Ok(square(number)))));
    let checked = |number: u64| assert_ne!(number, 5);
    let mut results = (0..).pool_map(pool.retries(1), checked).take(20);
    assert!(results.by_ref().take(5).all(|result| result.is_ok()));
    assert!(matches!(
        results.next(),
        Some(Err(TaskError::Panicked { .. }))
    ));
    assert_eq!(results.filter(Result::is_ok).count(), 14);
    let mut numbers: Vec<usize> = (0..100)
        .pool_map_unordered(&pool, square)
        .map(|(index, result)| {
            (result == Ok(square(index as u64)))
                .then_some(index)
                .unwrap()
        })
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..100));
}

fn a_join_waits_for_all_tasks() {
    let pool = Pool::new(2).unwrap();
    let sum = Value::new(0_u64).unwrap();
    let add = |(sum, number): (Value<u64>, u64)| sum.update(|sum| *sum += number).unwrap();
    for number in 0..100 {
        drop(pool.submit(add, (sum.clone(), number)));
    }
    pool.join();
    assert_eq!(sum.get(), Ok(4950));
}

fn a_dropped_pool_ends_running_tasks() {
    let pool = Pool::new(1).unwrap();
    let ready = Queue::new().unwrap();
    let done = pool.submit(square, 5);
    let running = pool.submit(|ready| park::<u8>(&ready), ready.clone());
    let waiting = pool.submit(square, 6);
    let worker = ready.recv().unwrap();
    drop(pool);
    assert_eq!(manycore_os::process::state(worker), None);
    assert_eq!(done.join(), Ok(25));
    assert_eq!(running.join(), Err(TaskError::Dropped));
    assert_eq!(waiting.join(), Err(TaskError::Dropped));
}

fn workers_die_with_their_owner() {
    use std::io::{BufRead, BufReader};
    let mut owner = play("own-a-pool")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let printed = BufReader::new(owner.stdout.take().unwrap());
    let ids: Vec<u32> = printed
        .lines()
        .take(2)
        .map(|id| id.unwrap().parse().unwrap())
        .collect();
    owner.kill().unwrap();
    owner.wait().unwrap();
    ids.into_iter().for_each(until_ended);
}

/// Prints the ids of a worker and of a worker of its own.
fn own_a_pool() -> ExitCode {
    let pool = Pool::new(1).unwrap();
    let task = pool.submit(
        |()| {
            let pool = Pool::new(1).unwrap();
            println!("{}\n{}", std::process::id(), pool.worker_ids()[0]);
            loop {
                std::thread::park();
            }
        },
        (),
    );
    let _: Result<(), _> = task.join();
    ExitCode::SUCCESS
}

fn workers_that_hide_init_are_told() {
    let hidden = play("start-a-pool")
        .env(crate::owners::HIDES_INIT, "1")
        .status()
        .unwrap();
    assert!(hidden.success());
}

/// Has a pool whose workers do not reach `init`.
fn start_a_pool() -> ExitCode {
    let pool = Pool::new(2).unwrap();
    for _ in 0..2 {
        let results = pool.try_map(square, 0..3);
        let text = results[0].as_ref().unwrap_err().to_string();
        assert!(
            text.contains("the pool has no workers") && text.contains("init()"),
            "{text}"
        );
        assert_eq!(results, [0; 3].map(|_| results[0].clone()));
    }
    ExitCode::SUCCESS
}
