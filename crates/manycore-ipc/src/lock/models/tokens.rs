//! Semaphores and reader-writer locks.

use std::sync::atomic::Ordering::Relaxed;

use manycore_os::Deadline;

use crate::block::Blocks;
use crate::crash::{for_every_death, run_and_count, run_until_death};
use crate::error::HandleError;
use crate::family::{Family, Hold};
use crate::heap::layout::LEAST;
use crate::lock::tokens::MOST;
use crate::lock::{Access, Acquired, Shares, Tokens};
use crate::model::{Model, kernel, spawn};
use crate::registry::OwnerId;
use crate::wait::{GaveUp, Patience};
use crate::word::Word64;

const DEAD: OwnerId = OwnerId::from_bits(0x1002);
const OTHERS: [OwnerId; 3] = [
    OwnerId::from_bits(0x1003),
    OwnerId::from_bits(0x1004),
    OwnerId::from_bits(0x1005),
];
const PID: u32 = 77;

fn take(tokens: &Tokens, until: Deadline) -> Result<(), GaveUp> {
    let mut tick = || true;
    tokens.take(&mut Patience::new(until, &mut tick), || ())
}

#[test]
#[ignore = "a model"]
fn a_token_that_is_given_wakes_who_waits_for_it() {
    let tokens = Tokens::for_test(0, MOST);
    Model::exhaustive().explore(move || {
        let sleeper = spawn(move || take(tokens, Deadline::NEVER));
        assert!(tokens.give());
        assert_eq!(sleeper.join(), Ok(()));
        assert_eq!(tokens.value(), 0);
    });
}

#[test]
#[ignore = "a model"]
fn two_who_wait_are_both_woken_for_two_tokens() {
    let tokens = Tokens::for_test(0, MOST);
    Model::with_interruptions(2).explore(move || {
        let sleepers = [(); 2].map(|()| spawn(move || take(tokens, Deadline::NEVER)));
        assert!(tokens.give() && tokens.give());
        for sleeper in sleepers {
            assert_eq!(sleeper.join(), Ok(()));
        }
    });
}

#[test]
#[ignore = "a model"]
fn who_gives_up_takes_no_wake_up_from_another_with_it() {
    let tokens = Tokens::for_test(0, MOST);
    Model::with_interruptions(2).explore(move || {
        let patient = spawn(move || take(tokens, Deadline::NEVER));
        let hasty = spawn(move || take(tokens, Deadline::PASSED));
        assert!(tokens.give());
        if hasty.join() == Ok(()) {
            assert!(tokens.give()); // the first one was for it
        }
        assert_eq!(patient.join(), Ok(()));
    });
}

#[test]
#[ignore = "a model"]
fn a_wake_up_given_to_a_dying_sleeper_is_made_up_for_when_the_slice_ends() {
    let tokens = Tokens::for_test(0, MOST);
    Model::with_interruptions(2).explore(move || {
        let mortal = spawn(move || {
            kernel::die_when_woken();
            let outcome = run_until_death(u64::MAX, || take(tokens, Deadline::NEVER));
            kernel::end_slices();
            outcome
        });
        let sleeper = spawn(move || take(tokens, Deadline::NEVER));
        assert!(tokens.give() && tokens.give()); // one of the two is for the other, whoever came first
        assert_eq!(sleeper.join(), Ok(()));
        assert!(tokens.give()); // and should the mortal one be asleep still, it dies of this
        mortal.join();
    });
}

/// Tokens of a heap.
#[derive(Clone, Copy)]
struct House {
    shares: Shares,
    hold: &'static Hold,
}

impl House {
    fn of(make: impl FnOnce(&'static Family) -> Result<Hold, HandleError>) -> Self {
        let family = Family::create_with(LEAST).expect("a small heap");
        let hold: &'static Hold = Box::leak(Box::new(make(family).expect("room")));
        let tokens = match hold.semaphore() {
            Ok(_) => hold.semaphore_shares(),
            Err(_) => hold.rw_lock(),
        };
        Self {
            shares: tokens.expect("one of the two"),
            hold,
        }
    }

    fn with_tokens(value: u32) -> Self {
        Self::of(|family| family.make_semaphore(value, MOST, false))
    }

    fn as_process(self, owner: OwnerId) -> Shares {
        let blocks = Blocks::new(self.hold.family().heap(), owner);
        Shares::new(self.shares.tokens(), self.hold.handle().index, blocks)
    }

    /// What a waiter does after a slice.
    fn look_after(self) {
        if kernel::has_ended(PID) {
            self.shares.settle(DEAD, Some(PID)).expect("sound");
        }
    }

    /// Holds a token for a while, as a process.
    fn hold_one(self, owner: OwnerId) {
        let shares = self.as_process(owner);
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut tick);
        let mut none = || Err(HandleError::Gone);
        let held = shares.hold(&mut patience, || self.look_after(), &mut none);
        assert_eq!(held.expect("room in the body"), Ok(()));
        assert_eq!(shares.give_back(&mut patience), Ok(Ok(true)));
    }

