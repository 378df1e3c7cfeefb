//! Going through all entries.

use std::collections::HashMap;

use super::*;

/// All entries, each as often as it is visited; `between` runs after every few of them.
fn walk(world: &World, mut between: impl FnMut()) -> HashMap<Vec<u8>, u32> {
    let (map, mut cursor, mut batch) = (world.map(), Cursor::default(), Vec::new());
    let mut seen = HashMap::new();
    while patiently(|it| map.scan(&mut cursor, false, &mut batch, it)).expect("sound") {
        batch
            .drain(..)
            .for_each(|entry| *seen.entry(entry.key).or_default() += 1);
        between();
    }
    seen
}

#[test]
fn every_entry_is_visited_once() {
    let world = World::new();
    for count in [0, 1, 5, 100, 3_000_u32] {
        (0..count).for_each(|n| assert!(world.set(&n.to_le_bytes(), b"", When::Always)));
        let seen = walk(&world, || ());
        assert_eq!(seen.len(), count as usize);
        assert!(seen.values().all(|&times| times == 1));
    }
}

/// Bytes of all tables.
fn bytes_of_tables(world: &World) -> u64 {
    let map = world.map();
    let stripes = map.body.stripes.iter();
    stripes.map(|stripe| stripe.bytes_of_table()).sum()
}

#[test]
fn what_is_there_all_the_time_is_visited_once_while_tables_grow_and_shrink() {
    let world = World::new();
    let staying: Vec<_> = (0..500_u32).map(u32::to_le_bytes).collect();
    staying
        .iter()
        .for_each(|key| assert!(world.set(key, b"", When::Always)));
    let mut coming = 1_000_u32..;
    let (mut more, mut before) = (Vec::<[u8; 4]>::new(), bytes_of_tables(&world));
    let (mut step, mut grown, mut shrunk) = (0, 0, 0);
    let seen = walk(&world, || {
        step += 1;
        if step % 6 == 0 {
            // None but those that stay, and each of them set anew until there is no room for so much that is gone.
            for key in more.drain(..) {
                world.remove(&key);
            }
            for n in 0..40 {
                let fill = [n; 200];
                staying
                    .iter()
                    .for_each(|key| assert!(world.set(key, &fill, When::Always)));
            }
        } else {
            for key in coming.by_ref().take(400).map(u32::to_le_bytes) {
                world.set(&key, &[0; 500], When::Always);
                more.push(key);
            }
        }
        let now = bytes_of_tables(&world);
        grown += u32::from(now > before);
        shrunk += u32::from(now < before);
        before = now;
    });
    assert!(grown > 2 && shrunk > 2, "{grown} and {shrunk} times");
    for key in staying {
        assert_eq!(seen.get(&key[..]), Some(&1), "{key:?}");
    }
    assert!(seen.values().all(|&times| times == 1));
}

#[test]
fn plain_values_come_along_and_others_are_to_be_got() {
    let world = World::new();
    world.set(b"plain", b"value", When::Always);
    world.set_with_block(b"large", 3, 40_000);
    let (map, mut cursor, mut all) = (world.map(), Cursor::default(), Vec::new());
    while patiently(|it| map.scan(&mut cursor, true, &mut all, it)).expect("sound") {}
    let value_of = |key: &[u8]| {
        let entry = all.iter().find(|it| it.key == key).expect("there");
        entry.value.as_ref().map(|it| it.payload.clone())
    };
    assert_eq!(value_of(b"plain").as_deref(), Some(&b"value"[..]));
    assert_eq!(value_of(b"large"), None);
    assert_eq!(all.len(), 2);
}
