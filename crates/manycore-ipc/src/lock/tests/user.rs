//! The user's lock when holders, waiters and reapers die or meet.

use manycore_os::Deadline;

use crate::crash::{interrupted, run_until_death};
use crate::lock::{Acquired, UserLock};
use crate::registry::OwnerId;
use crate::wait::{GaveUp, Patience};

const ME: OwnerId = OwnerId::from_bits(0x1001);
const DEAD: OwnerId = OwnerId::from_bits(0x1002);
const OTHER: OwnerId = OwnerId::from_bits(0x1003);
const PID: u32 = 77;

fn lock() -> UserLock {
    let lock = UserLock::for_test();
    lock.initialise(false);
    lock
}

fn acquire(lock: &UserLock, until: Deadline, check: impl FnMut(u32)) -> Result<Acquired, GaveUp> {
    let mut tick = || true;
    lock.acquire(ME, &mut Patience::new(until, &mut tick), check)
}

#[test]
fn a_holder_that_dies_at_any_store_leaves_a_lock_that_the_next_one_gets() {
    for stores in 0.. {
        let lock = lock();
        let finished = run_until_death(stores, || {
            let _ = lock.try_acquire(DEAD);
            lock.enter(1);
            assert!(lock.reenter(DEAD, 1));
            lock.leave(DEAD, 1);
            lock.leave(DEAD, 1)
        });
        let held = lock.holder() == Some(UserLock::name_of(DEAD));
        lock.hand_over(DEAD, PID);
        let expected = if held {
            Acquired::HolderDied(PID)
        } else {
            Acquired::Clean
        };
        assert_eq!(
            acquire(&lock, Deadline::PASSED, |_| ()),
            Ok(expected),
            "after {stores} stores"
        );
        assert!(
            !lock.is_held_by(ME, 1),
            "what the dead one noted about its thread is not about this one"
        );
        lock.enter(2);
        assert_eq!((lock.depth(), lock.leave(ME, 2)), (1, Some(true)));
        assert_eq!(
            lock.try_acquire(OTHER),
            Some(Acquired::Clean),
            "reported once"
        );
        if finished.is_some() {
            assert!(!held);
            break;
        }
    }
}

#[test]
fn a_reaper_that_dies_at_any_store_leaves_a_lock_that_the_next_one_hands_over() {
    for stores in 0.. {
        let lock = lock();
        let _ = lock.try_acquire(DEAD);
        let finished = run_until_death(stores, || lock.hand_over(DEAD, PID));
        lock.hand_over(DEAD, PID);
        assert_eq!(
            lock.try_acquire(ME),
            Some(Acquired::HolderDied(PID)),
            "after {stores} stores"
        );
        if finished.is_some() {
            break;
        }
    }
}

#[test]
fn a_hand_over_that_was_stopped_does_not_take_the_lock_from_its_new_owner() {
    for stores in 0.. {
        let lock: &'static UserLock = Box::leak(Box::new(lock()));
        let _ = lock.try_acquire(DEAD);
        let meanwhile = move || {
            lock.hand_over(DEAD, PID);
            assert_eq!(lock.try_acquire(OTHER), Some(Acquired::HolderDied(PID)));
            lock.enter(3);
        };
        let ((), was_stopped) = interrupted(stores, meanwhile, || lock.hand_over(DEAD, PID));
        if !was_stopped {
            break;
        }
        assert_eq!(
            lock.leave(OTHER, 3),
            Some(true),
            "its own, {stores} stores into the other hand-over"
        );
        assert_eq!(
            lock.try_acquire(ME),
            Some(Acquired::Clean),
            "and reported once"
        );
    }
}

