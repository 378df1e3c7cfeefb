//! Words that were scribbled on are an error or an answer, never a crash or an endless walk.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::heap::Bytes;
use crate::map::layout::Stripe;
use crate::word::Word64;

/// Everything that can be done with a map; what damage makes of it is an error at worst.
fn use_it(world: &World) -> Result<(), MapError> {
    let (map, mut message) = (world.map(), Message::default());
    let mut outcome = Ok(());
    for n in 0..30_u8 {
        let name = [n];
        let key = map.key(&name)?;
        let value = Outgoing {
            payload: &[n; 100],
            ..Outgoing::default()
        };
        let set = patiently(|it| map.set(&key, &value, When::Always, it)).map(drop);
        let got = patiently(|it| map.get(&key, &mut message, it)).map(drop);
        message
            .blocks
            .iter()
            .for_each(|&it| world.family.discard(it));
        outcome = outcome.and(set).and(got);
        if n % 3 == 0 {
            outcome = outcome.and(patiently(|it| map.remove(&key, When::Always, it)).map(drop));
        }
    }
    let (mut cursor, mut all) = (Cursor::default(), Vec::new());
    loop {
        match patiently(|it| map.scan(&mut cursor, true, &mut all, it)) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return Err(error),
        }
    }
    outcome.and(patiently(|it| map.len(it)).map(drop))
}

fn words(bytes: &Bytes, heap: &'static crate::heap::Heap) -> Vec<&'static Word64> {
    (0..bytes.len() / 8)
        .map(|n| heap.at(bytes.offset() + n * 8).expect("inside"))
        .collect()
}

/// The words of a map's body, or of the first table that there is.
fn words_of(world: &World, of_the_body: bool) -> Vec<&'static Word64> {
    let (map, heap) = (world.map(), world.family.heap());
    if of_the_body {
        let body = std::mem::offset_of!(crate::object::header::Object, body);
        let offset = map.objects.offset_of(map.index) + body;
        let bytes = heap.bytes(offset, size_of::<MapBody>());
        return words(&bytes.expect("inside"), heap);
    }
    let table_of =
        |stripe: &Stripe| stripe.tables[stripe.current.load(Relaxed) as usize & 1].block();
    let block = map.body.stripes.iter().find_map(table_of).expect("used");
    words(&map.blocks.bytes(block).expect("its own"), heap)
}

#[test]
fn every_word_of_a_map_may_be_anything() {
    let family = World::new().family;
    let (mut errors, mut cases) = (0, 0);
    for value in [0, 1, 2, 9, 0x7fff, 1 << 20, 1 << 40, u64::MAX, u64::MAX / 3] {
        for of_the_body in [true, false] {
            for at in 0..60 {
                let hold = family.make_map().expect("room");
                let world = World { family, hold };
                world.set_with_block(&[1], 9, 5_000);
                use_it(&world).expect("nothing is damaged yet");
                let found = words_of(&world, of_the_body);
                let Some(word) = found.get(at) else { continue };
                if of_the_body && at % 6 == 0 {
                    // A lock's half would name a thread, or be one's to repair: that is another matter.
                    world.map().body.stripes[at / 6]
                        .current
                        .store(value as u32, Relaxed);
                } else {
                    word.store(value, Relaxed);
                }
                cases += 1;
                errors += u32::from(use_it(&world).is_err());
                drop(world.hold);
                family
                    .free_buried()
                    .expect("its blocks are found all the same");
            }
        }
    }
    assert!(errors * 10 > cases, "{errors} of {cases}");
    assert_eq!(family.blocks().expect("registered").audit().len(), 0);
}

#[test]
fn a_repair_believes_nothing_that_is_not_bound_to_its_stripe() {
    let world = World::new();
    let other = world.family.make_map().expect("room");
    let other = World {
        family: world.family,
        hold: other,
    };
    other.set(b"a", b"kept", When::Always);
    other.set_with_block(b"b", 5, 6_000);
    world.set(b"a", b"value", When::Always);
    let (map, another) = (world.map(), other.map());
    for (stripe, from) in map.body.stripes.iter().zip(&another.body.stripes) {
        // The descriptor that does not count names another map's table.
        let table = from.tables[from.current.load(Relaxed) as usize & 1].block();
        stripe.tables[(stripe.current.load(Relaxed) as usize & 1) ^ 1].set(table);
        stripe.lock.die_as_owner();
    }
    map.settle();
    assert_eq!(world.get(b"a").map(|it| it.1), Some(b"value".to_vec()));
    assert_eq!(other.get(b"a").map(|it| it.1), Some(b"kept".to_vec()));
    assert_eq!(other.get(b"b").map(|it| it.1.len()), Some(6_001));
    let lost = Corrupted::new("a map's table is not in a block of its own");
    let stripe = &map.body.stripes[0];
    stripe.tables[stripe.current.load(Relaxed) as usize & 1].set(Some(BlockRef {
        page: 3,
        len: 4096,
        generation: 99,
    }));
    assert_eq!(patiently(|it| map.len(it)), Err(lost.into()));
}

/// The head of the table that "a" belongs to.
fn head_of(world: &World) -> &'static layout::TableHead {
    let map = world.map();
    let stripe = &map.body.stripes[map.stripe_of(b"a")];
    let block = stripe.tables[stripe.current.load(Relaxed) as usize & 1].block();
    let bytes = map.blocks.bytes(block.expect("used")).expect("its own");
    world.family.heap().at(bytes.offset()).expect("inside")
}

#[test]
fn a_tail_that_is_none_is_mended_by_another_table() {
    let world = World::new();
    world.set(b"a", b"old", When::Always);
    for tail in [0, 129, 4_095, u64::MAX] {
        head_of(&world).tail.store(tail, Relaxed);
        assert!(world.set(b"a", &tail.to_le_bytes(), When::Always));
        assert_eq!(world.get(b"a").expect("there").1, tail.to_le_bytes());
    }
}

#[test]
fn counters_that_are_too_low_are_an_error_once_and_nothing_is_lost() {
    let world = World::new();
    let large = vec![1; 3_000];
    world.set(b"a", &large, When::Always);
    let before = world.blocks();
    let head = head_of(&world);
    head.live_bytes.store(8, Relaxed);
    head.tail.store(u64::MAX, Relaxed);
    let map = world.map();
    let key = map.key(b"a").expect("short");
    let value = Outgoing {
        payload: &[2; 1_000],
        ..Outgoing::default()
    };
    let set = || patiently(|it| map.set(&key, &value, When::Always, it));
    let lying = Corrupted::new("a map's records take more room than it says");
    assert_eq!(set(), Err(lying.into()));
    assert_eq!(world.get(b"a").expect("there").1, large);
    assert_eq!(set(), Ok(true), "the new table knows better");
    assert_eq!(world.blocks(), before);
}
