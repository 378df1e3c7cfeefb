use super::*;
use crate::object::Objects;
use crate::object::header::Phase;

#[test]
fn what_a_killed_process_held_is_handed_over_whoever_dies_over_it() {
    let world = World::new();
    let hold = world.me.make_lock().expect("room");
    let handle = hold.handle();
    let lock = hold.lock().expect("a lock");
    let me = world.me.me().expect("registered");
    for second in 0.. {
        let _ = world.play_member(u64::MAX, |family| {
            let held = family.hold(handle, Kind::Lock).expect("held by another");
            let _ = held
                .lock()
                .expect("a lock")
                .try_acquire(family.me().expect("registered"));
            std::mem::forget(held);
        });
        assert!(
            lock.holder()
                .is_some_and(|holder| holder != UserLock::name_of(me))
        );
        let reaped = world.play_member(second, |family| family.reap_dead(true).len());
        let mut tick = || true;
        let acquired = hold.acquire(&mut Patience::new(Deadline::NEVER, &mut tick));
        assert_eq!(
            acquired,
            Ok(Ok(Acquired::HolderDied(world.corpse.pid()))),
            "after {second} stores"
        );
        lock.release();
        world.check(1, 0, &format!("after {second} stores"));
        if reaped.is_some() {
            break;
        }
    }
}

#[test]
fn a_lock_is_handed_over_although_the_reaper_of_its_holder_does_not_move() {
    let world = World::new();
    let hold = world.me.make_lock().expect("room");
    let lock = hold.lock().expect("a lock");
    let dead = world
        .me
        .registry()
        .join_as(world.corpse.pid())
        .expect("room");
    let _ = lock.try_acquire(dead);
    let stopped = world.me.registry().join().expect("room"); // lives
    let claimed = world.me.registry().claim_dead(dead.slot(), stopped);
    assert_eq!(claimed, Ok(Some((dead, true))));
    let mut tick = || true;
    let acquired = hold.acquire(&mut Patience::new(Deadline::NEVER, &mut tick));
    assert_eq!(acquired, Ok(Ok(Acquired::HolderDied(world.corpse.pid()))));
}

#[test]
fn a_lock_whose_burial_is_undecided_is_handed_over_too() {
    let world = World::new();
    let hold = world.me.make_lock().expect("room");
    let lock = hold.lock().expect("a lock");
    let registry = world.me.registry();
    let dead = registry.join_as(world.corpse.pid()).expect("room");
    let _ = lock.try_acquire(dead);
    // A process that missed this one's hold at its first look, and was stopped before the second.
    let stopped = Objects::new(world.me.heap(), registry.join().expect("room"));
    let index = hold.handle().index;
    let live = stopped.stage(index).expect("sound");
    assert!(run_until_death(2, || stopped.bury(index, live)).is_none());
    assert_eq!(
        stopped.stage(index).map(|stage| stage.phase),
        Ok(Phase::Buried)
    );
    world.me.reap(dead.slot()).expect("dead");
    assert_eq!(
        lock.try_acquire(dead),
        Some(Acquired::HolderDied(world.corpse.pid()))
    );
}
