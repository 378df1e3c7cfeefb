use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::time::Duration;

use super::super::record::{Header, LINK, MOST_BLOCKS, MOST_INLINE};
use super::*;
use crate::lock::Locked;
use crate::object::group::Taking;
use crate::word::Word64;

fn message(payload: &[u8]) -> Outgoing<'_> {
    Outgoing {
        kind: 1,
        tag: 1,
        blocks: &[],
        handles: &[],
        payload,
    }
}

#[test]
fn a_region_that_others_made_too_small_is_given_back() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    let mut region = None;
    let large = [0; 8_150];
    let Ok(Put::NeedsRegion(bytes)) = ring.try_put(&message(&large), &mut region) else {
        panic!("it does not fit into the first region");
    };
    region = Some(ring.blocks.take(bytes).expect("room"));
    // Meanwhile others grow the ring by as much, and fill it.
    put(&ring, 2, &large, &[]).expect("grows");
    put(&ring, 3, &large, &[]).expect("grows, or fits");
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::PASSED, &mut tick);
    ring.put_with(&message(&[0; 30_000]), &mut region, &mut patience)
        .expect("grows");
    assert!(region.is_none());
    while get(&ring).is_some() {}
    assert_eq!(
        ring.blocks.usage().expect("sound").used_blocks,
        1,
        "only the present region"
    );
}

#[test]
fn a_message_that_never_fits_is_refused_instead_of_waited_for() {
    let shape = Shape {
        capacity: 1 << 10,
        grows: false,
        ..Shape::unbounded()
    };
    let hold = family().make_ring(shape).expect("room");
    let ring = hold.ring().expect("a ring");
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut tick);
    let refused = ring.put(&message(&[0; 1_000]), &mut patience);
    assert!(
        matches!(refused, Err(PutError::TooLarge { max: 976, .. })),
        "{refused:?}"
    );
    ring.put(&message(&[0; 900]), &mut patience).expect("fits");
    assert_eq!(put(&ring, 1, &[0; 900], &[]), Err(PutError::Full));
}

#[test]
fn a_message_that_no_receiver_would_take_is_not_sent() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    let nothing = BlockRef {
        page: 0,
        len: 1,
        generation: 0,
    };
    let too_long = vec![0; MOST_INLINE + 1];
    let too_many = [nothing; MOST_BLOCKS + 1];
    let refused = [
        message(&too_long),
        Outgoing {
            blocks: &too_many,
            ..message(&[])
        },
        Outgoing {
            kind: LINK,
            ..message(&[])
        },
    ];
    for message in refused {
        assert!(ring.try_put(&message, &mut None).is_err());
    }
    put(&ring, 1, b"good", &[]).expect("room");
    assert_eq!(get(&ring).expect("there").payload, b"good");
}

#[test]
fn a_small_shape_makes_a_ring_that_works() {
    let hold = family()
        .make_ring(Shape {
            capacity: 1,
            ..Shape::unbounded()
        })
        .expect("room");
    let ring = hold.ring().expect("a ring");
    for tag in 0..100 {
        put(&ring, tag, &[1; 10], &[]).expect("grows");
    }
    assert_eq!(std::iter::from_fn(|| get(&ring)).count(), 100);
}

#[test]
fn a_closed_ring_is_empty_only_when_its_last_producer_has_gone() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    // A producer that has found the ring open and is about to commit.
    let Some(Locked::Clean(inside)) = ring.body.put.lock.try_lock() else {
        panic!("nobody else is there")
    };
    ring.mark_closed(); // by who could not wait for it: it was stopped
    let (tell, hear) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut tick = || true;
            let mut patience = Patience::new(Deadline::after(Duration::from_secs(60)), &mut tick);
            let mut message = Message::default();
            let _ = tell.send(
                ring.get(&mut message, None, &mut patience)
                    .map(|()| message.header.tag),
            );
        });
        while !ring.body.put.lock.is_contended() {
            assert_eq!(
                hear.try_recv(),
                Err(mpsc::TryRecvError::Empty),
                "the message may still come"
            );
            std::hint::spin_loop();
        }
        ring.put_inside(&Outgoing {
            tag: 7,
            ..message(b"late")
        });
        drop(inside);
    });
    assert_eq!(hear.recv(), Ok(Ok(7)));
}

