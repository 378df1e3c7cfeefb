use super::*;
use crate::family::{Hold, Producer};
use crate::object::Objects;
use crate::object::header::Phase;

fn queue_of(world: &World) -> Hold {
    world.me.make_ring(Shape::unbounded()).expect("room")
}

fn open(world: &World, queue: &Hold) -> Producer {
    world.me.open_producer(queue).expect("room")
}

/// What a process does that has a producer open when it ends.
fn produces(family: &'static Family, queue: Handle) {
    let held = family.hold(queue, Kind::Ring).expect("held by another");
    let producer = family.open_producer(&held).expect("room");
    put(&producer.ring().expect("its own"), 7, 10, &[]);
    std::mem::forget((held, producer));
}

#[test]
fn a_queue_is_over_when_it_is_empty_and_its_last_producer_is_closed() {
    let world = World::new();
    let queue = queue_of(&world);
    let ring = queue.ring().expect("a ring");
    assert_eq!(end_of(&queue), None, "there was no producer");
    let first = open(&world, &queue);
    let second = first.clone();
    put(&first.ring().expect("open"), 1, 10, &[]);
    drop(first);
    assert_eq!(get(&ring).expect("there").header.tag, 1);
    assert_eq!(end_of(&queue), None, "a clone is open");
    put(&second.ring().expect("open"), 2, 10, &[]);
    drop(second);
    assert_eq!(ring.is_over(), Ok(true));
    assert_eq!(get(&ring).expect("comes before the end").header.tag, 2);
    assert_eq!(end_of(&queue), Some(()));
    assert_eq!(end_of(&queue), Some(()), "it stays over");
    world.check(1, 1, "but the queue");
}

#[test]
fn after_the_end_a_new_producer_begins_a_new_stream() {
    let world = World::new();
    let queue = queue_of(&world);
    for tag in 1..4 {
        let producer = open(&world, &queue);
        assert_eq!(end_of(&queue), None);
        put(&producer.ring().expect("open"), tag, 10, &[]);
        drop(producer);
        let ring = queue.ring().expect("a ring");
        assert_eq!(get(&ring).expect("there").header.tag, tag);
        assert_eq!(end_of(&queue), Some(()));
    }
    drop(open(&world, &queue));
    drop(queue);
    world.check(0, 0, "of a queue that was freed");
}

#[test]
fn a_producer_outlives_all_other_holds_on_its_queue() {
    let world = World::new();
    let queue = queue_of(&world);
    let producer = open(&world, &queue);
    drop(queue);
    put(&producer.ring().expect("held"), 1, 10, &[]);
    world.check(2, 1, "but the queue and its source");
    drop(producer);
    world.check(0, 0, "of both");
}

#[test]
fn who_waits_is_told_when_the_last_producer_closes() {
    let world = World::new();
    let queue = queue_of(&world);
    let producer = open(&world, &queue);
    let bell = queue.ring().expect("a ring").items_bell();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while !bell.has_sleepers() {
                std::thread::yield_now();
            }
            drop(producer);
        });
        assert_eq!(wait_for_the_end(&queue), Err(GetError::Ended));
    });
}

/// Waits without a deadline.
fn wait_for_the_end(queue: &Hold) -> Result<(), GetError> {
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut tick);
    let mut message = Message::default();
    queue.get(&mut message, None, &mut patience).expect("held")
}

#[test]
fn a_killed_producer_is_noticed_by_who_waits_and_by_who_looks() {
    let world = World::new();
    for waits in [true, false] {
        let queue = queue_of(&world);
        let handle = queue.handle();
        let _ = world.play_member(u64::MAX, |family| produces(family, handle));
        let ring = queue.ring().expect("a ring");
        assert_eq!(get(&ring).expect("it had put").header.tag, 7);
        assert_eq!(ring.is_over(), Ok(false), "nobody has looked");
        if waits {
            assert_eq!(wait_for_the_end(&queue), Err(GetError::Ended));
        } else {
            assert_eq!(end_of(&queue), Some(()));
        }
        drop(queue);
        world.check(0, 0, "of the dead");
    }
}

/// A queue whose producer was killed, which the kernel has not marked, and would have had where.
fn queue_of_the_dead(world: &World) -> Hold {
    let queue = queue_of(world);
    let handle = queue.handle();
    let mut dead = None;
    let _ = world.play_member(u64::MAX, |family| {
        produces(family, handle);
        dead = family.me().ok();
    });
    assert!(get(&queue.ring().expect("a ring")).is_some());
    let slot = world.me.registry().slot(dead.expect("joined").slot());
    slot.expect("inside").has_life.store(1, Relaxed);
    queue
}

#[test]
fn a_wait_that_is_shorter_than_a_slice_notices_a_death_too() {
    let world = World::new();
    let queue = queue_of_the_dead(&world);
    assert_eq!(end_of(&queue), None);
    let mut tick = || true;
    let soon = Deadline::after(std::time::Duration::from_millis(1));
    let outcome = queue.get(
        &mut Message::default(),
        None,
        &mut Patience::new(soon, &mut tick),
    );
    assert_eq!(outcome, Ok(Err(GetError::Ended)));
}

