use super::*;
use crate::crash::run_until_death;
use crate::family::Hold;
use crate::ring::pollers::Event;

fn watch(ring: &Ring, event: Event) -> Watch {
    let watch = Watch::new(ring, event).expect("the system allows it");
    renew(&watch, ring);
    watch
}

fn renew(watch: &Watch, ring: &Ring) {
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::PASSED, &mut tick);
    watch.renew(ring, &mut patience).expect("room for it");
}

fn is_readable(watch: &Watch) -> bool {
    watch.is_readable().expect("open")
}

#[test]
fn a_watch_is_readable_while_there_is_a_message() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    let watch = watch(&ring, Event::Message);
    assert!(!is_readable(&watch));
    put(&ring, 1, b"one", &[]).expect("room");
    put(&ring, 2, b"two", &[]).expect("room");
    for _ in 0..2 {
        assert!(is_readable(&watch));
        get(&ring).expect("there is one");
        renew(&watch, &ring);
    }
    assert!(!is_readable(&watch));
    ring.close();
    assert!(is_readable(&watch));
}

#[test]
fn a_watch_is_readable_while_there_is_room() {
    let hold = family().make_ring(Shape::of_messages(1)).expect("room");
    let ring = hold.ring().expect("a ring");
    let watch = watch(&ring, Event::Room);
    assert!(is_readable(&watch));
    put(&ring, 1, b"full", &[]).expect("room");
    renew(&watch, &ring);
    assert!(!is_readable(&watch));
    get(&ring).expect("there is one");
    assert!(is_readable(&watch));
}

#[test]
fn a_ring_that_is_bounded_by_bytes_is_readable_when_something_was_taken() {
    let shape = Shape {
        max_bytes: 1_000,
        ..Shape::unbounded()
    };
    let hold = family().make_ring(shape).expect("room");
    let ring = hold.ring().expect("a ring");
    put(&ring, 1, &[0; 100], &[]).expect("room");
    put(&ring, 2, &[0; 500], &[]).expect("room");
    assert_eq!(put(&ring, 3, &[0; 500], &[]), Err(PutError::Full));
    // There is room, but perhaps not for what the program has.
    let watch = watch(&ring, Event::Room);
    assert!(!ring.is_full() && !is_readable(&watch));
    get(&ring).expect("there is one");
    assert!(is_readable(&watch));
    renew(&watch, &ring);
    assert!(!is_readable(&watch));
    get(&ring).expect("there is one");
    renew(&watch, &ring);
    assert!(is_readable(&watch));
}

#[test]
fn a_watch_of_a_ring_that_cannot_be_asked_is_readable() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    let watch = watch(&ring, Event::Message);
    let guard = ring.body.put.lock.try_lock().expect("nobody else is there");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stop = || false;
            let mut patience = Patience::new(Deadline::PASSED, &mut stop);
            assert!(watch.renew(&ring, &mut patience).is_err());
        });
    });
    drop(guard);
    assert!(is_readable(&watch));
    renew(&watch, &ring);
    assert!(!is_readable(&watch));
}

/// A ring for one message, for which an event is not true.
fn ring_without(event: Event) -> Hold {
    let hold = family().make_ring(Shape::of_messages(1)).expect("room");
    if event == Event::Room {
        let ring = hold.ring().expect("a ring");
        put(&ring, 1, b"full", &[]).expect("room");
    }
    hold
}

/// What a process does that makes a watch readable, and whether it has happened.
type Doing = (Event, fn(&Ring), fn(&Ring) -> bool);

const DOINGS: [Doing; 3] = [
    (
        Event::Message,
        |ring| put(ring, 2, b"there", &[]).expect("room"),
        |ring| !ring.is_empty(),
    ),
    (
        Event::Room,
        |ring| assert!(get(ring).is_some()),
        |ring| !ring.is_full(),
    ),
    (Event::Message, |ring| ring.close(), |ring| ring.is_closed()),
];

#[test]
fn whoever_dies_over_it_what_is_watched_does_not_become_true_without_a_token() {
    for (event, doing, is_true) in DOINGS {
        for stores in 0.. {
            let hold = ring_without(event);
            let ring = hold.ring().expect("a ring");
            let dead = on_behalf_of(&ring, OwnerId::from_bits(DEAD));
            let gone = watch(&dead, event);
            let watch = watch(&ring, event);
            drop(gone); // its socket
            let finished = run_until_death(stores, || doing(&dead));
            assert!(
                !is_true(&ring) || is_readable(&watch),
                "{event:?} after {stores} stores"
            );
            // Whoever looks again finds what is true, or is told of the next.
            renew(&watch, &ring);
            assert_eq!(is_true(&ring), is_readable(&watch), "after {stores} stores");
            if !is_true(&ring) {
                doing(&ring);
                assert!(
                    is_readable(&watch),
                    "after {stores} stores, told by another"
                );
            }
            if finished.is_some() {
                break;
            }
        }
    }
}

#[test]
fn who_dies_while_it_asks_for_a_token_leaves_a_ring_that_goes_on_and_nothing_else() {
    for (event, doing, _) in DOINGS {
        for stores in 0.. {
            let hold = ring_without(event);
            let ring = hold.ring().expect("a ring");
            let dead = on_behalf_of(&ring, OwnerId::from_bits(DEAD));
            let finished = run_until_death(stores, || drop(watch(&dead, event)));
            let sweep = ring.blocks.sweep(dead.me(), |_| ring.settle());
            sweep.expect("sound");
            let watch = watch(&ring, event);
            assert!(!is_readable(&watch), "{event:?} after {stores} stores");
            doing(&ring);
            assert!(is_readable(&watch), "{event:?} after {stores} stores");
            let family = hold.family();
            drop(hold);
            family.free_buried().expect("sound");
            let usage = ring.blocks.usage().expect("sound");
            assert_eq!(usage.used_blocks, 0, "after {stores} stores: {usage:?}");
            if finished.is_some() {
                break;
            }
        }
    }
}

#[test]
fn scribbled_pollers_make_nobody_fail() {
    let hold = family().make_ring(Shape::unbounded()).expect("room");
    let ring = hold.ring().expect("a ring");
    let _watch = watch(&ring, Event::Message);
    ring.body.put.polled.store(u32::MAX, Relaxed);
    put(&ring, 1, b"told", &[]).expect("as if nothing had happened");
    ring.body.put.polled.store(3, Relaxed);
    for page in [0, 1, 5, u64::MAX] {
        ring.body.pollers[0].store(page, Relaxed);
        ring.body.put.polled.store(3, Relaxed);
        put(&ring, 1, b"not told", &[]).expect("nobody can be told");
    }
    assert_eq!(ring.len(), 5);
}
