//! Rings in every order of two or three threads' steps.

use manycore_os::Deadline;

use super::*;
use crate::block::allocator::Taken;
use crate::block::{BlockRef, Blocks};
use crate::crash::{for_every_death, run_and_count, run_until_death};
use crate::family::{Family, Hold};
use crate::heap::layout::LEAST;
use crate::model::{Model, kernel, pause, spawn};
use crate::object::{Kind, Objects};
use crate::registry::OwnerId;
use crate::wait::Patience;

/// Bytes of a payload: two of its records fill the smallest region, and the third continues at the beginning.
const BYTES: usize = 16;

/// A ring, and its object as long as the test lasts. Its first steps are made before a model runs.
fn ring(shape: Shape) -> (Ring, Hold) {
    let family = Family::create_with(LEAST).expect("a small heap");
    let hold = family.make_ring(shape).expect("room");
    (hold.ring().expect("a ring"), hold)
}

fn small(grows: bool) -> Shape {
    Shape {
        capacity: 1,
        grows,
        ..Shape::unbounded()
    }
}

fn payload_of(tag: u64) -> [u8; BYTES] {
    [tag as u8; BYTES]
}

fn try_put(ring: &Ring, tag: u64, region: &mut Option<Taken>) -> Put {
    let message = Outgoing {
        kind: 1,
        tag,
        payload: &payload_of(tag),
        ..Outgoing::default()
    };
    ring.try_put(&message, region).expect("sound")
}

/// Puts a message, waiting until there is room.
fn put(ring: &Ring, tag: u64) {
    let message = Outgoing {
        kind: 1,
        tag,
        payload: &payload_of(tag),
        ..Outgoing::default()
    };
    let mut tick = || true;
    ring.put(&message, &mut Patience::new(Deadline::NEVER, &mut tick))
        .expect("there will be room");
}

fn tag_of(message: &Message) -> u64 {
    assert_eq!(message.payload, payload_of(message.header.tag));
    message.header.tag
}

/// Gets a message, waiting until there is one.
fn get(ring: &Ring) -> u64 {
    let mut tick = || true;
    let mut message = Message::default();
    ring.get(
        &mut message,
        None,
        &mut Patience::new(Deadline::NEVER, &mut tick),
    )
    .expect("there will be one");
    tag_of(&message)
}

fn try_get(ring: &Ring) -> Option<u64> {
    let mut message = Message::default();
    match ring.try_get(&mut message, None).expect("sound") {
        Get::Done => Some(tag_of(&message)),
        Get::Empty | Get::Busy => None,
    }
}

/// A block for the region after the smallest.
fn region_for(ring: &Ring) -> BlockRef {
    let taken = ring.blocks.take(256).expect("room");
    BlockRef {
        len: 256,
        ..taken.block
    }
}

fn taken(block: BlockRef) -> Option<Taken> {
    Some(Taken {
        block,
        is_fresh: false,
    })
}

/// What is left, in order.
fn rest(ring: &Ring) -> Vec<u64> {
    std::iter::from_fn(|| try_get(ring)).collect()
}

#[test]
#[ignore = "a model"]
fn messages_are_whole_and_in_order_although_nobody_waits_for_the_other() {
    let (ring, _hold) = ring(small(true));
    Model::with_interruptions(3).explore(move || {
        let producer = spawn(move || {
            let mut sent = 0;
            for tag in 1..=2 {
                sent += u64::from(try_put(&ring, tag, &mut None) == Put::Done);
            }
            sent
        });
        let mut got = Vec::new();
        got.extend(try_get(&ring));
        got.extend(try_get(&ring));
        let sent = producer.join();
        got.extend(rest(&ring));
        assert_eq!(sent, 2, "there was room for two");
        assert_eq!(got, [1, 2]);
        assert_eq!((ring.len(), ring.is_empty()), (0, true));
    });
}

#[test]
#[ignore = "a model"]
fn no_byte_is_written_before_it_was_read_when_a_ring_goes_round() {
    let (ring, _hold) = ring(small(false));
    let put = move |tag: u64| {
        let message = Outgoing {
            kind: 1,
            tag,
            payload: &[tag as u8; 64], // one fits in, and the next one reaches into the same bytes
            ..Outgoing::default()
        };
        while ring.try_put(&message, &mut None) != Ok(Put::Done) {
            pause();
        }
    };
    put(1);
    Model::with_interruptions(3).explore(move || {
        let producer = spawn(move || put(2));
        let mut message = Message::default();
        for tag in 1..=2 {
            while ring.try_get(&mut message, None) != Ok(Get::Done) {
                pause();
            }
            assert_eq!(message.payload, [tag; 64]);
        }
        producer.join();
    });
}

