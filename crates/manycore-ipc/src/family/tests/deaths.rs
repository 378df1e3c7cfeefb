use super::*;
use crate::object::memory::MemoryBody;
use crate::ring::RingBody;

#[test]
fn who_dies_while_it_joins_or_leaves_gives_its_slot_back() {
    let world = World::new();
    for stores in 0.. {
        let left = world.play(stores, |family| {
            family.me().expect("room");
            family.leave();
        });
        world.check(0, 0, &format!("after {stores} stores"));
        if left.is_some() {
            break;
        }
    }
}

#[test]
fn who_dies_while_it_makes_something_leaves_nothing() {
    let makers: [Maker; 8] = [
        |family| family.make_ring(Shape::unbounded()),
        |family| family.make_lock(),
        |family| family.make_memory(100),
        |family| family.make_memory(100_000),
        |family| family.make_group(40),
        |family| family.make_event(),
        |family| family.make_condition(),
        |family| family.make_barrier(2),
    ];
    let world = World::new();
    // Slots that were used before: a half-made object must not be taken for the one that lived there.
    for make in makers {
        let holds = [0; 2].map(|_| make(world.me).expect("room"));
        for hold in holds {
            if let Ok(ring) = hold.ring() {
                put(&ring, 1, 5_000, &[]);
                put(&ring, 1, 5_000, &[]);
                assert!(get(&ring).is_some());
            }
        }
    }
    world.check(0, 0, "before");
    let others = world.me.make_ring(Shape::unbounded()).expect("room");
    put(&others.ring().expect("a ring"), 7, 3_000, &[]); // in the memory of the ring that was
    for (n, make) in makers.into_iter().enumerate() {
        for stores in 0.. {
            let made = world.play_member(stores, |family| drop(make(family).expect("room")));
            world.check(1, 1, &format!("of maker {n} after {stores} stores"));
            if made.is_some() {
                break;
            }
        }
    }
    assert_eq!(
        get(&others.ring().expect("a ring")).map(|message| message.header.tag),
        Some(7)
    );
}

#[test]
fn who_dies_while_it_frees_a_ring_leaves_nothing() {
    let world = World::new();
    for stores in 0.. {
        let inner = world.me.make_lock().expect("room");
        let hold = world.me.make_ring(Shape::unbounded()).expect("room");
        let ring = hold.ring().expect("a ring");
        world.me.send(&[inner.handle()]).expect("held");
        put(&ring, 1, 5_000, &[inner.handle()]);
        let block = world.me.take_block(50_000).expect("room").block;
        let mut tick = || true;
        let large = Outgoing {
            kind: 1,
            tag: 2,
            blocks: &[block],
            handles: &[],
            payload: &[1; 5_000],
        };
        ring.put(&large, &mut Patience::new(Deadline::PASSED, &mut tick))
            .expect("grows");
        drop((hold, inner));
        let freed = world.play_member(stores, |family| family.free_buried());
        // What was taken out of the ring, and not counted yet when it died, stays counted too high.
        let objects = world.me.objects().expect("registered");
        world.me.reap_dead(true);
        world.me.free_buried().expect("sound");
        for_every_leaked_count(world.me, |index| objects.arrived(index).expect("sound"));
        world.check(0, 0, &format!("after {stores} stores"));
        if freed.is_some() {
            break;
        }
    }
}

#[test]
fn a_region_that_a_dead_consumer_left_is_freed_with_its_ring() {
    let world = World::new();
    for stores in 0.. {
        let hold = world.me.make_ring(Shape::unbounded()).expect("room");
        let (ring, queue) = (hold.ring().expect("a ring"), hold.handle());
        // A producer that dies between the link to a larger region and the message in it.
        for first in 0.. {
            let dead = world.play_member(first, |family| {
                put(
                    &family
                        .hold(queue, Kind::Ring)
                        .expect("held")
                        .ring()
                        .expect("a ring"),
                    1,
                    9_000,
                    &[],
                );
            });
            world.me.reap_dead(true);
            if !ring.is_empty() && dead.is_none() {
                break; // the last that could be put there is the link
            }
        }
        let done = world.play_member(stores, |family| {
            get(&family
                .hold(queue, Kind::Ring)
                .expect("held")
                .ring()
                .expect("a ring"))
            .is_some()
        });
        drop(hold);
        world.check(0, 0, &format!("after {stores} stores"));
        if let Some(got_one) = done {
            assert!(!got_one, "only the link was there");
            break;
        }
    }
}