#[test]
fn who_has_noticed_a_death_sleeps_no_further_slice() {
    let world = World::new();
    for alone in [true, false] {
        let queue = queue_of_the_dead(&world);
        let mut ticks = 0;
        let mut tick = || {
            ticks += 1;
            true
        };
        let mut patience = Patience::new(Deadline::NEVER, &mut tick);
        if alone {
            let outcome = queue.get(&mut Message::default(), None, &mut patience);
            assert_eq!(outcome, Ok(Err(GetError::Ended)));
        } else {
            let rings = [queue_of(&world), queue.clone()].map(|hold| hold.ring().expect("a ring"));
            assert_eq!(world.me.wait_for_any(&rings, 0, &mut patience), Ok(1));
        }
        assert_eq!(ticks, 1);
    }
}

#[test]
fn a_burial_that_somebody_was_stopped_over_does_not_keep_a_stream_open() {
    let world = World::new();
    let queue = queue_of(&world);
    let producer = open(&world, &queue);
    // It missed this one's hold at its first look, and was stopped before the second.
    let owner = world.me.registry().join().expect("room"); // lives
    let stopped = Objects::new(world.me.heap(), owner);
    let index = producer.source().handle().index;
    let live = stopped.stage(index).expect("sound");
    assert!(run_until_death(2, || stopped.bury(index, live)).is_none());
    let phase = || stopped.stage(index).map(|stage| stage.phase);
    assert_eq!(phase(), Ok(Phase::Buried));
    assert_eq!(end_of(&queue), None);
    assert_eq!(phase(), Ok(Phase::Live), "it is held");
    let live = stopped.stage(index).expect("sound");
    assert!(run_until_death(2, || stopped.bury(index, live)).is_none());
    drop(producer); // and leaves the rest to the other one
    assert_eq!(phase(), Ok(Phase::Buried));
    assert_eq!(end_of(&queue), Some(()));
}

#[test]
fn who_leaves_in_order_without_closing_has_closed_when_it_has_ended() {
    let world = World::new();
    let queue = queue_of(&world);
    let handle = queue.handle();
    let _ = world.play_member(u64::MAX, |family| {
        produces(family, handle);
        family.leave();
    });
    assert!(get(&queue.ring().expect("a ring")).is_some());
    assert_eq!(end_of(&queue), Some(()));
}

#[test]
fn a_producer_that_travels_in_a_message_keeps_the_stream_open() {
    let world = World::new();
    let (queue, post) = (queue_of(&world), queue_of(&world));
    let producer = open(&world, &queue);
    let handles = [producer.queue().handle(), producer.source().handle()];
    world.me.send(&handles).expect("held");
    put(&post.ring().expect("a ring"), 1, 10, &handles);
    drop(producer);
    assert_eq!(end_of(&queue), None, "in a message");
    let message = get(&post.ring().expect("a ring")).expect("there");
    let mut held = world.me.receive(&message.handles).expect("in flight");
    let (source, ring) = (held.pop().expect("two"), held.pop().expect("two"));
    let arrived = Producer::of(ring, source).expect("a ring and its source");
    put(&arrived.ring().expect("its own"), 2, 10, &[]);
    drop(arrived);
    assert!(get(&queue.ring().expect("a ring")).is_some());
    assert_eq!(end_of(&queue), Some(()));
    let other = Producer::of(queue.clone(), queue.clone()).map(drop);
    assert_eq!(other, Err(HandleError::OtherKind));
}

/// What a process has that was forked from this one, by `adopt_fork` or without hooks.
fn child_of(world: &World, with_hooks: bool) -> OwnerId {
    let parent = world.me.me().expect("registered");
    if with_hooks {
        drop(world.me.prepare_fork()); // the child finds the counts in its memory
        world.me.adopt_fork();
    } else {
        world.me.member.store(0, Relaxed);
    }
    parent
}

#[test]
fn a_forked_child_has_no_part_in_its_parent_s_producers() {
    for with_hooks in [true, false] {
        let world = World::new();
        let queue = queue_of(&world);
        let producer = open(&world, &queue);
        let copy = producer.clone();
        let parent = child_of(&world, with_hooks);
        let refused = producer.ring().map(drop);
        assert_eq!(refused, Err(HandleError::NotInherited));
        let me = world.me.me().expect("registered");
        assert_ne!(me, parent);
        let holders = |hold: &Hold| {
            let objects = world.me.objects().expect("registered");
            let slots = objects.holder_slots(hold.handle().index).expect("inside");
            slots.collect::<Vec<_>>()
        };
        assert_eq!(holders(producer.source()), [parent.slot()]);
        // One of its own, beside the copies of the parent's, in whatever order they go.
        let own = open(&world, &queue);
        drop(copy);
        assert_eq!(holders(producer.source()).len(), 2);
        assert!(own.ring().is_ok());
        let clone = producer.clone();
        drop(own);
        assert_eq!(holders(producer.source()), [parent.slot()]);
        drop((producer, clone));
        assert_eq!(end_of(&queue), None, "the parent's is open");
        // The parent dies.
        let registry = world.me.registry();
        registry.pretend_pid(parent, world.corpse.pid());
        let slot = registry.slot(parent.slot()).expect("inside");
        slot.has_life.store(0, Relaxed);
        assert_eq!(end_of(&queue), Some(()));
    }
}

