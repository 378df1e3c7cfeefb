use super::*;

/// Kills a process in place of each of an operation's stores, and a second one in place of each store
/// of the cleaning up. `setting` makes an object that only the first one holds.
fn for_every_two_deaths(
    setting: impl Fn(&Objects, &Objects) -> Handle,
    operation: impl Fn(&Objects, Handle),
    check: impl Fn(&Objects, Handle),
) {
    let [me, dead, later] = three();
    for stores in 0.. {
        let mut finished = None;
        for second in 0.. {
            let handle = setting(&me, &dead);
            finished = run_until_death(stores, || operation(&dead, handle));
            let swept = run_until_death(second, || later.sweep_all(dead.me()));
            me.sweep_all(dead.me());
            me.sweep_all(later.me());
            check(&me, handle);
            me.free_all(Vec::new());
            assert_eq!(
                me.audit(),
                [],
                "after {stores} stores and {second} of the cleaning up"
            );
            assert!(me.used() <= 1, "a slot is lost after {stores} stores");
            if swept.is_some() {
                break;
            }
        }
        if finished.is_some() {
            return;
        }
    }
}

#[test]
fn who_dies_while_it_makes_an_object_leaves_a_free_one() {
    let nothing = |_: &Objects, dead: &Objects| Handle {
        family: dead.heap.header().family(),
        index: 0,
        generation: 0,
    };
    let make = |dead: &Objects, _: Handle| {
        dead.make_live();
    };
    for_every_two_deaths(nothing, make, |_, _| ());
}

#[test]
fn who_dies_while_it_lets_go_or_frees_leaves_a_free_object() {
    let held_by_the_dead = |_: &Objects, dead: &Objects| dead.make_live();
    let let_go = |dead: &Objects, handle: Handle| {
        dead.clear_holder(handle.index, dead.me()).expect("sound");
        dead.free_all(Vec::new());
    };
    for_every_two_deaths(held_by_the_dead, let_go, |_, _| ());
}

#[test]
fn who_dies_while_it_comes_and_goes_does_not_take_the_object_from_others() {
    let held_by_me = |me: &Objects, _: &Objects| me.make_live();
    let come_and_go = |dead: &Objects, handle: Handle| {
        dead.attach(handle, Kind::Lock).expect("held by another");
        dead.clear_holder(handle.index, dead.me()).expect("sound");
        dead.free_all(Vec::new());
    };
    for_every_two_deaths(held_by_me, come_and_go, |me, handle| {
        assert_eq!(me.check(handle), Ok(()), "held all the time");
        me.clear_holder(handle.index, me.me()).expect("sound");
    });
}

#[test]
fn who_dies_with_a_handle_in_flight_leaves_a_count_too_high_or_none() {
    let [me, dead, _] = three();
    for stores in 0.. {
        let handle = me.make_live();
        me.send(handle.index).expect("sound"); // on its way to the dead
        let received = run_until_death(stores, || {
            dead.attach(handle, Kind::Lock).expect("in flight");
            dead.arrived(handle.index).expect("sound");
            dead.send(handle.index).expect("sound"); // on its way back
            dead.clear_holder(handle.index, dead.me()).expect("sound");
        });
        me.sweep_all(dead.me());
        assert_eq!(
            me.check(handle),
            Ok(()),
            "held by this process all the time"
        );
        me.clear_holder(handle.index, me.me()).expect("sound");
        let in_flight = me
            .object(handle.index)
            .expect("inside")
            .in_flight
            .load(Relaxed);
        assert!(in_flight <= 1, "after {stores} stores: {in_flight}");
        assert_eq!(
            me.check(handle).is_ok(),
            in_flight == 1,
            "lives as long as it is counted"
        );
        if received.is_some() {
            assert_eq!(in_flight, 1);
            break;
        }
        // The message that it was in is drained.
        while me
            .object(handle.index)
            .expect("inside")
            .in_flight
            .load(Relaxed)
            > 0
        {
            me.arrived(handle.index).expect("sound");
        }
        me.free_all(Vec::new());
        assert_eq!(me.audit(), []);
    }
}