#[test]
fn a_ring_whose_users_died_inside_is_freed_whole() {
    let world = World::new();
    for stores in 0.. {
        let hold = world.me.make_ring(Shape::unbounded()).expect("room");
        let handle = hold.handle();
        put(&hold.ring().expect("a ring"), 1, 7_000, &[]);
        let done = world.play_member(stores, |family| {
            let hold = family.hold(handle, Kind::Ring).expect("held by another");
            let ring = hold.ring().expect("a ring");
            let block = family.take_block(40_000).expect("room").block;
            let mut tick = || true;
            let message = Outgoing {
                kind: 1,
                tag: 2,
                blocks: &[block],
                handles: &[],
                payload: &[2; 4_000],
            };
            ring.put(&message, &mut Patience::new(Deadline::PASSED, &mut tick))
                .expect("grows");
            get(&ring).expect("the first");
            let message = get(&ring).expect("the second, in another region");
            message
                .blocks
                .iter()
                .for_each(|&block| family.discard(block));
        });
        drop(hold); // before anybody has looked for the dead
        world.check(0, 0, &format!("after {stores} stores"));
        if done.is_some() {
            break;
        }
    }
}

/// Puts a message of one block, which is so many times the byte.
fn put_block(world: &World, ring: &Ring, byte: u8, len: usize) {
    let taken = world.me.take_block(len as u64).expect("room");
    let blocks = world.me.blocks().expect("registered");
    blocks.fill(&taken, 0, &vec![byte; len]).expect("inside");
    let message = Outgoing {
        kind: 1,
        tag: u64::from(byte),
        blocks: &[taken.block],
        ..Outgoing::default()
    };
    let mut tick = || true;
    ring.put(&message, &mut Patience::new(Deadline::PASSED, &mut tick))
        .expect("room");
}

fn is_all(family: &Family, hold: &super::super::Hold, byte: u8) -> bool {
    let mut copy = Vec::new();
    let bytes = hold.memory().expect("memory");
    bytes.append_to(0, bytes.len(), &mut copy).expect("inside");
    assert!(family.me().is_ok());
    copy.iter().all(|&found| found == byte)
}

#[test]
fn who_dies_while_it_keeps_what_it_received_leaves_nothing() {
    let world = World::new();
    let hold = world.me.make_ring(Shape::unbounded()).expect("room");
    let (ring, queue) = (hold.ring().expect("a ring"), hold.handle());
    // A slot that was used before, whose body still names the block that lived there.
    drop(world.me.make_memory(50_000).expect("room"));
    world.check(1, 1, "before");
    for stores in 0.. {
        put_block(&world, &ring, 1, 50_000);
        put_block(&world, &ring, 2, 50_000);
        let kept = world.play_member(stores, |family| {
            let hold = family.hold(queue, Kind::Ring).expect("held by another");
            let message = get(&hold.ring().expect("a ring")).expect("there");
            drop(family.keep(message.blocks[0]).expect("received"));
            family.free_buried()
        });
        // What the dead one had is given to others, and the other message is whole.
        world.me.reap_dead(true);
        let reused = world.me.take_block(50_000).expect("room");
        world.me.discard(reused.block);
        let mut left = 0;
        while let Some(message) = get(&ring) {
            let kept = world.me.keep(message.blocks[0]).expect("received");
            assert!(is_all(world.me, &kept, message.header.tag as u8));
            left += 1;
        }
        assert!((1..=2).contains(&left), "after {stores} stores: {left}");
        world.check(1, 1, &format!("after {stores} stores"));
        if kept.is_some() {
            break;
        }
    }
}