#[test]
fn rows_of_a_group_that_is_gone_are_left_alone() {
    let family = family();
    let group = family.make_group(1).expect("room");
    let shape = Shape {
        group: Some(group.handle().index),
        ..Shape::unbounded()
    };
    let hold = family.make_ring(shape).expect("room");
    let ring = hold.ring().expect("a ring");
    drop(group);
    family.free_buried().expect("sound");
    // Another group in the same place, whose worker took a task of another ring at the same position.
    let next = family.make_group(1).expect("room");
    let row = next.rows().expect("a group")[0];
    let place = ring.body.get.position.load(Relaxed) & !0xf;
    row.write(Taking { tag: 5, place });
    die_inside(&ring.body.get.lock);
    assert!(get(&ring).is_none());
    ring.settle();
    assert_eq!(row.read(), Some(Taking { tag: 5, place }));
}

#[test]
fn who_settles_the_consumers_side_does_not_wait_for_a_producer_that_was_stopped() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    put(&ring, 1, b"x", &[]).expect("room");
    while_another_has(&ring.body.put.lock, || {
        let mut tick = || true;
        let settled = ring.settle_get(&mut Patience::new(Deadline::NEVER, &mut tick));
        assert_eq!(settled, Ok(()));
        assert_eq!(get(&ring).map(|message| message.header.tag), Some(1));
    });
}

#[test]
fn who_waits_for_a_consumer_that_was_stopped_does_so_for_a_moment_only() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    put(&ring, 1, b"x", &[]).expect("room");
    while_another_has(&ring.body.get.lock, || {
        assert!(!ring.settle_get_soon());
        assert_eq!(ring.try_take_all(|_| panic!("not its turn")), Ok(false));
    });
    assert!(ring.settle_get_soon());
    let mut tags = Vec::new();
    assert_eq!(ring.try_take_all(|it| tags.push(it.header.tag)), Ok(true));
    assert_eq!(tags, [1]);
}

/// Does something while another thread has a lock, as one has that was stopped.
fn while_another_has(lock: &'static crate::lock::EngineLock, action: impl FnOnce()) {
    let (told, goes_on) = (mpsc::channel(), mpsc::channel::<()>());
    let stopped = std::thread::spawn(move || {
        let inside = lock.try_lock();
        told.0.send(inside.is_some()).expect("it is heard");
        let _ = goes_on.1.recv();
    });
    assert_eq!(told.1.recv(), Ok(true));
    action();
    drop(goes_on.0);
    stopped.join().expect("it only waits");
}

/// Leaves a lock as a thread does that dies while it holds it.
fn die_inside(lock: &'static crate::lock::EngineLock) {
    let inside = std::thread::spawn(move || std::mem::forget(lock.try_lock()));
    inside.join().expect("it only forgets");
    // Told by the kernel, or found out by waiting; what is not repaired stays marked.
    let mut tick = || true;
    let found = lock.lock(&mut Patience::new(Deadline::NEVER, &mut tick), &|_| true);
    assert!(matches!(found, Ok(Locked::OwnerDied(_))));
}

#[test]
fn a_side_that_cannot_be_repaired_stays_marked() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    for side in [&ring.body.put, &ring.body.get] {
        die_inside(&side.lock);
    }
    let run = &ring.body.put.region[0].run;
    let sane = run.load(Relaxed);
    run.store(sane & u64::from(u32::MAX), Relaxed); // of one byte
    for _ in 0..2 {
        assert!(put(&ring, 1, b"x", &[]).is_err());
    }
    run.store(sane, Relaxed);
    put(&ring, 1, b"x", &[]).expect("repaired now");
}

