//! The engine's lock when its owner dies, is slow, or is none.

use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use manycore_os::Deadline;
use manycore_os::robust::{OWNER_DIED, TID, WAITERS};

use crate::kernel::Holder;
use crate::lock::{EngineLock, Locked};
use crate::wait::Patience;

fn lock<T>(lock: &EngineLock, until: Deadline, then: impl FnOnce(Locked<'_>) -> T) -> Option<T> {
    let mut tick = || true;
    lock.lock(&mut Patience::new(until, &mut tick), &|_| true)
        .ok()
        .map(then)
}

#[test]
fn only_one_thread_is_inside_at_a_time() {
    let word = EngineLock::default();
    let count = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    lock(&word, Deadline::NEVER, |guard| {
                        // Not one atomic addition: two threads inside would lose some.
                        let seen = count.load(Relaxed);
                        count.store(seen + 1, Relaxed);
                        drop(guard);
                    })
                    .expect("never times out");
                }
            });
        }
    });
    assert_eq!(count.into_inner(), 80_000);
}

#[test]
fn the_next_owner_learns_that_the_last_one_died_until_it_has_repaired() {
    let word: &'static EngineLock = Box::leak(Box::default());
    let die_inside = || {
        std::thread::spawn(|| {
            let locked = word.try_lock();
            std::mem::forget(locked);
        })
        .join()
        .expect("it only forgets");
    };
    die_inside();
    for repair in [false, true] {
        lock(word, Deadline::NEVER, |locked| match locked {
            Locked::OwnerDied(guard) if repair => guard.repaired(),
            Locked::OwnerDied(guard) => std::mem::forget(guard),
            Locked::Clean(_) => panic!("its owner had died"),
        });
        if !repair {
            // Not repaired: forget left it held by this thread; mark it as the kernel would.
            Holder::current().retract();
            word.die_as_owner();
        }
    }
    lock(word, Deadline::NEVER, |locked| {
        assert!(matches!(locked, Locked::Clean(_)))
    });
}

#[test]
fn a_held_lock_is_given_up_at_the_deadline() {
    let word = EngineLock::default();
    let held = word.try_lock();
    assert!(held.is_some());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(lock(&word, Deadline::after(Duration::from_millis(5)), |_| ()).is_none())
        });
    });
    drop(held);
    assert!(word.try_lock().is_some());
}

/// Marks the lock as held by a thread and takes it; whether that thread was found dead.
fn is_found_dead(tid: u32) -> Option<bool> {
    let word = EngineLock::default();
    word.pretend_held(tid);
    let until = Deadline::after(Duration::from_millis(200));
    lock(&word, until, |locked| {
        matches!(locked, Locked::OwnerDied(_))
    })
}

#[test]
fn an_owner_that_no_longer_exists_is_found_out_without_the_kernels_mark() {
    assert_eq!(is_found_dead(TID - 1), Some(true), "no such thread");
    assert_eq!(
        is_found_dead(Holder::current().tid()),
        Some(true),
        "an earlier thread's id is ours now"
    );
    assert_eq!(
        is_found_dead(std::process::id()),
        None,
        "a thread that lives"
    );
    let mut child = std::process::Command::new("true").spawn().expect("runs");
    while manycore_os::process::state(child.id()) != Some('Z') {
        spin_loop();
    }
    assert_eq!(
        is_found_dead(child.id()),
        Some(true),
        "only its status is left"
    );
    child.wait().expect("ours");
}

#[test]
fn a_thread_that_may_not_own_the_lock_is_no_owner_once_it_stalls() {
    let word = EngineLock::default();
    word.pretend_held(std::process::id()); // lives, and does not hold it
    let asked = Cell::new(0);
    let is_no_member = |tid| {
        asked.set(tid);
        false
    };
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut tick);
    let locked = word.lock(&mut patience, &is_no_member);
    assert!(matches!(locked, Ok(Locked::OwnerDied(_))));
    assert_eq!(asked.get(), std::process::id());
}

#[test]
fn what_was_not_repaired_is_not_handed_on_as_clean() {
    let word = EngineLock::default();
    word.pretend_held(OWNER_DIED);
    for repair in [false, true] {
        lock(&word, Deadline::NEVER, |locked| match locked {
            Locked::OwnerDied(guard) if repair => guard.repaired(),
            Locked::OwnerDied(guard) => drop(guard), // the repair failed
            Locked::Clean(_) => panic!("nobody has repaired it"),
        });
    }
    lock(&word, Deadline::NEVER, |locked| {
        assert!(matches!(locked, Locked::Clean(_)))
    });
}

#[test]
fn a_bit_set_on_a_free_word_keeps_nobody_out() {
    let word = EngineLock::default();
    word.pretend_held(WAITERS); // a waiter died right after its `fetch_or`
    drop(word.try_lock().expect("nobody owns it"));
    assert!(!word.is_held() && !word.is_contended() && !word.is_orphaned());
}
