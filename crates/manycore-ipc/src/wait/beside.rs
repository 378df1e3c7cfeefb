//! Woken on the core of whoever woke it.
//!
//! Where all cores are busy, a thread is woken on that of the thread that brought something. To look for more
//! is in vain there, since nobody brings anything while it does; and if it sleeps, it is woken for the next
//! thing, and each thing costs two switches. So it lets the other one go on, for as long as the scheduler
//! thinks right, and finds many things when it is back.
//!
//! Others may have the core then, too, and what is brought meanwhile waits for its turn. Where little was
//! brought in a long one, that is no way to wait, and the next some thousand times it is not tried.

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use manycore_os::{affinity, clock};

use super::Sought;
use crate::word::Word32;

/// Nanoseconds that no turn takes in a conversation.
const LONG_TURN: u64 = 500_000;
/// After one of that length with little to show for it, so many waits go without.
const WITHOUT: u32 = 8192;

/// The CPU from which somebody was woken last, plus one. It decides nothing but how quick things are.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(super) struct WokenFrom(Word32);

impl WokenFrom {
    /// Says that somebody is about to be woken from here.
    pub(super) fn say(&self) {
        if let Some(here) = here() {
            self.0.store(here, Relaxed);
        }
    }

    /// Notes where this thread was woken.
    pub(super) fn note(&self) {
        let is_beside = here().is_some_and(|here| self.0.load(Relaxed) == here);
        THIS.set(Beside {
            is_beside,
            ..THIS.get()
        });
    }

    /// Lets the one that woke this thread go on, if it is on this core; whether it was.
    pub(super) fn let_go_on(&self, sought: &impl Sought) -> bool {
        let mut this = THIS.get();
        if !this.is_beside {
            return false;
        }
        if this.without > 0 {
            this.without -= 1;
            THIS.set(this);
            return false;
        }
        let start = clock::now_ns();
        thread::yield_now();
        learn(clock::now_ns().wrapping_sub(start), sought);
        self.note();
        true
    }
}

/// Draws the conclusion from a turn of others that took `ns`.
fn learn(ns: u64, sought: &impl Sought) {
    if ns > LONG_TURN && sought.is_there() && !sought.is_much() {
        THIS.set(Beside {
            without: WITHOUT,
            ..THIS.get()
        });
    }
}

/// How a thread waits.
#[derive(Clone, Copy)]
struct Beside {
    is_beside: bool,
    /// Waits to come in which it does not let anybody go on.
    without: u32,
}

thread_local! {
    static THIS: Cell<Beside> = const { Cell::new(Beside { is_beside: false, without: 0 }) };
}

/// The number of this CPU, plus one; none in a model, whose threads are one to `thread_local`.
fn here() -> Option<u32> {
    #[cfg(test)]
    if crate::model::is_active() {
        return None;
    }
    Some(affinity::current_cpu().wrapping_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Brought(u32);

    impl Sought for Brought {
        fn is_there(&self) -> bool {
            self.0 > 0
        }

        fn is_much(&self) -> bool {
            self.0 > 100
        }

        fn gather(&self) {}
    }

    /// Lets others go on until that is noted to be on this core, unless the scheduler moves this thread each time.
    fn be_beside(from: &WokenFrom) {
        while !THIS.get().is_beside {
            from.say();
            from.note();
        }
    }

    #[test]
    fn who_was_woken_elsewhere_lets_nobody_go_on() {
        let from = WokenFrom::default();
        from.note();
        assert!(!from.let_go_on(&Brought(0)));
        from.0.store(u32::MAX, Relaxed);
        from.note();
        assert!(!from.let_go_on(&Brought(0)));
    }

    #[test]
    fn who_was_woken_here_lets_the_other_one_go_on() {
        let from = WokenFrom::default();
        be_beside(&from);
        assert!(from.let_go_on(&Brought(0)));
        from.0.store(0, Relaxed);
        from.note();
        assert!(!from.let_go_on(&Brought(0)));
    }

    #[test]
    fn a_long_turn_that_brought_little_is_the_last_for_long() {
        let from = WokenFrom::default();
        for (ns, brought, is_last) in [
            (LONG_TURN, 1, false),
            (LONG_TURN + 1, 0, false), // nothing had to wait for it
            (LONG_TURN + 1, 101, false),
            (LONG_TURN + 1, 1, true),
        ] {
            learn(ns, &Brought(brought));
            assert_eq!(THIS.get().without > 0, is_last);
        }
        be_beside(&from);
        for _ in 0..WITHOUT {
            assert!(!from.let_go_on(&Brought(0)));
        }
        assert!(from.let_go_on(&Brought(0)));
    }
}
