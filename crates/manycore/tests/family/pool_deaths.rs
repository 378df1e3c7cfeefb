//! Workers of pools that are killed at named places of the engine, and what their owners find.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use manycore::{Pool, Process, Queue};

use crate::house::{Belongings, Scenario, Test, play, tests, until, until_ended};
use crate::pools::{is_killed, square};

pub(crate) const TESTS: &[Test] = &tests![
    a_death_anywhere_fails_at_most_one_task,
    a_death_of_who_takes_over_from_a_dead_worker_fails_at_most_one_task_more,
    tasks_that_may_be_retried_survive_deaths_of_both_workers,
    a_doomed_worker_ends_with_an_owner_that_dies_before_it_kills_it,
    a_death_beside_a_worker_that_was_stopped_over_a_take_is_seen_to,
];

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("die-in-pool", die_in_pool),
    ("die-twice-in-pool", die_twice_in_pool),
    ("die-over-a-late-task", die_over_a_late_task),
    ("die-beside-a-stopped-one", die_beside_a_stopped_one),
];

/// Where workers die; they pass each of these places often.
const PLACES: &[&str] = &[
    "block.claimed",
    "block.returned",
    "handle.held",
    "handle.sent",
    "object.held",
    "object.released",
    "ring.get.committed",
    "ring.get.claimed",
    "ring.get.copied",
    "ring.put.binding",
    "ring.put.committed",
    "ring.put.rung",
    "ring.put.written",
    "row.finished",
];

fn a_death_anywhere_fails_at_most_one_task() {
    let once = std::env::temp_dir().join(format!("manycore-pool-{}", std::process::id()));
    for place in PLACES {
        for count in 20..22 {
            // The owner does not die while the file is there, and has passed the place by then.
            std::fs::write(&once, "").unwrap();
            let fault = format!("{place}:{count}+{}", once.display());
            let output = play("die-in-pool")
                .env("MANYCORE_FAULT", &fault)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{place}:{count}: {said}");
            std::fs::remove_file(&once).expect("a worker has died there");
        }
    }
}

type Item = (u64, Queue<u64>, String);

/// Answers with a queue and a text that needs a block.
fn echo((number, queue, text): Item) -> Item {
    let own = Queue::new().unwrap();
    own.send(&(queue.recv().unwrap() + number)).unwrap();
    (number, own, text)
}

fn items(count: u64) -> impl Iterator<Item = Item> {
    (0..count).map(|number| {
        let queue = Queue::new().unwrap();
        queue.send(&1).unwrap();
        let len = if number % 2 == 0 { 10 } else { 40_000 };
        (number, queue, "x".repeat(len))
    })
}

fn is_echo(number: u64, (same, queue, text): &Item) -> bool {
    *same == number && queue.recv() == Ok(number + 1) && text.bytes().all(|byte| byte == b'x')
}

/// The owner of a pool of which one worker dies.
fn die_in_pool() -> ExitCode {
    let fault = std::env::var("MANYCORE_FAULT").unwrap();
    let (_, once) = fault.split_once('+').unwrap();
    let relay = Queue::new().unwrap();
    for item in items(60) {
        relay.send(&item).unwrap();
        echo(relay.recv().unwrap());
    }
    drop(relay);
    std::fs::remove_file(once).unwrap();
    let before = Belongings::now();
    let pool = Pool::new(2).unwrap();
    for _ in 0..2 {
        let results = pool.try_map(echo, items(100));
        let failed = results.iter().filter(|result| result.is_err()).count();
        assert!(failed <= 1, "{failed} tasks failed");
        for (number, result) in (0..).zip(results) {
            match result {
                Ok(item) => assert!(is_echo(number, &item), "{number}"),
                failure => assert!(is_killed(&failure), "{failure:?}"),
            }
        }
    }
    assert_eq!(Process::spawn(square, 3).unwrap().join(), Ok(9));
    drop(pool);
    before.assert_at_most_one_message_is_left();
    ExitCode::SUCCESS
}

fn a_death_of_who_takes_over_from_a_dead_worker_fails_at_most_one_task_more() {
    for_every_pair_of_deaths(0);
}

fn tasks_that_may_be_retried_survive_deaths_of_both_workers() {
    for_every_pair_of_deaths(2);
}

