//! Joining, leaving, and who is taken for dead.

use std::process::Command;

use manycore_os::{Deadline, process};

use super::{OwnerId, Registry, Status};
use crate::crash::{Corpse, run_until_death};
use crate::error::HandleError;
use crate::heap::header::create_with;
use crate::heap::layout::{LEAST, SLOTS};
use crate::lock::{EngineLock, Locked, UserLock};
use crate::wait::Patience;

fn registry() -> Registry {
    Registry::new(create_with(LEAST).expect("a small heap"))
}

#[test]
fn a_living_process_cannot_be_claimed() {
    let registry = registry();
    let me = registry.join().expect("room");
    assert!(!me.is_nobody());
    assert!(!registry.has_ended(me));
    assert_eq!(registry.claim_dead(me.slot(), me), Ok(None));
}

#[test]
fn a_dead_process_is_claimed_once_and_its_slot_changes_generation() {
    let registry = registry();
    let me = registry.join().expect("room");
    let mut child = Command::new("true").spawn().expect("runs");
    let other = registry.join_as(child.id()).expect("room");
    child.wait().expect("ours");
    assert!(registry.has_ended(other));
    assert_eq!(
        registry.claim_dead(other.slot(), me),
        Ok(Some((other, true)))
    );
    assert_eq!(
        registry.claim_dead(other.slot(), me),
        Ok(None),
        "the claimer lives"
    );
    registry.release(other, other);
    assert!(!registry.is_left_by(other.slot(), other.slot()));
    assert_eq!(
        registry.tenancy(other.slot()).map(|t| t.status),
        Ok(Status::Killed),
        "not its to release"
    );
    registry.release(other, me);
    let next = registry.join().expect("room");
    assert_eq!(next.slot(), other.slot());
    assert_ne!(next, other);
    assert!(registry.has_ended(other));
    assert!(registry.has_holder_ended(UserLock::name_of(other)));
    assert!(!registry.has_holder_ended(UserLock::name_of(me)));
}

#[test]
fn the_others_are_those_that_have_not_ended() {
    let registry = registry();
    let me = registry.join().expect("room");
    let mut child = Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("runs until its input ends");
    registry.join_as(child.id()).expect("room");
    assert_eq!(registry.others(me), [child.id()]);
    drop(child.stdin.take());
    child.wait().expect("ours");
    assert!(registry.others(me).is_empty());
}

#[test]
fn a_process_is_not_taken_for_dead_by_the_start_of_an_earlier_tenant() {
    let registry = registry();
    let me = registry.join().expect("room");
    let earlier = registry.join().expect("room");
    registry
        .slot(earlier.slot())
        .expect("its slot")
        .set_start(earlier.generation(), 1);
    assert!(registry.has_ended(earlier), "a later process has its pid");
    registry.vacate(earlier);
    // Stopped right after it took the slot, before it could say when it started.
    assert_eq!(run_until_death(1, || registry.join()), None);
    let next = OwnerId::new(earlier.slot(), earlier.generation() + 1);
    assert!(!registry.has_ended(next), "it lives");
    assert_eq!(registry.claim_dead(next.slot(), me), Ok(None));
}

#[test]
fn a_child_that_comes_too_late_does_not_touch_the_next_tenant() {
    let registry = registry();
    let me = registry.join().expect("room");
    let child = registry.reserve(me).expect("room");
    let reserved = registry.tenancy(child.slot()).expect("sound");
    registry.free(child.slot(), reserved); // as after the death of its parent
    let next = registry.join().expect("room");
    assert_eq!(next.slot(), child.slot());
    assert_eq!(registry.adopt(child), Err(HandleError::Gone));
    assert!(!registry.has_ended(next));
}