#[test]
fn a_record_that_leads_in_a_circle_is_refused() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    put(&ring, 1, &[0; 100], &[]).expect("room");
    let region = ring.body.put.region[0].block();
    let bytes = ring.blocks.bytes(region).expect("inside");
    let link = Header {
        kind: LINK,
        blocks: 1,
        ..Header::default()
    };
    bytes.write(0, &link.to_bytes());
    bytes.write(16, &region.to_bytes());
    assert!(
        ring.try_get(&mut Message::default(), None).is_err(),
        "no producer has gone on to another region"
    );
}

#[test]
fn counters_that_were_scribbled_on_wrap() {
    let hold = family().make_ring(Shape::of_messages(10)).expect("room");
    let ring = hold.ring().expect("a ring");
    put(&ring, 1, b"x", &[]).expect("room");
    for side in [&ring.body.put, &ring.body.get] {
        side.count
            .iter()
            .for_each(|count| count.store(u64::MAX, Relaxed));
    }
    ring.body.max_messages.store(u64::MAX, Relaxed);
    assert!(get(&ring).is_some());
    let _ = put(&ring, 1, b"x", &[]);
    let _ = (ring.len(), ring.is_full());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn scribbled_words_are_answered_and_never_followed(
        scribbles in proptest::collection::vec((0..56_usize, proptest::arbitrary::any::<u64>(), 0..4_u8), 1..6)
    ) {
        let hold = small_family().make_ring(Shape::unbounded()).expect("room");
        let ring = hold.ring().expect("a ring");
        put(&ring, 1, &[0; 7_000], &[]).expect("room");
        put(&ring, 2, &[0; 3_000], &[]).expect("grows");
        let body = ring.objects.offset_of(ring.index) + std::mem::offset_of!(crate::object::header::Object, body);
        for (at, value, kind) in scribbles {
            if at == 0 || at == 16 {
                continue; // a lock that names a living thread is waited for
            }
            let word: &Word64 = ring.blocks.heap.at(body + at * 8).expect("inside");
            let value = match kind {
                0 => value,
                1 => value & 0xffff,
                2 => word.load(Relaxed) ^ (1 << (value % 64)),
                _ => u64::MAX,
            };
            word.store(value, Relaxed);
        }
        for _ in 0..4 {
            let _ = ring.try_put(&message(&[1; 100]), &mut None);
            let _ = ring.try_get(&mut Message::default(), None);
        }
        let _ = (ring.len(), ring.is_full(), ring.is_empty());
        ring.settle();
        std::mem::forget(hold); // its freeing would report the damage again
    }
}

/// One heap for all cases: what a scribbled ring cannot give back stays taken.
fn small_family() -> &'static Family {
    static SMALL: std::sync::OnceLock<&'static Family> = std::sync::OnceLock::new();
    SMALL.get_or_init(family)
}

#[test]
fn a_queue_is_finished_when_all_that_was_put_is_done_and_nothing_else_counts() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    assert!(ring.is_finished() && !ring.mark_done());
    for tag in 1..=2 {
        put(&ring, tag, b"", &[]).expect("room");
        assert!(get(&ring).is_some() && !ring.is_finished());
    }
    assert!(ring.mark_done() && !ring.is_finished());
    assert!(ring.mark_done() && ring.is_finished());
    assert!(!ring.mark_done(), "more often than there were messages");
}

#[test]
fn a_region_far_ahead_of_the_consumers_is_larger_so_that_epochs_last_longer_than_memory() {
    let shape = Shape {
        capacity: layout::LARGEST,
        ..Shape::unbounded()
    };
    let hold = family().make_ring(shape).expect("room");
    let ring = hold.ring().expect("a ring");
    let wanted = || {
        let message = Outgoing {
            payload: &[1; MOST_INLINE],
            ..Outgoing::default()
        };
        loop {
            match ring.try_put(&message, &mut None) {
                Ok(Put::NeedsRegion(bytes)) => return bytes,
                other => assert_eq!(other, Ok(Put::Done)),
            }
        }
    };
    assert_eq!(wanted(), layout::LARGEST);
    let put = &ring.body.put.position;
    put.store(put.load(Relaxed) + (layout::MANY_REGIONS << 48), Relaxed);
    assert_eq!(wanted(), 2 * layout::LARGEST);
}
