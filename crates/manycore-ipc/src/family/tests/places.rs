use super::*;

#[test]
fn what_a_dead_reaper_had_claimed_is_not_forgotten_with_its_slot() {
    let world = World::new();
    let registry = world.me.registry();
    let me = world.me.me().expect("registered");
    let reaper = registry.join_as(world.corpse.pid()).expect("room");
    let victim = registry.join_as(world.corpse.pid()).expect("room");
    let reserved = registry.reserve(reaper).expect("room");
    assert_eq!(
        registry.claim_dead(victim.slot(), reaper),
        Ok(Some((victim, true)))
    );
    // Only the reaper is looked for, as by who waits for a lock of its; its slot is soon another's.
    let reaped = world.me.reap(reaper.slot()).expect("dead");
    assert_eq!((reaped.owner, reaped.was_killed), (reaper, true));
    let next = registry.join().expect("room");
    assert_eq!(next.slot(), reaper.slot());
    for left in [victim, reserved] {
        assert!(registry.has_ended(left));
        assert_eq!(
            registry.tenancy(left.slot()).map(|tenancy| tenancy.status),
            Ok(Status::Free)
        );
    }
    assert!(!registry.has_ended(me) && !registry.has_ended(next));
}

#[test]
fn a_full_registry_is_no_obstacle_when_its_members_are_dead() {
    let world = World::new();
    // One of them has died while it let go of an object, which is then freed on behalf of the newcomer.
    let _ = world.play_member(2, |family| drop(family.make_memory(100_000)));
    let _ = world.play_member(u64::MAX, |family| {
        std::mem::forget(family.make_memory(100_000))
    });
    while world.me.registry().join_as(world.corpse.pid()).is_ok() {}
    let newcomer = Family::on(world.me.heap());
    newcomer.me().expect("room was made");
    newcomer
        .registry()
        .leave(newcomer.me().expect("registered"));
    assert!(world.me.registry().deaths() > 4_000);
}

#[test]
fn a_full_registry_is_no_obstacle_to_a_fork() {
    let world = World::new();
    let hold = world.me.make_lock().expect("room");
    while world.me.registry().join_as(world.corpse.pid()).is_ok() {}
    drop(world.me.prepare_fork());
    let child = OwnerId::from_bits(world.me.reserved.load(Relaxed) as u32);
    assert!(!child.is_nobody());
    let objects = world.me.objects().expect("registered");
    drop(hold);
    assert!(objects.is_held(0).expect("inside"), "by the child");
}

#[test]
fn a_fork_that_failed_leaves_no_reservation() {
    if manycore_os::process::children_of_this_thread().is_none() {
        return; // it ends with this process
    }
    let world = World::new();
    let hold = world.me.make_lock().expect("room");
    {
        let counts = world.me.prepare_fork();
        world.me.finish_fork(&counts); // without a fork: this thread has no new child
    }
    world.check(1, 0, "of a child that never was");
    drop(hold);
    world.check(0, 0, "the child held nothing");
}

#[test]
fn a_child_that_dies_before_it_comes_leaves_nothing() {
    let world = World::new();
    let hold = world.me.make_lock().expect("room");
    {
        let counts = world.me.prepare_fork();
        let child = OwnerId::from_bits(world.me.reserved.load(Relaxed) as u32);
        let before = [1, 2];
        let after = [1, 2, world.corpse.pid()];
        world.me.settle_reservation(&counts, child, &before, &after);
    }
    world.check(1, 0, "of a child that is dead");
    drop(hold);
    world.check(0, 0, "the child held nothing");
}

#[test]
fn which_of_two_new_children_was_forked_is_not_guessed() {
    let world = World::new();
    let parent = Family::on(world.me.heap());
    let child = world.corpse.play(|| {
        let counts = parent.prepare_fork(); // not registered: nothing is reserved
        drop(counts);
        parent.me().expect("room");
        let counts = parent.prepare_fork();
        let child = OwnerId::from_bits(parent.reserved.load(Relaxed) as u32);
        parent.settle_reservation(&counts, child, &[1], &[1, std::process::id(), 2]);
        child
    });
    let registry = world.me.registry();
    let tenancy = registry.tenancy(child.slot()).expect("sound");
    assert_eq!((tenancy.status, tenancy.pid), (Status::Reserved, 0));
    world.check(0, 0, "of a reservation that ended with the parent");
}

#[test]
fn who_dies_while_it_takes_a_reservation_back_leaves_nothing() {
    let world = World::new();
    let hold = world.me.make_lock().expect("room");
    let handle = hold.handle();
    for stores in 0.. {
        let done = world.play_member(stores, |parent| {
            let held = parent.hold(handle, Kind::Lock).expect("held by another");
            let counts = parent.prepare_fork();
            parent.finish_fork(&counts);
            drop(counts);
            drop(held);
        });
        world.check(1, 0, &format!("after {stores} stores"));
        if done.is_some() {
            break;
        }
    }
}

