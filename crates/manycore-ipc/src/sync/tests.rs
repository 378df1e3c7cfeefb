//! Events, conditions and barriers when those who wait or tell others die or meet.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::time::Duration;

use manycore_os::Deadline;

use super::event::EventBody;
use super::roll::State;
use super::{Arrival, Barrier, Condition, Met, Place};
use crate::crash::{interrupted, run_until_death};
use crate::family::{Family, Hold, Meeting};
use crate::heap::layout::LEAST;
use crate::registry::OwnerId;
use crate::wait::{GaveUp, Patience};

const OTHERS: [OwnerId; 3] = [
    OwnerId::from_bits(0x1002),
    OwnerId::from_bits(0x1003),
    OwnerId::from_bits(0x1004),
];
const DEAD: OwnerId = OTHERS[0];

fn family() -> &'static Family {
    Family::create_with(LEAST * 2).expect("a small heap")
}

/// Runs what may wait, without waiting.
fn at_once<R>(operation: impl FnOnce(&mut Patience<'_>) -> R) -> R {
    let mut tick = || true;
    operation(&mut Patience::new(Deadline::PASSED, &mut tick))
}

/// The object as another process has it.
fn condition_of(hold: &Hold, who: OwnerId) -> Condition {
    let index = hold.handle().index;
    let objects = hold.family().objects().expect("registered");
    let body = objects.body(index).expect("inside");
    Condition::new(body, index, hold.family().heap(), who)
}

fn barrier_of(hold: &Hold, who: OwnerId) -> Barrier {
    let index = hold.handle().index;
    let objects = hold.family().objects().expect("registered");
    let body = objects.body(index).expect("inside");
    Barrier::new(body, index, hold.family().heap(), who)
}

fn join(condition: &Condition) -> Place {
    let joined = at_once(|patience| condition.join(patience));
    joined.expect("sound").expect("its turn").expect("room")
}

fn notify(condition: &Condition, most: usize) -> usize {
    let told = at_once(|patience| condition.notify(most, patience));
    told.expect("sound").expect("its turn")
}

fn forget(condition: &Condition, dead: OwnerId) {
    let done = at_once(|patience| condition.forget(dead, patience));
    done.expect("sound").expect("its turn");
}

fn is_notified(place: Place) -> bool {
    place.outcome() == Ok(Some(State::Notified))
}

#[test]
fn an_event_is_set_until_it_is_cleared() {
    let event = EventBody::for_test();
    assert!(!event.is_set());
    assert_eq!(
        at_once(|patience| event.wait(patience)),
        Err(GaveUp::TimedOut)
    );
    event.set();
    event.set();
    assert!(event.is_set());
    assert_eq!(at_once(|patience| event.wait(patience)), Ok(()));
    event.clear();
    assert!(!event.is_set());
}

#[test]
fn all_who_wait_for_a_set_return_though_the_event_is_cleared_at_once() {
    let event = EventBody::for_test();
    std::thread::scope(|scope| {
        let wait = || {
            let mut tick = || true;
            event.wait(&mut Patience::new(Deadline::NEVER, &mut tick))
        };
        let waiter = scope.spawn(wait);
        while !event.has_waiters() {
            std::thread::yield_now();
        }
        event.set();
        event.clear();
        assert_eq!(waiter.join().expect("no panic"), Ok(()));
    });
}

#[test]
fn who_dies_over_setting_an_event_has_set_it_or_not() {
    for stores in 0.. {
        let event = EventBody::for_test();
        let finished = run_until_death(stores, || event.set());
        assert_eq!(event.is_set(), stores > 0);
        if finished.is_some() {
            break;
        }
    }
}

#[test]
fn those_who_have_waited_longest_are_notified_first() {
    let family = family();
    let hold = family.make_condition().expect("room");
    let condition = hold.condition().expect("a condition");
    let places = [(); 5].map(|()| join(&condition));
    assert_eq!(condition.waiting(), Ok(5));
    assert_eq!(notify(&condition, 1), 1);
    assert_eq!(notify(&condition, 2), 2);
    assert_eq!(places.map(is_notified), [true, true, true, false, false]);
    assert!(
        condition.take(places[0]) && !condition.take(places[0]),
        "once"
    );
    let late = join(&condition); // in the first one's entry
    assert_eq!(notify(&condition, 2), 2);
    assert!(!is_notified(late) && is_notified(places[4]));
    assert_eq!(notify(&condition, usize::MAX), 1);
    assert_eq!(notify(&condition, 1), 0, "nobody waits");
}

#[test]
fn who_gives_up_in_time_takes_no_notification_and_who_is_late_has_it() {
    let family = family();
    let hold = family.make_condition().expect("room");
    let condition = hold.condition().expect("a condition");
    let (hasty, other) = (join(&condition), join(&condition));
    let slept = at_once(|patience| hold.wait_notified(hasty, patience));
    assert_eq!(slept, Ok(Err(GaveUp::TimedOut)));
    assert_eq!(notify(&condition, 1), 1);
    assert!(is_notified(other));
    let slept = at_once(|patience| hold.wait_notified(other, patience));
    assert_eq!(slept, Ok(Ok(())));
    assert!(condition.take(other));
}

#[test]
fn who_was_interrupted_passes_its_notification_on() {
    let family = family();
    let hold = family.make_condition().expect("room");
    let condition = hold.condition().expect("a condition");
    let (first, second) = (join(&condition), join(&condition));
    assert_eq!(notify(&condition, 1), 1);
    let withdrawn = at_once(|patience| condition.withdraw(first, patience));
    assert_eq!(withdrawn, Ok(Ok(1)));
    assert!(is_notified(second) && !condition.take(first));
}

#[test]
fn what_a_dead_process_was_notified_of_goes_to_who_has_waited_longest() {
    let family = family();
    let hold = family.make_condition().expect("room");
    let (mine, dead) = (hold.condition().expect("one"), condition_of(&hold, DEAD));
    let theirs = [join(&dead), join(&dead), join(&dead)];
    let ours = [join(&mine), join(&mine), join(&mine)];
    assert_eq!(notify(&mine, 2), 2);
    assert!(is_notified(theirs[1]) && !is_notified(theirs[2]));
    forget(&mine, DEAD);
    forget(&mine, DEAD);
    assert_eq!(ours.map(is_notified), [true, true, false]);
    assert_eq!(mine.waiting(), Ok(1));
}

#[test]
fn whoever_dies_over_a_notification_the_next_finds_as_many_as_were_given() {
    // Who joins, notifies, forgets the dead, and takes; each store is somebody's last.
    let family = family();
    let hold = family.make_condition().expect("room");
    for stores in 0.. {
        let (mine, dead) = (hold.condition().expect("one"), condition_of(&hold, DEAD));
        let reaper = condition_of(&hold, OTHERS[1]);
        let _gone = join(&dead);
        let ours = [join(&mine), join(&mine), join(&mine)];
        assert_eq!(notify(&mine, 1), 1);
        let finished = run_until_death(stores, || {
            let _ = join(&reaper);
            forget(&reaper, DEAD);
        });
        mine.0.die_as_owner_if_held();
        forget(&mine, DEAD);
        forget(&mine, OTHERS[1]);
        let notified = ours.into_iter().filter(|&place| is_notified(place)).count();
        // A reaper that died between the two stores of the passing on has passed it on once more.
        let is_one = notified == 1 || (notified == 2 && finished.is_none());
        assert!(is_one, "{notified} after {stores} stores");
        assert_eq!(notify(&mine, usize::MAX), 3 - notified);
        assert!(ours.into_iter().all(|place| mine.take(place)));
        assert_eq!(mine.waiting(), Ok(0));
        if finished.is_some() {
            break;
        }
    }
}

#[test]
fn a_notifier_that_dies_has_notified_some_and_the_others_wait_on() {
    let family = family();
    let hold = family.make_condition().expect("room");
    for stores in 0.. {
        let (mine, dead) = (hold.condition().expect("one"), condition_of(&hold, DEAD));
        let places = [join(&mine), join(&mine), join(&mine)];
        let finished = run_until_death(stores, || notify(&dead, usize::MAX));
        mine.0.die_as_owner_if_held();
        let told = places
            .into_iter()
            .filter(|&place| is_notified(place))
            .count();
        assert_eq!(notify(&mine, usize::MAX), 3 - told, "after {stores} stores");
        assert!(places.into_iter().all(|place| mine.take(place)));
        if finished.is_some() {
            assert_eq!(told, 3);
            break;
        }
    }
}

#[test]
fn of_a_waiter_that_gives_up_and_one_that_notifies_it_one_is_quicker() {
    let family = family();
    let hold: &'static Hold = Box::leak(Box::new(family.make_condition().expect("room")));
    for steps in 0.. {
        let condition = hold.condition().expect("a condition");
        let (hasty, patient) = (join(&condition), join(&condition));
        let gave_up = Rc::new(Cell::new(false));
        let outcome = Rc::clone(&gave_up);
        let give_up = move || {
            let slept = at_once(|patience| hold.wait_notified(hasty, patience));
            assert_eq!(slept == Ok(Ok(())), condition.take(hasty), "the truth");
            outcome.set(slept == Ok(Err(GaveUp::TimedOut)));
        };
        let (told, was_stopped) = interrupted(steps, give_up, || notify(&condition, 1));
        assert_eq!(told, 1, "after {steps} steps");
        let is_others = condition.take(patient);
        assert_eq!(is_others, gave_up.get(), "whose it is after {steps} steps");
        if !is_others {
            assert_eq!(notify(&condition, 1), 1, "it waits on, {steps} steps");
            assert!(condition.take(patient));
        }
        condition.take(hasty); // where nobody has stopped to let it give up
        assert_eq!(condition.waiting(), Ok(0));
        if !was_stopped {
            break;
        }
    }
}

#[test]
fn more_may_wait_than_there_is_room_for_in_the_object() {
    let family = family();
    let hold = family.make_condition().expect("room");
    let condition = hold.condition().expect("a condition");
    let wait = |_| {
        let joined = at_once(|patience| hold.join_condition(patience));
        joined.expect("room").expect("its turn")
    };
    let places: Vec<_> = (0..700).map(wait).collect();
    assert_eq!(condition.waiting(), Ok(700));
    assert_eq!(notify(&condition, 600), 600);
    let told: Vec<_> = places.iter().map(|&place| is_notified(place)).collect();
    assert!(
        told.iter()
            .enumerate()
            .all(|(n, &is_told)| is_told == (n < 600))
    );
    assert_eq!(notify(&condition, usize::MAX), 100);
    assert!(places.into_iter().all(|place| condition.take(place)));
    assert_eq!(
        family.blocks().expect("registered").audit().len(),
        2,
        "the first two blocks"
    );
    drop(hold);
    family.free_buried().expect("sound");
    assert_eq!(family.blocks().expect("registered").audit().len(), 0);
}

#[test]
fn a_thread_that_is_notified_wakes_and_one_that_is_not_goes_on_waiting() {
    let family = family();
    let hold = family.make_condition().expect("room");
    let condition = hold.condition().expect("a condition");
    let wait = || {
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut tick);
        let place = hold
            .join_condition(&mut patience)
            .expect("room")
            .expect("its turn");
        assert_eq!(hold.wait_notified(place, &mut patience), Ok(Ok(())));
        condition.take(place)
    };
    std::thread::scope(|scope| {
        let waiters = [scope.spawn(wait), scope.spawn(wait)];
        while condition.waiting() != Ok(2) {
            std::thread::yield_now();
        }
        assert_eq!(notify(&condition, 1), 1);
        while waiters.iter().all(|waiter| !waiter.is_finished()) {
            std::thread::yield_now();
        }
        assert_eq!(condition.waiting(), Ok(1));
        assert_eq!(notify(&condition, 1), 1);
        assert!(
            waiters
                .into_iter()
                .all(|waiter| waiter.join().expect("no panic"))
        );
    });
}

