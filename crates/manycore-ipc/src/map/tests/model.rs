//! Any operations, against a map of this process's own.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// What is done with one of a few keys.
#[derive(Clone, Debug)]
enum Step {
    Set(u8, usize),
    SetWithBlock(u8, usize),
    SetIfAbsent(u8),
    Remove(u8),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<u8>(), 0..3_000_usize).prop_map(|(key, len)| Step::Set(key, len)),
        2 => (any::<u8>(), 1..9_000_usize).prop_map(|(key, len)| Step::SetWithBlock(key, len)),
        2 => any::<u8>().prop_map(Step::SetIfAbsent),
        6 => any::<u8>().prop_map(Step::Remove),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_map_is_a_map(steps in prop::collection::vec(step(), 1..300)) {
        let world = World::new();
        let mut model: HashMap<u8, Vec<u8>> = HashMap::new();
        for (n, step) in steps.into_iter().enumerate() {
            let fill = n as u8;
            match step {
                Step::Set(key, len) => {
                    world.set(&[key], &vec![fill; len], When::Always);
                    model.insert(key, vec![fill; len]);
                }
                Step::SetWithBlock(key, len) => {
                    world.set_with_block(&[key], fill, len);
                    model.insert(key, vec![fill; len + 1]);
                }
                Step::SetIfAbsent(key) => {
                    let is_set = world.set(&[key], &[fill], When::Absent);
                    prop_assert_eq!(is_set, !model.contains_key(&key));
                    model.entry(key).or_insert_with(|| vec![fill]);
                }
                Step::Remove(key) => prop_assert_eq!(world.remove(&[key]), model.remove(&key)),
                Step::Clear => {
                    let map = world.map();
                    patiently(|it| map.clear(it)).expect("sound");
                    model.clear();
                }
            }
        }
        prop_assert_eq!(world.len(), model.len() as u64);
        for key in 0..=u8::MAX {
            prop_assert_eq!(world.get(&[key]).map(|it| it.1), model.get(&key).cloned());
        }
        let map = world.map();
        patiently(|it| map.clear(it)).expect("sound");
        prop_assert!(world.blocks() <= layout::STRIPES, "only tables are left");
        drop(world.hold);
        world.family.blocks().expect("registered").make_hollow();
    }
}
