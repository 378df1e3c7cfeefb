use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::super::record::MOST_INLINE;
use super::*;

#[test]
fn messages_come_out_in_order_also_across_larger_regions() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    for tag in 0..5_000_u64 {
        put(
            &ring,
            tag,
            &tag.to_le_bytes().repeat(tag as usize % 90),
            &[],
        )
        .expect("grows");
    }
    assert_eq!(ring.len(), 5_000);
    for tag in 0..5_000_u64 {
        let message = get(&ring).expect("not lost");
        assert_eq!(message.header.tag, tag);
        assert_eq!(message.payload, tag.to_le_bytes().repeat(tag as usize % 90));
    }
    assert!(ring.is_empty() && get(&ring).is_none());
    assert_eq!(
        ring.blocks.usage().expect("sound").used_blocks,
        1,
        "drained regions are given back"
    );
}

#[test]
fn the_largest_inline_message_fits() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    for _ in 0..3 {
        put(&ring, 1, &vec![7; MOST_INLINE], &[]).expect("grows");
    }
    for _ in 0..3 {
        assert_eq!(get(&ring).expect("there").payload, vec![7; MOST_INLINE]);
    }
}

#[test]
fn a_bounded_ring_is_full_at_its_bound() {
    let hold = family().make_ring(Shape::of_messages(2)).expect("room");
    let ring = hold.ring().expect("a ring");
    put(&ring, 1, b"", &[]).expect("room");
    put(&ring, 2, b"", &[]).expect("room");
    assert_eq!(put(&ring, 3, b"", &[]), Err(PutError::Full));
    assert!(get(&ring).is_some());
    put(&ring, 3, b"", &[]).expect("room again");
}

#[test]
fn of_several_messages_those_are_put_that_nothing_stands_in_the_way_of() {
    let hold = family().make_ring(Shape::of_messages(4)).expect("room");
    let ring = hold.ring().expect("a ring");
    assert_eq!(ring.put_each_at_once([]), 0);
    assert_eq!(ring.put_each_at_once(several(1..=3)), 3);
    assert_eq!(ring.put_each_at_once(several(4..=9)), 1, "four at most");
    assert_eq!(tags_of(&ring), [1, 2, 3, 4]);
    let too_long = [0; MOST_INLINE + 1];
    let with_one = [&[][..], &too_long, &[]].map(|payload| Outgoing {
        kind: 1,
        payload,
        ..Outgoing::default()
    });
    assert_eq!(ring.put_each_at_once(with_one), 1);
    assert_eq!(tags_of(&ring), [0]);
    ring.close();
    assert_eq!(ring.put_each_at_once(several(5..=6)), 0);
}

#[test]
fn several_messages_wake_who_waits_for_one() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    let get_one = || {
        get_until(&ring, Deadline::NEVER)
            .expect("one for each")
            .header
            .tag
    };
    std::thread::scope(|scope| {
        let others = [scope.spawn(get_one), scope.spawn(get_one)];
        while !ring.items_bell().has_sleepers() {
            std::thread::yield_now();
        }
        assert_eq!(ring.put_each_at_once(several(1..=2)), 2);
        let mut got = others.map(|it| it.join().expect("no panic"));
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
    });
}

#[test]
fn a_full_ring_accepts_a_message_larger_than_its_region_once_there_is_room() {
    let hold = family().make_ring(Shape::of_messages(1)).expect("room");
    let ring = hold.ring().expect("a ring");
    put(&ring, 1, b"small", &[]).expect("room");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut tick = || true;
            let message = Outgoing {
                kind: 1,
                tag: 2,
                payload: &[7; 20_000],
                ..Outgoing::default()
            };
            let mut patience = Patience::new(Deadline::after(Duration::from_secs(60)), &mut tick);
            ring.put(&message, &mut patience)
                .expect("there is room once the first is gone");
        });
        while !ring.space_bell().has_sleepers() {
            std::hint::spin_loop();
        }
        assert_eq!(get(&ring).expect("the first").header.tag, 1);
    });
    assert_eq!(get(&ring).expect("the second").payload.len(), 20_000);
}

#[test]
fn a_closed_ring_gives_what_it_has_and_takes_no_more() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    put(&ring, 1, b"x", &[]).expect("room");
    ring.close();
    assert_eq!(put(&ring, 2, b"", &[]), Err(PutError::Closed));
    assert!(get(&ring).is_some());
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut tick);
    assert_eq!(
        ring.get(&mut Message::default(), None, &mut patience),
        Err(GetError::Closed)
    );
}

#[test]
fn threads_lose_and_double_nothing() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    const EACH: u64 = 20_000;
    let ring = hold.ring().expect("a ring");
    let mut sums = Vec::new();
    std::thread::scope(|scope| {
        for p in 0..2_u64 {
            scope.spawn(move || {
                for n in 0..EACH {
                    put(&ring, p * EACH + n + 1, b"payload", &[]).expect("grows");
                }
            });
        }
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || {
                    let mut tick = || true;
                    let mut message = Message::default();
                    let mut sum = 0_u64;
                    for _ in 0..EACH {
                        let mut patience =
                            Patience::new(Deadline::after(Duration::from_secs(60)), &mut tick);
                        ring.get(&mut message, None, &mut patience)
                            .expect("everything arrives");
                        sum += message.header.tag;
                    }
                    sum
                })
            })
            .collect();
        sums = consumers
            .into_iter()
            .map(|c| c.join().expect("no panic"))
            .collect();
    });
    assert_eq!(sums.iter().sum::<u64>(), (1..=2 * EACH).sum());
}

#[test]
fn a_freed_ring_gives_everything_back() {
    let family = family();
    let hold = family.make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    for n in 0..100_u64 {
        put(&ring, n, &[1; 1_000], &[block_with(&ring, &[2; 50_000])]).expect("grows");
    }
    drop(hold);
    family.free_buried().expect("sound");
    assert_eq!(
        family
            .blocks()
            .expect("registered")
            .usage()
            .expect("sound")
            .used_blocks,
        0
    );
}

#[derive(Clone, Debug)]
enum Step {
    Put(usize),
    PutBlock(usize),
    Get,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_000_usize).prop_map(Step::Put),
        (0..100_000_usize).prop_map(Step::PutBlock),
        Just(Step::Get),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_ring_is_a_queue(steps in prop::collection::vec(step(), 1..200)) {
        let hold = family().make_ring(Shape::unbounded()).expect("room");
        let ring = hold.ring().expect("a ring");
        let mut model = VecDeque::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(len) => {
                    put(&ring, n as u64, &vec![n as u8; len], &[]).expect("grows");
                    model.push_back((n as u64, len));
                }
                Step::PutBlock(len) => {
                    let block = block_with(&ring, &vec![n as u8; len]);
                    put(&ring, n as u64, &[], &[block]).expect("grows");
                    model.push_back((n as u64, len));
                }
                Step::Get => {
                    let got = get(&ring).map(|message| {
                        let mut bytes = message.payload;
                        for block in message.blocks {
                            bytes = read_block(&ring, block);
                        }
                        assert!(bytes.iter().all(|&b| b == message.header.tag as u8));
                        (message.header.tag, bytes.len())
                    });
                    prop_assert_eq!(got, model.pop_front());
                }
            }
            prop_assert_eq!(ring.len(), model.len() as u64);
        }
    }
}
