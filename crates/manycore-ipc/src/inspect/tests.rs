use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use manycore_os::Deadline;
use manycore_os::clock::now_ns;

use super::report::{self, report};
use super::things::{Lock, Queue};
use super::*;
use crate::block::Blocks;
use crate::family::Family;
use crate::heap::layout::LEAST;
use crate::heap::{Heap, header};
use crate::lock::since::Since;
use crate::lock::{Access, Acquired};
use crate::map::When;
use crate::object::Objects;
use crate::object::group::Taking;
use crate::registry::OwnerId;
use crate::ring::{Outgoing, Shape};
use crate::sync::Arrival;
use crate::wait::Patience;

/// A family of this process alone, seen through a mapping that cannot be written.
fn family() -> (&'static Family, &'static Heap) {
    let family = Family::create_with(LEAST).expect("a small heap");
    let file = family.heap().mapping().duplicate().expect("open");
    (family, header::look_at(file).expect("a heap"))
}

#[test]
fn a_queue_and_a_lock_are_described_as_they_are() {
    let (family, seen) = family();
    let (queue, lock) = (
        family.make_ring(Shape::of_messages(3)).expect("room"),
        family.make_lock().expect("room"),
    );
    let ring = queue.ring().expect("a ring");
    assert!(ring.put_at_once(&Outgoing {
        kind: 1,
        ..Outgoing::default()
    }));
    let word = lock.lock().expect("a lock");
    let me = family.me().expect("a member");
    assert_eq!(word.try_acquire(me), Some(Acquired::Clean));
    let before = report(seen).expect("sound");
    let [first, second] = &before.things[..] else {
        panic!("two objects, and not {:?}", before.things);
    };
    assert_eq!(first.holders, [me.slot()]);
    assert!(
        matches!(&first.detail, Detail::Queue(Queue { stats, max_messages: 3, is_closed: false, busy: [None, None] }) if stats.put == 1)
    );
    assert!(
        matches!(second.detail, Detail::Lock(Lock { holder: Some(slot), is_awaited: false, owner: None, held_for: None, .. }) if slot == me.slot())
    );
    let pid = std::process::id();
    let text = before.to_string();
    for line in [
        format!("held by {pid}; known to {pid}"),
        "1 items of 3 at most (1 put, 0 got, 1 at most so far)".to_owned(),
    ] {
        assert!(text.contains(&line), "{line:?} in {text}");
    }
    ring.close();
    word.release();
    drop(lock);
    let text = report(seen).expect("sound").to_string();
    assert!(
        text.contains("shut down") && !text.contains("\nlocks\n"),
        "{text}"
    );
}

#[test]
fn who_waits_for_what_others_say_is_described() {
    let (family, seen) = family();
    let event = family.make_event().expect("room");
    let condition = family.make_condition().expect("room");
    let barrier = family.make_barrier(3).expect("room");
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::PASSED, &mut tick);
    let _place = condition.join_condition(&mut patience).expect("room");
    let arrival = barrier.barrier().expect("one").arrive(false, &mut patience);
    assert!(matches!(arrival, Ok(Ok(Arrival::Waits(..)))));
    let text = report(seen).expect("sound").to_string();
    let pid = std::process::id();
    for line in [
        format!("not set; known to {pid}"),
        format!("waited for by {pid}; known to {pid}"),
        format!("1 of 3 have come: {pid}; known to {pid}"),
    ] {
        assert!(text.contains(&line), "{line:?} in {text}");
    }
    event.event().expect("an event").set();
    let barrier = barrier.barrier().expect("a barrier");
    assert_eq!(barrier.abort(&mut patience), Ok(Ok(())));
    let text = report(seen).expect("sound").to_string();
    assert!(text.contains(" set; known") && text.contains("0 of 3 have come, broken;"));
}

