//! Backlogs: tasks that wait at the owner are withdrawn, ordered and handed on whole.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;

use manycore::family::family;
use manycore::pool::backlog::Waiting;
use manycore::pool::{Backlog, Crew, Seat};
use manycore_ipc::ring::{Message, Outgoing};
use manycore_ipc::wait::Patience;
use manycore_os::Deadline;

use crate::house::{Test, tests};

pub(crate) const TESTS: &[Test] = &tests![
    what_the_owner_withdraws_no_worker_gets,
    whoever_takes_tasks_meanwhile_has_none_behind_those_that_are_withdrawn,
    what_was_fed_keeps_its_rank_when_it_is_withdrawn,
    the_higher_priority_is_fed_first,
    a_block_is_handed_on_and_freed_by_who_takes_it,
    what_is_discarded_gives_its_block_back,
];

const MANY: u64 = 1000;

/// A crew of one, and the seat of its worker in this process.
fn crew() -> (Crew, Seat) {
    let family = family().unwrap();
    let crew = Crew::new(family, 1, 1).unwrap();
    let seat = Seat::new(family, crew.seat(0).unwrap()).unwrap();
    (crew, seat)
}

fn put(crew: &Crew, message: &Outgoing<'_>) {
    let mut go_on = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
    crew.tasks().unwrap().put(message, &mut patience).unwrap();
}

fn put_task(crew: &Crew, tag: u64) {
    let payload = tag.to_le_bytes();
    put(
        crew,
        &Outgoing {
            tag,
            payload: &payload,
            ..Outgoing::default()
        },
    );
}

/// The tags that a worker gets, in this order.
fn take_all(seat: &Seat) -> Vec<u64> {
    let mut message = Message::default();
    let mut tags = Vec::new();
    while seat.try_take(&mut message).unwrap() {
        assert!(message.payload.is_empty() || message.payload == message.header.tag.to_le_bytes());
        tags.push(message.header.tag);
    }
    tags
}

fn what_the_owner_withdraws_no_worker_gets() {
    let (crew, seat) = crew();
    let mut backlog = Backlog::default();
    (1..=10).for_each(|tag| put_task(&crew, tag));
    let mut message = Message::default();
    assert!(seat.try_take(&mut message).unwrap());
    assert!(backlog.try_withdraw(&crew).unwrap());
    assert_eq!(backlog.len(), 9);
    assert!(crew.has_taken(1) && !backlog.has(1) && backlog.has(2));
    assert_eq!(take_all(&seat), []);

    backlog.remove(4).unwrap().discard(&crew);
    assert!(backlog.remove(4).is_none());
    backlog.feed(&crew, MANY).unwrap();
    assert!(backlog.is_empty());
    assert_eq!(take_all(&seat), [2, 3, 5, 6, 7, 8, 9, 10]);
}

fn whoever_takes_tasks_meanwhile_has_none_behind_those_that_are_withdrawn() {
    for round in 0..200 {
        let (crew, seat) = crew();
        let mut backlog = Backlog::default();
        (1..=100).for_each(|tag| put_task(&crew, tag));
        let (is_ready, goes_on) = (AtomicBool::new(false), AtomicBool::new(true));
        let taken = thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut message = Message::default();
                let mut taken = Vec::new();
                while goes_on.load(Acquire) {
                    if seat.try_take(&mut message).unwrap() {
                        taken.push(message.header.tag);
                    }
                    is_ready.store(true, Release);
                }
                taken
            });
            while !is_ready.load(Acquire) {
                thread::yield_now();
            }
            while !backlog.try_withdraw(&crew).unwrap() {
                crew.settle().unwrap(); // the worker is about to take one, perhaps without a CPU
            }
            goes_on.store(false, Release);
            worker.join().unwrap()
        });
        let all: Vec<u64> = taken.iter().copied().chain(backlog.tags()).collect();
        assert!(all.iter().copied().eq(1..=100), "{round}: {all:?}");
    }
}

fn what_was_fed_keeps_its_rank_when_it_is_withdrawn() {
    let (crew, seat) = crew();
    let mut backlog = Backlog::default();
    (1..=10).for_each(|tag| put_task(&crew, tag));
    assert!(backlog.try_withdraw(&crew).unwrap());
    for _ in 0..3 {
        backlog.feed(&crew, 4).unwrap(); // as many as are missing
        assert_eq!(crew.queued(), 4);
        assert!(backlog.try_withdraw(&crew).unwrap());
    }
    put_task(&crew, 11);
    backlog.feed(&crew, MANY).unwrap();
    assert!(backlog.try_withdraw(&crew).unwrap());
    backlog.feed(&crew, MANY).unwrap();
    assert_eq!(take_all(&seat), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
}

fn the_higher_priority_is_fed_first() {
    let (crew, seat) = crew();
    let mut backlog = Backlog::default();
    for (tag, priority) in [
        (1, 0),
        (2, 5),
        (3, -1),
        (4, 5),
        (5, i64::MAX),
        (6, i64::MIN),
    ] {
        let task = Waiting {
            tag,
            ..Waiting::default()
        };
        backlog.insert(task, priority);
    }
    backlog.feed(&crew, 3).unwrap();
    assert!(backlog.overtakes(6) && !backlog.overtakes(5));
    backlog.feed(&crew, MANY).unwrap();
    assert_eq!(take_all(&seat), [5, 2, 4, 1, 3, 6]);
}

/// Puts a task with a block that holds its tag.
fn put_large(crew: &Crew, tag: u64) {
    let blocks = crew.family().blocks().unwrap();
    let taken = crew.family().take_block(100_000).unwrap();
    blocks.fill(&taken, 0, &tag.to_le_bytes()).unwrap();
    put(
        crew,
        &Outgoing {
            tag,
            blocks: &[taken.block],
            ..Outgoing::default()
        },
    );
}

fn a_block_is_handed_on_and_freed_by_who_takes_it() {
    let (crew, seat) = crew();
    let mut backlog = Backlog::default();
    (1..=5).for_each(|tag| put_large(&crew, tag));
    for _ in 0..3 {
        assert!(backlog.try_withdraw(&crew).unwrap());
        backlog.feed(&crew, MANY).unwrap();
    }
    let blocks = crew.family().blocks().unwrap();
    let mut message = Message::default();
    for tag in 1..=5_u64 {
        assert!(seat.try_take(&mut message).unwrap());
        let [block] = message.blocks.as_slice() else {
            panic!("{message:?}")
        };
        let mut bytes = [0; 8];
        blocks.bytes(*block).unwrap().read(0, &mut bytes).unwrap();
        assert_eq!(u64::from_le_bytes(bytes), tag);
        blocks.free(*block);
    }
}

fn what_is_discarded_gives_its_block_back() {
    let (crew, seat) = crew();
    let blocks = crew.family().blocks().unwrap();
    let before = blocks.usage().unwrap().used_blocks;
    let mut backlog = Backlog::default();
    for tag in 1..=200 {
        put_large(&crew, tag);
        assert!(backlog.try_withdraw(&crew).unwrap());
        backlog.remove(tag).unwrap().discard(&crew);
    }
    put_large(&crew, 201);
    assert!(backlog.try_withdraw(&crew).unwrap());
    backlog.discard_all(&crew);
    assert_eq!(blocks.usage().unwrap().used_blocks, before);
    assert_eq!(take_all(&seat), []);
}
