//! Pools whose tasks may run only for so long, or be run again.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use manycore::error::TaskError;
use manycore::{Pool, Queue, Value};

use crate::house::{Belongings, Scenario, Test, play, tests, until, until_ended};
use crate::pools::{is_killed, kill, park, square};

pub(crate) const TESTS: &[Test] = &tests![
    a_task_that_runs_too_long_fails_alone,
    a_task_that_was_stopped_runs_too_long,
    a_worker_that_was_stopped_without_a_task_is_replaced,
    the_limit_counts_from_when_the_task_begins,
    who_waits_for_another_task_ends_the_one_that_nobody_waits_for,
    who_only_asks_ends_a_task_that_runs_too_long,
    a_task_without_limit_runs_on_beside_one_that_is_ended,
    tasks_that_end_when_their_time_does_have_one_answer_each,
    a_worker_killed_in_each_of_three_attempts_fails_its_task,
    a_task_whose_worker_died_is_run_again,
    a_retry_has_what_its_arguments_held,
    a_panic_is_retried_only_if_that_was_asked,
    a_task_that_ran_too_long_is_not_tried_again,
    what_a_pool_says_holds_where_a_call_says_nothing,
    limits_and_kills_together_give_each_task_one_answer,
];

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[("limit-and-kill", limit_and_kill)];

/// Far more than a task of these tests takes, unless it never ends.
const LONG: Duration = Duration::from_secs(60);

const SHORT: Duration = Duration::from_millis(20);

/// Never ends, and never sleeps.
fn spin((): ()) {
    loop {
        std::hint::spin_loop();
    }
}

fn a_task_that_runs_too_long_fails_alone() {
    let pool = Pool::new(2).unwrap();
    let workers = pool.worker_ids();
    let ready = Queue::new().unwrap();
    let items = (0..40).map(|number| (number, (number == 7).then(|| ready.clone())));
    let task = |(number, ready): (u64, Option<Queue<u32>>)| match ready {
        Some(ready) => park(&ready),
        None => number,
    };
    let results = pool
        .timeout(Duration::from_millis(500))
        .try_map(task, items);
    for (number, result) in (0..).zip(&results) {
        if number != 7 {
            assert_eq!(*result, Ok(number));
            continue;
        }
        let Err(error @ TaskError::TimedOut { limit, run }) = result else {
            panic!("{result:?}")
        };
        assert_eq!((*limit, run.attempts), (Duration::from_millis(500), 1));
        assert!(run.lasted.unwrap() >= *limit, "{run:?}");
        let text = error.to_string();
        assert!(
            text.starts_with("the task may run for 500ms and was ended; it had run `")
                && text.contains("a_task_that_runs_too_long_fails_alone"),
            "{text}"
        );
    }
    let ended = ready.recv().unwrap();
    until_ended(ended);
    assert_eq!(pool.map(square, [3]).unwrap(), [9]);
    let now = pool.worker_ids();
    assert_eq!(now.len(), 2);
    assert!(now.iter().all(|id| *id != ended), "it was replaced");
    assert_eq!(now.iter().filter(|id| workers.contains(id)).count(), 1);
}

fn a_task_that_was_stopped_runs_too_long() {
    let pool = Pool::new(1).unwrap();
    let task = pool
        .timeout(SHORT)
        .submit(|()| manycore_os::process::stop_self(), ());
    assert!(matches!(task.join(), Err(TaskError::TimedOut { .. })));
    assert_eq!(pool.submit(square, 2).join(), Ok(4));
}

fn a_worker_that_was_stopped_without_a_task_is_replaced() {
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.submit(square, 2).join(), Ok(4));
    let stopped = pool.worker_ids();
    manycore_os::process::send(stopped[0], manycore_os::process::Signal::STOP).unwrap();
    assert_eq!(pool.timeout(SHORT).submit(square, 3).join(), Ok(9));
    assert_ne!(pool.worker_ids(), stopped);
}

fn the_limit_counts_from_when_the_task_begins() {
    let pool = Pool::new(1).unwrap();
    let limit = Duration::from_secs(1);
    let nap = |()| std::thread::sleep(Duration::from_millis(200));
    let results = pool.timeout(limit).try_map(nap, [(); 7]);
    assert_eq!(results, vec![Ok(()); 7]);
}

fn who_waits_for_another_task_ends_the_one_that_nobody_waits_for() {
    let pool = Pool::new(1).unwrap();
    let ready = Queue::new().unwrap();
    drop(
        pool.timeout(SHORT)
            .submit(|ready| park::<()>(&ready), ready.clone()),
    );
    assert_eq!(pool.submit(square, 5).join(), Ok(25));
    until_ended(ready.recv().unwrap());
}

fn who_only_asks_ends_a_task_that_runs_too_long() {
    let pool = Pool::new(1).unwrap();
    let task = pool.timeout(SHORT).submit(spin, ());
    until(|| task.is_done());
    assert!(matches!(task.join(), Err(TaskError::TimedOut { .. })));
}