#[test]
fn places_are_told_from_each_other() {
    let (family, seen) = family();
    let queue = family.make_ring(Shape::unbounded()).expect("room");
    let lock = family.make_lock().expect("room");
    let objects = Objects::new(seen, OwnerId::NOBODY);
    let body = |index| {
        objects.offset_of(index) + std::mem::offset_of!(crate::object::header::Object, body)
    };
    let ring = queue.ring().expect("a ring").body();
    let within = |word: usize| word - std::ptr::from_ref(ring).addr();
    let (of_queue, of_lock) = (queue.handle().index, lock.handle().index);
    for (offset, place) in [
        (
            within(std::ptr::from_ref(&ring.items).addr()),
            Place::Message(of_queue),
        ),
        (
            within(std::ptr::from_ref(&ring.space).addr()),
            Place::Room(of_queue),
        ),
        (
            within(std::ptr::from_ref(&ring.finished).addr()),
            Place::Done(of_queue),
        ),
        (
            within(std::ptr::from_ref(&ring.put.lock).addr()),
            Place::Turn(of_queue),
        ),
        (
            within(std::ptr::from_ref(&ring.get.lock).addr()),
            Place::Turn(of_queue),
        ),
        (100, Place::Object(of_queue)),
    ] {
        assert_eq!(
            things::place_at(&objects, body(of_queue) + offset),
            Some(place)
        );
    }
    assert_eq!(
        things::place_at(&objects, body(of_lock)),
        Some(Place::Lock(of_lock))
    );
    assert_eq!(things::place_at(&objects, 0), Some(Place::Tables));
    assert_eq!(
        things::place_at(&objects, seen.layout().payload),
        Some(Place::Tables)
    );
}

#[test]
fn a_process_that_is_not_there_is_named() {
    let mut other = std::process::Command::new("true").spawn().expect("runs");
    let pid = other.id();
    other.wait().expect("ours");
    let error = inspect(pid).expect_err("it has ended").to_string();
    assert!(error.contains(&pid.to_string()), "{error}");
}

#[test]
fn what_lies_in_messages_or_dicts_alone_is_known_to_nobody() {
    let (family, seen) = family();
    let (lock, map) = (family.make_lock(), family.make_map().expect("room"));
    let handles = [lock.as_ref().expect("room").handle()];
    family.send(&handles).expect("held");
    let value = Outgoing {
        handles: &handles,
        ..Outgoing::default()
    };
    let (map, mut go_on) = (map.map().expect("a map"), || true);
    let key = map.key(b"a").expect("short");
    let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
    let is_set = map.set(&key, &value, When::Always, &mut patience);
    assert_eq!(is_set, Ok(true));
    drop(lock);
    let text = report(seen).expect("sound").to_string();
    let line = "  free; known to nobody; 1 times in messages or dicts\n";
    assert!(text.contains(line), "{line:?} in {text}");
}

