//! What the first process is doing when it dies: every operation of the engine that stores anything.

use super::scene::{Actor, Who};
use super::*;
use crate::lock::Access;

/// What an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Queues,
    Memory,
    Objects,
    Processes,
}

/// An operation, and what there was before it.
pub(super) struct Operation {
    pub(super) name: &'static str,
    pub(super) part: Part,
    pub(super) heap: usize,
    pub(super) shape: Shape,
    /// By the survivor.
    pub(super) before: fn(&World, &Actor),
    pub(super) run: fn(&Actor),
}

pub(super) const UNBOUNDED: Shape = Shape {
    capacity: 8 << 10,
    grows: true,
    max_messages: 0,
    max_bytes: 0,
    items_at: 0,
    space_at: 0,
    group: None,
};
pub(super) const BOUNDED: Shape = Shape {
    max_messages: 3,
    ..UNBOUNDED
};
/// One message with a block, and a bit.
pub(super) const FEW_BYTES: Shape = Shape {
    max_bytes: 8_000,
    ..UNBOUNDED
};
pub(super) const FIXED: Shape = Shape {
    grows: false,
    capacity: 1 << 10,
    ..UNBOUNDED
};

fn nothing(_: &World, _: &Actor) {}

fn one_message(_: &World, me: &Actor) {
    me.put(100, 0, 0);
}

pub(super) fn a_message_with_everything(_: &World, me: &Actor) {
    me.put(100, 2, 2);
    me.put(100, 0, 0);
}

/// The next message does not fit into the region.
pub(super) fn a_full_region(_: &World, me: &Actor) {
    me.put(8_000, 0, 0);
}

pub(super) fn two_regions(_: &World, me: &Actor) {
    me.put(8_000, 0, 0);
    me.put(9_000, 1, 1);
    assert!(me.get().is_some(), "the next is behind a link");
}

pub(super) fn a_full_queue(_: &World, me: &Actor) {
    for _ in 0..4 {
        me.put(200, 0, 0);
    }
}

fn a_hollow_heap(_: &World, me: &Actor) {
    me.family.blocks().expect("registered").make_hollow();
}

fn a_warm_heap(_: &World, me: &Actor) {
    let blocks = me.family.blocks().expect("registered");
    let taken = blocks.take(2 << 20).expect("room");
    blocks.free(taken.block);
    blocks.collect_returned_now();
}

/// A producer that has put something and closed.
fn a_stream_that_is_over(_: &World, me: &Actor) {
    me.produce(|| me.put(100, 1, 0));
}

/// A message of a process that was killed with its producer open.
fn a_stream_without_its_process(world: &World, me: &Actor) {
    let _ = world.play_member(u64::MAX, |family| {
        let queue = family.hold(me.names.queue, Kind::Ring).expect("held");
        std::mem::forget((family.open_producer(&queue), queue));
    });
    me.put(100, 1, 0);
}

fn some_that_died(world: &World, me: &Actor) {
    let _ = world.play_member(9, |family| drop(family.make_ring(UNBOUNDED)));
    let _ = world.play_member(u64::MAX, |family| {
        let held = family.hold(me.names.lock, Kind::Lock).expect("held");
        let owner = family.me().expect("registered");
        let _ = held.lock().expect("a lock").try_acquire(owner);
        let semaphore = family.hold(me.names.semaphore, Kind::Semaphore);
        let rw_lock = family.hold(me.names.rw_lock, Kind::RwLock).expect("held");
        let mut tick = || true;
        let entered = rw_lock.enter(
            Access::Write,
            &mut Patience::new(Deadline::PASSED, &mut tick),
        );
        assert!(matches!(entered, Ok(Ok(_))));
        let shares = semaphore.as_ref().expect("held").semaphore_shares();
        assert_eq!(shares.expect("one").hold_at_once(), Ok(Some(true)));
        let held = (held, semaphore, rw_lock);
        let taken = family.take_block(1).expect("room");
        drop(family.prepare_fork());
        std::mem::forget((held, taken));
    });
}