#[test]
fn an_entry_that_was_scribbled_on_is_an_error_for_its_owner() {
    let family = family();
    let hold = family.make_condition().expect("room");
    let condition = hold.condition().expect("a condition");
    let place = join(&condition);
    place.scribble(99 << 2 | State::Notified as u32);
    let slept = at_once(|patience| hold.wait_notified(place, patience));
    assert!(slept.is_err() && !condition.take(place));
    condition.0.scribble_on_used(u32::MAX);
    assert_eq!(condition.waiting(), Ok(0));
    condition.0.scribble_on_extension(7);
    assert!(condition.waiting().is_err());
}

fn arrive(barrier: &Barrier, has_action: bool) -> Arrival {
    let arrival = at_once(|patience| barrier.arrive(has_action, patience));
    arrival.expect("sound").expect("its turn")
}

fn wait_at(barrier: &Barrier) -> Place {
    match arrive(barrier, false) {
        Arrival::Waits(place, _) => place,
        _ => panic!("it is not the last"),
    }
}

fn outcomes(places: &[Place]) -> Vec<Option<State>> {
    places
        .iter()
        .map(|place| place.outcome().expect("its own"))
        .collect()
}

fn leave_all(places: &[Place]) {
    for &place in places {
        let outcome = place.outcome().expect("its own").expect("over");
        assert!(place.leave(outcome));
    }
}

