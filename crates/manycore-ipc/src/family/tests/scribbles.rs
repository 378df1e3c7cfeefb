use super::*;
use crate::error::Corrupted;
use crate::object::memory::MemoryBody;
use crate::registry::slot::Tenancy;

#[test]
fn a_chain_of_dead_reapers_as_long_as_the_registry_is_cleaned_up_after() {
    let world = World::new();
    let registry = world.me.registry();
    let own = world.me.me().expect("registered");
    let mut first = None;
    let mut by = 0;
    // Each died over the cleaning up after the next one.
    while let Ok(owner) = registry.join_as(world.corpse.pid()) {
        first.get_or_insert(owner);
        let tenancy = registry.tenancy(owner.slot()).expect("sound");
        let killed = Tenancy {
            status: Status::Killed,
            by,
            ..tenancy
        };
        let slot = registry.slot(owner.slot()).expect("its slot");
        slot.state.store(killed.encode(), Relaxed);
        by = owner.slot();
    }
    let first = first.expect("room");
    let family = world.me;
    // What a thread may have in a program with many of them.
    let reaper = std::thread::Builder::new().stack_size(128 << 10);
    let reaped = reaper
        .spawn(move || family.reap(first.slot()))
        .expect("a thread");
    let reaped = reaped.join().expect("no panic").expect("dead");
    assert_eq!(reaped.owner, first);
    for number in registry.used() {
        let status = registry.tenancy(number).expect("sound").status;
        assert_eq!(
            status == Status::Free,
            number != own.slot(),
            "slot {number}"
        );
    }
}

/// Whether it is refused as it should be.
fn is_corrupted<T>(outcome: Result<T, HandleError>) -> bool {
    matches!(outcome, Err(HandleError::Corrupted(Corrupted { .. })))
}

#[test]
fn memory_reaches_no_further_than_its_own_block() {
    let world = World::new();
    let (short, long) = (world.me.make_memory(100), world.me.make_memory(10_000));
    let objects = world.me.objects().expect("registered");
    for hold in [short.expect("room"), long.expect("room")] {
        let body: &MemoryBody = objects.body(hold.handle().index).expect("inside");
        let (len, block) = (body.len(), body.block());
        for more in [8_192, 1 << 20, u64::MAX - len] {
            body.set(len + more, block);
            assert!(is_corrupted(hold.memory()), "{more} bytes more");
        }
        body.set(len, block);
        assert_eq!(hold.memory().map(|bytes| bytes.len() as u64), Ok(len));
    }
}

#[test]
fn memory_is_not_found_in_another_objects_block() {
    let world = World::new();
    let holds = [(); 2].map(|()| world.me.make_memory(10_000).expect("room"));
    let objects = world.me.objects().expect("registered");
    let [ours, theirs] = [0, 1].map(|n: usize| {
        let index = holds[n].handle().index;
        objects.body::<MemoryBody>(index).expect("inside")
    });
    ours.set(10_000, theirs.block());
    assert!(is_corrupted(holds[0].memory()));
}

#[test]
fn a_group_has_no_more_rows_than_its_block_has_room_for() {
    let world = World::new();
    let hold = world.me.make_group(3).expect("room");
    let group = hold.group().expect("a group");
    for rows in [1_000, u32::MAX] {
        group.rows.store(rows, Relaxed);
        assert!(is_corrupted(hold.rows()), "{rows} rows");
    }
    group.rows.store(3, Relaxed);
    assert_eq!(hold.rows().map(|rows| rows.len()), Ok(3));
}