#[test]
#[ignore = "a model"]
fn who_waits_for_a_message_gets_it() {
    let (ring, _hold) = ring(small(true));
    Model::with_interruptions(3).explore(move || {
        let consumer = spawn(move || get(&ring));
        put(&ring, 1);
        assert_eq!(consumer.join(), 1);
    });
}

#[test]
#[ignore = "a model"]
fn two_that_wait_for_messages_get_one_each() {
    let (ring, _hold) = ring(small(true));
    Model::with_interruptions(1).explore(move || {
        let consumers = [(); 2].map(|()| spawn(move || get(&ring)));
        put(&ring, 1);
        put(&ring, 2);
        let [first, second] = consumers.map(|consumer| consumer.join());
        assert_eq!(first + second, 3);
        assert_ne!(first, second);
    });
}

#[test]
#[ignore = "a model"]
fn who_only_waits_for_a_message_takes_no_wake_up_from_who_gets_it() {
    let (ring, _hold) = ring(small(true));
    Model::with_interruptions(2).explore(move || {
        let other = spawn(move || {
            let mut tick = || true;
            ring.wait_for_message(&mut Patience::new(Deadline::NEVER, &mut tick))
        });
        let consumer = spawn(move || get(&ring));
        put(&ring, 1);
        assert_eq!(consumer.join(), 1);
        put(&ring, 2);
        assert_eq!(other.join(), Ok(()));
        assert_eq!(get(&ring), 2);
    });
}

#[test]
#[ignore = "a model"]
fn two_producers_lose_nothing_and_keep_their_order() {
    let (ring, _hold) = ring(small(true));
    Model::with_interruptions(2).explore(move || {
        let other = spawn(move || put(&ring, 3));
        put(&ring, 1);
        let first = try_get(&ring);
        other.join();
        let mut got: Vec<_> = first.into_iter().collect();
        got.extend(rest(&ring));
        got.sort_unstable();
        assert_eq!(got, [1, 3]);
    });
}

#[test]
#[ignore = "a model"]
fn a_bounded_ring_never_holds_more_and_wakes_who_waits_for_room() {
    let shape = Shape {
        max_messages: 1,
        ..small(true)
    };
    let (ring, _hold) = ring(shape);
    put(&ring, 1);
    Model::with_interruptions(3).explore(move || {
        let producer = spawn(move || put(&ring, 2));
        assert!(ring.len() <= 1);
        assert_eq!(get(&ring), 1);
        assert!(ring.len() <= 1);
        assert_eq!(get(&ring), 2);
        producer.join();
    });
}

#[test]
#[ignore = "a model"]
fn a_consumer_follows_into_a_larger_region_while_it_is_being_chained() {
    let (ring, _hold) = ring(small(true));
    put(&ring, 1);
    put(&ring, 2); // the next one needs a larger region
    let block = region_for(&ring);
    Model::with_interruptions(3).explore(move || {
        let producer = spawn(move || {
            assert_eq!(try_put(&ring, 3, &mut taken(block)), Put::Done);
        });
        let mut got = Vec::new();
        for _ in 0..3 {
            got.extend(try_get(&ring));
        }
        producer.join();
        got.extend(rest(&ring));
        assert_eq!(got, [1, 2, 3]);
    });
}