#[test]
fn a_reservation_ends_with_the_child_that_it_is_for() {
    let registry = registry();
    let me = registry.join().expect("room");
    let corpse = Corpse::new();
    let parent = registry.join_as(corpse.pid()).expect("room");
    let mut child = Command::new("sleep").arg("1000").spawn().expect("runs");
    let slot = registry.reserve(parent).expect("room");
    registry.expect(slot, child.id());
    let claimed = || registry.claim_dead(slot.slot(), me);
    assert_eq!(claimed(), Ok(None), "its parent is dead, it lives");
    child.kill().expect("ours");
    child.wait().expect("ours");
    assert_eq!(claimed(), Ok(Some((slot, false))), "dead before it came");
    let slot = registry.reserve(me).expect("room");
    registry.expect(slot, std::process::id());
    registry.adopt(slot).expect("the process that was expected");
    assert!(!registry.withdraw(slot, me), "too late");
    assert!(!registry.has_ended(slot));
}

#[test]
fn only_threads_of_members_may_own_an_engine_lock() {
    let registry = registry();
    registry.join().expect("room");
    let mut child = Command::new("sleep").arg("1000").spawn().expect("runs");
    let lock: &'static EngineLock = &registry.header().lock;
    lock.pretend_held(child.id()); // by a dead owner whose number is that process's now, or by a scribble
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut tick);
    let locked = registry.lock(lock, &mut patience);
    assert!(matches!(locked, Ok(Locked::OwnerDied(_))));
    registry.join_as(child.id()).expect("room");
    assert!(registry.may_own(child.id()), "it has joined");
    let other_thread = std::thread::spawn(move || registry.may_own(process::current_thread()));
    assert_eq!(other_thread.join().ok(), Some(true));
    assert!(registry.may_own(u32::MAX), "nobody can tell");
    child.kill().expect("ours");
    child.wait().expect("ours");
}

#[test]
fn the_next_process_with_a_members_number_is_no_member() {
    let registry = registry();
    let mut child = Command::new("sleep").arg("1000").spawn().expect("runs");
    let member = registry.join_as(child.id()).expect("room");
    let slot = registry.slot(member.slot()).expect("its slot");
    assert!(registry.may_own(child.id()));
    slot.set_start(member.generation(), 1); // a member that started right after boot
    assert!(!registry.may_own(child.id()));
    child.kill().expect("ours");
    child.wait().expect("ours");
}

#[test]
fn a_process_of_another_pid_namespace_is_refused() {
    let registry = registry();
    let me = registry.join().expect("room");
    let child = registry.reserve(me).expect("room");
    registry.heap.header().pretend_pid_namespace(1);
    assert_eq!(registry.join(), Err(HandleError::OtherNamespace));
    assert_eq!(registry.adopt(child), Err(HandleError::OtherNamespace));
}

#[test]
fn the_last_slots_are_kept_for_those_that_make_room() {
    let registry = registry();
    while registry.join_as(1).is_ok() {}
    assert!(matches!(registry.join(), Err(HandleError::FamilyFull(_))));
    let usher = registry.join_spare().expect("kept");
    assert!(
        registry.used().contains(&usher.slot()),
        "a dead one is found"
    );
    registry.vacate(usher);
    assert!(registry.has_ended(usher));
}

#[test]
fn a_forked_child_moves_into_the_reserved_slot_only() {
    let registry = registry();
    let me = registry.join().expect("room");
    let child = registry.reserve(me).expect("room");
    assert_eq!(
        registry.claim_dead(child.slot(), me),
        Ok(None),
        "its parent lives"
    );
    registry.adopt(child).expect("reserved");
    assert_eq!(registry.adopt(child), Err(HandleError::Gone));
    assert_eq!(registry.adopt(me), Err(HandleError::Gone));
}

#[test]
fn who_dies_while_it_joins_is_found_wherever_its_slot_is() {
    let (registry, corpse) = (registry(), Corpse::new());
    for stores in 0.. {
        let joined = run_until_death(stores, || registry.join_as(corpse.pid()));
        let is_taken =
            |&number: &usize| registry.tenancy(number).map(|it| it.status) != Ok(Status::Free);
        let missed = (1..SLOTS)
            .filter(is_taken)
            .find(|number| !registry.used().contains(number));
        assert_eq!(missed, None, "{stores} stores in");
        if joined.is_some() {
            break;
        }
    }
}