#[test]
fn a_hand_over_that_was_stopped_hides_neither_its_own_report_nor_a_later_one() {
    type Meanwhile = fn(&UserLock);
    let another_hand_over: Meanwhile = |lock| lock.hand_over(DEAD, PID);
    let a_later_death: Meanwhile = |lock| {
        lock.hand_over(DEAD, PID);
        assert_eq!(lock.try_acquire(OTHER), Some(Acquired::HolderDied(PID)));
        lock.hand_over(OTHER, PID + 1);
    };
    for (meanwhile, pid) in [(another_hand_over, PID), (a_later_death, PID + 1)] {
        for stores in 0.. {
            let lock: &'static UserLock = Box::leak(Box::new(lock()));
            let _ = lock.try_acquire(DEAD);
            let others = move || meanwhile(lock);
            let ((), was_stopped) = interrupted(stores, others, || lock.hand_over(DEAD, PID));
            if !was_stopped {
                break;
            }
            let acquired = lock.try_acquire(ME);
            assert_eq!(
                acquired,
                Some(Acquired::HolderDied(pid)),
                "{stores} stores into the first hand-over"
            );
            assert!(lock.release());
            assert_eq!(lock.try_acquire(ME), Some(Acquired::Clean), "once");
        }
    }
}

#[test]
fn who_repairs_a_lock_and_dies_at_any_store_leaves_it_free_or_to_be_repaired() {
    for repairs in [false, true] {
        for stores in 0.. {
            let lock = lock();
            lock.initialise(true);
            let _ = lock.try_acquire(OTHER);
            lock.hand_over(OTHER, PID);
            let mut tick = || true;
            let mut patience = Patience::new(Deadline::PASSED, &mut tick);
            let finished = run_until_death(stores, || {
                let _ = lock.acquire_to_repair(DEAD, &mut patience, |_| ());
                assert_eq!(
                    acquire(&lock, Deadline::PASSED, |_| ()),
                    Err(GaveUp::TimedOut)
                );
                if repairs {
                    assert!(lock.release());
                } else {
                    lock.leave_unrepaired();
                    lock.release();
                }
            });
            let expected = match (lock.holder(), lock.dead_holder()) {
                (Some(_), _) => Acquired::Refused(PID + 1),
                (None, Some(_)) => Acquired::Refused(PID),
                (None, None) => Acquired::Clean,
            };
            let is_over = expected == Acquired::Clean; // it may have died over what comes after its release
            assert!(if finished.is_some() {
                is_over == repairs
            } else {
                !is_over || repairs
            });
            lock.hand_over(DEAD, PID + 1);
            let acquired = acquire(&lock, Deadline::PASSED, |_| ());
            assert_eq!(acquired, Ok(expected), "after {stores} stores");
            if finished.is_some() {
                break;
            }
        }
    }
}

#[test]
fn who_gives_up_after_a_wake_up_leaves_the_bit_to_those_that_still_sleep() {
    let lock = lock();
    let _ = lock.try_acquire(DEAD);
    // While this process looks after the holder, the lock is released (which wakes one) and taken anew.
    let gave_up = acquire(&lock, Deadline::PASSED, |_| {
        assert!(lock.release());
        let _ = lock.try_acquire(OTHER);
    });
    assert_eq!(gave_up, Err(GaveUp::TimedOut));
    assert!(lock.has_waiters(), "the next release must wake another");
}

#[test]
fn a_lock_that_is_free_at_the_deadline_is_taken() {
    let lock = lock();
    let _ = lock.try_acquire(DEAD);
    let acquired = acquire(&lock, Deadline::PASSED, |_| lock.hand_over(DEAD, PID));
    assert_eq!(acquired, Ok(Acquired::HolderDied(PID)));
    assert!(lock.has_waiters(), "others may have slept beside this one");
}