#[test]
fn what_a_process_keeps_is_its_forked_child_s_too_and_nobody_else_s() {
    let world = World::new();
    let hold = world.me.make_ring(Shape::unbounded()).expect("room");
    put_block(&world, &hold.ring().expect("a ring"), 7, 50_000);
    let message = get(&hold.ring().expect("a ring")).expect("there");
    let kept = world.me.keep(message.blocks[0]).expect("received");
    drop(world.me.prepare_fork());
    let child = OwnerId::from_bits(world.me.reserved.load(Relaxed) as u32);
    drop(kept);
    world.me.free_buried().expect("sound");
    let others: Vec<_> = (0..8)
        .map(|_| world.me.take_block(50_000).expect("room").block)
        .collect();
    assert!(
        !others
            .iter()
            .any(|block| block.page == message.blocks[0].page)
    );
    others.iter().for_each(|&block| world.me.discard(block));
    let registry = world.me.registry();
    registry.pretend_pid(child, world.corpse.pid());
    world.check(1, 1, "once the child is dead");
}

#[test]
fn only_a_block_that_this_process_has_received_can_be_kept() {
    let world = World::new();
    let filling = world.me.take_block(50_000).expect("room").block;
    let free = world.me.take_block(50_000).expect("room").block;
    world.me.discard(free);
    for block in [filling, free] {
        assert!(matches!(
            world.me.keep(block),
            Err(HandleError::Corrupted(_))
        ));
    }
    world.check(0, 1, "but for the block that is being filled");
    world.me.discard(filling);
    world.check(0, 0, "at the end");
}

#[test]
fn handles_that_travel_are_held_whoever_dies() {
    let world = World::new();
    let hold = world.me.make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    for stores in 0.. {
        let lock = world.me.make_lock().expect("room");
        let (handle, queue) = (lock.handle(), hold.handle());
        world.me.send(&[handle]).expect("held");
        put(&ring, 1, 10, &[handle]);
        let done = world.play_member(stores, |family| {
            let hold = family.hold(queue, Kind::Ring).expect("held by another");
            let ring = hold.ring().expect("a ring");
            let message = get(&ring).expect("there");
            let received = family.receive(&message.handles).expect("in flight");
            family.send(&[received[0].handle()]).expect("held");
            put(&ring, 2, 10, &[received[0].handle()]);
        });
        world.me.reap_dead(true);
        assert!(lock.lock().is_ok(), "held by this process all the time");
        drop(lock);
        world.me.free_buried().expect("sound");
        while let Some(message) = get(&ring) {
            let received = world
                .me
                .receive(&message.handles)
                .expect("never freed early");
            assert!(received[0].lock().is_ok(), "after {stores} stores");
        }
        world.me.free_buried().expect("sound");
        let objects = world.me.objects().expect("registered");
        for_every_leaked_count(world.me, |index| objects.arrived(index).expect("sound"));
        world.check(1, 1, &format!("after {stores} stores"));
        if done.is_some() {
            break;
        }
    }
}

#[test]
fn what_was_half_made_names_no_block_of_a_message() {
    let world = World::new();
    let hold = world.me.make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    let block = world.me.take_block(10).expect("room").block;
    let message = Outgoing {
        kind: 1,
        tag: 3,
        blocks: &[block],
        ..Outgoing::default()
    };
    let mut tick = || true;
    ring.put(&message, &mut Patience::new(Deadline::PASSED, &mut tick))
        .expect("room");
    // Died before the words of the body were its own: page and generation may name anything.
    let _ = world.play_member(u64::MAX, |family| {
        let objects = family.objects().expect("registered");
        let memory = objects.make(Kind::Memory).expect("room").index;
        let body: &MemoryBody = objects.body(memory).expect("inside");
        body.set(10, Some(block));
        let queue = objects.make(Kind::Ring).expect("room").index;
        let body: &RingBody = objects.body(queue).expect("inside");
        body.put.region[0].set(block, 0);
    });
    world.check(1, 2, "beside the ring and its message");
    let message = get(&ring).expect("there");
    assert_eq!(message.blocks, [block], "still the message's");
    world.me.discard(block);
}

