//! The named places, with real processes, real kills and the kernel's own marks.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;

use super::*;
use crate::block::{Blocks, State};
use crate::family::Meeting;
use crate::lock::Shares;
use crate::lock::tokens::{INLINE, MOST};
use crate::object::cell::Cell;
use crate::ring::Watch;
use crate::ring::pollers::Event;
use crate::wait::search::tests::leave_and_nap;
use crate::wait::{GaveUp, several};

/// Where a process of [`everything`] can be told to die; after the colon, at which passing.
const PLACES: &[&str] = &[
    "engine.waiting",
    "engine.inherited",
    "engine.released",
    "registry.taken",
    "registry.joined",
    "registry.ushered",
    "registry.claimed",
    "registry.left",
    "registry.adopted",
    "recover.locks",
    "recover.blocks",
    "recover.objects",
    "recover.done",
    "lock.noted",
    "lock.inherited",
    "lock.handed",
    "lock.released",
    "lock.abandoned",
    "tokens.given",
    "tokens.waiting",
    "shares.noted",
    "shares.changed",
    "shares.extending",
    "shares.returned",
    "fork.reserved",
    "fork.held",
    "fork.adopting",
    "fork.finishing",
    "fork.withdrawn",
    "fork.failed",
    "object.unlisted",
    "object.taken",
    "object.making",
    "object.held",
    "object.attaching",
    "object.released",
    "object.buried",
    "object.condemned",
    "object.marked",
    "object.freeing",
    "object.emptied",
    "object.freed",
    "handle.sent",
    "handle.held",
    "memory.named",
    "memory.bound",
    "block.unlisted",
    "block.split",
    "block.claimed",
    "block.backing",
    "block.backed",
    "block.binding",
    "block.returned",
    "block.popped",
    "block.punching",
    "block.taken_over",
    "ring.put.binding",
    "ring.put.linked",
    "ring.put.written",
    "ring.put.committed",
    "ring.put.rung",
    "ring.get.linked",
    "ring.get.followed",
    "ring.get.noted",
    "ring.get.claimed",
    "ring.get.copied",
    "ring.get.committed",
    "poller.named",
    "poller.noted",
    "poller.told",
    "ring.closed",
    "ring.done",
    "source.made",
    "source.named",
    "source.closed",
    "bell.flagged",
    "bell.woken",
    "bell.cleared",
    "bells.flagged",
    "bells.woken",
    "search.left",
    "search.napping",
    "map.binding",
    "map.written",
    "map.committed",
    "map.freed",
    "map.table.named",
    "map.table.bound",
    "map.table.replaced",
    "map.handle.sent",
    "map.removed",
    "cell.written",
    "cell.switched",
    "event.waiting",
    "event.set",
    "roll.taken",
    "roll.bound",
    "roll.waiting",
    "roll.turned",
    "roll.told",
    "roll.passed",
    "barrier.acting",
    "barrier.passing",
    "barrier.breaking",
    "barrier.resetting",
    "row.taken",
    "row.finished",
    "row.doomed",
    "group.hastened",
];

const HEAP: &str = "MANYCORE_TEST_HEAP";
const HANDLES: &str = "MANYCORE_TEST_HANDLES";

/// Runs [`everything`] in another process, which dies at a place; `true` if it did.
fn dies_at(world: &World, place: &str, queue: Handle, lock: Handle) -> bool {
    let fd = world.me.heap().mapping().fd().expect("open");
    let handles = [queue.index, queue.generation, lock.index, lock.generation]
        .map(|n| n.to_string())
        .join(" ");
    let status = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "family::tests::faults::everything", "--quiet"])
        .env(HEAP, format!("/proc/{}/fd/{fd}", std::process::id()))
        .env(HANDLES, handles)
        .env("MANYCORE_FAULT", place)
        .stdout(std::process::Stdio::null())
        .status()
        .expect("it starts");
    assert!(
        status.success() || status.signal() == Some(9),
        "{place}: {status}"
    );
    !status.success()
}