/// One that was notified, one that was not, and one that waited for others.
fn some_that_died_waiting(world: &World, me: &Actor) {
    let names = me.names.clone();
    let _ = world.play_member(u64::MAX, |family| {
        let actor = Actor {
            who: Who::First,
            family,
            names,
        };
        actor.die_waiting();
    });
}

/// All of them; every one also attaches and lets go of what it uses.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "put",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: one_message,
        run: |actor| actor.put(100, 0, 0),
    },
    Operation {
        name: "put with blocks",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: one_message,
        run: |actor| actor.put(100, 2, 0),
    },
    Operation {
        name: "put with handles",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: one_message,
        run: |actor| actor.put(100, 0, 2),
    },
    Operation {
        name: "put with growth",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: a_full_region,
        run: |actor| actor.put(300, 1, 1),
    },
    Operation {
        name: "put into a bounded queue until it is full",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: BOUNDED,
        before: one_message,
        run: |actor| (0..3).for_each(|_| actor.put(100, 1, 0)),
    },
    Operation {
        name: "put until so many bytes are inside, and get",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: FEW_BYTES,
        before: one_message,
        run: |actor| {
            (0..2).for_each(|_| actor.put(100, 1, 0));
            actor.get();
            actor.put(10_000, 0, 0);
        },
    },
    Operation {
        name: "poll",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: BOUNDED,
        before: one_message,
        run: |actor| {
            actor.poll();
            actor.put(100, 0, 0);
            while actor.get().is_some() {}
            actor.poll();
        },
    },
    Operation {
        name: "put and get while another polls",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: BOUNDED,
        before: |_, me| me.poll(),
        run: |actor| {
            actor.put(100, 1, 0);
            actor.get();
        },
    },
    Operation {
        name: "put into a ring of fixed size until it is full",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: FIXED,
        before: one_message,
        run: |actor| (0..4).for_each(|_| actor.put(200, 0, 1)),
    },
    Operation {
        name: "get",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: a_message_with_everything,
        run: |actor| while actor.get().is_some() {},
    },
    Operation {
        name: "get and keep",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: a_message_with_everything,
        run: |actor| {
            drop(actor.get_and_keep());
            actor.family.free_buried().expect("sound");
        },
    },
    Operation {
        name: "get and send on",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: a_message_with_everything,
        run: |actor| (0..2).for_each(|_| actor.get_and_send_on()),
    },
    Operation {
        name: "get and follow",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: two_regions,
        run: |actor| while actor.get().is_some() {},
    },
    Operation {
        name: "get from a full bounded queue",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: BOUNDED,
        before: a_full_queue,
        run: |actor| while actor.get().is_some() {},
    },
    Operation {
        name: "get from a full ring of fixed size, and put",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: FIXED,
        before: a_full_queue,
        run: |actor| {
            for _ in 0..3 {
                actor.get();
                actor.put(200, 0, 0);
            }
        },
    },
    Operation {
        name: "close",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: one_message,
        run: |actor| {
            actor.close();
            actor.put(10, 1, 1);
            while actor.get().is_some() {}
        },
    },
    Operation {
        name: "mark as done",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: one_message,
        run: |actor| {
            assert!(actor.get().is_none() || actor.mark_done());
        },
    },
    Operation {
        name: "produce",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: |actor| actor.produce(|| actor.put(10, 1, 0)),
    },
    Operation {
        name: "produce twice, after the end of another stream",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: a_stream_that_is_over,
        run: |actor| actor.produce(|| actor.produce(|| actor.put(10, 0, 1))),
    },
    Operation {
        name: "get until the end",
        part: Part::Queues,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: a_stream_without_its_process,
        run: |actor| while actor.get().is_some() {},
    },
    Operation {
        name: "take and free blocks",
        part: Part::Memory,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: |actor| {
            let sizes = [1, 20_000, 8_000];
            let taken = sizes.map(|len| actor.family.take_block(len).expect("room"));
            taken
                .iter()
                .for_each(|taken| actor.family.discard(taken.block));
        },
    },
    Operation {
        name: "grow the heap",
        part: Part::Memory,
        heap: LEAST,
        shape: UNBOUNDED,
        before: a_hollow_heap,
        run: |actor| drop(actor.family.take_block(300_000).expect("room")),
    },
    Operation {
        name: "give memory back",
        part: Part::Memory,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: a_warm_heap,
        run: |actor| {
            let blocks = actor.family.blocks().expect("registered");
            blocks.trim_to(0).expect("sound");
        },
    },
    Operation {
        name: "make and free a ring with messages",
        part: Part::Objects,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: |actor| {
            let hold = actor.family.make_ring(UNBOUNDED).expect("room");
            actor.family.send(&[actor.names.inner]).expect("held");
            put(
                &hold.ring().expect("a ring"),
                1,
                7_000,
                &[actor.names.inner],
            );
            put(&hold.ring().expect("a ring"), 2, 7_000, &[]);
            drop(hold);
            actor.family.free_buried().expect("sound");
        },
    },
    Operation {
        name: "make and free a lock, memory, a group and tokens",
        part: Part::Objects,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: |actor| {
            let lock = actor.family.make_lock().expect("room");
            let small = actor.family.make_memory(100).expect("room");
            let large = actor.family.make_memory(10_000).expect("room");
            let group = actor.family.make_group(3).expect("room");
            let semaphore = actor.family.make_semaphore(1, 1, false).expect("room");
            let rw_lock = actor.family.make_rw_lock().expect("room");
            drop((lock, small, large, group, semaphore, rw_lock));
            actor.family.free_buried().expect("sound");
        },
    },
    Operation {
        name: "keep and drop functions",
        part: Part::Memory,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: Actor::store_and_discard,
    },
    Operation {
        name: "change a map",
        part: Part::Objects,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: |_, me| me.change_the_map(),
        run: Actor::change_the_map,
    },
    Operation {
        name: "make and free a map",
        part: Part::Objects,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: |actor| {
            let map = actor.family.make_map().expect("room");
            maps::set(actor.family, &map, b"a", 1, 1, &[actor.names.inner]);
            (0..20).for_each(|key| maps::set(actor.family, &map, &[key], key, 0, &[]));
            drop(map);
            actor.family.free_buried().expect("sound");
        },
    },
    Operation {
        name: "attach and let go",
        part: Part::Objects,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: |actor| drop(actor.hold(actor.names.inner, Kind::Lock)),
    },
    Operation {
        name: "change a value under a recursive lock",
        part: Part::Objects,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: Actor::use_the_lock,
    },
    Operation {
        name: "use a lock that is refused after a death",
        part: Part::Objects,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: Actor::repair_and_use_the_lock,
    },
    Operation {
        name: "hold tokens",
        part: Part::Objects,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: Actor::hold_all_tokens,
    },
    Operation {
        name: "read and write",
        part: Part::Objects,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: Actor::read_and_write,
    },
    Operation {
        name: "make and free an event, a condition with many places and a barrier",
        part: Part::Objects,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: |actor| {
            let event = actor.family.make_event().expect("room");
            let condition = actor.family.make_condition().expect("room");
            let barrier = actor.family.make_barrier(2).expect("room");
            actor.fill(&condition);
            event.event().expect("an event").set();
            drop((event, condition, barrier));
            actor.family.free_buried().expect("sound");
        },
    },
    Operation {
        name: "wait and notify",
        part: Part::Objects,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: |actor| {
            actor.wait_and_notify();
            actor.wait_in_vain();
        },
    },
    Operation {
        name: "wait where others died waiting",
        part: Part::Objects,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: some_that_died_waiting,
        run: |actor| {
            actor.wait_and_notify();
            actor.meet();
        },
    },
    Operation {
        name: "meet, and break what others wait at",
        part: Part::Objects,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: |actor| {
            actor.meet();
            actor.break_the_barrier();
        },
    },
    Operation {
        name: "join and leave",
        part: Part::Processes,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: |actor| {
            let other = Family::on(actor.family.heap());
            other.me().expect("room");
            other.leave();
        },
    },
    Operation {
        name: "fork",
        part: Part::Processes,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: |actor| {
            let held = actor.hold(actor.names.inner, Kind::Lock);
            let child = Family::on(actor.family.heap());
            {
                let _counts = actor.family.prepare_fork();
                let reserved = actor.family.reserved.load(Relaxed);
                child.reserved.store(reserved, Relaxed);
            }
            child.adopt_fork();
            let objects = child.objects().expect("adopted");
            objects
                .clear_holder(held.handle().index, objects.me())
                .expect("held for it");
        },
    },
    Operation {
        name: "fork in vain",
        part: Part::Processes,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: nothing,
        run: |actor| {
            let _held = actor.hold(actor.names.inner, Kind::Lock);
            let counts = actor.family.prepare_fork();
            actor.family.finish_fork(&counts);
        },
    },
    Operation {
        name: "clean up",
        part: Part::Processes,
        heap: LEAST * 4,
        shape: UNBOUNDED,
        before: some_that_died,
        run: |actor| {
            actor.family.reap_dead(true);
            actor.family.free_buried().expect("sound");
        },
    },
];

