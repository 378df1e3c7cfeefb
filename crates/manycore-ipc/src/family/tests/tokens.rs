//! More holders of tokens than an object's body has room for.

use super::*;
use crate::family::Hold;
use crate::lock::tests::shares::while_another_is_inside;
use crate::lock::tokens::{INLINE, MOST};
use crate::wait::patience::WAITS_IN_VAIN;

/// Processes that take a token each, more than the body has room for.
const HOLDERS: usize = INLINE + 12;

/// Holds a token if there is one.
fn hold_one(semaphore: &Hold) -> bool {
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::PASSED, &mut tick);
    semaphore.hold_token(&mut patience).expect("room").is_ok()
}

impl World {
    /// A process that has joined, and ends as soon as somebody looks.
    fn mortal(&self) -> &'static Family {
        let family = Family::on(self.me.heap());
        family.be(self.me.registry().join_as(self.corpse.pid()).expect("room"));
        family
    }

    /// Holds a token as this process.
    fn hold_as(&self, family: &'static Family, semaphore: Handle) -> bool {
        let hold = family.hold(semaphore, Kind::Semaphore).expect("held");
        let held = hold_one(&hold);
        std::mem::forget(hold); // its death lets go of it
        held
    }
}

#[test]
fn more_processes_than_have_room_in_the_body_hold_tokens_that_come_back() {
    let world = World::new();
    let semaphore = world.me.make_semaphore(HOLDERS as u32 + 1, MOST, false);
    let semaphore = semaphore.expect("room");
    let tokens = semaphore.semaphore().expect("a semaphore");
    for _ in 0..HOLDERS {
        assert!(world.hold_as(world.mortal(), semaphore.handle()));
    }
    assert!(hold_one(&semaphore), "in the block, too");
    let shares = semaphore.semaphore_shares().expect("a semaphore");
    assert_eq!(shares.hold_at_once(), Ok(Some(false)));
    world.check(1, 1, "while one token is held");
    assert_eq!(tokens.value(), HOLDERS as u32);
    assert_eq!(shares.give_back_at_once(), Ok(Some(true)));
    assert_eq!(tokens.value(), HOLDERS as u32 + 1);
    drop(semaphore);
    world.check(0, 0, "after all");
}

#[test]
fn who_dies_while_it_makes_room_for_shares_leaves_all_tokens_and_no_memory() {
    for stores in 0.. {
        let world = World::new();
        let semaphore = world.me.make_semaphore(HOLDERS as u32, MOST, false);
        let semaphore = semaphore.expect("room");
        let holders: Vec<_> = (0..INLINE).map(|_| world.mortal()).collect();
        for holder in holders {
            assert!(world.hold_as(holder, semaphore.handle()));
        }
        let mortal = world.mortal();
        let finished = world
            .corpse
            .play(|| run_until_death(stores, || world.hold_as(mortal, semaphore.handle())));
        world.me.reap_dead(true);
        let what = format!("after {stores} stores");
        let tokens = semaphore.semaphore().expect("a semaphore");
        assert_eq!(tokens.value(), HOLDERS as u32, "{what}");
        for _ in 0..HOLDERS {
            assert!(hold_one(&semaphore), "{what}");
        }
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::PASSED, &mut tick);
        let none = semaphore.take_token(&mut patience).expect("a semaphore");
        assert!(none.is_err(), "{what}");
        drop(semaphore);
        world.check(0, 0, &what);
        if finished.is_some() {
            break;
        }
    }
}

#[test]
fn what_a_reaper_cannot_settle_is_settled_by_who_waits_for_it() {
    let world = World::new();
    let semaphore = world.me.make_semaphore(1, MOST, false).expect("room");
    let mortal = world.mortal();
    assert!(world.hold_as(mortal, semaphore.handle()));
    let dead = mortal.me().expect("registered").slot();
    let tokens = semaphore.semaphore().expect("a semaphore");
    while_another_is_inside(tokens, || {
        WAITS_IN_VAIN.set(true);
        assert!(world.me.reap_dead(true).is_empty());
        WAITS_IN_VAIN.set(false);
    });
    let tenancy = world.me.registry().tenancy(dead).expect("sound");
    assert_eq!(tenancy.status, Status::Killed, "its slot is nobody else's");
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut tick);
    assert_eq!(semaphore.take_token(&mut patience), Ok(Ok(())));
}