#[test]
fn the_last_to_come_lets_all_through() {
    let family = family();
    let hold = family.make_barrier(3).expect("room");
    let barrier = hold.barrier().expect("a barrier");
    for _ in 0..3 {
        let places = [wait_at(&barrier), wait_at(&barrier)];
        assert_eq!(barrier.waiting(), Ok(2));
        assert!(matches!(arrive(&barrier, false), Arrival::Passes(2)));
        assert_eq!(outcomes(&places), [Some(State::Notified); 2]);
        let next = wait_at(&barrier); // before the others have left
        assert_eq!(next.outcome(), Ok(None));
        assert!(next.leave(State::Waiting));
        leave_all(&places);
    }
}

#[test]
fn an_action_runs_before_anybody_passes_and_who_comes_meanwhile_is_early() {
    let family = family();
    let hold = family.make_barrier(2).expect("room");
    let barrier = hold.barrier().expect("a barrier");
    let place = wait_at(&barrier);
    let Arrival::Acts(action) = arrive(&barrier, true) else {
        panic!("it is the last");
    };
    assert_eq!((place.outcome(), barrier.waiting()), (Ok(None), Ok(2)));
    assert!(matches!(arrive(&barrier, true), Arrival::Early(_)));
    assert_eq!(
        at_once(|patience| barrier.finish(action, patience)),
        Ok(Ok(true))
    );
    assert_eq!(place.outcome(), Ok(Some(State::Notified)));
    assert_eq!(
        at_once(|patience| barrier.finish(action, patience)),
        Ok(Ok(false)),
        "once"
    );
    leave_all(&[place]);
}

