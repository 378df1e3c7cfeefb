//! The locks in every order of two or three threads' steps.

use std::sync::atomic::Ordering::Relaxed;

use manycore_os::Deadline;

use crate::crash::{for_every_death, run_and_count, run_until_death};
use crate::lock::{Acquired, EngineLock, Locked, UserLock};
use crate::model::{Model, kernel, spawn};
use crate::registry::OwnerId;
use crate::wait::Patience;
use crate::word::Word64;

/// Two words that are equal whenever nobody is inside.
#[derive(Default)]
struct Pair {
    first: Word64,
    second: Word64,
}

impl Pair {
    fn values(&self) -> (u64, u64) {
        (self.first.load(Relaxed), self.second.load(Relaxed))
    }

    fn repair(&self) {
        self.second.store(self.first.load(Relaxed), Relaxed);
    }

    fn add_one(&self) {
        let (first, second) = self.values();
        assert_eq!(first, second, "somebody else is inside");
        self.first.store(first + 1, Relaxed);
        self.second.store(first + 1, Relaxed);
    }
}

/// An engine lock and what it guards.
#[derive(Default)]
struct Guarded {
    lock: EngineLock,
    pair: Pair,
}

impl Guarded {
    fn new() -> &'static Self {
        Box::leak(Box::default())
    }

    /// Adds one under the lock, and repairs the pair first where an owner died. Whether it had to.
    fn add_one(&self) -> bool {
        let mut tick = || true;
        let locked = self
            .lock
            .lock(&mut Patience::new(Deadline::NEVER, &mut tick), &|_| true);
        let (_guard, died) = match locked.expect("this patience never ends") {
            Locked::Clean(guard) => (guard, false),
            Locked::OwnerDied(guard) => {
                self.pair.repair();
                guard.repaired();
                (guard, true)
            }
        };
        self.pair.add_one();
        died
    }
}

#[test]
#[ignore = "a model"]
fn two_threads_are_never_inside_at_once_and_none_sleeps_for_ever() {
    let guarded = Guarded::new();
    Model::with_interruptions(4).explore(move || {
        let other = spawn(move || guarded.add_one() || guarded.add_one());
        guarded.add_one();
        other.join();
        assert_eq!(guarded.pair.values(), (3, 3));
    });
}

#[test]
#[ignore = "a model"]
fn of_three_threads_none_sleeps_for_ever() {
    let guarded = Guarded::new();
    Model::with_interruptions(3).explore(move || {
        let others = [(); 2].map(|()| spawn(move || guarded.add_one()));
        guarded.add_one();
        for other in others {
            other.join();
        }
        assert_eq!(guarded.pair.values(), (3, 3));
    });
}

#[test]
#[ignore = "a model"]
fn the_kernels_mark_lets_another_in_whatever_store_an_owner_dies_at() {
    for_every_death(|stores, deaths| {
        let guarded = Guarded::new();
        Model::exhaustive().explore(move || {
            let mortal = spawn(move || run_and_count(stores, deaths, || guarded.add_one()));
            guarded.add_one();
            let has_died = mortal.join().is_none();
            guarded.add_one();
            let (first, second) = guarded.pair.values();
            assert_eq!(first, second);
            assert!(first == 3 || (has_died && first == 2));
        });
    });
}

#[test]
#[ignore = "a model"]
fn of_two_that_wait_for_an_owner_that_dies_both_get_in() {
    for_every_death(|stores, deaths| {
        let guarded = Guarded::new();
        Model::with_interruptions(2).explore(move || {
            let mortal = spawn(move || run_and_count(stores, deaths, || guarded.add_one()));
            let other = spawn(move || guarded.add_one());
            guarded.add_one();
            other.join();
            mortal.join();
            let (first, second) = guarded.pair.values();
            assert!(first >= 2 && first - second <= 1);
        });
    });
}

#[test]
#[ignore = "a model"]
fn a_wake_up_that_was_given_to_a_dying_thread_is_passed_on() {
    let guarded = Guarded::new();
    Model::with_interruptions(3).explore(move || {
        let mortal = spawn(move || {
            kernel::die_when_woken();
            run_until_death(u64::MAX, || guarded.add_one())
        });
        let other = spawn(move || guarded.add_one());
        guarded.add_one();
        other.join();
        mortal.join();
    });
}