/// What the other process does: every operation that leaves something when it dies inside. Does nothing
/// where the test harness runs it by itself.
#[test]
fn everything() {
    let (Ok(path), Ok(handles)) = (std::env::var(HEAP), std::env::var(HANDLES)) else {
        return;
    };
    let heap = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("the parent's descriptor");
    let family = Family::attach(heap.into()).expect("of this version");
    let parts: Vec<u32> = handles
        .split(' ')
        .map(|n| n.parse().expect("a number"))
        .collect();
    let handle = |at: usize| Handle {
        family: family.number(),
        index: parts[at],
        generation: parts[at + 1],
    };
    family.me().expect("room"); // and cleans up behind the dead
    family.blocks().expect("registered").make_hollow();
    family.discard(family.take_block(2 << 20).expect("the heap grows").block);
    let lock = family
        .hold(handle(2), Kind::Lock)
        .expect("held by the parent");
    let _ = lock
        .lock()
        .expect("a lock")
        .try_acquire(family.me().expect("registered"));
    let queue = family
        .hold(handle(0), Kind::Ring)
        .expect("held by the parent");
    let ring = queue.ring().expect("a ring");
    family.send(&[lock.handle()]).expect("held");
    put(&ring, 5, 100, &[lock.handle()]);
    let block = family.take_block(50_000).expect("room").block;
    let mut tick = || true;
    let large = Outgoing {
        kind: 1,
        tag: 6,
        blocks: &[block],
        handles: &[],
        payload: &[6; 9_000],
    };
    ring.put(&large, &mut Patience::new(Deadline::PASSED, &mut tick))
        .expect("grows");
    while let Some(message) = get(&ring) {
        drop(family.receive(&message.handles).expect("in flight"));
        for &block in &message.blocks {
            drop(family.keep(block).expect("received"));
        }
    }
    let producer = family.open_producer(&queue).expect("room");
    put(&producer.ring().expect("its own"), 7, 100, &[]);
    drop(producer);
    let value = family.make_memory(100_000).expect("room");
    let cell = Cell::new(family.heap(), value.memory().expect("memory")).expect("long enough");
    assert_eq!(cell.write(b"value"), Ok(true));
    use_tokens(family);
    use_a_map(family, lock.handle());
    wait_for_each_other(&ring);
    wait_at_two_bells(family);
    leave_and_nap();
    wait_for_an_event(family);
    wait_for_a_notification(family);
    come_to_a_barrier(family);
    end_a_task(family);
    let other = family.make_ring(Shape::unbounded()).expect("room");
    let finished = other.ring().expect("a ring");
    let watch = Watch::new(&finished, Event::Message).expect("the system allows it");
    let mut tick = || true;
    let asked = watch.renew(&finished, &mut Patience::new(Deadline::PASSED, &mut tick));
    asked.expect("room for it");
    put(&finished, 1, 10, &[]);
    assert!(get(&finished).is_some() && finished.mark_done());
    finished.close();
    drop((value, other, family.make_group(100)));
    family.free_buried().expect("sound");
    drop(family.make_group(1).expect("a place that was used before"));
    family.free_buried().expect("sound");
    family
        .blocks()
        .expect("registered")
        .trim_to(0)
        .expect("sound");
    let child = Family::on(family.heap());
    {
        let _counts = family.prepare_fork();
        child.reserved.store(family.reserved.load(Relaxed), Relaxed);
    }
    child.adopt_fork();
    child.leave();
    {
        let counts = family.prepare_fork();
        family.finish_fork(&counts); // this thread has no new child
    }
    // Somebody waits for the lock, and gives up.
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::PASSED, &mut tick);
    let waiter = OwnerId::from_bits(1);
    let user_lock = lock.lock().expect("a lock");
    let given_up = user_lock.acquire(waiter, &mut patience, |_| ());
    assert_eq!(given_up, Err(GaveUp::TimedOut));
    assert!(user_lock.release());
    family.leave();
}

/// As a worker whose owner has lost patience.
fn end_a_task(family: &'static Family) {
    let group = family.make_group(1).expect("room");
    let row = group.rows().expect("a group")[0];
    assert!(row.may_begin(1));
    row.begin(7);
    assert!(row.doom(7) && !row.finish());
    let body = group.group().expect("a group");
    body.hasten();
    assert!(body.is_hastened());
    body.forget_haste();
    assert!(!body.is_hastened());
}

