//! What a map does while everybody lives; deaths are in `family/tests`.
//!
//! | module | what it is |
//! |---|---|
//! | [`model`] | any operations, against a map of this process's own |
//! | [`scans`] | going through all entries |
//! | [`scribbles`] | words that were scribbled on |

mod model;
mod scans;
mod scribbles;

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use manycore_os::Deadline;

use super::*;
use crate::block::BlockRef;
use crate::crash::{Corpse, interrupted};
use crate::error::Corrupted;
use crate::family::{Family, Hold};
use crate::heap::layout::LEAST;
use crate::lock::Locked;
use crate::object::Kind;
use crate::ring::{Message, Outgoing};
use crate::wait::Patience;

/// A map and the family it is in.
struct World {
    family: &'static Family,
    hold: Hold,
}

fn patiently<R>(f: impl FnOnce(&mut Patience<'_>) -> R) -> R {
    let mut go_on = || true;
    f(&mut Patience::new(Deadline::NEVER, &mut go_on))
}

impl World {
    fn new() -> Self {
        Self::of(LEAST * 4)
    }

    fn of(len: usize) -> Self {
        let family = Family::create_with(len).expect("a small heap");
        let hold = family.make_map().expect("room");
        Self { family, hold }
    }

    fn map(&self) -> Map {
        self.hold.map().expect("a map")
    }

    /// A block that is full of this.
    fn block(&self, byte: u8, len: usize) -> BlockRef {
        let taken = self.family.take_block(len as u64).expect("room");
        let blocks = self.family.blocks().expect("registered");
        blocks.fill(&taken, 0, &vec![byte; len]).expect("inside");
        taken.block
    }

    fn set(&self, key: &[u8], payload: &[u8], when: When) -> bool {
        let map = self.map();
        let value = Outgoing {
            kind: 1,
            payload,
            ..Outgoing::default()
        };
        let key = map.key(key).expect("short");
        patiently(|patience| map.set(&key, &value, when, patience)).expect("room")
    }

    fn set_with_block(&self, key: &[u8], byte: u8, len: usize) {
        let (map, block) = (self.map(), self.block(byte, len));
        let value = Outgoing {
            kind: 1,
            blocks: &[block],
            payload: &[byte],
            ..Outgoing::default()
        };
        let key = map.key(key).expect("short");
        let set = patiently(|patience| map.set(&key, &value, When::Always, patience));
        assert_eq!(set, Ok(true));
    }

    fn get(&self, key: &[u8]) -> Option<(u64, Vec<u8>)> {
        let (map, mut message) = (self.map(), Message::default());
        let key = map.key(key).expect("short");
        let serial = patiently(|patience| map.get(&key, &mut message, patience)).expect("sound")?;
        Some((serial, self.payload(message)))
    }

    fn remove(&self, key: &[u8]) -> Option<Vec<u8>> {
        let (map, found) = (self.map(), self.get(key));
        let key = map.key(key).expect("short");
        let removed = patiently(|patience| map.remove(&key, When::Always, patience));
        assert_eq!(removed, Ok(found.is_some()));
        found.map(|it| it.1)
    }

    /// The payload of a message, behind the bytes of its blocks.
    fn payload(&self, message: Message) -> Vec<u8> {
        let blocks = self.family.blocks().expect("registered");
        let mut all = Vec::new();
        for block in message.blocks {
            let bytes = blocks.bytes(block).expect("a good block");
            bytes.append_to(0, bytes.len(), &mut all).expect("inside");
            blocks.free(block);
        }
        drop(self.family.receive(&message.handles).expect("in flight"));
        all.extend(message.payload);
        all
    }

    fn len(&self) -> u64 {
        patiently(|patience| self.map().len(patience)).expect("sound")
    }

    /// Blocks that are in use.
    fn blocks(&self) -> usize {
        self.family.free_buried().expect("sound");
        self.family.blocks().expect("registered").audit().len()
    }
}

#[test]
fn a_value_is_what_was_set_last() {
    let world = World::new();
    assert_eq!(world.get(b"a"), None);
    for value in [&b"one"[..], b"", b"three"] {
        assert!(world.set(b"a", value, When::Always));
        assert_eq!(world.get(b"a").map(|it| it.1).as_deref(), Some(value));
        assert_eq!(world.len(), 1);
    }
    assert_eq!(world.remove(b"a").as_deref(), Some(&b"three"[..]));
    assert_eq!(
        (world.remove(b"a"), world.get(b"a"), world.len()),
        (None, None, 0)
    );
}

#[test]
fn a_value_is_set_only_in_the_case_that_was_asked_for() {
    let world = World::new();
    assert!(!world.set(b"a", b"0", When::Unchanged(1)), "there is none");
    assert!(world.set(b"a", b"1", When::Absent));
    assert!(!world.set(b"a", b"2", When::Absent));
    let (serial, value) = world.get(b"a").expect("set");
    assert_eq!(value, b"1");
    assert!(world.set(b"a", b"1", When::Unchanged(serial)));
    assert!(
        !world.set(b"a", b"3", When::Unchanged(serial)),
        "the same, but set anew"
    );
    let map = world.map();
    let key = map.key(b"a").expect("short");
    let removed = patiently(|it| map.remove(&key, When::Unchanged(serial), it));
    assert_eq!(removed, Ok(false));
    assert_eq!(world.get(b"a").expect("set").1, b"1");
}

#[test]
fn keys_with_the_same_hash_are_different_keys() {
    let world = World::new();
    let map = world.map();
    let names: Vec<_> = (0..40_u8)
        .map(|n| vec![n; 1 + usize::from(n) * 5])
        .collect();
    let key = |n: usize| Key {
        bytes: &names[n],
        hash: u64::MAX - 3,
    };
    let set = |n: usize, payload: &[u8]| {
        let value = Outgoing {
            payload,
            ..Outgoing::default()
        };
        patiently(|it| map.set(&key(n), &value, When::Always, it)).expect("room");
    };
    let get = |n: usize| {
        let mut message = Message::default();
        let found = patiently(|it| map.get(&key(n), &mut message, it)).expect("sound");
        found.map(|_| message.payload)
    };
    (0..40).for_each(|n| set(n, &[n as u8]));
    for n in (0..40).step_by(2) {
        assert_eq!(
            patiently(|it| map.remove(&key(n), When::Always, it)),
            Ok(true)
        );
    }
    for n in 0..40 {
        let expected = (n % 2 == 1).then(|| vec![n as u8]);
        assert_eq!(get(n), expected, "key {n}");
    }
    (0..40).for_each(|n| set(n, b"again"));
    assert_eq!(world.len(), 40);
    assert!((0..40).all(|n| get(n).as_deref() == Some(b"again")));
}

#[test]
fn blocks_and_handles_belong_to_the_map_as_long_as_their_value() {
    let world = World::new();
    let before = world.blocks();
    let lock = world.family.make_lock().expect("room");
    let handle = lock.handle();
    let map = world.map();
    world.family.send(&[handle]).expect("held");
    let block = world.block(7, 10_000);
    let value = Outgoing {
        kind: 2,
        blocks: &[block],
        handles: &[handle],
        ..Outgoing::default()
    };
    let key = map.key(b"key").expect("short");
    assert_eq!(
        patiently(|it| map.set(&key, &value, When::Always, it)),
        Ok(true)
    );
    drop(lock);
    let mut message = Message::default();
    for _ in 0..2 {
        assert!(
            patiently(|it| map.get(&key, &mut message, it))
                .expect("sound")
                .is_some()
        );
        let held = world
            .family
            .receive(&message.handles)
            .expect("kept by the map");
        assert!(held[0].check().is_ok());
        assert_ne!(message.blocks[0].page, block.page, "a copy");
        assert_eq!(
            world.payload(Message {
                handles: vec![],
                ..std::mem::take(&mut message)
            }),
            [7; 10_000]
        );
    }
    assert!(world.set(b"key", b"short", When::Always));
    world.family.free_buried().expect("sound");
    assert!(
        world.family.hold(handle, Kind::Lock).is_err(),
        "let go with its value"
    );
    assert_eq!(world.blocks(), before + 1, "the table");
    world.set_with_block(b"key", 1, 5_000);
    assert_eq!(world.remove(b"key").map(|it| it.len()), Some(5_001));
    assert_eq!(world.blocks(), before + 1, "the table");
}

#[test]
fn a_map_that_nobody_holds_leaves_nothing() {
    let world = World::new();
    let lock = world.family.make_lock().expect("room");
    let map = world.family.make_map().expect("room");
    let before = world.blocks();
    let inside = World {
        family: world.family,
        hold: map,
    };
    for n in 0..1_000_u32 {
        inside.set(&n.to_le_bytes(), &[0; 100], When::Always);
    }
    inside.set_with_block(b"large", 1, 100_000);
    world.family.send(&[lock.handle()]).expect("held");
    let value = Outgoing {
        handles: &[lock.handle()],
        ..Outgoing::default()
    };
    let map = inside.map();
    let key = map.key(b"handle").expect("short");
    assert_eq!(
        patiently(|it| map.set(&key, &value, When::Always, it)),
        Ok(true)
    );
    let handle = lock.handle();
    drop((lock, inside));
    assert_eq!(world.blocks(), before);
    assert!(
        world.family.hold(handle, Kind::Lock).is_err(),
        "let go with the map"
    );
    let again = World {
        family: world.family,
        hold: world.family.make_map().expect("room"),
    };
    assert_eq!((again.len(), again.get(b"large")), (0, None));
}

#[test]
fn a_map_takes_no_more_memory_for_values_that_come_and_go() {
    let world = World::of(LEAST);
    for n in 0..200_000_u32 {
        let key = (n % 3).to_le_bytes();
        assert!(world.set(&key, &[0; 200], When::Always));
        if n % 5 == 0 {
            world.remove(&key);
        }
    }
    let used = world
        .family
        .blocks()
        .expect("registered")
        .usage()
        .expect("sound");
    assert!(used.used_pages < 20, "{used:?}");
    (0..20_000_u32).for_each(|n| assert!(world.set(&n.to_le_bytes(), &[0; 100], When::Always)));
    let map = world.map();
    patiently(|it| map.clear(it)).expect("sound");
    assert_eq!(world.len(), 0);
    let used = world
        .family
        .blocks()
        .expect("registered")
        .usage()
        .expect("sound");
    assert!(
        used.used_pages < 200,
        "an empty map gives its memory back: {used:?}"
    );
}

#[test]
fn an_empty_map_has_given_its_memory_back_to_the_system() {
    let world = World::of(1 << 30);
    let idle = || {
        let blocks = world.family.blocks().expect("registered");
        blocks.usage().expect("sound").free_pages >> 8 // in MiB
    };
    let value = vec![0; 30_000];
    (0..5_000_u32).for_each(|n| assert!(world.set(&n.to_le_bytes(), &value, When::Always)));
    patiently(|it| world.map().clear(it)).expect("sound");
    assert!(idle() <= 128, "{} MiB are kept", idle());
    let value = vec![0; 32 << 10];
    let mut key = 0_u32;
    for _ in 0..5_000 {
        key += 1;
        assert!(world.set(&key.to_le_bytes(), &value, When::Always));
    }
    (1..=key).for_each(|n| assert!(world.remove(&n.to_le_bytes()).is_some()));
    assert!(idle() <= 128, "{} MiB are kept", idle());
}

#[test]
fn who_cleans_up_behind_the_dead_does_not_wait_for_who_repairs_already() {
    let world = World::new();
    world.set(b"a", b"value", When::Always);
    let map = world.map();
    let lock = &map.body.stripes[map.stripe_of(b"a")].lock;
    for steps in 0.. {
        lock.die_as_owner();
        let ((has_tried, tried), (over, is_over)) = (mpsc::channel(), mpsc::channel::<()>());
        let other = move || {
            let held = lock.try_lock();
            has_tried.send(()).expect("waited for");
            let outcome = is_over.recv_timeout(Duration::from_secs(5));
            if let Some(Locked::OwnerDied(guard)) = held {
                guard.repaired();
            }
            outcome
        };
        let (start, started) = mpsc::channel();
        let others = move || {
            start.send(std::thread::spawn(other)).expect("received");
            tried.recv().expect("it has tried");
        };
        let ((), was_stopped) = interrupted(steps, others, || map.settle());
        drop(over);
        if let Ok(it) = started.try_recv() {
            let outcome = it.join().expect("it does not panic");
            assert_eq!(
                outcome,
                Err(RecvTimeoutError::Disconnected),
                "after {steps}"
            );
        }
        if !was_stopped {
            break;
        }
    }
    assert_eq!(world.get(b"a").expect("there").1, b"value");
}

#[test]
fn what_the_dead_had_makes_room_where_the_heap_is_full() {
    let world = World::of(LEAST);
    let map = world.map();
    let corpse = Corpse::new();
    let theirs = corpse.play(|| {
        let other = Family::on(world.family.heap());
        let blocks = other.blocks().expect("room");
        let mut taken = 0;
        while blocks.take(1 << 20).is_ok() {
            taken += 1;
        }
        taken
    });
    assert!(theirs > 0);
    let value = Outgoing {
        payload: &[1; 30_000],
        ..Outgoing::default()
    };
    let set = |n: u32| {
        let bytes = n.to_le_bytes();
        let key = map.key(&bytes).expect("short");
        patiently(|it| map.set(&key, &value, When::Always, it))
    };
    let (n, error) = (0..)
        .find_map(|n| set(n).err().map(|error| (n, error)))
        .expect("all but a little is taken");
    assert!(error.is_full(), "{error}");
    let again = world.family.with_room(MapError::is_full, || set(n));
    assert_eq!(again, Ok(true));
}

#[test]
fn a_full_heap_refuses_a_value_and_keeps_the_map_as_it_is() {
    let world = World::of(LEAST);
    let map = world.map();
    let mut stored = 0_u32;
    let error = loop {
        let bytes = stored.to_le_bytes();
        let key = map.key(&bytes).expect("short");
        let value = Outgoing {
            payload: &[1; 20_000],
            ..Outgoing::default()
        };
        match patiently(|it| map.set(&key, &value, When::Always, it)) {
            Ok(true) => stored += 1,
            other => break other.expect_err("never refused"),
        }
    };
    assert!(matches!(error, MapError::Alloc(_)), "{error}");
    assert!(stored > 100, "{stored}");
    assert!((0..stored).all(|n| world.get(&n.to_le_bytes()).is_some()));
    assert_eq!(world.len(), u64::from(stored));
    let key = vec![0; 40_000];
    assert!(matches!(map.key(&key), Err(MapError::KeyTooLong(40_000))));
}

#[test]
fn threads_that_count_in_one_map_lose_nothing() {
    let world = World::new();
    let add = |key: &[u8]| loop {
        let found = world.get(key);
        let (when, old) = found.map_or((When::Absent, 0), |(serial, bytes)| {
            (When::Unchanged(serial), bytes[0])
        });
        if world.set(key, &[old.wrapping_add(1)], when) {
            return;
        }
    };
    std::thread::scope(|scope| {
        for n in 0..4_u8 {
            let add = &add;
            scope.spawn(move || {
                for _ in 0..5_000 {
                    add(b"shared");
                    add(&[n]);
                }
            });
        }
    });
    let value = |key: &[u8]| world.get(key).map(|it| it.1[0]);
    assert_eq!(value(b"shared"), Some((20_000 % 256) as u8));
    assert!((0..4).all(|n| value(&[n]) == Some((5_000 % 256) as u8)));
}