#[test]
fn a_lock_that_refuses_is_repaired_before_anybody_gets_it() {
    let (lock, me, other) = (lock(), ME, OTHER);
    lock.initialise(true);
    assert_eq!(lock.try_acquire(other), Some(Acquired::Clean));
    lock.hand_over(other, 77);
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut tick);
    for _ in 0..2 {
        assert_eq!(lock.try_acquire(me), Some(Acquired::Refused(77)));
        let refused = lock.acquire(me, &mut patience, |_| ());
        assert_eq!(refused, Ok(Acquired::Refused(77)));
        assert!(!lock.release(), "nobody has it");
        assert_eq!(lock.dead_holder(), Some(77));
        let taken = lock.acquire_to_repair(me, &mut patience, |_| ());
        assert_eq!(taken, Ok(Acquired::HolderDied(77)));
        assert_eq!((lock.dead_holder(), lock.try_acquire(other)), (None, None));
        lock.leave_unrepaired();
        lock.release();
    }
    let taken = lock.acquire_to_repair(me, &mut patience, |_| ());
    assert_eq!(taken, Ok(Acquired::HolderDied(77)));
    assert!(lock.release());
    assert_eq!(lock.try_acquire(other), Some(Acquired::Clean));
}

#[test]
fn who_gives_up_in_the_middle_is_named_until_it_is_repaired() {
    let (lock, me, other) = (lock(), ME, OTHER);
    lock.initialise(true);
    assert_eq!(lock.try_acquire(other), Some(Acquired::Clean));
    lock.abandon(other, 78);
    assert!(lock.release());
    assert_eq!(lock.try_acquire(me), Some(Acquired::Refused(78)));
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut tick);
    for is_last in [false, true] {
        let taken = lock.acquire_to_repair(me, &mut patience, |_| ());
        assert_eq!(taken, Ok(Acquired::HolderDied(78)));
        lock.leave_unrepaired();
        if is_last {
            lock.repaired();
        }
        assert!(lock.release());
    }
    assert_eq!(lock.try_acquire(other), Some(Acquired::Clean));
}

#[test]
fn anyone_may_release_and_twice_is_noticed() {
    let (lock, me) = (lock(), ME);
    assert_eq!(lock.try_acquire(me), Some(Acquired::Clean));
    assert_eq!(lock.try_acquire(OTHER), None);
    assert!(lock.release());
    assert!(!lock.release());
}

#[test]
fn a_killed_holders_lock_is_handed_over_with_its_pid_once() {
    let (lock, me, other) = (lock(), ME, OTHER);
    assert_eq!(lock.try_acquire(other), Some(Acquired::Clean));
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut tick);
    let acquired = lock.acquire(me, &mut patience, |holder| {
        assert_eq!(holder, UserLock::name_of(other));
        lock.hand_over(other, 77);
        lock.hand_over(other, 77);
    });
    assert_eq!(acquired, Ok(Acquired::HolderDied(77)));
    lock.release();
    assert_eq!(lock.try_acquire(me), Some(Acquired::Clean));
}

#[test]
fn a_recursive_lock_belongs_to_one_thread() {
    let (lock, me) = (lock(), ME);
    assert!(lock.try_acquire(me).is_some());
    lock.enter(1);
    assert!(lock.reenter(me, 1));
    assert!(!lock.reenter(me, 2));
    assert_eq!(lock.leave(me, 2), None);
    assert_eq!(lock.leave(me, 1), Some(false));
    assert_eq!(lock.leave(me, 1), Some(true));
    assert_eq!(lock.leave(me, 1), None);
}

#[test]
fn a_recursive_lock_can_be_left_for_a_while() {
    let (lock, me) = (lock(), ME);
    assert!(lock.try_acquire(me).is_some());
    lock.enter(1);
    assert!(lock.reenter(me, 1) && lock.reenter(me, 1));
    assert_eq!(lock.leave_all(me, 2), None);
    assert_eq!(lock.leave_all(me, 1), Some(3));
    assert_eq!(lock.try_acquire(me), Some(Acquired::Clean));
    lock.enter_times(1, 3);
    for is_last in [false, false, true] {
        assert_eq!(lock.leave(me, 1), Some(is_last));
    }
}