#[test]
fn a_message_with_a_handle_that_leads_nowhere_lets_go_of_the_others() {
    let world = World::new();
    let lock = world.me.make_lock().expect("room");
    let Handle {
        index, generation, ..
    } = lock.handle();
    world
        .me
        .send(&[lock.handle(), lock.handle()])
        .expect("held");
    let received = world.me.receive(&[
        (index, generation),
        (index, generation + 1),
        (index, generation),
    ]);
    assert_eq!(received.map(|holds| holds.len()), Err(HandleError::Gone));
    let unsent = Handle {
        index: u32::MAX,
        ..lock.handle()
    };
    assert!(world.me.send(&[lock.handle(), unsent]).is_err());
    drop(lock);
    world.check(0, 0, "at the end");
}

#[test]
fn who_dies_while_it_forks_or_right_after_leaves_nothing() {
    let world = World::new();
    let hold = world.me.make_lock().expect("room");
    let handle = hold.handle();
    for stores in 0.. {
        let forked = world.play_member(stores, |parent| {
            let _held = parent.hold(handle, Kind::Lock).expect("held by another");
            let child = Family::on(parent.heap());
            {
                let counts = parent.prepare_fork();
                assert_eq!(counts.len(), 1);
                child.reserved.store(parent.reserved.load(Relaxed), Relaxed);
            }
            child.adopt_fork();
            let me = child.me().expect("adopted");
            child
                .objects()
                .expect("adopted")
                .clear_holder(handle.index, me)
                .expect("held for it");
        });
        world.check(1, 0, &format!("after {stores} stores"));
        if forked.is_some() {
            break;
        }
    }
}

/// Processes that died in the middle of everything, all unreaped.
fn litter(world: &World, lock: Handle, queue: Handle) {
    let in_the_middle: [(u64, Operation); 6] = [
        (9, |family, _, _| drop(family.make_ring(Shape::unbounded()))),
        (12, |family, _, _| drop(family.make_memory(70_000))),
        (u64::MAX, |family, lock, _| {
            let held = family.hold(lock, Kind::Lock).expect("held");
            let _ = held
                .lock()
                .expect("a lock")
                .try_acquire(family.me().expect("registered"));
            let taken = family.take_block(1).expect("room");
            std::mem::forget((held, taken));
        }),
        (24, |family, _, queue| {
            let held = family.hold(queue, Kind::Ring).expect("held");
            let ring = held.ring().expect("a ring");
            put(&ring, 3, 9_000, &[]);
        }),
        (6, |family, _, queue| {
            let held = family.hold(queue, Kind::Ring).expect("held");
            let _ = get(&held.ring().expect("a ring"));
        }),
        (u64::MAX, |family, lock, _| {
            let held = family.hold(lock, Kind::Lock).expect("held");
            drop(family.prepare_fork());
            std::mem::forget(held);
        }),
    ];
    for (stores, operation) in in_the_middle {
        let _ = world.play_member(stores, |family| operation(family, lock, queue));
    }
}

#[test]
fn who_dies_while_it_cleans_up_is_cleaned_up_after() {
    let world = World::new();
    let lock = world.me.make_lock().expect("room");
    let queue = world.me.make_ring(Shape::unbounded()).expect("room");
    put(&queue.ring().expect("a ring"), 1, 10, &[]);
    let mut step = 1;
    let mut second = 0;
    loop {
        litter(&world, lock.handle(), queue.handle());
        let reaped = world.play_member(second, |family| {
            family.reap_dead(true);
            family.free_buried()
        });
        let mut tick = || true;
        let acquired = lock.acquire(&mut Patience::new(Deadline::NEVER, &mut tick));
        assert!(
            matches!(acquired, Ok(Ok(_))),
            "after {second} stores: {acquired:?}"
        );
        lock.lock().expect("a lock").release();
        while get(&queue.ring().expect("a ring")).is_some() {}
        world.check(2, 1, &format!("after {second} stores"));
        put(&queue.ring().expect("a ring"), 1, 10, &[]);
        if reaped.is_some() {
            return;
        }
        // Every store of the beginning, and a different choice of the rest in each round.
        step = if second < 60 { 1 } else { step % 3 + 1 };
        second += step;
    }
}