#[test]
fn semaphores_reader_writer_locks_and_maps_are_in_the_report() {
    let (family, seen) = family();
    let semaphore = family.make_semaphore(3, 5, false).expect("room");
    let rw_lock = family.make_rw_lock().expect("room");
    let _map = family.make_map().expect("room");
    assert!(semaphore.semaphore().expect("a semaphore").try_take());
    let shares = rw_lock.rw_lock().expect("a reader-writer lock");
    assert!(shares.try_enter(Access::Read).is_ok());
    let text = report(seen).expect("sound").to_string();
    for line in [
        "  2 tokens; known to",
        &format!("  read, 1 times: by {}; known to", std::process::id()),
        "\ndicts\n",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
}

#[test]
fn a_worker_is_described_with_the_time_that_its_task_has_run() {
    let (family, seen) = family();
    let group = family.make_group(2).expect("room");
    let rows = group.rows().expect("a group");
    let (me, pid) = (family.me().expect("a member"), std::process::id());
    let text = || report(seen).expect("sound").to_string();
    rows[0].take_seat(me);
    assert!(text().contains(&format!("workers: {pid}; ")), "{}", text());
    rows[0].write(Taking { tag: 5, place: 0 });
    rows[0].begin(now_ns() - 12_340_000_000);
    let said = format!("workers: {pid} (has run a task for 12.3 s); ");
    assert!(text().contains(&said), "{}", text());
    rows[0].end();
    assert!(text().contains(&format!("workers: {pid}; ")), "{}", text());
}

#[test]
fn who_has_the_slot_of_a_worker_that_is_gone_is_not_taken_for_it() {
    let (family, seen) = family();
    let group = family.make_group(1).expect("room");
    let row = group.rows().expect("a group")[0];
    let me = family.me().expect("a member");
    row.take_seat(OwnerId::new(me.slot(), me.generation() + 1));
    row.write(Taking { tag: 5, place: 0 });
    row.begin(now_ns());
    let text = report(seen).expect("sound").to_string();
    assert!(text.contains("workers: a process that is gone; "), "{text}");
}

#[test]
fn what_is_freed_while_somebody_looks_is_left_out() {
    let (family, seen) = family();
    let nobody = OwnerId::NOBODY;
    let (objects, blocks) = (Objects::new(seen, nobody), Blocks::new(seen, nobody));
    for again in [false, true] {
        let workers = family.make_group(2).expect("room");
        let index = workers.handle().index;
        let stage = objects.stage(index).expect("an object");
        let look = || things::thing(&objects, &blocks, index, stage);
        assert!(matches!(look(), Ok(Some(_))));
        drop(workers);
        family.free_buried().expect("sound");
        let another = again.then(|| family.make_group(2).expect("room"));
        assert!(another.is_none_or(|group| group.handle().index == index));
        assert!(matches!(look(), Ok(None)));
    }
}

#[test]
fn what_was_scribbled_on_is_an_error() {
    let (family, seen) = family();
    let workers = family.make_group(2).expect("room");
    let objects = Objects::new(family.heap(), OwnerId::NOBODY);
    let object = objects.object(workers.handle().index).expect("an object");
    for word in &object.body {
        word.store(u64::MAX, Relaxed);
    }
    assert!(report(seen).is_err());
}

#[test]
fn a_later_process_with_the_number_of_a_member_is_not_that_member() {
    let (family, seen) = family();
    let me = family.me().expect("a member");
    let state = || report(seen).expect("sound").members[0].state;
    assert!(state().is_some());
    let slot = family.registry().slot(me.slot()).expect("its own");
    slot.set_start(me.generation(), 1);
    assert_eq!(state(), None);
}

#[test]
fn what_becomes_a_heap_later_is_looked_at_then() {
    let family = Family::create_with(LEAST).expect("a small heap");
    let header = family.heap().header();
    let look = || report::seen(family.heap().mapping().duplicate().expect("open"));
    header.pretend_pid_namespace(1);
    assert!(look().is_err());
    header.pretend_pid_namespace(manycore_os::process::pid_namespace());
    let first = look().expect("a heap");
    assert!(std::ptr::eq(first, look().expect("the same")));
}

/// The report once somebody waits in another thread, made older by five seconds.
fn report_while_somebody_waits(
    seen: &'static Heap,
    wait: impl FnOnce() + Send,
    sleeps: impl Fn() -> bool,
    since: &Since,
    let_go: impl FnOnce(),
) -> String {
    std::thread::scope(|scope| {
        let waiter = scope.spawn(wait);
        while !sleeps() {
            std::thread::yield_now();
        }
        since.age(Duration::from_secs(5));
        let text = report(seen).expect("sound").to_string();
        let_go();
        waiter.join().expect("it only waits");
        text
    })
}

fn forever<R>(wait: impl FnOnce(&mut Patience<'_>) -> R) -> R {
    let mut tick = || true;
    wait(&mut Patience::new(Deadline::NEVER, &mut tick))
}

#[test]
fn for_how_long_a_lock_is_held_is_known_since_somebody_waits() {
    let (family, seen) = family();
    let (hold, pid) = (family.make_lock().expect("room"), std::process::id());
    let (lock, me) = (hold.lock().expect("a lock"), family.me().expect("a member"));
    for _ in 0..2 {
        assert_eq!(lock.try_acquire(me), Some(Acquired::Clean));
        let text = report(seen).expect("sound").to_string();
        assert!(text.contains(&format!("held by {pid}; known")), "{text}");
        let wait = || {
            let acquired = forever(|patience| hold.acquire(patience)).expect("a lock");
            assert_eq!(acquired, Ok(Acquired::Clean));
            assert!(lock.release());
        };
        let let_go = || assert!(lock.release());
        let sleeps = || lock.held_for().is_some();
        let text = report_while_somebody_waits(seen, wait, sleeps, &lock.since, let_go);
        let line = format!("held by {pid}, waited for, held for at least 5.0 s; known to {pid}");
        assert!(text.contains(&line), "{line:?} in {text}");
    }
    let text = report(seen).expect("sound").to_string();
    assert!(text.contains("  free; known"), "{text}");
}

#[test]
fn for_how_long_somebody_waits_for_tokens_is_known() {
    let (family, seen) = family();
    let semaphore = family.make_semaphore(2, 2, false).expect("room");
    let rw_lock = family.make_rw_lock().expect("room");
    let (shares, writing) = (
        semaphore.semaphore_shares().expect("a semaphore"),
        rw_lock.rw_lock().expect("a reader-writer lock"),
    );
    let pid = std::process::id();
    for _ in 0..2 {
        assert_eq!(shares.hold_at_once(), Ok(Some(true)));
        assert_eq!(shares.hold_at_once(), Ok(Some(true)));
        let tokens = shares.tokens();
        let wait = || assert!(forever(|patience| semaphore.take_token(patience)).is_ok());
        let let_go = || assert_eq!(shares.give_back_at_once(), Ok(Some(true)));
        let sleeps = || tokens.awaited_for().is_some();
        let text = report_while_somebody_waits(seen, wait, sleeps, &tokens.since, let_go);
        let line =
            format!("  0 tokens, held by {pid} (2 times), waited for, for at least 5.0 s; known");
        assert!(text.contains(&line), "{line:?} in {text}");
        assert_eq!(shares.give_back_at_once(), Ok(Some(true)));
        assert!(tokens.give());

        let entered = writing.try_enter(Access::Write);
        assert_eq!(entered, Ok(Some(Acquired::Clean)));
        let tokens = writing.tokens();
        let wait = || {
            let read = forever(|patience| rw_lock.enter(Access::Read, patience));
            assert_eq!(read, Ok(Ok(Acquired::Clean)));
        };
        let let_go = || assert_eq!(writing.leave_at_once(Access::Write), Ok(Some(true)));
        let sleeps = || tokens.awaited_for().is_some();
        let text = report_while_somebody_waits(seen, wait, sleeps, &tokens.since, let_go);
        let line = format!("  written by {pid}, waited for, for at least 5.0 s; known");
        assert!(text.contains(&line), "{line:?} in {text}");
        assert_eq!(writing.leave_at_once(Access::Read), Ok(Some(true)));
    }
}

#[test]
fn a_death_and_what_it_leaves_to_repair_are_described() {
    let (family, seen) = family();
    let (hold, pid) = (
        family.make_refusing_lock().expect("room"),
        std::process::id(),
    );
    let (lock, me) = (hold.lock().expect("a lock"), family.me().expect("a member"));
    let dead = OwnerId::new(me.slot() + 1, 1);
    let says = |line: String| {
        let text = report(seen).expect("sound").to_string();
        assert!(text.contains(&line), "{line:?} in {text}");
    };
    assert_eq!(lock.try_acquire(dead), Some(Acquired::Clean));
    says("  held by a process that is gone; known".to_owned());
    lock.hand_over(dead, 77);
    says("  free, its holder 77 was killed, to be repaired; known".to_owned());
    let repairs = forever(|patience| hold.acquire_to_repair(patience)).expect("a lock");
    assert_eq!(repairs, Ok(Acquired::HolderDied(77)));
    says(format!("  held by {pid}; known"));
    lock.leave_unrepaired();
    says(format!("  held by {pid}, to be repaired; known"));
    assert!(lock.release());
    says("  free, its holder 77 was killed, to be repaired; known".to_owned());
}

#[test]
fn who_waits_beyond_what_has_room_in_a_condition_is_known_to_wait_for_it() {
    let (family, seen) = family();
    let condition = family.make_condition().expect("room");
    let objects = Objects::new(seen, OwnerId::NOBODY);
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::PASSED, &mut tick);
    let place_of = |place: crate::sync::Place| {
        let offset = place.address() - family.heap().mapping().base().addr().get();
        things::place_at(&objects, offset)
    };
    for _ in 0..41 {
        let joined = condition.join_condition(&mut patience).expect("room");
        let place = place_of(joined.expect("its turn"));
        assert_eq!(place, Some(Place::Object(condition.handle().index)));
    }
}