#[test]
fn two_that_open_at_once_have_one_source() {
    let world = World::new();
    for is_over in [false, true] {
        for steps in 0.. {
            let queue = queue_of(&world);
            if is_over {
                drop(open(&world, &queue));
            }
            let other = Family::on(world.me.heap());
            let owner = world.me.registry().join_as(std::process::id());
            other.be(owner.expect("room"));
            let handle = queue.handle();
            let (to, from) = std::sync::mpsc::channel();
            let beside = move || {
                // Where the first one is in an engine lock, the other one would wait for it.
                let is_locked = other.heap().header().objects.lock.is_held();
                let open = move || {
                    let held = other.hold(handle, Kind::Ring).expect("held");
                    other.open_producer(&held).expect("room")
                };
                if !is_locked {
                    let opened = std::thread::spawn(open).join();
                    to.send(opened.expect("nothing is wrong"))
                        .expect("waited for");
                }
            };
            let (mine, was_stopped) = interrupted(steps, beside, || open(&world, &queue));
            let theirs = from.try_recv().ok();
            if let Some(theirs) = &theirs {
                assert_eq!(mine.source().handle(), theirs.source().handle());
            }
            drop(mine);
            assert_eq!(end_of(&queue), theirs.is_none().then_some(()));
            drop(theirs);
            assert_eq!(end_of(&queue), Some(()));
            world.me.registry().vacate(other.me().expect("registered"));
            drop(queue);
            world.me.free_buried().expect("sound");
            if !was_stopped {
                break;
            }
        }
    }
    world.check(0, 0, "of anything");
}

#[test]
fn who_opens_beside_the_last_one_that_closes_loses_no_message() {
    let world = World::new();
    for steps in 0.. {
        let queue = queue_of(&world);
        let last = open(&world, &queue);
        let other = Family::on(world.me.heap());
        let owner = world.me.registry().join_as(std::process::id());
        other.be(owner.expect("room"));
        let handle = queue.handle();
        let puts = queue.ring().expect("a ring").body;
        let beside = move || {
            let produce = move || {
                let held = other.hold(handle, Kind::Ring).expect("held");
                let producer = other.open_producer(&held).expect("room");
                put(&producer.ring().expect("its own"), 3, 10, &[]);
                std::mem::forget((held, producer));
            };
            if !other.heap().header().objects.lock.is_held() && !puts.put.lock.is_held() {
                let produced = std::thread::spawn(produce).join();
                produced.expect("nothing is wrong");
            }
        };
        let ((), was_stopped) = interrupted(steps, beside, || drop(last));
        let ring = queue.ring().expect("a ring");
        let is_open = ring.source().is_some() && ring.is_over() == Ok(false);
        let got = get(&ring).map(|message| message.header.tag);
        assert_eq!(got.is_some(), is_open, "{steps} steps into the closing");
        let registry = world.me.registry();
        registry.pretend_pid(other.me().expect("registered"), world.corpse.pid());
        assert_eq!(end_of(&queue), Some(()));
        drop(queue);
        world.check(0, 0, "of anything");
        if !was_stopped {
            break;
        }
    }
}

#[test]
fn a_producer_that_dies_at_any_store_leaves_a_queue_that_ends() {
    let world = World::new();
    for stores in 0.. {
        let queue = queue_of(&world);
        let handle = queue.handle();
        let done = world.play_member(stores, |family| {
            let held = family.hold(handle, Kind::Ring).expect("held by another");
            let producer = family.open_producer(&held).expect("room");
            put(&producer.ring().expect("its own"), 7, 10, &[]);
        });
        let ring = queue.ring().expect("a ring");
        let has_begun = ring.source().is_some();
        let got = {
            let mut tick = || true;
            let mut patience = Patience::new(Deadline::PASSED, &mut tick);
            queue.get(&mut Message::default(), None, &mut patience)
        };
        if got == Ok(Ok(())) {
            assert!(has_begun);
        }
        assert_eq!(
            end_of(&queue),
            has_begun.then_some(()),
            "after {stores} stores"
        );
        drop(queue);
        world.check(0, 0, &format!("after {stores} stores"));
        if done.is_some() {
            assert_eq!(got, Ok(Ok(())));
            break;
        }
    }
}
