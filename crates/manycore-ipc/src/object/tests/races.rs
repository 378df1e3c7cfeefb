use super::*;

/// Lets go of an object and dies before the second look.
fn bury_and_die(objects: &Objects, handle: Handle) {
    for stores in 0.. {
        objects
            .set_holder(handle.index, objects.me())
            .expect("inside");
        let finished = run_until_death(stores, || objects.clear_holder(handle.index, objects.me()));
        assert!(finished.is_none(), "it dies before the burial is decided");
        if objects.stage(handle.index).expect("sound").phase == Phase::Buried {
            return;
        }
    }
}

#[test]
fn a_burial_is_called_off_by_who_attaches_also_when_the_burier_died_or_was_stopped() {
    let [me, dead, _] = three();
    for burier in [&dead, &me] {
        let handle = burier.make_live();
        bury_and_die(burier, handle);
        assert_eq!(
            me.attach(handle, Kind::Lock),
            Ok(()),
            "it was not decided yet"
        );
        me.sweep_all(dead.me());
        assert_eq!(me.check(handle), Ok(()), "and is held now");
        me.clear_holder(handle.index, me.me()).expect("sound");
        me.free_all(Vec::new());
        assert_eq!(me.audit(), []);
    }
}

#[test]
fn a_dead_burier_has_not_seen_who_holds_the_object() {
    let [me, dead, _] = three();
    let handle = dead.make_live();
    bury_and_die(&dead, handle);
    me.set_holder(handle.index, me.me()).expect("inside"); // since before, as its second look would show
    me.sweep_all(dead.me());
    assert_eq!(me.check(handle), Ok(()));
}

#[test]
fn a_burier_looks_again_once_the_object_is_buried() {
    let [me, other, _] = three();
    let handle = me.make_live();
    let live = me.stage(handle.index).expect("sound");
    assert_eq!(
        other.bury(handle.index, live),
        Ok(true),
        "the first look had missed the holder"
    );
    assert_eq!(me.check(handle), Ok(()));
    assert_eq!(me.stage(handle.index), Ok(live));
}

#[test]
fn a_burial_is_told_from_the_next_one_by_the_same_process() {
    let [me, ..] = three();
    let handle = me.make_live();
    let state = || me.object(handle.index).expect("inside").state.load(SeqCst);
    bury_and_die(&me, handle);
    let first = state();
    me.attach(handle, Kind::Lock).expect("undecided");
    bury_and_die(&me, handle);
    assert_ne!(
        first,
        state(),
        "or a burier that was stopped would decide for the next one"
    );
}

#[test]
fn whatever_two_processes_do_at_once_who_holds_the_object_has_it_and_nobody_loses_it() {
    type Step = fn(&Objects, Handle);
    let come: Step = |objects, handle| {
        let _ = objects.attach(handle, Kind::Lock);
    };
    let go: Step = |objects, handle| {
        objects
            .clear_holder(handle.index, objects.me())
            .expect("sound")
    };
    let come_and_go: Step = |objects, handle| {
        if objects.attach(handle, Kind::Lock).is_ok() {
            assert_eq!(objects.check(handle), Ok(()));
            objects
                .clear_holder(handle.index, objects.me())
                .expect("sound");
        }
    };
    let pass_on: Step = |objects, handle| {
        if objects.attach(handle, Kind::Lock).is_ok() {
            objects.send(handle.index).expect("sound");
            objects
                .clear_holder(handle.index, objects.me())
                .expect("sound");
            objects.arrived(handle.index).expect("sound");
        }
    };
    let [one, two, three] = three();
    for first in [come, go, come_and_go, pass_on] {
        for meanwhile in [come, go, come_and_go, pass_on] {
            for held_by_two in [false, true] {
                for stores in 0.. {
                    let handle = one.make_live();
                    if held_by_two {
                        two.attach(handle, Kind::Lock).expect("held");
                    }
                    let ((), was_stopped) = interrupted(
                        stores,
                        move || meanwhile(&two, handle),
                        || first(&one, handle),
                    );
                    for objects in [one, two] {
                        let (word, bit) = objects
                            .holder_word(handle.index, objects.me())
                            .expect("inside");
                        if word.load(SeqCst) & bit != 0 {
                            assert_eq!(objects.check(handle), Ok(()), "held, {stores} stores in");
                            objects
                                .clear_holder(handle.index, objects.me())
                                .expect("sound");
                        }
                    }
                    three.free_all(Vec::new());
                    assert_eq!(three.audit(), [], "held by nobody, {stores} stores in");
                    if !was_stopped {
                        break;
                    }
                }
            }
        }
    }
}

