//! A process that is killed at a named place of the engine, and what its owner finds.

use std::process::ExitCode;

use manycore::error::JoinError;
use manycore::{Process, Queue, Value};

use crate::house::{Belongings, Scenario, Test, play, tests};

pub(crate) const TESTS: &[Test] = &tests![a_death_anywhere_leaves_queues_and_values_whole,];

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[("die-at-work", die_at_work)];

/// Where processes die. The worker passes each of them often, its owner rarely before the death.
const PLACES: &[&str] = &[
    "block.claimed",
    "block.popped",
    "block.returned",
    "block.split",
    "cell.switched",
    "cell.written",
    "handle.held",
    "handle.sent",
    "object.buried",
    "object.emptied",
    "object.freeing",
    "object.held",
    "object.making",
    "object.released",
    "ring.get.claimed",
    "ring.get.committed",
    "ring.get.copied",
    "ring.get.followed",
    "ring.get.linked",
    "ring.put.binding",
    "ring.put.committed",
    "ring.put.linked",
    "ring.put.rung",
    "ring.put.written",
];

fn a_death_anywhere_leaves_queues_and_values_whole() {
    let once = std::env::temp_dir().join(format!("manycore-died-{}", std::process::id()));
    let run = |place: &str, count: u32| {
        let fault = format!("{place}:{count}+{}", once.display());
        let output = play("die-at-work").env("MANYCORE_FAULT", &fault).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{place}:{count}: {said}");
        std::fs::remove_file(&once).expect("a process has died there");
    };
    for place in PLACES {
        // Consecutive passings are made by different operations.
        (20..26).for_each(|count| run(place, count));
    }
}

type Item = (String, Option<Queue<u8>>);
type Tools = (Queue<Item>, Value<(u64, u64)>);

/// Uses everything once; panics when anything is not as it should be.
fn work_once((items, counts): &Tools) {
    let inner = Queue::new().unwrap();
    inner.send(&7).unwrap();
    items.send(&("x".repeat(40_000), Some(inner))).unwrap();
    items.send(&("x".repeat(10), None)).unwrap();
    items.try_recv().map(check).unwrap();
    items.try_recv().map(check).unwrap();
    let burst = Queue::new().unwrap();
    (0..600_u64).for_each(|number| burst.send(&[number; 4]).unwrap());
    (0..600_u64).for_each(|number| assert_eq!(burst.try_recv(), Ok([number; 4])));
    counts.update(|(a, b)| (*a, *b) = (*a + 1, *b + 1)).unwrap();
}

fn check((text, inner): Item) {
    assert!(text.bytes().all(|byte| byte == b'x'));
    assert_eq!(text.len(), if inner.is_some() { 40_000 } else { 10 });
    assert!(inner.is_none_or(|inner| inner.recv() == Ok(7)));
}

/// The owner of a worker that dies.
fn die_at_work() -> ExitCode {
    let before = Belongings::now();
    let tools: Tools = (Queue::new().unwrap(), Value::new((0, 0)).unwrap());
    let work = |tools: Tools| (0..40).for_each(|_| work_once(&tools));
    let worker = Process::spawn(work, tools.clone()).unwrap();
    assert_eq!(worker.join(), Err(JoinError::Killed { signal: 9 }));
    while let Ok(item) = tools.0.try_recv() {
        check(item);
    }
    let (a, b) = tools.1.get().unwrap();
    assert_eq!(a, b);
    Process::spawn(work, tools.clone()).unwrap().join().unwrap();
    work_once(&tools);
    assert_eq!(tools.1.get(), Ok((a + 41, b + 41)));
    drop(tools);
    before.assert_at_most_one_message_is_left();
    ExitCode::SUCCESS
}