/// One worker dies at a place, and then the first that comes to another place, which may be the same.
fn for_every_pair_of_deaths(retries: u32) {
    let name = |which: &str| format!("manycore-pool-{}-{which}", std::process::id());
    let files: [PathBuf; 2] =
        ["first", "second"].map(|which| std::env::temp_dir().join(name(which)));
    for first in PLACES {
        for second in PLACES {
            let [one, two] = files.each_ref().map(|file| file.display());
            let plans = format!("{first}:20+{one};{second}:1+{two}");
            let output = play("die-twice-in-pool")
                .env("MANYCORE_FAULT", &plans)
                .env(RETRIES, retries.to_string())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{first}, {second}: {said}");
            for file in &files {
                std::fs::remove_file(file).expect("a worker has died there");
            }
        }
    }
}

const RETRIES: &str = "MANYCORE_TEST_RETRIES";

/// As [`echo`], as often as one likes.
fn echo_again((number, queue, text): Item) -> Item {
    let own = Queue::new().unwrap();
    own.send(&(queue.try_recv().unwrap_or(1) + number)).unwrap();
    (number, own, text)
}

/// The owner of a pool of which two workers die.
fn die_twice_in_pool() -> ExitCode {
    let retries = std::env::var(RETRIES).unwrap().parse().unwrap();
    manycore::family::family().unwrap();
    manycore_ipc::fault::disarm();
    let before = Belongings::now();
    let pool = Pool::builder().workers(2).retries(retries).build().unwrap();
    let results = pool.try_map(echo_again, items(100));
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert!(
        failed <= if retries == 0 { 2 } else { 0 },
        "{failed} tasks failed"
    );
    for (number, result) in (0..).zip(results) {
        match result {
            Ok(item) => assert!(is_echo(number, &item), "{number}"),
            failure => assert!(is_killed(&failure), "{failure:?}"),
        }
    }
    assert_eq!(pool.map(square, 1..=3).unwrap(), [1, 4, 9]);
    drop(pool);
    before.assert_is_left(2);
    ExitCode::SUCCESS
}

fn a_doomed_worker_ends_with_an_owner_that_dies_before_it_kills_it() {
    let output = play("die-over-a-late-task")
        .env("MANYCORE_FAULT", "row.doomed:1")
        .output() // what it says is complete once its worker, too, has ended
        .unwrap();
    assert_eq!(output.status.signal(), Some(9));
    let worker = String::from_utf8(output.stdout).unwrap();
    until_ended(worker.trim().parse().unwrap());
}

/// The owner of a worker whose task never ends.
fn die_over_a_late_task() -> ExitCode {
    let pool = Pool::new(1).unwrap();
    let stay = |()| -> () {
        println!("{}", std::process::id());
        loop {
            std::thread::park();
        }
    };
    let task = pool.timeout(Duration::from_millis(20)).submit(stay, ());
    drop(task.join());
    ExitCode::SUCCESS
}

fn a_death_beside_a_worker_that_was_stopped_over_a_take_is_seen_to() {
    let once = std::env::temp_dir().join(format!("manycore-stopped-{}", std::process::id()));
    for place in ["ring.get.copied", "ring.get.committed"] {
        std::fs::write(&once, "").unwrap();
        let output = play("die-beside-a-stopped-one")
            .env(
                "MANYCORE_FAULT",
                format!("stop@{place}:20+{}", once.display()),
            )
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{place}: {said}");
        std::fs::remove_file(&once).expect("a worker was stopped there");
    }
}

/// The owner of a pool of which one worker is stopped, and the other one killed meanwhile.
fn die_beside_a_stopped_one() -> ExitCode {
    let fault = std::env::var("MANYCORE_FAULT").unwrap();
    let (_, once) = fault.split_once('+').unwrap();
    let relay = Queue::new().unwrap();
    for number in 0..30_u64 {
        relay.send(&number).unwrap();
        assert_eq!(relay.recv(), Ok(number)); // this process has passed the place now
    }
    std::fs::remove_file(once).unwrap();
    let pool = Pool::new(2).unwrap();
    let is_stopped = |&worker: &u32| manycore_os::process::state(worker) == Some('T');
    let results = std::thread::scope(|scope| {
        scope.spawn(|| {
            until(|| pool.worker_ids().iter().any(is_stopped));
            let other = pool.worker_ids().into_iter().find(|it| !is_stopped(it));
            manycore_os::process::kill(other.unwrap()).unwrap();
        });
        let calls = pool.timeout(Duration::from_millis(500));
        calls.try_map(square, 0..200)
    });
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert!(failed <= 2, "{failed} tasks failed");
    for (number, result) in (0..).zip(results) {
        assert!(result.is_err() || result == Ok(number * number));
    }
    ExitCode::SUCCESS
}