fn a_task_without_limit_runs_on_beside_one_that_is_ended() {
    let pool = Pool::new(2).unwrap();
    let (ready, go) = (Queue::new().unwrap(), Queue::<u64>::new().unwrap());
    let patient = pool.submit(|go: Queue<u64>| go.recv().unwrap(), go.clone());
    let short = pool.timeout(SHORT);
    for _ in 0..3 {
        let task = short.submit(|ready| park::<()>(&ready), ready.clone());
        assert!(matches!(task.join(), Err(TaskError::TimedOut { .. })));
    }
    assert!(!patient.is_done());
    go.send(&8).unwrap();
    assert_eq!(patient.join(), Ok(8));
}

/// Tasks that take about as long as they may, so that some end while their worker is about to be killed; in
/// between ones that may take long, which none of these kills may hit.
fn tasks_that_end_when_their_time_does_have_one_answer_each() {
    let pool = Pool::new(2).unwrap();
    let limit = Duration::from_millis(5);
    let nap = |micros: u64| std::thread::sleep(Duration::from_micros(micros));
    let (mut in_time, mut late) = (0, 0);
    for round in 0..80_u64 {
        // With the step of the clock that tasks are given, and what it takes to look.
        let tight = pool.timeout(limit).submit(nap, 14_000 + round % 20 * 500);
        let others: Vec<_> = (0..8)
            .map(|number| pool.timeout(LONG).submit(square, number))
            .collect();
        match tight.join() {
            Ok(()) => in_time += 1,
            Err(TaskError::TimedOut { .. }) => late += 1,
            other => panic!("{other:?}"),
        }
        for (number, task) in (0..).zip(others) {
            assert_eq!(task.join(), Ok(square(number)));
        }
    }
    assert_eq!(in_time + late, 80);
    assert!(late > 0, "none ran too long");
}

fn a_worker_killed_in_each_of_three_attempts_fails_its_task() {
    let pool = Pool::new(1).unwrap();
    let ready = Queue::new().unwrap();
    let task = pool
        .retries(2)
        .submit(|ready| park::<()>(&ready), ready.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| (0..3).for_each(|_| kill(ready.recv().unwrap())));
        let error = task.join().unwrap_err();
        let TaskError::Killed { signal: 9, run } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(run.attempts, 3);
        assert!(
            error.to_string().ends_with(", in the last of 3 attempts"),
            "{error}"
        );
    });
    assert_eq!(pool.submit(square, 4).join(), Ok(16));
}

/// Counts its runs; its worker is killed in the first of them.
fn dies_at_first((runs, deaths): (Value<u32>, u32)) -> u32 {
    runs.update(|runs| *runs += 1).unwrap();
    let runs = runs.get().unwrap();
    if runs <= deaths {
        manycore_os::process::kill_self();
    }
    runs
}

fn a_task_whose_worker_died_is_run_again() {
    let pool = Pool::new(2).unwrap();
    let runs: Vec<Value<u32>> = (0..30).map(|_| Value::new(0).unwrap()).collect();
    let items = || {
        (0..)
            .zip(&runs)
            .map(|(number, runs)| (runs.clone(), number % 3))
    };
    let results = pool.retries(2).try_map(dies_at_first, items());
    assert!(
        results
            .into_iter()
            .eq((0..30).map(|number| Ok(number % 3 + 1)))
    );
    let left: Vec<u32> = runs.iter().map(|runs| runs.get().unwrap()).collect();
    assert!(
        left.into_iter().eq((0..30).map(|number| number % 3 + 1)),
        "none ran once too often"
    );
    // One attempt less is not enough for those that die twice.
    runs.iter().for_each(|runs| runs.set(&0).unwrap());
    let results = pool.retries(1).try_map(dies_at_first, items());
    assert!(
        (0..)
            .zip(&results)
            .all(|(number, result)| is_killed(result) == (number % 3 == 2))
    );
}

/// Puts a number into the queue, and dies if it is the first.
fn lend_and_die((queue, text): (Queue<u64>, String)) -> (Queue<u64>, usize) {
    queue.send(&7).unwrap();
    if queue.len() == 1 {
        std::process::exit(1);
    }
    (queue, text.len())
}

fn a_retry_has_what_its_arguments_held() {
    let pool = Pool::new(1).unwrap();
    for len in [10, 40_000] {
        // Nobody but the task has the queue.
        let arguments = (Queue::new().unwrap(), "x".repeat(len));
        let task = pool.retries(1).submit(lend_and_die, arguments);
        let (queue, seen) = task.join().unwrap();
        assert_eq!(seen, len);
        assert_eq!((queue.try_recv(), queue.try_recv()), (Ok(7), Ok(7)));
        assert!(queue.try_recv().is_err());
    }
}

