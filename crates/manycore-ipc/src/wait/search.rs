//! Who is awake and looks anyway need not be woken, and then nobody else need be.
//!
//! Several consumers wait for the same things. One of them at a time looks for a while before it sleeps
//! and says so here; whoever brings something then wakes nobody, which would cost 17 µs, since that one
//! will find it. The others sleep at once: two that look would take a core from those that bring.
//!
//! What is said is a moment, not a name: when it has passed, it counts for nothing. So one that is
//! killed or stopped while it looks delays others by that long, and what was brought in between by a
//! slice at most.
//!
//! **Nothing is missed.** Who looks takes back what it said, then looks once more; who brings makes it
//! there, then reads what is said; a `SeqCst` fence stands between the two steps on each side. So either
//! it is found, or somebody is woken for it.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use manycore_os::clock;

use super::spin;
use crate::word::{Word32, fence};

/// Until when somebody looks, in units of 1.024 µs; zero when nobody does.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Search(Word32);

/// How long what is said counts: a little longer than anybody looks.
const SPAN: u32 = 64;

fn now() -> u32 {
    #[cfg(test)]
    if crate::model::is_active() {
        return 1;
    }
    (clock::now_ns() >> 10) as u32
}

/// Whether the moment `until` is to come.
fn is_ahead(until: u32, now: u32) -> bool {
    until != 0 && (1..=SPAN).contains(&until.wrapping_sub(now))
}

impl Search {
    /// Looks at `ready` for a while, unless another one does; whether it turned true.
    pub fn look(&self, mut ready: impl FnMut() -> bool) -> bool {
        let (before, now) = (self.0.load(Relaxed), now());
        if is_ahead(before, now) {
            return ready();
        }
        let mine = now.wrapping_add(SPAN).max(1);
        // Relaxed: what is said too late only wakes somebody without need.
        if self
            .0
            .compare_exchange(before, mine, Relaxed, Relaxed)
            .is_err()
        {
            return ready();
        }
        let found = spin::look(&mut ready);
        // Where this fails, the moment had passed, and another one looks now.
        let _ = self.0.compare_exchange(mine, 0, SeqCst, Relaxed);
        fence(SeqCst); // pairs with the fence of who brings: see the module
        found || ready()
    }

    /// Whether somebody looks. Who asks has made a fence (`SeqCst`) since it brought something.
    #[inline]
    pub fn is_on(&self) -> bool {
        let until = self.0.load(Relaxed);
        until != 0 && is_ahead(until, now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_on_while_somebody_looks() {
        let search = Search::default();
        assert!(!search.is_on());
        let mut was_on = false;
        assert!(search.look(|| {
            was_on |= search.is_on();
            was_on
        }));
        assert!(was_on && !search.is_on());
    }

    #[test]
    fn one_searches_at_a_time() {
        let search = Search::default();
        let mut looks = 0;
        search.look(|| {
            search.look(|| {
                looks += 1;
                false
            });
            true
        });
        assert_eq!(looks, 1);
    }

    #[test]
    fn a_search_that_was_never_ended_ends_by_itself() {
        let search = Search::default();
        search.0.store(now().wrapping_add(SPAN).max(1), Relaxed); // as one leaves it that is killed
        while search.is_on() {}
        assert!(search.look(|| true));
    }

    #[test]
    fn a_moment_may_be_beyond_the_end_of_the_count() {
        assert!(is_ahead(3, u32::MAX - 2));
        assert!(!is_ahead(u32::MAX - 2, 3));
        assert!(!is_ahead(0, u32::MAX));
    }
}
