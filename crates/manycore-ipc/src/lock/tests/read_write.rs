//! Reader-writer locks when readers and writers die or meet.

use std::sync::atomic::Ordering::Relaxed;

use manycore_os::Deadline;

use super::shares::{on_behalf_of, while_another_is_inside};
use crate::crash::run_until_death;
use crate::error::HandleError;
use crate::family::{Family, Hold};
use crate::heap::layout::LEAST;
use crate::lock::{Access, Acquired, Shares};
use crate::registry::OwnerId;
use crate::wait::patience::WAITS_IN_VAIN;
use crate::wait::{GaveUp, Patience};

const DEAD: OwnerId = OwnerId::from_bits(0x1002);
const OTHER: OwnerId = OwnerId::from_bits(0x1003);
const PID: u32 = 77;

fn lock() -> (Shares, Hold) {
    let family = Family::create_with(LEAST).expect("a small heap");
    let hold = family.make_rw_lock().expect("room");
    (hold.rw_lock().expect("a reader-writer lock"), hold)
}

fn enter_after(
    shares: &Shares,
    access: Access,
    look_after: impl FnMut(),
) -> Result<Acquired, GaveUp> {
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::PASSED, &mut tick);
    let mut none = || Err(HandleError::Gone);
    let entered = shares.enter(access, &mut patience, look_after, &mut none);
    entered.expect("room in the body")
}

/// Enters without waiting for anybody.
fn enter(shares: &Shares, access: Access) -> Result<Acquired, GaveUp> {
    enter_after(shares, access, || ())
}

const CLEAN: Result<Acquired, GaveUp> = Ok(Acquired::Clean);
const BUSY: Result<Acquired, GaveUp> = Err(GaveUp::TimedOut);

#[test]
fn many_read_together_and_one_writes_alone() {
    let (me, hold) = lock();
    let other = on_behalf_of(&hold, &me, OTHER);
    assert_eq!(enter(&me, Access::Read), CLEAN);
    assert_eq!(enter(&other, Access::Read), CLEAN);
    assert_eq!(enter(&other, Access::Read), CLEAN, "twice");
    assert_eq!(me.readers_and_writer(), (3, false));
    assert_eq!(enter(&other, Access::Write), BUSY);
    assert_eq!(
        other.leave_at_once(Access::Write),
        Ok(Some(false)),
        "it reads"
    );
    for shares in [&me, &other, &other] {
        assert_eq!(shares.leave_at_once(Access::Read), Ok(Some(true)));
    }
    assert_eq!(enter(&other, Access::Write), CLEAN);
    assert_eq!(me.readers_and_writer(), (0, true));
    for access in [Access::Read, Access::Write] {
        assert_eq!(enter(&me, access), BUSY);
        assert_eq!(me.leave_at_once(access), Ok(Some(false)), "it is another's");
    }
    assert_eq!(
        other.leave_at_once(Access::Read),
        Ok(Some(false)),
        "it writes"
    );
    assert_eq!(other.leave_at_once(Access::Write), Ok(Some(true)));
    assert_eq!(me.readers_and_writer(), (0, false));
}

#[test]
fn a_writer_that_waits_keeps_new_readers_out_and_none_that_reads_already() {
    let (me, hold) = lock();
    let (other, third) = (
        on_behalf_of(&hold, &me, OTHER),
        on_behalf_of(&hold, &me, DEAD),
    );
    assert_eq!(enter(&me, Access::Read), CLEAN);
    let gave_up = enter_after(&other, Access::Write, || {
        assert_eq!(enter(&third, Access::Read), BUSY, "a writer waits");
        assert_eq!(enter(&me, Access::Read), CLEAN, "it would wait for itself");
        assert_eq!(me.leave_at_once(Access::Read), Ok(Some(true)));
    });
    assert_eq!(gave_up, BUSY);
    assert_eq!(enter(&third, Access::Read), CLEAN, "no writer waits");
}

#[test]
fn a_writer_that_is_killed_while_it_waits_keeps_nobody_out() {
    let (me, hold) = lock();
    let dead = on_behalf_of(&hold, &me, DEAD);
    let reader = on_behalf_of(&hold, &me, OTHER);
    assert_eq!(enter(&reader, Access::Read), CLEAN);
    for stores in 0.. {
        let finished = run_until_death(stores, || enter(&dead, Access::Write));
        me.settle(DEAD, Some(PID)).expect("sound");
        assert_eq!(enter(&me, Access::Read), CLEAN, "after {stores} stores");
        assert_eq!(me.leave_at_once(Access::Read), Ok(Some(true)));
        if finished.is_some() {
            break;
        }
    }
}

