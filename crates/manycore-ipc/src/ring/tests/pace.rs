use std::sync::atomic::AtomicBool;

use manycore_os::affinity;

use super::*;
use crate::ring::pace::Pace;

/// Looks that are not delayed before the next one that is.
fn eager_looks(pace: &Pace) -> u32 {
    let mut looks = 0;
    while !pace.lets_gather() {
        looks += 1;
    }
    looks
}

#[test]
fn where_nothing_gathers_fewer_and_fewer_looks_are_delayed() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    let pace = Pace::default();
    assert_eq!(eager_looks(&pace), 0);
    if affinity::online_cpus() < 2 {
        return; // nobody could put anything meanwhile
    }
    for expected in [1, 2, 4, 8] {
        pace.gather(&ring);
        assert_eq!(eager_looks(&pace), expected);
    }
    for _ in 0..20 {
        pace.gather(&ring);
    }
    assert_eq!(eager_looks(&pace), 1 << 10);
}

#[test]
fn where_many_gather_every_look_is_delayed_until_there_are_enough() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    let pace = Pace::default();
    pace.gather(&ring); // in vain
    for _ in 0..100 {
        put(&ring, 1, b"small", &[]).expect("room");
    }
    pace.gather(&ring);
    assert_eq!(eager_looks(&pace), 0);
    assert_eq!(std::iter::from_fn(|| get(&ring)).count(), 100);
}

#[test]
fn everything_arrives_in_order_at_any_pace() {
    const MESSAGES: u64 = 20_000;
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let ring = hold.ring().expect("a ring");
            for number in 0..MESSAGES {
                put(&ring, number, b"small", &[]).expect("room");
            }
            is_over.store(true, Relaxed);
        });
        let ring = hold.ring().expect("a ring");
        let mut message = Message::default();
        for number in 0..MESSAGES {
            if !hold.get_at_once(&ring, &mut message, None) {
                let mut tick = || true;
                let mut patience = Patience::new(Deadline::NEVER, &mut tick);
                let got = hold.get(&mut message, None, &mut patience);
                got.expect("a ring").expect("a message");
            }
            assert_eq!(message.header.tag, number);
        }
    });
    assert!(is_over.into_inner());
}