#[test]
fn a_barrier_that_is_broken_or_reset_while_its_action_runs_lets_nobody_through() {
    let family = family();
    for is_reset in [false, true] {
        let hold = family.make_barrier(2).expect("room");
        let barrier = hold.barrier().expect("a barrier");
        let place = wait_at(&barrier);
        let Arrival::Acts(action) = arrive(&barrier, true) else {
            panic!("it is the last");
        };
        let done = at_once(|patience| match is_reset {
            true => barrier.reset(patience),
            false => barrier.abort(patience),
        });
        assert_eq!(done, Ok(Ok(())));
        assert_eq!(place.outcome(), Ok(Some(State::Broken)));
        assert_eq!(
            at_once(|patience| barrier.finish(action, patience)),
            Ok(Ok(false))
        );
        assert_eq!(barrier.is_broken(), Ok(!is_reset));
        leave_all(&[place]);
    }
}

#[test]
fn who_waits_too_long_breaks_the_barrier_for_all() {
    let family = family();
    let hold = family.make_barrier(3).expect("room");
    let barrier = hold.barrier().expect("a barrier");
    let other = wait_at(&barrier);
    let met = at_once(|patience| hold.meet(false, patience));
    assert!(matches!(met, Ok(Ok(Meeting::Over(Met::Broken)))));
    assert_eq!((barrier.is_broken(), barrier.waiting()), (Ok(true), Ok(0)));
    leave_all(&[other]);
    assert!(matches!(arrive(&barrier, false), Arrival::Broken));
    assert_eq!(at_once(|patience| barrier.reset(patience)), Ok(Ok(())));
    assert!(matches!(arrive(&barrier, false), Arrival::Waits(..)));
}

#[test]
fn who_is_interrupted_has_not_come() {
    let family = family();
    let hold = family.make_barrier(2).expect("room");
    let mut stop = || false;
    let until = Deadline::after(Duration::from_secs(60));
    let met = hold.meet(false, &mut Patience::new(until, &mut stop));
    assert!(matches!(met, Ok(Err(GaveUp::Interrupted))));
    let barrier = hold.barrier().expect("a barrier");
    assert_eq!((barrier.waiting(), barrier.is_broken()), (Ok(0), Ok(false)));
}