const DEAD: OwnerId = OwnerId::from_bits(0x1001);
const PID: u32 = 77;

/// A lock of the user's and what it guards.
struct Owned {
    lock: UserLock,
    pair: Pair,
}

impl Owned {
    fn new() -> &'static Self {
        Box::leak(Box::new(Self {
            lock: UserLock::for_test(),
            pair: Pair::default(),
        }))
    }

    /// Adds one, as the process `me`. Whether the last holder was killed.
    fn add_one(&self, me: OwnerId) -> bool {
        let mut tick = || true;
        let acquired = self.lock.acquire(
            me,
            &mut Patience::new(Deadline::NEVER, &mut tick),
            |holder| {
                if holder == UserLock::name_of(DEAD) && kernel::has_ended(PID) {
                    self.lock.hand_over(DEAD, PID);
                }
            },
        );
        let died = acquired.expect("this patience never ends") != Acquired::Clean;
        if died {
            self.pair.repair();
        }
        self.pair.add_one();
        assert!(self.lock.release(), "held by this thread");
        died
    }
}

const OTHERS: [OwnerId; 3] = [
    OwnerId::from_bits(0x1002),
    OwnerId::from_bits(0x1003),
    OwnerId::from_bits(0x1004),
];

#[test]
#[ignore = "a model"]
fn a_users_lock_lets_one_in_at_a_time_and_wakes_all_who_wait() {
    let owned = Owned::new();
    Model::with_interruptions(2).explore(move || {
        let others = [OTHERS[1], OTHERS[2]].map(|me| spawn(move || owned.add_one(me)));
        owned.add_one(OTHERS[0]);
        for other in others {
            assert!(!other.join());
        }
        assert_eq!(owned.pair.values(), (3, 3));
    });
}

#[test]
#[ignore = "a model"]
fn a_killed_holders_lock_passes_on_to_one_who_is_told_while_two_hand_it_over() {
    for_every_death(|stores, deaths| {
        let owned = Owned::new();
        Model::with_interruptions(2).explore(move || {
            let mortal = spawn(move || {
                let done = run_and_count(stores, deaths, || owned.add_one(DEAD));
                let holds = owned.lock.holder() == Some(UserLock::name_of(DEAD));
                kernel::end_process(PID);
                kernel::end_slices();
                done.is_none() && holds
            });
            let other = spawn(move || owned.add_one(OTHERS[1]));
            let reports = u32::from(owned.add_one(OTHERS[0])) + u32::from(other.join());
            let died_inside = mortal.join();
            let last = u32::from(owned.add_one(OTHERS[2])); // the others may have gone before the mortal came
            assert_eq!(reports + last, u32::from(died_inside));
            assert_eq!(owned.lock.holder(), None);
        });
    });
}

#[test]
#[ignore = "a model"]
fn a_late_hand_over_takes_neither_the_lock_from_who_has_it_by_now_nor_what_it_is_told() {
    let owned = Owned::new();
    let _ = owned.lock.try_acquire(DEAD);
    Model::with_interruptions(3).explore(move || {
        let reaper = spawn(move || owned.lock.hand_over(DEAD, PID));
        owned.lock.hand_over(DEAD, PID);
        let told = owned.lock.try_acquire(OTHERS[0]);
        assert_eq!(told, Some(Acquired::HolderDied(PID)));
        reaper.join();
        assert_eq!(owned.lock.holder(), Some(UserLock::name_of(OTHERS[0])));
        assert_eq!(owned.lock.try_acquire(OTHERS[1]), None);
    });
}

#[test]
#[ignore = "a model"]
fn a_late_hand_over_does_not_replace_what_is_told_of_a_later_death() {
    let owned = Owned::new();
    let _ = owned.lock.try_acquire(DEAD);
    Model::with_interruptions(3).explore(move || {
        let late = spawn(move || owned.lock.hand_over(DEAD, PID));
        owned.lock.hand_over(DEAD, PID);
        let _ = owned.lock.try_acquire(OTHERS[0]); // and is killed
        owned.lock.hand_over(OTHERS[0], PID + 1);
        let told = owned.lock.try_acquire(OTHERS[1]);
        assert_eq!(told, Some(Acquired::HolderDied(PID + 1)));
        late.join();
        assert_eq!(owned.lock.holder(), Some(UserLock::name_of(OTHERS[1])));
    });
}