#[test]
fn what_was_marked_but_not_taken_off_the_list_hides_nothing_under_it() {
    let [me, dead, _] = three();
    for stores in 0..3 {
        let (below, top) = (me.make_live(), me.make_live());
        me.clear_holder(below.index, me.me()).expect("sound");
        me.clear_holder(top.index, me.me()).expect("sound");
        let _ = run_until_death(stores, || dead.pop_buried());
        me.sweep_all(dead.me());
        assert_eq!(me.audit(), [], "after {stores} stores");
    }
}

#[test]
fn an_old_handle_does_not_touch_the_object_that_lives_there_now() {
    let [me, other, _] = three();
    let old = me.make_live();
    me.clear_holder(old.index, me.me()).expect("sound");
    me.free_all(Vec::new());
    assert_eq!(
        me.attach(old, Kind::Lock),
        Err(HandleError::Gone),
        "nothing lives there"
    );
    let new = other.make_live();
    assert_eq!(new.index, old.index);
    assert_eq!(me.attach(old, Kind::Lock), Err(HandleError::Gone));
    assert_eq!(me.check(old), Err(HandleError::Gone));
    assert_eq!(me.attach(new, Kind::Ring), Err(HandleError::OtherKind));
    assert_eq!(
        me.attach(Handle { family: 0, ..new }, Kind::Lock),
        Err(HandleError::OtherFamily)
    );
    other.clear_holder(new.index, other.me()).expect("sound");
    me.free_all(Vec::new());
    assert_eq!(me.audit(), [], "nobody but its maker has held it");
}

#[test]
fn threads_that_attach_and_let_go_lose_no_object_and_free_none_that_is_held() {
    let all = three();
    for _ in 0..200 {
        let handle = all[0].make_live();
        std::thread::scope(|scope| {
            for objects in &all[1..] {
                scope.spawn(move || {
                    for _ in 0..20 {
                        match objects.attach(handle, Kind::Lock) {
                            Ok(()) => {
                                std::hint::spin_loop();
                                assert_eq!(
                                    objects.check(handle),
                                    Ok(()),
                                    "freed while it was held"
                                );
                                objects
                                    .clear_holder(handle.index, objects.me())
                                    .expect("sound");
                            }
                            Err(error) => {
                                assert_eq!(error, HandleError::Gone);
                                return;
                            }
                        }
                    }
                });
            }
            all[0]
                .clear_holder(handle.index, all[0].me())
                .expect("sound");
        });
        all[0].free_all(Vec::new());
        assert_eq!(all[0].audit(), []);
    }
}

#[test]
fn scribbled_words_are_refused_and_never_followed() {
    let scribbles: [fn(&Objects); 6] = [
        |objects| objects.header().buried.store(u64::MAX, Relaxed),
        |objects| objects.header().buried.store(1, Relaxed),
        |objects| {
            objects
                .header()
                .free
                .iter()
                .for_each(|head| head.store(u32::MAX, Relaxed))
        },
        |objects| objects.header().used.store(u32::MAX, Relaxed),
        |objects| objects.header().backed.store(u32::MAX, Relaxed),
        |objects| {
            objects
                .object(0)
                .expect("inside")
                .state
                .store(u64::MAX, Relaxed)
        },
    ];
    for scribble in scribbles {
        let [me, ..] = three();
        let handle = me.make_live();
        scribble(&me);
        // Whatever comes of it comes as an answer.
        let _ = me.attach(handle, Kind::Lock);
        let _ = me.clear_holder(handle.index, me.me());
        let _ = me.pop_buried();
        let _ = me.make(Kind::Lock);
        let _ = me.sweep(me.me());
    }
}