#[test]
fn a_party_that_died_waiting_or_acting_breaks_the_barrier() {
    let family = family();
    for has_action in [false, true] {
        let hold = family
            .make_barrier(if has_action { 2 } else { 3 })
            .expect("room");
        let (mine, dead) = (hold.barrier().expect("one"), barrier_of(&hold, DEAD));
        let place = wait_at(&mine);
        let _ = arrive(&dead, has_action);
        for _ in 0..2 {
            let forgotten = at_once(|patience| mine.forget(DEAD, patience));
            assert_eq!(forgotten, Ok(Ok(())));
        }
        assert_eq!(
            place.outcome(),
            Ok(Some(State::Broken)),
            "action: {has_action}"
        );
        assert_eq!(mine.is_broken(), Ok(true));
        leave_all(&[place]);
    }
}

#[test]
fn a_party_that_died_on_its_way_out_breaks_nothing() {
    let family = family();
    let hold = family.make_barrier(2).expect("room");
    let (mine, dead) = (hold.barrier().expect("one"), barrier_of(&hold, DEAD));
    let _gone = wait_at(&dead);
    assert!(matches!(arrive(&mine, false), Arrival::Passes(1)));
    let next = wait_at(&mine);
    assert_eq!(at_once(|patience| mine.forget(DEAD, patience)), Ok(Ok(())));
    assert_eq!((next.outcome(), mine.is_broken()), (Ok(None), Ok(false)));
    assert!(matches!(arrive(&mine, false), Arrival::Passes(1)));
}

/// What a process does at a barrier at which two others wait, and what may become of these.
struct Step {
    name: &'static str,
    run: fn(&Barrier),
    outcomes: &'static [State],
}

const STEPS: &[Step] = &[
    Step {
        name: "come",
        run: |barrier| drop(arrive(barrier, false)),
        outcomes: &[State::Notified],
    },
    Step {
        name: "come and act",
        run: |barrier| {
            let Arrival::Acts(action) = arrive(barrier, true) else {
                panic!("it is the last");
            };
            let _ = at_once(|patience| barrier.finish(action, patience));
        },
        outcomes: &[State::Notified, State::Broken],
    },
    Step {
        name: "abort",
        run: |barrier| {
            let _ = at_once(|patience| barrier.abort(patience));
        },
        outcomes: &[State::Broken],
    },
    Step {
        name: "reset",
        run: |barrier| {
            let _ = at_once(|patience| barrier.reset(patience));
        },
        outcomes: &[State::Broken],
    },
];

/// One process dies over a step, a second one over forgetting it, a third goes on. Whether each finished.
fn dies_over(family: &'static Family, step: &Step, first: u64, second: u64) -> (bool, bool) {
    let what = format!("`{}`, {first} stores and {second} of the reaper", step.name);
    let hold = family.make_barrier(3).expect("room");
    let (mine, dead) = (hold.barrier().expect("one"), barrier_of(&hold, DEAD));
    let reaper = barrier_of(&hold, OTHERS[1]);
    let places = [wait_at(&mine), wait_at(&mine)];
    let has_finished = run_until_death(first, || (step.run)(&dead)).is_some();
    mine.roll.die_as_owner_if_held();
    let forget = |barrier: &Barrier| {
        let _ = at_once(|patience| barrier.forget(DEAD, patience));
    };
    let has_reaped = run_until_death(second, || forget(&reaper)).is_some();
    mine.roll.die_as_owner_if_held();
    forget(&mine);
    let third = arrive(&mine, false); // which ends whatever was begun
    let found = outcomes(&places);
    assert_eq!(found[0], found[1], "{what}");
    let state = found[0].expect("a third has come, at the latest");
    if has_finished {
        assert!(step.outcomes.contains(&state), "{what}: {state:?}");
    } else {
        let is_by_third = matches!(third, Arrival::Passes(2)) && state == State::Notified;
        assert!(
            step.outcomes.contains(&state) || is_by_third,
            "{what}: {state:?}"
        );
    }
    leave_all(&places);
    if let Arrival::Waits(place, _) = third {
        assert!(place.leave(State::Waiting), "{what}");
    }
    assert_eq!(mine.waiting(), Ok(0), "{what}");
    drop(hold);
    family.free_buried().expect("sound");
    (has_finished, has_reaped)
}