/// Takes and gives tokens, with and without shares; others wait for them and have as many shares as there is
/// room for. Gives up a lock that it has not repaired.
fn use_tokens(family: &'static Family) {
    let hold = family.make_semaphore(MOST, MOST, false).expect("room");
    let tokens = hold.semaphore().expect("a semaphore");
    for number in 1..=INLINE {
        let other = OwnerId::new(number, 7);
        let blocks = Blocks::new(family.heap(), other);
        let shares = Shares::new(tokens, hold.handle().index, blocks);
        assert_eq!(shares.hold_at_once(), Ok(Some(true)));
    }
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::PASSED, &mut tick);
    assert_eq!(hold.hold_token(&mut patience), Ok(Ok(())));
    drop(hold);
    let hold = family.make_semaphore(0, 1, false).expect("room");
    let none = hold.take_token(&mut patience).expect("a semaphore");
    assert_eq!(none, Err(GaveUp::TimedOut));
    assert!(hold.semaphore().expect("a semaphore").give());
    let hold = family.make_refusing_lock().expect("room");
    let lock = hold.lock().expect("a lock");
    let _ = lock.try_acquire(family.me().expect("registered"));
    let waiter = OwnerId::from_bits(1);
    let given_up = lock.acquire(waiter, &mut patience, |_| ());
    assert_eq!(given_up, Err(GaveUp::TimedOut));
    lock.leave_unrepaired();
    lock.release();
}

/// Everything that can be done with a map of its own.
fn use_a_map(family: &'static Family, handle: Handle) {
    let hold = family.make_map().expect("room");
    for fill in [1, 2] {
        maps::set(family, &hold, b"with everything", fill, 1, &[handle]);
    }
    assert_eq!(maps::get(family, &hold, b"with everything"), Some(2));
    assert!(maps::remove(&hold, b"with everything"));
    for n in 0..100_u8 {
        maps::set(family, &hold, &[n], n, 0, &[]);
    }
    drop(hold);
    family.free_buried().expect("sound");
}

/// Threads wait for each other at one of the ring's locks, after one has died inside, and at its bell.
fn wait_for_each_other(ring: &Ring) {
    let (lock, bell) = (&ring.body.put.lock, ring.items_bell());
    let died = std::thread::spawn(|| std::mem::forget(lock.try_lock())).join();
    died.expect("it only forgets");
    ring.settle();
    let (has_it, holder_has_it) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let held = lock.try_lock();
            has_it.send(held.is_some()).expect("waited for");
            while !lock.is_contended() {
                std::thread::yield_now();
            }
            drop(held);
        });
        assert_eq!(holder_has_it.recv(), Ok(true));
        ring.settle();
    });
    let (news, mut looks) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !bell.has_sleepers() {
                std::thread::yield_now();
            }
            news.store(true, Relaxed);
            bell.ring();
        });
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut tick);
        let slept = bell.sleep(&mut patience, || {
            looks += 1;
            looks > 1 && news.load(Relaxed) // it sleeps at least once
        });
        assert_eq!(slept, Ok(true));
    });
}

/// A thread waits at the bells of two rings, and is woken before there is news, too.
fn wait_at_two_bells(family: &'static Family) {
    let holds = [(); 2].map(|()| family.make_ring(Shape::unbounded()).expect("room"));
    let bells = [0, 1].map(|n| holds[n].ring().expect("a ring").items_bell());
    let news = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for is_news in [false, true] {
                while !bells[1].has_sleepers() {
                    std::thread::yield_now();
                }
                news.store(is_news, Relaxed);
                bells[1].ring_all();
            }
        });
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut tick);
        let waited = several::wait_at(&bells, &mut patience, || news.load(Relaxed));
        assert_eq!(waited, Ok(true));
    });
}

/// A thread waits for an event until another one sets it.
fn wait_for_an_event(family: &'static Family) {
    let hold = family.make_event().expect("room");
    let event = hold.event().expect("an event");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !event.has_waiters() {
                std::thread::yield_now();
            }
            event.set();
        });
        let mut tick = || true;
        let waited = event.wait(&mut Patience::new(Deadline::NEVER, &mut tick));
        assert_eq!(waited, Ok(()));
    });
}

/// More wait for a notification than there is room for in the object; one gives its notification back, another
/// one sleeps until it has that.
fn wait_for_a_notification(family: &'static Family) {
    let hold = family.make_condition().expect("room");
    let condition = hold.condition().expect("a condition");
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut tick);
    let places = [(); 41].map(|()| {
        let joined = hold.join_condition(&mut patience).expect("room");
        joined.expect("its turn")
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut tick = || true;
            let mut patience = Patience::new(Deadline::NEVER, &mut tick);
            assert_eq!(hold.notify(1, &mut patience), Ok(Ok(1)));
            let given_back = condition.withdraw(places[0], &mut patience);
            assert_eq!(given_back, Ok(Ok(1)));
        });
        let slept = hold.wait_notified(places[1], &mut patience);
        assert!(slept == Ok(Ok(())) && condition.take(places[1]));
    });
    let mut passed = Patience::new(Deadline::PASSED, &mut tick);
    let slept = hold.wait_notified(places[2], &mut passed);
    assert_eq!(slept, Ok(Err(GaveUp::TimedOut)));
}

