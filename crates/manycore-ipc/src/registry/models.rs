//! Claims and slots in every order of two or three processes' steps.

use std::sync::atomic::Ordering::Relaxed;

use super::slot::Tenancy;
use super::{OwnerId, Registry, Status};
use crate::crash::{for_every_death, run_and_count};
use crate::heap::header::create_with;
use crate::heap::layout::LEAST;
use crate::model::{Model, kernel, spawn};
use crate::word::Word32;

const VICTIM: u32 = 11;
const REAPERS: [u32; 2] = [12, 13];

/// A registry with members of these pids.
fn registry<const N: usize>(pids: [u32; N]) -> (Registry, [OwnerId; N]) {
    let registry = Registry::new(create_with(LEAST).expect("a small heap"));
    let members = pids.map(|pid| registry.join_as(pid).expect("room"));
    (registry, members)
}

fn tenancy(registry: Registry, owner: OwnerId) -> Tenancy {
    registry.tenancy(owner.slot()).expect("sound")
}

/// Claims a dead process's slot, cleans up as one that is alone, and frees the slot. Whether it did.
fn reap(registry: Registry, dead: OwnerId, me: OwnerId, cleaning: &Word32) -> bool {
    let claimed = registry.claim_dead(dead.slot(), me).expect("sound");
    if claimed.is_none_or(|(found, _)| found != dead) {
        return false;
    }
    cleaning.store(me.bits(), Relaxed);
    assert_eq!(cleaning.load(Relaxed), me.bits(), "another one cleans up");
    registry.release(dead, me);
    true
}

#[test]
#[ignore = "a model"]
fn a_dead_process_is_cleaned_up_after_by_one_reaper() {
    let (registry, [dead, one, two]) = registry([VICTIM, REAPERS[0], REAPERS[1]]);
    let cleaning: &'static Word32 = Box::leak(Box::default());
    Model::with_interruptions(4).explore(move || {
        kernel::end_process(VICTIM);
        let other = spawn(move || reap(registry, dead, two, cleaning));
        let mine = reap(registry, dead, one, cleaning);
        assert!(mine != other.join(), "one did, one did not");
        let after = tenancy(registry, dead);
        assert_eq!(after.status, Status::Free);
        assert_eq!(after.generation, dead.generation() + 1);
    });
}

#[test]
#[ignore = "a model"]
fn a_reaper_that_dies_at_any_step_is_followed_by_another_at_work() {
    for_every_death(|stores, deaths| {
        let (registry, [dead, one, two]) = registry([VICTIM, REAPERS[0], REAPERS[1]]);
        let cleaning: &'static Word32 = Box::leak(Box::default());
        Model::with_interruptions(3).explore(move || {
            kernel::end_process(VICTIM);
            let mortal = spawn(move || {
                let done = run_and_count(stores, deaths, || reap(registry, dead, one, cleaning));
                kernel::end_process(REAPERS[0]);
                done
            });
            let mut times = u32::from(reap(registry, dead, two, cleaning));
            let first = mortal.join();
            times += u32::from(reap(registry, dead, two, cleaning));
            times += u32::from(first == Some(true));
            let is_released = first.is_none() && times == 0; // it died after its last store
            assert!(times == 1 || is_released, "{times} reaped");
            assert_eq!(tenancy(registry, dead).status, Status::Free);
        });
    });
}

#[test]
#[ignore = "a model"]
fn a_living_process_is_never_claimed_while_another_joins_and_leaves() {
    let (registry, [one, two]) = registry(REAPERS);
    Model::with_interruptions(3).explore(move || {
        let comer = spawn(move || {
            let me = registry.join_as(VICTIM).expect("room");
            assert!(!registry.has_ended(me));
            registry.leave(me);
            me
        });
        let number = one.slot().max(two.slot()) + 1;
        assert_eq!(registry.claim_dead(number, one), Ok(None));
        let left = comer.join();
        assert_eq!(left.slot(), number);
        assert_eq!(registry.claim_dead(number, one), Ok(None), "it lives");
        kernel::end_process(VICTIM);
        let claimed = registry.claim_dead(number, one);
        assert_eq!(claimed, Ok(Some((left, false))), "it said goodbye");
    });
}

#[test]
#[ignore = "a model"]
fn two_that_join_at_once_get_a_slot_each() {
    let (registry, _) = registry(REAPERS);
    Model::with_interruptions(4).explore(move || {
        let other = spawn(move || registry.join_as(21).expect("room"));
        let mine = registry.join_as(22).expect("room");
        let theirs = other.join();
        assert_ne!(mine.slot(), theirs.slot());
        assert!(registry.used().contains(&mine.slot().max(theirs.slot())));
    });
}

#[test]
#[ignore = "a model"]
fn a_slot_whose_child_was_forked_is_the_childs_or_was_reaped_before_it_came() {
    const CHILD: u32 = 21;
    let (registry, [parent, reaper]) = registry(REAPERS);
    Model::with_interruptions(3).explore(move || {
        let slot = registry.reserve(parent).expect("room");
        let child = spawn(move || registry.adopt_as(slot, CHILD));
        let mortal = spawn(move || {
            registry.expect(slot, CHILD);
            kernel::end_process(REAPERS[0]); // the parent
        });
        let claimed = registry.claim_dead(slot.slot(), reaper).expect("sound");
        mortal.join();
        let adopted = child.join();
        assert_eq!(
            adopted.is_ok(),
            claimed.is_none(),
            "{adopted:?} {claimed:?}"
        );
        if adopted.is_ok() {
            assert!(!registry.has_ended(slot));
            assert_eq!(registry.claim_dead(slot.slot(), reaper), Ok(None));
        }
    });
}