#[test]
fn whoever_dies_over_a_barrier_the_others_all_pass_or_are_all_told() {
    let family = family();
    for step in STEPS {
        for first in 0.. {
            let until_reaped = |second: &u64| !dies_over(family, step, first, *second).1;
            let _deaths = (0..).take_while(until_reaped).count();
            if dies_over(family, step, first, u64::MAX).0 {
                break;
            }
        }
    }
}

#[test]
fn those_who_wait_end_what_somebody_died_over() {
    let family = family();
    for step in STEPS {
        for stores in 0.. {
            let hold = family.make_barrier(3).expect("room");
            let (mine, dead) = (hold.barrier().expect("one"), barrier_of(&hold, DEAD));
            let places = [wait_at(&mine), wait_at(&mine)];
            let finished = run_until_death(stores, || (step.run)(&dead));
            mine.roll.die_as_owner_if_held();
            hold.look_after_parties(&mine);
            let what = format!("{stores} stores of `{}`", step.name);
            let found = outcomes(&places);
            assert_eq!(found[0], found[1], "{what}");
            if found[0].is_none() {
                assert_eq!(
                    mine.is_broken(),
                    Ok(false),
                    "they wait for one that is not broken, {what}"
                );
                assert!(finished.is_none(), "{what}");
                assert_eq!(mine.is_filling_or_acting(), Ok(true), "{what}");
            }
            if finished.is_some() {
                assert!(found[0].is_some(), "{what}");
                break;
            }
        }
    }
}

#[test]
fn threads_meet_again_and_again_and_each_number_is_anothers() {
    const PARTIES: usize = 4;
    const TURNS: usize = 200;
    let family = family();
    let hold = family.make_barrier(PARTIES as u32).expect("room");
    let come = std::sync::atomic::AtomicUsize::new(0);
    let meet = || {
        for turn in 0..TURNS {
            come.fetch_add(1, Relaxed);
            let mut tick = || true;
            let met = hold.meet(true, &mut Patience::new(Deadline::NEVER, &mut tick));
            match met.expect("sound").expect("never times out") {
                Meeting::Acts(action) => {
                    assert_eq!(come.load(Relaxed), PARTIES * (turn + 1), "all have come");
                    let barrier = hold.barrier().expect("a barrier");
                    assert_eq!(
                        at_once(|patience| barrier.finish(action, patience)),
                        Ok(Ok(true))
                    );
                }
                Meeting::Over(Met::All(index)) => assert!((index as usize) < PARTIES - 1),
                Meeting::Over(Met::Broken) => panic!("nobody has broken it"),
            }
            assert!(come.load(Relaxed) >= PARTIES * (turn + 1));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..PARTIES {
            scope.spawn(meet);
        }
    });
}

#[test]
fn a_party_whose_time_is_up_can_be_interrupted_while_another_is_inside() {
    let family = family();
    let hold = family.make_barrier(2).expect("room");
    let barrier = hold.barrier().expect("a barrier");
    let arrival = at_once(|patience| barrier.arrive(false, patience));
    let Ok(Ok(Arrival::Waits(place, 0))) = arrival else {
        panic!("the other one is still to come");
    };
    let (enter, entered) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut tick = || true;
            let held = barrier
                .roll
                .lock(&mut Patience::new(Deadline::NEVER, &mut tick));
            enter.send(held.is_ok()).expect("waited for");
            // Should the party wait for it, it will find out.
            let _ = may_go_on.recv_timeout(Duration::from_secs(5));
        });
        assert_eq!(entered.recv(), Ok(true));
        let mut interrupt = || false;
        let mut patience = Patience::new(Deadline::PASSED, &mut interrupt);
        let met = barrier.sleep(place, 0, &mut patience, || ());
        assert_eq!(met, Ok(Err(GaveUp::Interrupted)));
        drop::<mpsc::Sender<()>>(go_on);
    });
    assert_eq!((barrier.waiting(), barrier.is_broken()), (Ok(0), Ok(false)));
}