/// What a survivor does next, so that it meets whatever was left; `cleans_first` or in the end.
pub(super) fn go_on(actor: &Actor, cleans_first: bool) {
    if cleans_first {
        actor.family.reap_dead(true);
    }
    actor.put(300, 1, 1);
    actor.get();
    actor.produce(|| ());
    actor.use_the_lock();
    actor.wait_and_notify();
    actor.meet();
    actor.repair_and_use_the_lock();
    actor.hold_all_tokens();
    actor.read_and_write();
    actor.change_the_map();
    drop(actor.hold(actor.names.inner, Kind::Lock));
    actor.store_and_discard();
    actor.family.reap_dead(true);
    actor.objects(); // still a member
    actor.family.free_buried().expect("sound");
}

/// What another process does while one is stopped outside of all engine locks. It may be in the user's.
pub(super) fn go_on_beside(actor: &Actor) {
    actor.put(300, 1, 1);
    actor.get();
    let lock = actor.hold(actor.names.lock, Kind::Lock);
    if lock.lock().expect("a lock").holder().is_none() {
        actor.use_the_lock();
    }
    drop(lock);
    let semaphore = actor.hold(actor.names.semaphore, Kind::Semaphore);
    let shares = semaphore.semaphore_shares().expect("a semaphore");
    if shares.hold_at_once() == Ok(Some(true)) {
        assert_eq!(shares.give_back_at_once(), Ok(Some(true)));
    }
    let rw_lock = actor.hold(actor.names.rw_lock, Kind::RwLock);
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::PASSED, &mut tick);
    if let Ok(Ok(_)) = rw_lock.enter(Access::Read, &mut patience) {
        let shares = rw_lock.rw_lock().expect("a reader-writer lock");
        assert_eq!(shares.leave_at_once(Access::Read), Ok(Some(true)));
    }
    drop((semaphore, rw_lock));
    actor.change_the_map();
    drop(actor.hold(actor.names.inner, Kind::Lock));
    actor.store_and_discard();
    actor.family.reap_dead(true);
    actor.family.free_buried().expect("sound");
    let (lock, memory) = (actor.family.make_lock(), actor.family.make_memory(10_000));
    drop((lock.expect("room"), memory.expect("room")));
    actor.family.free_buried().expect("sound");
}