#[test]
#[ignore = "a model"]
fn a_closed_ring_gives_all_that_was_put_before_it_says_so() {
    let (ring, _hold) = ring(small(true));
    Model::with_interruptions(3).explore(move || {
        let consumer = spawn(move || {
            let mut got = Vec::new();
            let mut message = Message::default();
            let mut tick = || true;
            loop {
                let mut patience = Patience::new(Deadline::NEVER, &mut tick);
                match ring.get(&mut message, None, &mut patience) {
                    Ok(()) => got.push(tag_of(&message)),
                    Err(GetError::Closed) => return got,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let producer = spawn(move || try_put(&ring, 1, &mut None));
        ring.close();
        let accepted = match producer.join() {
            Put::Done => vec![1],
            Put::Closed | Put::Busy => vec![],
            other => panic!("{other:?}"),
        };
        assert_eq!(consumer.join(), accepted);
    });
}

#[test]
#[ignore = "a model"]
fn a_producer_that_dies_at_any_step_leaves_its_message_or_nothing_to_a_consumer_at_work() {
    for_every_death(|stores, deaths| {
        let (ring, _hold) = ring(small(true));
        Model::with_interruptions(2).explore(move || {
            let mortal = spawn(move || {
                run_and_count(stores, deaths, || try_put(&ring, 1, &mut None));
            });
            let mut got: Vec<_> = try_get(&ring).into_iter().collect();
            mortal.join();
            put(&ring, 2);
            got.extend(rest(&ring));
            assert!(got == [1, 2] || got == [2], "{got:?}");
            assert_eq!(ring.len(), 0);
        });
    });
}

#[test]
#[ignore = "a model"]
fn a_producer_that_dies_at_any_step_keeps_no_other_from_putting() {
    for_every_death(|stores, deaths| {
        let (ring, _hold) = ring(small(true));
        Model::with_interruptions(2).explore(move || {
            let mortal = spawn(move || {
                run_and_count(stores, deaths, || try_put(&ring, 1, &mut None)) == Some(Put::Done)
            });
            put(&ring, 2);
            let is_sent = mortal.join();
            let mut got = rest(&ring);
            got.sort_unstable();
            assert!(got == [1, 2] || (got == [2] && !is_sent), "{got:?}");
        });
    });
}

#[test]
#[ignore = "a model"]
fn a_producer_that_dies_while_it_chains_a_region_leaves_a_ring_that_goes_on() {
    for_every_death(|stores, deaths| {
        let (ring, _hold) = ring(small(true));
        put(&ring, 1);
        put(&ring, 2); // the next one needs a larger region
        let block = region_for(&ring);
        Model::with_interruptions(1).explore(move || {
            let mortal = spawn(move || {
                run_and_count(stores, deaths, || try_put(&ring, 3, &mut taken(block)));
            });
            let mut got: Vec<_> = try_get(&ring).into_iter().collect();
            mortal.join();
            put(&ring, 4);
            got.extend(rest(&ring));
            assert!(got == [1, 2, 3, 4] || got == [1, 2, 4], "{got:?}");
        });
    });
}

#[test]
#[ignore = "a model"]
fn a_worker_that_dies_at_any_step_has_taken_what_its_row_says_or_nothing() {
    for_every_death(|stores, deaths| {
        let family = Family::create_with(LEAST).expect("a small heap");
        let group = family.make_group(1).expect("room");
        let shape = Shape {
            group: Some(group.handle().index),
            ..small(true)
        };
        let hold = family.make_ring(shape).expect("room");
        let (ring, row) = (
            hold.ring().expect("a ring"),
            group.rows().expect("a group")[0],
        );
        put(&ring, 1);
        put(&ring, 2);
        Model::with_interruptions(2).explore(move || {
            let mortal = spawn(move || {
                let mut message = Message::default();
                run_and_count(stores, deaths, || ring.try_get(&mut message, Some(row)));
            });
            let mut got: Vec<_> = try_get(&ring).into_iter().collect();
            mortal.join();
            got.extend(rest(&ring));
            ring.settle();
            got.extend(row.read().map(|taking| taking.tag));
            got.sort_unstable();
            assert_eq!(got, [1, 2], "each is the worker's or another's");
        });
    });
}

#[test]
#[ignore = "a model"]
fn a_consumer_that_dies_at_any_step_takes_its_message_or_leaves_it_to_another_at_work() {
    for_every_death(|stores, deaths| {
        let (ring, _hold) = ring(small(true));
        put(&ring, 1);
        put(&ring, 2);
        Model::with_interruptions(2).explore(move || {
            let mortal = spawn(move || run_and_count(stores, deaths, || try_get(&ring)).flatten());
            let mut got: Vec<_> = try_get(&ring).into_iter().collect();
            let taken = mortal.join();
            got.extend(rest(&ring));
            let lost: Vec<u64> = [1, 2]
                .into_iter()
                .filter(|tag| !got.contains(tag))
                .collect();
            assert!(got.is_sorted() && lost.len() <= 1, "{got:?}");
            if let Some(taken) = taken {
                assert_eq!(lost, [taken]);
            }
            assert_eq!(ring.len(), 0);
        });
    });
}

#[test]
#[ignore = "a model"]
fn who_waits_for_a_message_gets_it_although_another_that_was_woken_for_it_dies() {
    let (ring, _hold) = ring(small(true));
    Model::with_interruptions(1).explore(move || {
        let mortal = spawn(move || {
            kernel::die_when_woken();
            let got = run_until_death(u64::MAX, || get(&ring));
            kernel::end_slices();
            got
        });
        let consumer = spawn(move || get(&ring));
        put(&ring, 1);
        put(&ring, 2);
        let got = consumer.join();
        put(&ring, 3);
        assert_ne!(mortal.join(), Some(got));
    });
}

/// A ring with an open producer of each of these processes, as they see it. The producers are let go of by
/// [`close`].
fn produced_by<const N: usize>(owners: [u32; N]) -> (Ring, [Ring; N], Hold) {
    let (ring, hold) = ring(small(true));
    let family = hold.family();
    let producer = family.open_producer(&hold).expect("room");
    let source = producer.source().handle();
    let rings = owners.map(|owner| {
        let (owner, heap) = (OwnerId::from_bits(owner), family.heap());
        let objects = Objects::new(heap, owner);
        objects.attach(source, Kind::Source).expect("held");
        Ring::new(ring.index, Blocks::new(heap, owner), objects).expect("it exists")
    });
    drop(producer);
    (ring, rings, hold)
}

/// Closes the producer of the process that sees the ring like this.
fn close(ring: &Ring) {
    let source = ring.source().expect("it is named");
    let objects = ring.objects;
    let closed = objects.clear_holder(source.index, objects.me());
    closed.expect("sound");
    ring.announce_end();
}

/// Gets until the end, waiting for it.
fn all_of(ring: &Ring) -> Vec<u64> {
    let (mut got, mut message, mut tick) = (Vec::new(), Message::default(), || true);
    loop {
        let mut patience = Patience::new(Deadline::NEVER, &mut tick);
        match ring.get(&mut message, None, &mut patience) {
            Ok(()) => got.push(tag_of(&message)),
            Err(GetError::Ended) => return got,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
#[ignore = "a model"]
fn a_stream_gives_all_that_was_put_before_it_says_that_it_is_over() {
    let (ring, [mine], _hold) = produced_by([0x1002]);
    Model::with_interruptions(3).explore(move || {
        let producer = spawn(move || {
            put(&mine, 1);
            close(&mine);
        });
        assert_eq!(all_of(&ring), [1]);
        producer.join();
    });
}

#[test]
#[ignore = "a model"]
fn two_producers_that_close_at_once_end_the_stream_and_wake_who_waits() {
    let (ring, [mine, other], _hold) = produced_by([0x1002, 0x1003]);
    Model::with_interruptions(1).explore(move || {
        let second = spawn(move || close(&other));
        let consumer = spawn(move || all_of(&ring));
        put(&mine, 1);
        close(&mine);
        assert_eq!(consumer.join(), [1]);
        second.join();
    });
}

#[test]
#[ignore = "a model"]
fn who_produces_while_the_last_one_closes_is_of_the_stream_or_begins_a_new_one() {
    let (ring, [last], hold) = produced_by([0x1002]);
    let other = Family::on(hold.family().heap());
    other.start_over(OwnerId::from_bits(0x1003));
    let queue = other.hold(hold.handle(), Kind::Ring).expect("held");
    let queue: &'static Hold = Box::leak(Box::new(queue));
    Model::with_interruptions(2).explore(move || {
        let opener = spawn(move || {
            let producer = other.open_producer(queue).expect("room");
            put(&producer.ring().expect("its own"), 2);
            std::mem::forget(producer);
        });
        close(&last);
        opener.join();
        assert_eq!(get(&ring), 2);
        assert_eq!(ring.is_over(), Ok(false), "a producer is open");
    });
}

#[test]
#[ignore = "a model"]
fn a_producer_that_dies_at_any_step_leaves_a_stream_that_ends() {
    for_every_death(|stores, deaths| {
        let (ring, [mine], _hold) = produced_by([0x1002]);
        Model::with_interruptions(1).explore(move || {
            let consumer = spawn(move || all_of(&ring));
            let mortal = spawn(move || {
                run_and_count(stores, deaths, || {
                    let put = try_put(&mine, 1, &mut None);
                    close(&mine);
                    put
                })
            });
            let put = mortal.join();
            let orphans = ring.objects.sweep(mine.me()).expect("sound");
            assert!(orphans.len() <= 1, "the source, if it is on no list");
            kernel::end_slices();
            let got = consumer.join();
            assert!(
                got == [1] || (got.is_empty() && put != Some(Put::Done)),
                "{got:?}"
            );
        });
    });
}