/// What a process that was made by a raw `clone` finds: the memory of its parent, and nobody's name.
fn forget_who_we_are(family: &Family) {
    family
        .member
        .store(1 << 63 | family.member.load(Relaxed), Relaxed);
}

#[test]
fn a_process_without_a_name_takes_one_whatever_it_is_asked_for() {
    let world = World::new();
    let hold = world.me.make_lock().expect("room");
    let parent = world.me.me().expect("registered");
    // An object to be freed, so that cleaning up takes every path.
    let _ = world.play_member(2, |family| drop(family.make_lock()));
    forget_who_we_are(world.me);
    let again = world
        .me
        .hold(hold.handle(), Kind::Lock)
        .expect("still there");
    assert_ne!(world.me.me().expect("registered"), parent);
    drop((hold, again));
    let objects = world.me.objects().expect("registered");
    assert!(objects.is_held(0).expect("inside"), "by the parent");
}

#[test]
fn what_the_parent_let_go_before_the_child_had_a_name_is_gone() {
    let world = World::new();
    let [gone, kept] = [0; 2].map(|_| world.me.make_lock().expect("room"));
    let objects = world.me.objects().expect("registered");
    // The parent's values end, the child's copies of them live on.
    objects
        .clear_holder(gone.handle().index, objects.me())
        .expect("sound");
    world.me.free_buried().expect("sound");
    forget_who_we_are(world.me);
    let other = Family::on(world.me.heap());
    let new = other.make_lock().expect("room");
    assert_eq!(new.handle().index, gone.handle().index);
    assert_eq!(gone.lock().map(|_| ()), Err(HandleError::Gone));
    assert!(kept.lock().is_ok());
    drop(new);
    other.free_buried().expect("sound");
    assert!(
        !objects.is_held(gone.handle().index).expect("inside"),
        "the child does not hold what came after"
    );
}

/// The kernel's marks are per thread, the names in the heap per process.
#[test]
fn what_a_thread_had_half_done_when_it_ended_stays_its_living_process_s() {
    let world = World::new();
    let family = world.me;
    let blocks = family.blocks().expect("registered");
    let header = family.heap().header();
    let ring = family.make_ring(Shape::unbounded()).expect("room");
    put(&ring.ring().expect("a ring"), 1, 10, &[]);
    let taken = std::thread::spawn(move || {
        let taken = blocks.take(5_000).expect("room").block;
        std::mem::forget(header.allocator.lock.try_lock());
        taken
    });
    let block = taken.join().expect("it only forgets");
    let ended = std::thread::spawn(|| std::mem::forget(header.objects.lock.try_lock()));
    ended.join().expect("it only forgets");
    // Nobody is dead, so nothing is swept; both locks are repaired by who takes them next.
    assert_eq!(family.reap_dead(true), []);
    let other = world.play_member(u64::MAX, |other| {
        drop(other.make_memory(100_000));
        other.free_buried()
    });
    assert_eq!(other, Some(Ok(())));
    let lock = family.make_lock().expect("room");
    world.check(2, 2, "of a ring's region and of what the thread had taken");
    blocks.bytes(block).expect("ours").write(0, &[1; 5_000]);
    blocks.free(block);
    assert_eq!(
        get(&ring.ring().expect("a ring"))
            .expect("there")
            .header
            .tag,
        1
    );
    drop((lock, ring));
    world.check(0, 0, "of anything");
}

#[test]
fn leaving_a_family_that_was_never_joined_does_nothing() {
    let world = World::new();
    let high = world.me.registry().used().len();
    Family::on(world.me.heap()).leave();
    assert_eq!(world.me.registry().used().len(), high);
}

#[test]
fn a_child_that_the_kernel_did_not_list_holds_what_it_took_over_or_joins_anew() {
    let world = World::new();
    let hold = world.me.make_lock().expect("room");
    let handle = hold.handle();
    for stores in 0.. {
        let counts = world.me.prepare_fork();
        let reserved = world.me.reserved.swap(0, Relaxed);
        let name = OwnerId::from_bits(reserved as u32);
        let child = Family::on(world.me.heap());
        child.reserved.store(reserved, Relaxed);
        let meanwhile = move || child.adopt_fork();
        let ((), was_stopped) = interrupted(stores, meanwhile, || {
            world.me.settle_reservation(&counts, name, &[], &[]);
        });
        drop(counts);
        let objects = world.me.objects().expect("registered");
        let (word, bit) = objects.holder_word(handle.index, name).expect("inside");
        let holds = word.load(Relaxed) & bit != 0;
        assert_eq!(
            holds,
            child.member().is_some(),
            "{stores} stores into the withdrawal"
        );
        if !was_stopped {
            break;
        }
        if holds {
            objects.clear_holder(handle.index, name).expect("sound");
            child.registry().vacate(name);
        }
    }
    world.check(1, 0, "at the end");
}
