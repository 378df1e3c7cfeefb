//! Changes of a map: death in place of every store of each, and of every store of what comes next.

use super::*;
use crate::block::BlockRef;
use crate::family::Hold;
use crate::map::layout::KEPT;
use crate::map::{Cursor, Map, When};

/// Bytes of a block: one page and a bit.
const BLOCK: usize = 5_000;
/// Bytes of a payload.
const PAYLOAD: usize = 60;
/// Bytes of one that needs a long table.
const LARGE: usize = 32 << 10;

fn patiently<R>(f: impl FnOnce(&mut Patience<'_>) -> R) -> R {
    let mut go_on = || true;
    f(&mut Patience::new(Deadline::NEVER, &mut go_on))
}

fn block(family: &Family, fill: u8) -> BlockRef {
    let taken = family.take_block(BLOCK as u64).expect("room");
    let blocks = family.blocks().expect("registered");
    blocks.fill(&taken, 0, &[fill; BLOCK]).expect("inside");
    taken.block
}

/// Makes a value, all of whose bytes are the same, that of a key.
pub(super) fn set(
    family: &'static Family,
    hold: &Hold,
    key: &[u8],
    fill: u8,
    blocks: usize,
    handles: &[Handle],
) {
    assert!(set_when(
        family,
        hold,
        key,
        fill,
        (blocks, handles),
        When::Always
    ));
}

fn set_when(
    family: &'static Family,
    hold: &Hold,
    key: &[u8],
    fill: u8,
    (blocks, handles): (usize, &[Handle]),
    when: When,
) -> bool {
    let map = hold.map().expect("a map");
    let blocks: Vec<_> = (0..blocks).map(|_| block(family, fill)).collect();
    family.send(handles).expect("held");
    let value = Outgoing {
        kind: 1,
        blocks: &blocks,
        handles,
        payload: &[fill; PAYLOAD],
        ..Outgoing::default()
    };
    let key = map.key(key).expect("short");
    let is_set = patiently(|it| map.set(&key, &value, when, it)).expect("room");
    if !is_set {
        blocks.iter().for_each(|&it| family.discard(it));
        family.unsend(handles);
    }
    is_set
}

/// What fills a value, which is whole.
fn unpack(family: &'static Family, message: &Message) -> u8 {
    let (fill, len) = (message.payload[0], message.payload.len());
    let is_whole = message.payload.iter().all(|&byte| byte == fill);
    assert!(is_whole && [PAYLOAD, LARGE].contains(&len), "a torn value");
    let blocks = family.blocks().expect("registered");
    for &block in &message.blocks {
        let mut bytes = Vec::new();
        let view = blocks.bytes(block).expect("a good block");
        view.append_to(0, view.len(), &mut bytes).expect("inside");
        assert!(bytes == [fill; BLOCK], "a torn block");
        blocks.free(block);
    }
    let held = family.receive(&message.handles).expect("in flight");
    assert!(held.iter().all(|hold| hold.check().is_ok()));
    fill
}

pub(super) fn get(family: &'static Family, hold: &Hold, key: &[u8]) -> Option<u8> {
    let (map, mut message) = (hold.map().expect("a map"), Message::default());
    let key = map.key(key).expect("short");
    patiently(|it| map.get(&key, &mut message, it)).expect("sound")?;
    Some(unpack(family, &message))
}

pub(super) fn remove(hold: &Hold, key: &[u8]) -> bool {
    let map = hold.map().expect("a map");
    let key = map.key(key).expect("short");
    patiently(|it| map.remove(&key, When::Always, it)).expect("sound")
}

/// All keys, each of which is there once and has a value, and as many as the map says.
pub(super) fn keys(family: &'static Family, hold: &Hold) -> Vec<Vec<u8>> {
    let (map, mut cursor, mut entries) =
        (hold.map().expect("a map"), Cursor::default(), Vec::new());
    while patiently(|it| map.scan(&mut cursor, false, &mut entries, it)).expect("sound") {}
    let mut keys: Vec<_> = entries.into_iter().map(|entry| entry.key).collect();
    assert_eq!(patiently(|it| map.len(it)), Ok(keys.len() as u64));
    keys.sort();
    assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
    assert!(keys.iter().all(|key| get(family, hold, key).is_some()));
    keys
}

/// Removes all entries; returns how many blocks are the map's even then: its tables.
pub(super) fn clear(hold: &Hold) -> usize {
    let map: Map = hold.map().expect("a map");
    patiently(|it| map.clear(it)).expect("sound");
    let stripes = map.body.stripes.iter();
    stripes.filter(|stripe| stripe.has_table()).count()
}

/// A change of the key "a", and what its value may be when it was not finished, or was.
struct Change {
    name: &'static str,
    before: fn(&'static Family, &Hold, Handle),
    run: fn(&'static Family, &Hold, Handle),
    old: Option<u8>,
    new: Option<u8>,
}

fn a_value_with_everything(family: &'static Family, map: &Hold, inner: Handle) {
    set(family, map, b"a", 1, 2, &[inner]);
}

fn a_value_with_a_handle(family: &'static Family, map: &Hold, inner: Handle) {
    set(family, map, b"a", 1, 0, &[inner]);
}

/// Another record for "a" does not fit behind these: 39 of 96 bytes, and one of 152.
fn a_full_table(family: &'static Family, map: &Hold, inner: Handle) {
    (0..39).for_each(|_| set(family, map, b"a", 7, 0, &[]));
    a_value_with_everything(family, map, inner);
}

/// A table that is not kept when it is empty.
fn a_long_table(_: &'static Family, hold: &Hold, _: Handle) {
    let map = hold.map().expect("a map");
    let value = Outgoing {
        payload: &[1; LARGE],
        ..Outgoing::default()
    };
    let key = map.key(b"a").expect("short");
    let is_set = patiently(|it| map.set(&key, &value, When::Always, it));
    assert_eq!(is_set, Ok(true));
    let map = hold.map().expect("a map");
    let bytes = map.body.stripes[map.stripe_of(b"a")].bytes_of_table();
    assert!(bytes > KEPT, "{bytes}");
}

fn tables(hold: &Hold) -> Vec<u32> {
    let map = hold.map().expect("a map");
    let stripes = map.body.stripes.iter();
    stripes.map(|stripe| stripe.page_of_table()).collect()
}

/// The change that other keys do not survive either.
const CLEAR: &str = "clear";

const CHANGES: &[Change] = &[
    Change {
        name: "set",
        before: |_, _, _| (),
        run: |family, map, _| set(family, map, b"a", 2, 0, &[]),
        old: None,
        new: Some(2),
    },
    Change {
        name: "set with blocks and handles",
        before: |_, _, _| (),
        run: |family, map, inner| set(family, map, b"a", 2, 2, &[inner, inner]),
        old: None,
        new: Some(2),
    },
    Change {
        name: "replace",
        before: a_value_with_everything,
        run: |family, map, inner| set(family, map, b"a", 2, 1, &[inner]),
        old: Some(1),
        new: Some(2),
    },
    Change {
        name: "replace, in another table",
        before: a_full_table,
        run: |family, map, inner| {
            let before = tables(map);
            set(family, map, b"a", 2, 1, &[inner]);
            assert_ne!(tables(map), before, "it is another one");
        },
        old: Some(1),
        new: Some(2),
    },
    Change {
        name: "replace what is unchanged",
        before: a_value_with_everything,
        run: |family, map, _| {
            let (shared, mut message) = (map.map().expect("a map"), Message::default());
            let key = shared.key(b"a").expect("short");
            let serial = patiently(|it| shared.get(&key, &mut message, it)).expect("sound");
            unpack(family, &message);
            let when = When::Unchanged(serial.expect("there"));
            assert!(set_when(family, map, b"a", 2, (1, &[]), when));
            assert!(!set_when(family, map, b"a", 3, (1, &[]), when));
        },
        old: Some(1),
        new: Some(2),
    },
    Change {
        name: "set what is absent",
        before: a_value_with_everything,
        run: |family, map, inner| {
            assert!(!set_when(family, map, b"a", 2, (1, &[inner]), When::Absent));
        },
        old: Some(1),
        new: Some(1),
    },
    Change {
        name: "get",
        before: a_value_with_everything,
        run: |family, map, _| assert_eq!(get(family, map, b"a"), Some(1)),
        old: Some(1),
        new: Some(1),
    },
    Change {
        name: "remove",
        before: a_value_with_everything,
        run: |_, map, _| assert!(remove(map, b"a")),
        old: Some(1),
        new: None,
    },
    Change {
        name: "replace a value that has handles alone",
        before: a_value_with_a_handle,
        run: |family, map, inner| set(family, map, b"a", 2, 0, &[inner, inner]),
        old: Some(1),
        new: Some(2),
    },
    Change {
        name: "get a value that has handles alone",
        before: a_value_with_a_handle,
        run: |family, map, _| assert_eq!(get(family, map, b"a"), Some(1)),
        old: Some(1),
        new: Some(1),
    },
    Change {
        name: "remove a value that has handles alone",
        before: a_value_with_a_handle,
        run: |_, map, _| assert!(remove(map, b"a")),
        old: Some(1),
        new: None,
    },
    Change {
        name: CLEAR,
        before: a_value_with_everything,
        run: |_, map, _| {
            clear(map);
        },
        old: Some(1),
        new: None,
    },
    Change {
        name: "remove the last entry of a long table",
        before: a_long_table,
        run: |_, map, _| assert!(remove(map, b"a")),
        old: Some(1),
        new: None,
    },
];

/// What another process does next; it meets whatever was left.
fn go_on(family: &'static Family, map: &Hold, cleans_first: bool) {
    if cleans_first {
        family.reap_dead(true);
    }
    get(family, map, b"a");
    set(family, map, b"b", 3, 1, &[]);
    keys(family, map);
    remove(map, b"b");
    family.reap_dead(true);
    family.free_buried().expect("sound");
}

/// A key that has another table than "a".
fn other_key(map: &Hold) -> Vec<u8> {
    let map = map.map().expect("a map");
    let mut names = (0..=u8::MAX).map(|n| vec![b'o', n]);
    let is_elsewhere = |name: &Vec<u8>| map.stripe_of(name) != map.stripe_of(b"a");
    names.find(is_elsewhere).expect("one of many")
}

/// Returns whether the first process lived, and the second.
fn round(world: &World, change: &Change, first: u64, second: u64) -> (bool, bool) {
    let what = format!("after {first} and {second} stores of `{}`", change.name);
    let (me, map) = (world.me, world.me.make_map().expect("room"));
    let inner = me.make_lock().expect("room");
    (change.before)(me, &map, inner.handle());
    let other = other_key(&map);
    set(me, &map, &other, 9, 1, &[inner.handle()]);
    let hold = |family: &'static Family| family.hold(map.handle(), Kind::Map).expect("held");
    let finished = world.play_member(first, |family| {
        (change.run)(family, &hold(family), inner.handle());
    });
    let cleans_first = (first + second).is_multiple_of(2);
    let lives = world.play_member(second, |family| go_on(family, &hold(family), cleans_first));
    let value = get(me, &map, b"a");
    let is_new = value == change.new;
    assert!(
        is_new || (finished.is_none() && value == change.old),
        "{value:?} {what}"
    );
    let known = keys(me, &map);
    let is_kept = known.contains(&other);
    assert!(is_kept || change.name == CLEAR, "{known:?} {what}");
    assert!(known.len() <= 3, "{known:?} {what}");
    set(me, &map, b"a", 5, 1, &[inner.handle()]);
    assert_eq!(get(me, &map, b"a"), Some(5), "{what}");
    assert!(remove(&map, b"a"), "{what}");
    let handle = inner.handle();
    drop(inner);
    // What is in this value lives, though nobody else has it by now.
    let kept = get(me, &map, &other);
    assert_eq!(kept, is_kept.then_some(9), "{what}");
    let again = me.hold(handle, Kind::Lock).ok();
    assert!(again.is_some() || !is_kept, "{what}");
    let tables = clear(&map);
    world.check(1 + usize::from(again.is_some()), tables, &what);
    drop((map, again));
    for _ in 0..4 {
        me.free_buried().expect("sound");
        let objects = me.objects().expect("registered");
        for_every_leaked_count(me, |index| objects.arrived(index).expect("sound"));
    }
    world.check(0, 0, &what);
    (finished.is_some(), lives.is_some())
}

#[test]
fn whatever_two_processes_die_over_in_a_map_the_third_finds_in_order() {
    let mut rounds = 0_u64;
    for change in CHANGES {
        let world = World::new();
        for first in 0.. {
            let mut has_finished = false;
            for second in (first % 5..).step_by(5) {
                let (finished, lives) = round(&world, change, first, second);
                (rounds, has_finished) = (rounds + 1, finished);
                if lives {
                    break;
                }
            }
            if has_finished {
                break;
            }
        }
    }
    println!("{rounds} pairs of deaths in maps");
    assert!(rounds > 1_000, "{rounds}");
}