    fn enter(self, owner: OwnerId, access: Access) -> Acquired {
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut tick);
        let mut none = || Err(HandleError::Gone);
        let look_after = || self.look_after();
        let shares = self.as_process(owner);
        let entered = shares.enter(access, &mut patience, look_after, &mut none);
        entered.expect("room in the body").expect("patience")
    }

    fn leave(self, owner: OwnerId, access: Access) {
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut tick);
        let left = self.as_process(owner).leave(access, &mut patience);
        assert_eq!(left, Ok(Ok(true)));
    }
}

#[test]
#[ignore = "a model"]
fn shares_and_signals_meet_and_no_token_is_lost() {
    let house = House::with_tokens(1);
    Model::with_interruptions(2).explore(move || {
        let tokens = house.shares.tokens();
        let holder = spawn(move || house.hold_one(OTHERS[0]));
        assert_eq!(take(tokens, Deadline::NEVER), Ok(()));
        assert!(tokens.give());
        holder.join();
        assert_eq!(tokens.value(), 1);
    });
}

#[test]
#[ignore = "a model"]
fn a_killed_holders_token_goes_to_one_who_waits_for_it() {
    for_every_death(|stores, deaths| {
        let house = House::with_tokens(1);
        Model::with_interruptions(2).explore(move || {
            let mortal = spawn(move || {
                let done = run_and_count(stores, deaths, || house.hold_one(DEAD));
                kernel::end_process(PID);
                kernel::end_slices();
                done
            });
            house.hold_one(OTHERS[0]);
            mortal.join();
            house.look_after();
            assert_eq!(house.shares.tokens().value(), 1);
        });
    });
}

#[test]
#[ignore = "a model"]
fn a_killed_holders_token_comes_back_once_while_two_settle_its_shares() {
    for_every_death(|stores, deaths| {
        let house = House::with_tokens(1);
        Model::with_interruptions(3).explore(move || {
            let mortal = spawn(move || run_and_count(stores, deaths, || house.hold_one(DEAD)));
            mortal.join();
            kernel::end_process(PID);
            let other = spawn(move || house.look_after());
            house.look_after();
            house.hold_one(OTHERS[0]);
            other.join();
            assert_eq!(house.shares.tokens().value(), 1);
        });
    });
}

/// Two words that are equal whenever nobody writes.
#[derive(Default)]
struct Pair {
    first: Word64,
    second: Word64,
}

impl Pair {
    fn check(&self) {
        assert_eq!(self.first.load(Relaxed), self.second.load(Relaxed));
    }

    fn add_one(&self) {
        let next = self.first.load(Relaxed) + 1;
        self.first.store(next, Relaxed);
        self.second.store(next, Relaxed);
    }
}

#[test]
#[ignore = "a model"]
fn readers_see_whole_writes_and_nobody_sleeps_for_ever() {
    let (house, pair): (House, &'static Pair) =
        (House::of(Family::make_rw_lock), Box::leak(Box::default()));
    Model::with_interruptions(2).explore(move || {
        let write = move |owner| {
            assert_eq!(house.enter(owner, Access::Write), Acquired::Clean);
            pair.add_one();
            house.leave(owner, Access::Write);
        };
        let writer = spawn(move || write(OTHERS[0]));
        let reader = spawn(move || {
            assert_eq!(house.enter(OTHERS[1], Access::Read), Acquired::Clean);
            pair.check();
            house.leave(OTHERS[1], Access::Read);
        });
        write(OTHERS[2]);
        writer.join();
        reader.join();
        assert_eq!(pair.first.load(Relaxed), 2);
    });
}

#[test]
#[ignore = "a model"]
fn a_writer_that_is_killed_at_any_store_keeps_no_reader_out_and_is_reported() {
    for_every_death(|stores, deaths| {
        let house = House::of(Family::make_rw_lock);
        Model::with_interruptions(2).explore(move || {
            let mortal = spawn(move || {
                let done = run_and_count(stores, deaths, || {
                    let _ = house.enter(DEAD, Access::Write);
                    house.leave(DEAD, Access::Write);
                });
                let wrote = house.as_process(DEAD).count_of(DEAD) == Ok(MOST);
                kernel::end_process(PID);
                kernel::end_slices();
                done.is_none() && wrote
            });
            let _ = house.enter(OTHERS[0], Access::Read);
            house.leave(OTHERS[0], Access::Read);
            let died_inside = mortal.join();
            house.look_after();
            let expected = match died_inside {
                true => Acquired::HolderDied(PID),
                false => Acquired::Clean,
            };
            assert_eq!(house.enter(OTHERS[0], Access::Write), expected);
            house.leave(OTHERS[0], Access::Write);
            assert_eq!(house.enter(OTHERS[0], Access::Read), Acquired::Clean);
            house.leave(OTHERS[0], Access::Read);
        });
    });
}
