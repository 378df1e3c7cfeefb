//! Holding and letting go in every order of two or three processes' steps.

use super::group::{Row, Taking};
use super::header::{Handle, Phase};
use super::{Kind, Objects};
use crate::crash::{for_every_death, run_and_count};
use crate::error::HandleError;
use crate::heap::header::create_with;
use crate::heap::layout::LEAST;
use crate::model::{Model, spawn};
use crate::registry::OwnerId;

/// The same table on behalf of three processes, and an object that the first of them holds.
fn table() -> ([Objects; 3], Handle) {
    let heap = create_with(LEAST).expect("a small heap");
    let all = [0x1001, 0x1002, 0x1003].map(|owner| Objects::new(heap, OwnerId::from_bits(owner)));
    let handle = all[0].make(Kind::Lock).expect("room");
    all[0].publish(handle).expect("just made");
    (all, handle)
}

fn let_go(objects: Objects, handle: Handle) {
    objects
        .clear_holder(handle.index, objects.me())
        .expect("sound");
}

/// Holds the object for a moment; whether it was there.
fn come_and_go(objects: Objects, handle: Handle) -> bool {
    match objects.attach(handle, Kind::Lock) {
        Ok(()) => {
            assert_eq!(
                objects.check(handle),
                Ok(()),
                "it is freed while it is held"
            );
            let_go(objects, handle);
            true
        }
        Err(error) => {
            assert_eq!(error, HandleError::Gone);
            false
        }
    }
}

/// Frees all that nobody holds; how many there were.
fn free_all(objects: Objects) -> usize {
    std::iter::from_fn(|| objects.pop_buried().expect("sound"))
        .map(|(index, _)| objects.freed(index).expect("sound"))
        .count()
}

#[test]
#[ignore = "a model"]
fn an_object_that_somebody_attaches_while_its_holder_lets_go_is_held_or_gone() {
    let ([me, other, _], handle) = table();
    Model::with_interruptions(3).explore(move || {
        let comer = spawn(move || other.attach(handle, Kind::Lock));
        let_go(me, handle);
        let attached = comer.join();
        if attached.is_ok() {
            assert_eq!(other.check(handle), Ok(()));
            assert_eq!(free_all(me), 0);
            let_go(other, handle);
        }
        assert_eq!(free_all(me), 1, "freed once, when nobody holds it");
        assert_eq!(
            me.stage(handle.index).map(|stage| stage.phase),
            Ok(Phase::Free)
        );
    });
}

#[test]
#[ignore = "a model"]
fn an_object_that_two_let_go_at_once_is_freed_once() {
    let ([me, other, _], handle) = table();
    other.attach(handle, Kind::Lock).expect("held");
    Model::with_interruptions(3).explore(move || {
        let second = spawn(move || let_go(other, handle));
        let_go(me, handle);
        second.join();
        assert_eq!(free_all(me), 1);
    });
}

#[test]
#[ignore = "a model"]
fn who_holds_an_object_for_a_moment_neither_loses_it_nor_leaves_it_behind() {
    let ([me, other, _], handle) = table();
    Model::with_interruptions(3).explore(move || {
        let comer = spawn(move || {
            let first = come_and_go(other, handle);
            let second = come_and_go(other, handle);
            assert!(first || !second, "what is gone does not come back");
        });
        let_go(me, handle);
        comer.join();
        assert_eq!(free_all(me), 1);
    });
}

#[test]
#[ignore = "a model"]
fn a_handle_in_flight_keeps_the_object_until_it_has_arrived() {
    let ([me, other, _], handle) = table();
    Model::with_interruptions(3).explore(move || {
        me.send(handle.index).expect("sound");
        let receiver = spawn(move || {
            assert_eq!(other.attach(handle, Kind::Lock), Ok(()), "it is in flight");
            other.arrived(handle.index).expect("sound");
            assert_eq!(other.check(handle), Ok(()), "it is held");
            let_go(other, handle);
        });
        let_go(me, handle);
        receiver.join();
        assert_eq!(free_all(me), 1);
    });
}

#[test]
#[ignore = "a model"]
fn the_buried_are_freed_once_while_more_are_buried() {
    let ([me, other, third], handle) = table();
    let second = other.make(Kind::Lock).expect("room");
    other.publish(second).expect("just made");
    Model::with_interruptions(1).explore(move || {
        let burier = spawn(move || let_go(other, second));
        let popper = spawn(move || free_all(third));
        let_go(me, handle);
        let freed = free_all(me) + popper.join();
        burier.join();
        assert_eq!(freed + free_all(me), 2);
    });
}

#[test]
#[ignore = "a model"]
fn who_dies_while_it_lets_go_leaves_an_object_that_another_at_work_has_or_can_free() {
    for_every_death(|stores, deaths| {
        let ([me, other, third], handle) = table();
        Model::with_interruptions(2).explore(move || {
            let mortal = spawn(move || {
                run_and_count(stores, deaths, || let_go(me, handle));
            });
            let attached = other.attach(handle, Kind::Lock);
            mortal.join();
            let orphans = third.sweep(me.me()).expect("sound");
            if attached.is_ok() {
                assert_eq!(other.check(handle), Ok(()), "held");
                assert!(orphans.is_empty());
                let_go(other, handle);
            }
            let freed = orphans.len();
            for (index, _) in orphans {
                third.freed(index).expect("sound");
            }
            assert_eq!(freed + free_all(third), 1);
        });
    });
}

#[test]
#[ignore = "a model"]
fn a_worker_that_is_doomed_for_one_task_never_begins_another() {
    // All zero is a row without worker.
    let row: &'static Row = Box::leak(Box::default());
    Model::with_interruptions(3).explore(move || {
        row.clear();
        row.write(Taking { tag: 1, place: 0 });
        row.begin(10);
        let worker = spawn(move || {
            let goes_on = row.finish();
            if goes_on {
                row.write(Taking { tag: 2, place: 1 });
                row.begin(20);
            }
            goes_on
        });
        let found = row.running();
        let is_doomed = found.is_some_and(|(tag, began)| tag == 1 && row.doom(began));
        let goes_on = worker.join();
        assert_ne!(is_doomed, goes_on, "one of the two comes first");
        let last = row.read().expect("never voided").tag;
        assert_eq!(last, if is_doomed { 1 } else { 2 });
    });
}

#[test]
#[ignore = "a model"]
fn what_a_worker_is_found_to_have_is_one_task_and_when_that_was_begun() {
    let row: &'static Row = Box::leak(Box::default()); // as above
    Model::with_interruptions(3).explore(move || {
        row.clear();
        let worker = spawn(move || {
            for (tag, began) in [(1, 10), (2, 20)] {
                row.write(Taking { tag, place: 0 });
                row.begin(began);
                assert!(row.finish(), "nobody dooms it");
            }
        });
        let has_begun = row.has_begun(2);
        let found = row.holding();
        assert!(matches!(found, None | Some((1, 0 | 10) | (2, 0 | 20))));
        assert!(!has_begun || matches!(found, None | Some((2, 20))));
        worker.join();
    });
}