#[test]
fn who_dies_at_any_store_leaves_a_lock_that_the_next_ones_get() {
    for access in [Access::Read, Access::Write] {
        for stores in 0.. {
            let (me, hold) = lock();
            let dead = on_behalf_of(&hold, &me, DEAD);
            let finished = run_until_death(stores, || {
                assert_eq!(enter(&dead, access), CLEAN);
                assert_eq!(dead.leave_at_once(access), Ok(Some(true)));
            });
            let wrote = me.readers_and_writer().1;
            me.settle(DEAD, Some(PID)).expect("sound");
            let expected = match wrote {
                true => Ok(Acquired::HolderDied(PID)),
                false => CLEAN,
            };
            assert_eq!(me.dead_writer(), wrote.then_some(PID));
            for access in [Access::Read, Access::Read, Access::Write] {
                assert_eq!(enter(&me, access), expected, "after {stores} stores");
                assert_eq!(me.leave_at_once(access), Ok(Some(true)));
            }
            assert_eq!(enter(&me, Access::Read), CLEAN, "a writer was told");
            if finished.is_some() {
                assert!(!wrote);
                break;
            }
        }
    }
}

#[test]
fn a_reaper_that_dies_at_any_store_leaves_the_writers_death_to_report() {
    for stores in 0.. {
        let (me, hold) = lock();
        let (dead, other) = (
            on_behalf_of(&hold, &me, DEAD),
            on_behalf_of(&hold, &me, OTHER),
        );
        assert_eq!(enter(&dead, Access::Write), CLEAN);
        let finished = run_until_death(stores, || other.settle(DEAD, Some(PID)));
        me.settle(DEAD, Some(PID)).expect("sound");
        assert_eq!(enter(&me, Access::Write), Ok(Acquired::HolderDied(PID)));
        if finished.is_some() {
            break;
        }
    }
}

#[test]
fn a_writer_that_dies_at_once_is_reported_in_place_of_the_one_before() {
    let (me, hold) = lock();
    for (owner, pid) in [(DEAD, PID), (OTHER, PID + 1)] {
        let dead = on_behalf_of(&hold, &me, owner);
        assert!(enter(&dead, Access::Write).is_ok());
        me.settle(owner, Some(pid)).expect("sound");
    }
    me.settle(DEAD, Some(PID)).expect("sound"); // late, and nothing to do
    assert_eq!(enter(&me, Access::Write), Ok(Acquired::HolderDied(PID + 1)));
}

#[test]
fn readers_and_writers_that_wait_for_another_that_changes_a_share_can_be_interrupted() {
    let (me, _hold) = lock();
    assert_eq!(enter(&me, Access::Read), CLEAN);
    while_another_is_inside(me.tokens(), || {
        let (mut interrupt, mut none) = (|| false, || Err(HandleError::Gone));
        let mut patience = Patience::new(Deadline::NEVER, &mut interrupt);
        WAITS_IN_VAIN.set(true);
        for access in [Access::Read, Access::Write] {
            let entered = me.enter(access, &mut patience, || (), &mut none);
            assert_eq!(entered, Ok(Err(GaveUp::Interrupted)));
        }
        let left = me.leave(Access::Read, &mut patience);
        assert_eq!(left, Ok(Err(GaveUp::Interrupted)));
        assert_eq!(me.try_enter(Access::Read), Ok(None));
        assert_eq!(me.leave_at_once(Access::Read), Ok(None));
    });
    assert_eq!(me.leave_at_once(Access::Read), Ok(Some(true)));
    assert_eq!(me.readers_and_writer(), (0, false));
}

#[test]
fn a_writer_that_gives_up_while_another_changes_a_share_keeps_nobody_out() {
    let (me, hold) = lock();
    let third = on_behalf_of(&hold, &me, DEAD);
    let tokens = me.tokens();
    tokens.writer.store(me.me().bits(), Relaxed); // it has looked, and sleeps
    while_another_is_inside(tokens, || {
        WAITS_IN_VAIN.set(true);
        assert_eq!(enter(&me, Access::Write), BUSY);
    });
    assert_eq!(enter(&third, Access::Read), CLEAN, "no writer waits");
}