#[test]
fn a_list_of_the_buried_that_leads_in_a_circle_is_refused() {
    let [me, ..] = three();
    let index = me.make_live().index;
    let object = me.object(index).expect("inside");
    object.next.store(u64::from(index) + 1, Relaxed);
    me.header().buried.store(u64::from(index) + 1, Relaxed);
    assert!(me.pop_buried().is_err());
}

#[test]
fn an_object_slot_keeps_its_kind_whatever_the_lists_say() {
    let [me, ..] = three();
    let handle = me.make_live();
    me.clear_holder(handle.index, me.me()).expect("sound");
    me.free_all(Vec::new());
    let free = &me.header().free;
    let lock = free[Kind::Lock as usize].swap(0, Relaxed);
    free[Kind::Ring as usize].store(lock, Relaxed);
    assert!(me.make(Kind::Ring).is_err(), "its first word may be locked");
}

#[test]
fn more_objects_than_there_is_memory_for_are_refused_before_memory_is_taken() {
    let [me, ..] = three();
    me.make_live();
    let backed = me.header().backed.load(Relaxed);
    me.header().used.store(backed + 1, Relaxed);
    let refused = me.make(Kind::Lock);
    assert!(
        matches!(refused, Err(HandleError::Corrupted(_))),
        "{refused:?}"
    );
    assert_eq!(me.header().backed.load(Relaxed), backed);
}

#[test]
fn a_burial_of_no_known_kind_is_not_called_off_for_ever() {
    let [me, ..] = three();
    let handle = me.make_live();
    let object = me.object(handle.index).expect("inside");
    let buried = u64::from(handle.generation) << 40 | 15 << 4 | Phase::Buried as u64;
    object.state.store(buried, Relaxed);
    let attached = me.attach_for(me.me(), handle.index, handle.generation);
    assert!(attached.is_err());
}

/// Objects of a round; a small heap has room for 256.
const OBJECTS: usize = 100;

#[test]
fn an_object_that_two_let_go_at_once_is_buried_once() {
    let heap = create_with(LEAST).expect("a small heap");
    let owners = [(); 2].map(|()| Registry::new(heap).join().expect("room"));
    let objects = owners.map(|owner| Objects::new(heap, owner));
    for _ in 0..40 {
        let made: Vec<_> = (0..OBJECTS)
            .map(|_| {
                let handle = objects[0].make(Kind::Lock).expect("room");
                objects[0].publish(handle).expect("just made");
                objects[1].attach(handle, Kind::Lock).expect("held");
                handle.index
            })
            .collect();
        let arrived = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for (owner, objects) in owners.into_iter().zip(objects) {
                let (made, arrived) = (&made, &arrived);
                scope.spawn(move || {
                    for (round, &index) in made.iter().enumerate() {
                        // No barrier: both go on in the same hundred nanoseconds.
                        arrived.fetch_add(1, SeqCst);
                        let mut looks = 0;
                        while arrived.load(SeqCst) < 2 * (round + 1) {
                            looks += 1;
                            if looks > 1_000 {
                                std::thread::yield_now(); // there may be one core only
                            }
                        }
                        objects.clear_holder(index, owner).expect("a sane table");
                    }
                });
            }
        });
        let mut buried = 0;
        while let Some((index, _)) = objects[0].pop_buried().expect("a sane list") {
            objects[0].freed(index).expect("a sane table");
            buried += 1;
        }
        assert_eq!(buried, OBJECTS);
    }
}
