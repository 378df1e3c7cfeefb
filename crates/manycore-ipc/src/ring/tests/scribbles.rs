//! Words and records of a ring that were scribbled on.

use std::sync::atomic::Ordering::Relaxed;

use super::super::position::Position;
use super::super::record::{Header, LINK};
use super::*;
use crate::error::Corrupted;

/// Gets until there is no more, or what is there makes no sense; how many messages that were.
fn get_all(ring: &Ring) -> Result<u64, (u64, Corrupted)> {
    let mut message = Message::default();
    for count in 0..1_000_000 {
        match ring.try_get(&mut message, None) {
            Ok(Get::Done) => {}
            Ok(_) => return Ok(count),
            Err(error) => return Err((count, error)),
        }
    }
    panic!("a ring of 8 KiB has no end");
}

/// Lets the producers seem to be somewhere else.
fn move_tail(ring: &Ring, to: impl Fn(Position) -> Position) {
    let position = &ring.body.put.position;
    let tail = Position::from_bits(position.load(Relaxed));
    position.store(to(tail).bits(), Relaxed);
}

fn region_of(ring: &Ring) -> crate::heap::Bytes {
    let block = ring.body.get.region[0].block();
    ring.blocks.bytes(block).expect("inside")
}

#[test]
fn a_ring_with_more_in_it_than_it_can_hold_is_refused() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    put(&ring, 1, b"good", &[]).expect("room");
    assert_eq!(get_all(&ring), Ok(1));
    move_tail(&ring, |tail| tail.after_message(1 << 40));
    assert!(get_all(&ring).is_err());
    assert!(ring.drain().is_err());
}

#[test]
fn a_region_whose_link_is_gone_ends_after_a_lap() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    for _ in 0..5 {
        put(&ring, 1, &[0; 5_000], &[]).expect("room");
        assert!(get(&ring).is_some(), "laps are nothing unusual");
    }
    put(&ring, 1, &[0; 5_000], &[]).expect("room");
    put(&ring, 2, &[0; 5_000], &[]).expect("grows");
    let region = region_of(&ring);
    region.clear(); // records without anything in them, all around
    let (count, _) = get_all(&ring).expect_err("the next region is not found");
    assert!(count <= region.len() as u64 / 16, "{count} messages");
    assert!(ring.drain().is_err());
}

#[test]
fn a_link_leads_only_to_the_region_that_was_chained_there() {
    let family = family();
    let hold = family.make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    let other = family.make_ring(Shape::unbounded()).expect("room");
    let other = other.ring().expect("a ring").body.put.region[0].block();
    let own = ring.body.put.region[0].block();
    let stale = BlockRef {
        generation: own.generation + 1,
        ..own
    };
    move_tail(&ring, |tail| tail.after_link(48).after_link(48));
    for block in [own, other, stale] {
        let link = Header {
            kind: LINK,
            blocks: 1,
            ..Header::default()
        };
        region_of(&ring).write(0, &link.to_bytes());
        region_of(&ring).write(16, &block.to_bytes());
        let refused = get_all(&ring).expect_err("it was not chained");
        assert_eq!(
            refused,
            (0, Corrupted::new("a link leads to no region of its ring"))
        );
    }
}

#[test]
fn a_ring_that_more_was_taken_out_of_than_put_in_is_refused_by_its_producers() {
    let hold = family().make_ring(Shape::of_messages(2)).expect("room");
    let ring = hold.ring().expect("a ring");
    for count in &ring.body.get.count {
        count.store(1 << 40, Relaxed);
    }
    ring.body.put.peer_count.store(1 << 40, Relaxed);
    // Not `Full`: `is_full` says otherwise, so who waits for room would look again and again.
    assert!(ring.try_put(&Outgoing::default(), &mut None).is_err());
}

#[test]
fn a_message_of_more_than_the_heap_is_refused_before_anything_is_copied() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    let block = block_with(&ring, &[1; 5_000]);
    put(&ring, 1, b"", &[block]).expect("room");
    // Its run reaches to the end of the heap, and so does the message.
    let entry = ring.blocks.entry(u64::from(block.page)).expect("inside");
    let run = crate::block::table::Run::decode(entry.state.load(Relaxed)).expect("sound");
    let pages = ring.blocks.heap.layout().pages as u64 - u64::from(block.page);
    let longer = crate::block::table::Run { pages, ..run };
    entry.state.store(longer.encode(), Relaxed);
    let claimed = BlockRef {
        len: pages * 4096,
        ..block
    };
    region_of(&ring).write(16, &claimed.to_bytes());
    let refused = get_all(&ring).expect_err("there is no such memory");
    assert_eq!(refused.0, 0);
}

#[test]
fn a_bell_that_is_nowhere_is_the_rings_own() {
    let family = family();
    let group = family.make_group(1).expect("room");
    let hold = family.make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    let is_own = || std::ptr::eq(ring.items_bell(), &ring.body.items);
    assert!(is_own());
    let good = group.bell_offset().expect("a group");
    ring.body.items_at.store(good, Relaxed);
    assert!(!is_own());
    let lock = std::ptr::from_ref(&ring.body.put.lock).addr();
    let lock = lock - ring.blocks.heap.mapping().base().as_ptr().addr();
    for offset in [good + 4, 4, lock as u64, u64::MAX, 1 << 40] {
        ring.body.items_at.store(offset, Relaxed);
        assert!(is_own(), "offset {offset}");
    }
}
