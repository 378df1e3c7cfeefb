//! Tokens that are taken as signals and as shares, and those who die with them.

use std::sync::mpsc;

use manycore_os::Deadline;

use crate::block::Blocks;
use crate::crash::{interrupted, run_until_death};
use crate::family::{Family, Hold};
use crate::heap::layout::LEAST;
use crate::lock::tokens::{INLINE, MOST};
use crate::lock::{Shares, Tokens};
use crate::registry::OwnerId;
use crate::wait::patience::WAITS_IN_VAIN;
use crate::wait::{GaveUp, Patience};

const DEAD: OwnerId = OwnerId::from_bits(0x1002);
const OTHER: OwnerId = OwnerId::from_bits(0x1003);
const PID: u32 = 77;

/// A semaphore, and its object as long as the test lasts.
fn semaphore(value: u32, returns: bool) -> (Shares, Hold) {
    let family = Family::create_with(LEAST).expect("a small heap");
    let hold = family.make_semaphore(value, MOST, returns).expect("room");
    (hold.semaphore_shares().expect("a semaphore"), hold)
}

/// The same on behalf of another, imaginary process.
pub(super) fn on_behalf_of(hold: &Hold, shares: &Shares, owner: OwnerId) -> Shares {
    let blocks = Blocks::new(hold.family().heap(), owner);
    Shares::new(shares.tokens(), hold.handle().index, blocks)
}

fn try_hold(shares: &Shares) -> bool {
    let held = shares.hold_at_once().expect("sound");
    held.expect("nobody is inside, and there is room in the body")
}

fn take(tokens: &Tokens, until: Deadline, look_after: impl FnMut()) -> Result<(), GaveUp> {
    let mut tick = || true;
    tokens.take(&mut Patience::new(until, &mut tick), look_after)
}

#[test]
fn as_many_tokens_can_be_taken_as_there_are() {
    let tokens = Tokens::for_test(2, 3);
    assert!(tokens.try_take() && tokens.try_take() && !tokens.try_take());
    assert!(tokens.give() && tokens.give() && tokens.give());
    assert!(!tokens.give(), "as many are there as there may be");
    assert_eq!(tokens.value(), 3);
}

#[test]
fn a_share_is_a_processs_own_and_comes_back_once_when_it_is_killed() {
    let (me, hold) = semaphore(3, false);
    let dead = on_behalf_of(&hold, &me, DEAD);
    assert!(try_hold(&dead) && try_hold(&dead) && try_hold(&me) && !try_hold(&me));
    for _ in 0..2 {
        me.settle(DEAD, Some(PID)).expect("sound");
        assert_eq!(me.tokens().value(), 2);
    }
    assert_eq!(me.count_of(me.me()), Ok(1));
    assert_eq!(me.count_of(DEAD), Ok(0));
    assert_eq!(me.give_back_at_once(), Ok(Some(true)));
    assert_eq!(me.tokens().value(), 3);
}

#[test]
fn what_a_process_has_when_it_leaves_in_order_stays_taken_and_is_forgotten() {
    let (me, hold) = semaphore(1, false);
    assert!(try_hold(&on_behalf_of(&hold, &me, DEAD)));
    me.settle(DEAD, None).expect("sound");
    me.settle(DEAD, Some(PID)).expect("sound");
    assert_eq!((me.tokens().value(), me.count_of(DEAD)), (0, Ok(0)));
}

#[test]
fn a_process_that_takes_over_a_slot_inherits_nothing() {
    let (me, hold) = semaphore(1, false);
    assert!(try_hold(&on_behalf_of(&hold, &me, DEAD)));
    let successor = OwnerId::new(DEAD.slot(), DEAD.generation() + 1);
    me.settle(successor, Some(PID)).expect("sound");
    assert_eq!((me.tokens().value(), me.count_of(DEAD)), (0, Ok(1)));
}

#[test]
fn who_has_no_share_gives_a_token_all_the_same() {
    let (me, hold) = semaphore(1, false);
    assert!(try_hold(&on_behalf_of(&hold, &me, DEAD)));
    assert_eq!(me.give_back_at_once(), Ok(Some(true)));
    assert_eq!((me.tokens().value(), me.count_of(DEAD)), (1, Ok(1)));
}

#[test]
fn where_all_tokens_are_shares_their_number_stays_the_same() {
    let (me, hold) = semaphore(2, true);
    let dead = on_behalf_of(&hold, &me, DEAD);
    assert!(try_hold(&dead) && try_hold(&dead));
    assert_eq!(
        me.give_back_at_once(),
        Ok(Some(true)),
        "what another one had"
    );
    assert_eq!((me.tokens().value(), me.count_of(DEAD)), (1, Ok(1)));
    me.settle(DEAD, Some(PID)).expect("sound");
    assert_eq!(me.tokens().value(), 2);
}

#[test]
fn a_token_too_many_ends_the_share_that_it_was_of() {
    let family = Family::create_with(LEAST).expect("a small heap");
    let hold = family.make_semaphore(1, 1, false).expect("room");
    let me = hold.semaphore_shares().expect("a semaphore");
    assert!(try_hold(&me) && me.tokens().give());
    assert_eq!(me.give_back_at_once(), Ok(Some(false)));
    assert_eq!((me.tokens().value(), me.count_of(me.me())), (1, Ok(0)));
}

