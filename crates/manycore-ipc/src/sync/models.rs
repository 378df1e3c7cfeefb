//! Events, conditions and barriers in every order of two or three threads' steps.

use manycore_os::Deadline;

use super::{EventBody, Met};
use crate::crash::{for_every_death, run_and_count};
use crate::family::{Family, Hold, Meeting};
use crate::heap::layout::LEAST;
use crate::model::{Model, kernel, spawn};
use crate::wait::{GaveUp, Patience};
use crate::word::Word64;
use std::sync::atomic::Ordering::Relaxed;

fn for_ever<R>(operation: impl FnOnce(&mut Patience<'_>) -> R) -> R {
    let mut tick = || true;
    operation(&mut Patience::new(Deadline::NEVER, &mut tick))
}

fn for_a_moment<R>(operation: impl FnOnce(&mut Patience<'_>) -> R) -> R {
    let mut tick = || true;
    operation(&mut Patience::new(Deadline::PASSED, &mut tick))
}

#[test]
#[ignore = "a model"]
fn whoever_waits_for_an_event_wakes_though_it_is_cleared_at_once() {
    let event = EventBody::for_test();
    Model::with_interruptions(2).explore(move || {
        let waiters = [(); 2].map(|()| spawn(move || for_ever(|it| event.wait(it))));
        event.set();
        event.clear();
        event.set(); // for who came late
        for waiter in waiters {
            assert_eq!(waiter.join(), Ok(()));
        }
    });
}

#[test]
#[ignore = "a model"]
fn who_clears_an_event_sees_what_it_was_set_for_or_finds_it_set_again() {
    let event = EventBody::for_test();
    let done: &'static Word64 = Box::leak(Box::default());
    event.set();
    Model::exhaustive().explore(move || {
        let other = spawn(move || {
            done.store(1, Relaxed);
            event.set(); // it is set already, or not any more
        });
        event.clear();
        let has_seen = done.load(Relaxed) == 1;
        other.join();
        assert!(has_seen || event.is_set());
    });
}

#[test]
#[ignore = "a model"]
fn who_dies_over_setting_an_event_delays_those_who_wait_by_a_slice_at_most() {
    for_every_death(|stores, deaths| {
        let event = EventBody::for_test();
        Model::with_interruptions(2).explore(move || {
            event.clear();
            let waiter = spawn(move || for_ever(|it| event.wait(it)));
            let mortal = spawn(move || {
                run_and_count(stores, deaths, || event.set());
                kernel::end_slices();
            });
            mortal.join();
            if !event.is_set() {
                event.set(); // as whoever finds that it was not
            }
            assert_eq!(waiter.join(), Ok(()));
        });
    });
}

fn condition() -> &'static Hold {
    let family = Family::create_with(LEAST).expect("a small heap");
    Box::leak(Box::new(family.make_condition().expect("room")))
}

/// Waits as a condition variable does; whether it was notified.
fn wait(hold: &Hold, place: super::Place, is_patient: bool) -> bool {
    let sleep = |it: &mut Patience<'_>| hold.wait_notified(place, it).expect("sound");
    let slept = if is_patient {
        for_ever(sleep)
    } else {
        for_a_moment(sleep)
    };
    match slept {
        Ok(()) => hold.condition().expect("one").take(place),
        Err(gave_up) => {
            assert_eq!(gave_up, GaveUp::TimedOut);
            false
        }
    }
}

fn join(hold: &Hold) -> super::Place {
    let joined = for_ever(|it| hold.join_condition(it));
    joined.expect("room").expect("its turn")
}

fn notify(hold: &Hold, most: usize) -> usize {
    for_ever(|it| hold.notify(most, it))
        .expect("sound")
        .expect("its turn")
}

#[test]
#[ignore = "a model"]
fn a_lost_notification_is_impossible() {
    let hold = condition();
    Model::with_interruptions(3).explore(move || {
        let places = [join(hold), join(hold)];
        let waiters = places.map(|place| spawn(move || wait(hold, place, true)));
        assert_eq!(notify(hold, 1), 1);
        assert_eq!(notify(hold, 1), 1);
        assert!(waiters.into_iter().all(|waiter| waiter.join()));
    });
}

#[test]
#[ignore = "a model"]
fn who_gives_up_takes_no_notification_from_another_with_it() {
    let hold = condition();
    Model::with_interruptions(3).explore(move || {
        let (first, second) = (join(hold), join(hold));
        let hasty = spawn(move || wait(hold, first, false));
        let patient = spawn(move || wait(hold, second, true));
        assert_eq!(notify(hold, 1), 1);
        if hasty.join() {
            assert_eq!(notify(hold, 1), 1); // the first one was for it
        }
        assert!(patient.join());
    });
}

#[test]
#[ignore = "a model"]
fn a_notification_that_is_given_back_goes_to_one_who_waits() {
    let hold = condition();
    Model::with_interruptions(3).explore(move || {
        let (first, second) = (join(hold), join(hold));
        let leaves = spawn(move || {
            let condition = hold.condition().expect("one");
            for_ever(|it| condition.withdraw(first, it))
        });
        let stays = spawn(move || wait(hold, second, true));
        assert_eq!(notify(hold, 1), 1);
        assert!(matches!(leaves.join(), Ok(Ok(_))));
        assert!(stays.join());
    });
}

fn barrier(parties: u32) -> &'static Hold {
    let family = Family::create_with(LEAST).expect("a small heap");
    Box::leak(Box::new(family.make_barrier(parties).expect("room")))
}

fn meet(hold: &Hold, is_patient: bool) -> Met {
    let meet = |it: &mut Patience<'_>| hold.meet(false, it).expect("sound");
    let met = if is_patient {
        for_ever(meet)
    } else {
        for_a_moment(meet)
    };
    match met {
        Ok(Meeting::Over(met)) => met,
        _ => panic!("it is not interrupted, and there is no action"),
    }
}

#[test]
#[ignore = "a model"]
fn all_who_come_pass_and_come_again() {
    let hold = barrier(2);
    Model::with_interruptions(2).explore(move || {
        let other = spawn(move || [(); 2].map(|()| meet(hold, true)));
        let ours = [(); 2].map(|()| meet(hold, true));
        for (ours, theirs) in ours.into_iter().zip(other.join()) {
            let (Met::All(ours), Met::All(theirs)) = (ours, theirs) else {
                panic!("nobody has broken it");
            };
            assert_eq!(ours + theirs, 1);
        }
    });
}

#[test]
#[ignore = "a model"]
fn of_two_of_whom_one_is_hasty_both_pass_or_neither() {
    let hold = barrier(2);
    Model::with_interruptions(3).explore(move || {
        let hasty = spawn(move || meet(hold, false));
        let ours = meet(hold, true);
        let have_passed = [ours, hasty.join()].map(|met| met != Met::Broken);
        assert_eq!(have_passed[0], have_passed[1]);
    });
}

#[test]
#[ignore = "a model"]
fn who_comes_while_an_action_runs_is_woken_when_it_is_over() {
    let hold = barrier(1);
    Model::with_interruptions(2).explore(move || {
        let act = move || {
            let met = for_ever(|it| hold.meet(true, it)).expect("sound");
            let Ok(Meeting::Acts(action)) = met else {
                panic!("each of them is the last");
            };
            let barrier = hold.barrier().expect("one");
            for_ever(|it| barrier.finish(action, it))
        };
        let other = spawn(act);
        assert_eq!(act(), Ok(Ok(true)));
        assert_eq!(other.join(), Ok(Ok(true)));
    });
}
