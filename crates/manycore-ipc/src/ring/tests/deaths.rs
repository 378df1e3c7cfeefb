use super::*;
use crate::crash::run_until_death;

#[test]
fn a_producer_that_dies_at_any_store_leaves_a_whole_message_or_none() {
    for with_growth in [false, true] {
        for stores in 0.. {
            let family = family();
            let hold = family.make_ring(Shape::unbounded()).expect("room");
            let ring = hold.ring().expect("a ring");
            let dead = on_behalf_of(&ring, OwnerId::from_bits(DEAD));
            put(&ring, 1, b"before", &[]).expect("room");
            if with_growth {
                put(&ring, 2, &[0; 7_900], &[]).expect("nearly fills the first region");
            }
            let big = vec![9_u8; 40_000];
            let finished = run_until_death(stores, || {
                let block = block_with(&dead, &big);
                put(&dead, 3, &[3; 300], &[block]).expect("room");
            });
            // The next producer and consumer meet whatever was left.
            put(&ring, 4, b"after", &[]).expect("the survivor can put");
            ring.blocks
                .sweep(dead.me(), |_| ring.settle())
                .expect("sound");
            let mut tags = Vec::new();
            while let Some(message) = get(&ring) {
                tags.push(message.header.tag);
                for block in message.blocks {
                    assert_eq!(read_block(&ring, block), big);
                }
            }
            tags.retain(|&tag| tag != 2);
            assert!(
                tags == [1, 4] || tags == [1, 3, 4],
                "after {stores} stores: {tags:?}"
            );
            let usage = ring.blocks.usage().expect("sound");
            assert_eq!(usage.used_blocks, 1, "after {stores} stores: {usage:?}");
            if finished.is_some() {
                assert_eq!(tags, [1, 3, 4]);
                break;
            }
        }
    }
}

#[test]
fn a_producer_that_dies_among_several_messages_leaves_the_first_ones() {
    let mut left = Vec::new();
    for stores in 0.. {
        let family = family();
        let hold = family.make_ring(Shape::unbounded()).expect("room");
        let ring = hold.ring().expect("a ring");
        let dead = on_behalf_of(&ring, OwnerId::from_bits(DEAD));
        let finished = run_until_death(stores, || dead.put_each_at_once(several(1..=3)));
        put(&ring, 4, b"after", &[]).expect("the survivor can put");
        ring.blocks
            .sweep(dead.me(), |_| ring.settle())
            .expect("sound");
        let tags = tags_of(&ring);
        let first = tags.len() - 1;
        assert_eq!(tags[..first], [1, 2, 3][..first], "after {stores} stores");
        assert_eq!(tags[first], 4);
        left.push(first);
        if let Some(count) = finished {
            assert_eq!(count, 3);
            break;
        }
    }
    left.dedup();
    assert_eq!(left, [0, 1, 2, 3]);
}

#[test]
fn a_consumer_that_dies_at_any_store_takes_the_message_or_leaves_it_whole() {
    for stores in 0.. {
        let hold = family().make_ring(Shape::unbounded()).expect("room");
        let ring = hold.ring().expect("a ring");
        let dead = on_behalf_of(&ring, OwnerId::from_bits(DEAD));
        let big = vec![5_u8; 40_000];
        put(&ring, 1, &[0; 8_100], &[]).expect("fills the first region");
        put(&ring, 2, b"in the next region", &[block_with(&ring, &big)]).expect("grows");
        put(&ring, 3, b"last", &[]).expect("room");
        get(&ring).expect("the first");
        let finished = run_until_death(stores, || get(&dead).map(|message| message.header.tag));
        ring.blocks
            .sweep(dead.me(), |_| ring.settle())
            .expect("sound");
        let mut tags = Vec::new();
        while let Some(message) = get(&ring) {
            tags.push(message.header.tag);
            for block in message.blocks {
                assert_eq!(read_block(&ring, block), big);
            }
        }
        assert!(
            tags == [2, 3] || tags == [3],
            "after {stores} stores: {tags:?}"
        );
        assert_eq!(
            ring.blocks.usage().expect("sound").used_blocks,
            1,
            "after {stores} stores"
        );
        if finished.is_some() {
            assert_eq!(tags, [3]);
            break;
        }
    }
}

#[test]
fn a_worker_that_dies_at_any_store_has_taken_what_its_row_says_or_nothing() {
    let family = family();
    let group = family.make_group(2).expect("room");
    let shape = Shape {
        group: Some(group.handle().index),
        ..Shape::unbounded()
    };
    let hold = family.make_ring(shape).expect("room");
    let ring = hold.ring().expect("a ring");
    let dead = on_behalf_of(&ring, OwnerId::from_bits(DEAD));
    let row = group.rows().expect("a group")[1];
    for stores in 0.. {
        row.void();
        put(&ring, 7, &[0; 3_000], &[]).expect("grows");
        let mut message = Message::default();
        let finished = run_until_death(stores, || dead.try_get(&mut message, Some(row)));
        ring.settle();
        let taken = row.read().map(|taking| taking.tag);
        let left = get(&ring).map(|message| message.header.tag);
        assert!(
            matches!((taken, left), (Some(7), None) | (None, Some(7))),
            "after {stores}: {taken:?} {left:?}"
        );
        if finished.is_some() {
            assert_eq!(taken, Some(7));
            break;
        }
    }
}

#[test]
fn a_region_of_which_half_was_written_down_names_no_block_of_a_message() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    let dead = on_behalf_of(&ring, OwnerId::from_bits(DEAD));
    put(&ring, 1, &[0; 8_100], &[]).expect("fills the first region");
    let block = block_with(&ring, b"live");
    put(&ring, 2, b"in the next region", &[block]).expect("grows");
    // Died while it followed: page and generation may have come from different regions, and name anything.
    assert!(run_until_death(1, || get(&dead)).is_none());
    ring.body.get.region[1].set(block, 0);
    ring.settle();
    assert_eq!(get(&ring).expect("the first").header.tag, 1);
    let message = get(&ring).expect("the second");
    assert_eq!(read_block(&ring, message.blocks[0]), b"live");
}