#[test]
fn a_holder_that_dies_at_any_store_leaves_all_tokens() {
    for stores in 0.. {
        let (me, hold) = semaphore(2, false);
        let dead = on_behalf_of(&hold, &me, DEAD);
        let finished = run_until_death(stores, || {
            assert!(try_hold(&dead) && try_hold(&dead) && !try_hold(&dead));
            assert_eq!(dead.give_back_at_once(), Ok(Some(true)));
            assert_eq!(dead.give_back_at_once(), Ok(Some(true)));
        });
        me.settle(DEAD, Some(PID)).expect("sound");
        assert_eq!(me.tokens().value(), 2, "after {stores} stores");
        assert!(try_hold(&me) && try_hold(&me) && !try_hold(&me));
        if finished.is_some() {
            break;
        }
    }
}

#[test]
fn a_reaper_that_dies_at_any_store_leaves_the_rest_to_the_next_one() {
    for stores in 0.. {
        let (me, hold) = semaphore(3, false);
        let (dead, other) = (
            on_behalf_of(&hold, &me, DEAD),
            on_behalf_of(&hold, &me, OTHER),
        );
        assert!(try_hold(&dead) && try_hold(&dead) && try_hold(&me));
        let finished = run_until_death(stores, || other.settle(DEAD, Some(PID)));
        me.settle(DEAD, Some(PID)).expect("sound");
        assert_eq!(me.tokens().value(), 2, "after {stores} stores");
        if finished.is_some() {
            break;
        }
    }
}

#[test]
fn tokens_that_are_given_and_taken_while_a_share_changes_are_all_there() {
    for steps in 0.. {
        let (me, hold) = semaphore(2, false);
        let tokens = me.tokens();
        let meanwhile = move || {
            assert!(tokens.try_take());
            assert!(tokens.give() && tokens.give());
        };
        let (held, was_stopped) = interrupted(steps, meanwhile, || try_hold(&me));
        assert!(held);
        let given = u32::from(was_stopped);
        assert_eq!(tokens.value(), 1 + given);
        assert_eq!(me.count_of(hold.family().me().expect("registered")), Ok(1));
        if !was_stopped {
            break;
        }
    }
}

#[test]
fn who_gives_up_after_a_wake_up_leaves_the_bit_to_those_that_still_sleep() {
    let tokens = Tokens::for_test(0, MOST);
    let gave_up = take(tokens, Deadline::PASSED, || {
        assert!(tokens.give(), "which wakes one");
        assert!(tokens.try_take(), "and another one is quicker");
    });
    assert_eq!(gave_up, Err(GaveUp::TimedOut));
    assert!(tokens.has_waiters(), "the next who gives must wake another");
}

#[test]
fn a_token_that_comes_back_at_the_deadline_is_taken() {
    let (me, hold) = semaphore(1, false);
    assert!(try_hold(&on_behalf_of(&hold, &me, DEAD)));
    let settle = || assert_eq!(me.settle(DEAD, Some(PID)), Ok(true));
    assert_eq!(take(me.tokens(), Deadline::PASSED, settle), Ok(()));
    assert!(
        me.tokens().has_waiters(),
        "others may have slept beside this one"
    );
}

#[test]
fn a_change_that_names_no_share_is_damage() {
    let (me, _hold) = semaphore(1, false);
    let beyond = (INLINE as u64) << 48; // there is no block
    me.tokens()
        .journal
        .store(beyond, std::sync::atomic::Ordering::Relaxed);
    assert!(me.count_of(DEAD).is_err());
}

/// Runs something while another thread is where shares are changed, and does not go on.
pub(crate) fn while_another_is_inside<R>(tokens: &'static Tokens, then: impl FnOnce() -> R) -> R {
    let (enter, entered) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let inside = std::thread::spawn(move || {
        let held = tokens.lock.try_lock();
        enter.send(held.is_some()).expect("waited for");
        let _ = may_go_on.recv(); // an error once nobody is there to tell it
        drop(held);
    });
    assert_eq!(entered.recv(), Ok(true));
    let result = then();
    drop(go_on);
    inside.join().expect("it only waits");
    result
}

#[test]
fn who_waits_for_another_that_changes_a_share_can_be_interrupted() {
    let (me, hold) = semaphore(2, false);
    assert!(try_hold(&me));
    while_another_is_inside(me.tokens(), || {
        let mut interrupt = || false;
        let mut patience = Patience::new(Deadline::NEVER, &mut interrupt);
        let held = hold.hold_token(&mut patience);
        assert_eq!(held, Ok(Err(GaveUp::Interrupted)));
        let given = me.give_back(&mut patience);
        assert_eq!(given, Ok(Err(GaveUp::Interrupted)));
        assert_eq!(
            (me.hold_at_once(), me.give_back_at_once()),
            (Ok(None), Ok(None))
        );
    });
    assert_eq!((me.tokens().value(), me.count_of(me.me())), (1, Ok(1)));
    assert_eq!(me.give_back_at_once(), Ok(Some(true)));
}

#[test]
fn who_wants_a_token_for_a_while_gives_up_while_another_changes_a_share() {
    let (me, hold) = semaphore(2, false);
    let held = while_another_is_inside(me.tokens(), || {
        WAITS_IN_VAIN.set(true);
        let mut tick = || true;
        hold.hold_token(&mut Patience::new(Deadline::PASSED, &mut tick))
    });
    assert_eq!(held, Ok(Err(GaveUp::TimedOut)));
    assert_eq!(me.tokens().value(), 2);
}