/// One who meets nobody else, breaks the barrier, and resets it.
fn come_to_a_barrier(family: &'static Family) {
    let hold = family.make_barrier(1).expect("room");
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut tick);
    let met = hold.meet(true, &mut patience).expect("sound");
    let Ok(Meeting::Acts(action)) = met else {
        panic!("it is the last to come");
    };
    let barrier = hold.barrier().expect("a barrier");
    assert_eq!(barrier.finish(action, &mut patience), Ok(Ok(true)));
    assert_eq!(barrier.abort(&mut patience), Ok(Ok(())));
    assert_eq!(barrier.reset(&mut patience), Ok(Ok(())));
}

#[test]
fn a_process_that_is_killed_at_any_named_place_leaves_nothing() {
    let world = World::new();
    let lock = world.me.make_lock().expect("room");
    let lists_children = manycore_os::process::children_of_this_thread().is_some();
    let is_reached =
        |place: &&&str| lists_children || !matches!(**place, "fork.withdrawn" | "fork.failed");
    let mut hit = 0;
    for place in PLACES.iter().filter(is_reached) {
        let queue = world.me.make_ring(Shape::unbounded()).expect("room");
        // Somebody for it to wake.
        let mut tick = || true;
        let mut passed = Patience::new(Deadline::PASSED, &mut tick);
        let bell = queue.ring().expect("a ring").items_bell();
        assert!(bell.sleep(&mut passed, || false).is_err());
        // Somebody for it to clean up after, who died while it gave memory back, holding the lock.
        let _ = world.play_member(u64::MAX, |family| {
            let held = family.hold(lock.handle(), Kind::Lock).expect("held");
            let me = family.me().expect("registered");
            let _ = held.lock().expect("a lock").try_acquire(me);
            let semaphore = family.make_semaphore(1, 1, false).expect("room");
            // Not at once: where the kernel marks no lock, one that was died with in an earlier semaphore of this place
            // in memory is found out only by who waits for it.
            let mut tick = || true;
            let mut patience = Patience::new(Deadline::NEVER, &mut tick);
            assert_eq!(semaphore.hold_token(&mut patience), Ok(Ok(())));
            std::mem::forget((held, semaphore, family.make_lock()));
            let blocks = family.blocks().expect("registered");
            let _ = blocks.take(3 << 20).map(|taken| blocks.free(taken.block));
            blocks.collect_returned_now();
            let is_punching = |blocks: &Blocks| {
                let runs = blocks.audit();
                runs.iter().any(|(_, run)| run.state == State::Punching)
            };
            for stores in 0.. {
                let _ = run_until_death(stores, || blocks.trim_to(0));
                if is_punching(&blocks) {
                    break;
                }
            }
        });
        if *place == "registry.ushered" {
            while world.me.registry().join_as(world.corpse.pid()).is_ok() {}
        }
        assert!(
            dies_at(&world, place, queue.handle(), lock.handle()),
            "{place} is never passed"
        );
        hit += 1;
        world.me.reap_dead(true);
        let mut tick = || true;
        let acquired = lock.acquire(&mut Patience::new(Deadline::NEVER, &mut tick));
        assert!(matches!(acquired, Ok(Ok(_))), "{place}: {acquired:?}");
        lock.lock().expect("a lock").release();
        let ring = queue.ring().expect("a ring");
        while let Some(message) = get(&ring) {
            drop(world.me.receive(&message.handles).expect("in flight"));
            message
                .blocks
                .iter()
                .for_each(|&block| world.me.discard(block));
        }
        put(&ring, 1, 10, &[]);
        assert_eq!(get(&ring).expect("the ring goes on").header.tag, 1);
        let has_begun = ring.source().is_some();
        assert_eq!(end_of(&queue), has_begun.then_some(()), "{place}");
        world.me.free_buried().expect("sound");
        let objects = world.me.objects().expect("registered");
        for_every_leaked_count(world.me, |index| objects.arrived(index).expect("sound"));
        world.check(2, 1, place);
    }
    println!("fault points hit: {hit} of {}", PLACES.len());
    let queue = world.me.make_ring(Shape::unbounded()).expect("room");
    assert!(!dies_at(
        &world,
        "no such place",
        queue.handle(),
        lock.handle()
    ));
    world.check(2, 1, "of a process that was not killed");
}