fn a_panic_is_retried_only_if_that_was_asked() {
    let pool = Pool::new(1).unwrap();
    let worker = pool.worker_ids();
    let task = |runs: Value<u32>| {
        runs.update(|runs| *runs += 1).unwrap();
        let runs = runs.get().unwrap();
        assert!(runs > 2, "run {runs}");
        runs
    };
    let runs = || Value::new(0_u32).unwrap();
    let (calls, once) = (pool.retries(2), runs());
    let error = calls.submit(task, once.clone()).join().unwrap_err();
    assert!(error.to_string().ends_with("run 1"), "{error}");
    assert_eq!(once.get(), Ok(1));
    assert_eq!(calls.retry_panics(true).submit(task, runs()).join(), Ok(3));
    let error = pool
        .retries(1)
        .retry_panics(true)
        .submit(task, runs())
        .join();
    assert!(error.unwrap_err().to_string().ends_with("run 2"));
    assert_eq!(pool.worker_ids(), worker, "none of it killed the worker");
}

fn a_task_that_ran_too_long_is_not_tried_again() {
    let pool = Pool::new(1).unwrap();
    let ready = Queue::new().unwrap();
    let calls = pool.timeout(SHORT).retries(5).retry_panics(true);
    let task = calls.submit(|ready| park::<()>(&ready), ready.clone());
    let error = task.join().unwrap_err();
    assert!(
        matches!(&error, TaskError::TimedOut { run, .. } if run.attempts == 1),
        "{error:?}"
    );
    assert_eq!(ready.len(), 1);
}

fn what_a_pool_says_holds_where_a_call_says_nothing() {
    let builder = Pool::builder()
        .workers(1)
        .timeout(SHORT)
        .retries(1)
        .retry_panics(true);
    let pool = builder.build().unwrap();
    assert_eq!(
        format!("{:?}", pool.calls()),
        "Calls { timeout: Some(20ms), retries: 1, retry_panics: true, .. }"
    );
    let results = pool.try_map(spin, [()]);
    assert!(matches!(results[0], Err(TaskError::TimedOut { .. })));
    let (patient, runs) = (pool.timeout(LONG), || (Value::new(0).unwrap(), 1));
    assert_eq!(patient.submit(dies_at_first, runs()).join(), Ok(2));
    let failed = patient.retries(0).submit(dies_at_first, runs()).join();
    assert!(is_killed(&failed), "{failed:?}");
    let nap = |()| std::thread::sleep(5 * SHORT);
    assert_eq!(
        pool.calls().without_timeout().submit(nap, ()).join(),
        Ok(())
    );
    assert_eq!(
        pool.timeout(LONG).map_ordered(nap, [()]).next(),
        Some(Ok(()))
    );
}

/// Says that it runs; some never end.
fn say_and_maybe_stay((number, said): (u64, Queue<u64>)) -> u64 {
    said.send(&number).unwrap();
    if number % 40 == 7 {
        loop {
            std::thread::park();
        }
    }
    number
}

fn limits_and_kills_together_give_each_task_one_answer() {
    assert!(play("limit-and-kill").status().unwrap().success());
}

/// The owner of a pool whose workers are killed at any moment. One that dies while it takes over the
/// queue in its task leaves that queue counted, so this is a process of its own.
fn limit_and_kill() -> ExitCode {
    manycore::family::family().unwrap();
    let before = Belongings::now();
    let pool = Pool::new(2).unwrap();
    for retries in [0, 3] {
        let said = Queue::new().unwrap();
        let (made, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
        let items = (0..400_u64).map(|number| {
            made.store(number, Relaxed);
            (number, said.clone())
        });
        let results = std::thread::scope(|scope| {
            scope.spawn(|| {
                // One of the workers for every few tasks, whatever they do.
                for round in 0..20 {
                    until(|| is_done.load(Relaxed) || made.load(Relaxed) >= 20 * round);
                    let victim = pool.worker_ids().into_iter().nth(round as usize % 2);
                    let _ = victim.map(manycore_os::process::kill); // it may have ended
                }
            });
            let calls = pool.timeout(SHORT).retries(retries);
            let results: Vec<_> = calls.map_unordered(say_and_maybe_stay, items).collect();
            is_done.store(true, Relaxed);
            results
        });
        assert_eq!(results.len(), 400);
        let mut seen = [0; 400];
        for (index, result) in results {
            seen[index] += 1;
            match result {
                Ok(number) => assert_eq!((number, number % 40 != 7), (index as u64, true)),
                Err(TaskError::TimedOut { .. }) => {} // also a worker that had just been started
                failure => assert!(is_killed(&failure), "{failure:?}"),
            }
        }
        assert_eq!(seen, [1; 400]);
        let mut runs = [0; 400];
        while let Ok(number) = said.try_recv() {
            runs[number as usize] += 1;
        }
        assert!(runs.iter().all(|&runs| runs <= 1 + retries), "{runs:?}");
    }
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
    drop(pool);
    before.assert_is_left(2); // one queue for each of the rounds
    ExitCode::SUCCESS
}
