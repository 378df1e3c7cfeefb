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

#[test]
fn what_is_there_all_the_time_is_visited_once_while_tables_grow_and_shrink() {
    let world = World::new();
    let staying: Vec<_> = (0..500_u32).map(u32::to_le_bytes).collect();
    staying
        .iter()
        .for_each(|key| assert!(world.set(key, b"", When::Always)));
    let mut n = 1_000_u32;
    let seen = walk(&world, || {
        for _ in 0..200 {
            n += 1;
            // First more and more, then none again; those that stay are replaced, too.
            world.set(&n.to_le_bytes(), &[0; 50], When::Always);
            world.set(&staying[n as usize % 500], &[1; 20], When::Always);
            if n > 6_000 {
                world.remove(&(n - 5_000).to_le_bytes());
            }
        }
    });
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
