//! Who is awake and looks anyway need not be woken, and then nobody else need be.
//!
//! Several consumers wait for the same things. One of them at a time looks for a while before it sleeps
//! and says so here; whoever brings something then wakes nobody, which would cost 17 µs, since that one
//! will find it. The others sleep at once: two that look would take a core from those that bring.
//!
//! Where things are quick to do, that one is back before the next is brought, and again nobody need be
//! woken. So what it said stays when it has found something, if the last thing was quick, and another one
//! sees to it that nothing is left lying when this one is not: one of the sleepers *naps*, a millisecond at a
//! time, for as long as somebody looks or has said so.
//!
//! One may also be woken for what another one takes meanwhile. Then somebody is awake and quick, and it naps, which
//! lets that one leave what it says: otherwise it could be woken in vain for each thing.
//!
//! What is said is a moment, not a name: when it has passed, it counts for nothing. So one that is
//! killed or stopped while it looks delays others by that long, and what was brought in between by a
//! slice at most; so does one that is killed while it naps, if the next thing is not quick.
//!
//! **Nothing is missed.** Who looks in vain takes back what it said, then looks once more; who brings makes it
//! there, then reads what is said; a `SeqCst` fence stands between the two steps on each side. So either
//! it is found, or somebody is woken for it. Who leaves what it said has said it, then reads whether somebody
//! naps; who is about to nap no more takes that back, then reads what is said, and naps on if it counts. Again
//! a fence stands between: what is said without being looked after is seen by neither. Who is woken from its naps
//! takes back what others left, too.

use std::cell::Cell;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use manycore_os::clock;

use super::bell::Bell;
use super::beside::WokenFrom;
use super::spin;
use super::{GaveUp, Patience, Sought};
use crate::fault;
use crate::kernel::Slept;
use crate::word::{Word32, fence};

/// Moments in units of 1.024 µs; zero for none.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Search {
    /// Until when somebody looks, or will be back.
    looks: Word32,
    /// Until when somebody naps.
    naps: Word32,
    woken_from: WokenFrom,
}

/// How long it counts that somebody looks: twice as long as anybody does, so that who looks again and again need not
/// say so each time, in a line of memory that those read who bring.
const LOOK: u32 = 128;
/// How long it counts that somebody naps: as long as a nap that the scheduler made longer.
const NAPS: u32 = 4096;
/// A nap.
const NAP: Duration = Duration::from_millis(1);

/// The longest from one look to the next if what was found in between was quick to do.
const QUICK: u32 = 16;

thread_local! {
    /// What this thread said last, here or there.
    static SAID: Cell<u32> = const { Cell::new(0) };
    /// When it looked last.
    static LOOKED: Cell<u32> = const { Cell::new(0) };
}

fn now() -> u32 {
    #[cfg(test)]
    if crate::model::is_active() {
        return 1;
    }
    (clock::now_ns() >> 10) as u32
}

/// Whether this thread said that. Two that did at the same moment both look, which does no harm.
fn is_mine(moment: u32) -> bool {
    #[cfg(test)]
    if crate::model::is_active() {
        return false; // its threads are one to `thread_local`
    }
    moment == SAID.get()
}

fn nap() -> Duration {
    #[cfg(test)]
    if crate::model::is_active() {
        return Duration::ZERO; // which ends there when others had their turn
    }
    NAP
}

/// The moment that is `span` from `now`.
fn after(now: u32, span: u32) -> u32 {
    now.wrapping_add(span).max(1)
}

/// Whether the moment `until`, which was at most `span` ahead when it was said, is to come.
fn is_ahead(until: u32, span: u32, now: u32) -> bool {
    until != 0 && (1..=span).contains(&until.wrapping_sub(now))
}

impl Search {
    /// Waits until what is sought is there: looks for a while unless another one does, then sleeps at `bell`. Others
    /// may be asleep that were not woken, whichever it did: the caller passes the news on if there is more.
    ///
    /// # Errors
    /// When the patience ends first.
    pub(crate) fn wait(
        &self,
        bell: &Bell,
        patience: &mut Patience<'_>,
        sought: &impl Sought,
    ) -> Result<Waited, GaveUp> {
        let is_there = || sought.is_there();
        let found = match self.woken_from.let_go_on(sought) {
            true => is_there(),
            false => self.look(is_there, || sought.gather()),
        };
        if found {
            return Ok(Waited::Looking);
        }
        let mut napping = Napping {
            search: self,
            until: 0,
        };
        let outcome = bell.sleep_for(patience, is_there, |slice, slept| {
            napping.slice(slice, slept == Some(Slept::Woken))
        });
        napping.end_for_good();
        self.woken_from.note();
        outcome.map(|_| Waited::Asleep)
    }

    /// Looks at `ready` for a while, unless another one does; whether it turned true. Where things are quick to do,
    /// it lets some `gather` before it looks.
    fn look(&self, mut ready: impl FnMut() -> bool, gather: impl FnOnce()) -> bool {
        let (before, now) = (self.looks.load(Relaxed), now());
        let is_quick = now.wrapping_sub(LOOKED.replace(now)) <= QUICK;
        if is_ahead(before, LOOK, now) && !is_mine(before) {
            return ready();
        }
        let Some(mine) = self.say(before, now) else {
            return ready();
        };
        if is_quick {
            gather();
        }
        let found = spin::look(&mut ready);
        if found && is_quick {
            fence(SeqCst); // pairs with the one in `Napping::slice`
            if is_ahead(self.naps.load(Relaxed), NAPS, now) {
                fault::point("search.left");
                return true;
            }
        }
        // Where this fails, the moment had passed, and another one looks now.
        let _ = self.looks.compare_exchange(mine, 0, SeqCst, Relaxed);
        fence(SeqCst); // pairs with the fence of who brings: see the module
        found || ready()
    }

    /// Says that this thread looks, unless another one was quicker; until when.
    fn say(&self, before: u32, now: u32) -> Option<u32> {
        if is_ahead(before, LOOK, now.wrapping_add(LOOK / 2)) {
            return Some(before);
        }
        let mine = after(now, LOOK);
        // Relaxed: what is said too late only wakes somebody without need.
        self.looks
            .compare_exchange(before, mine, Relaxed, Relaxed)
            .ok()?;
        SAID.set(mine);
        Some(mine)
    }

    /// The same, asked by who wakes somebody unless it is so.
    #[inline]
    pub(crate) fn is_on_or_wakes(&self) -> bool {
        let is_on = self.is_on();
        if !is_on {
            self.woken_from.say();
        }
        is_on
    }

    /// Whether somebody looks, or will be back. Who asks has made a fence (`SeqCst`) since it brought something.
    #[inline]
    pub fn is_on(&self) -> bool {
        let until = self.looks.load(Relaxed);
        until != 0 && is_ahead(until, LOOK, now())
    }
}

/// How a wait ended with what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// Without sleep.
    Looking,
    /// After a sleep, or on the way there.
    Asleep,
}

/// One that sleeps, and perhaps naps.
struct Napping<'a> {
    search: &'a Search,
    /// What it said; zero while it does not nap.
    until: u32,
}

impl Napping<'_> {
    /// How long to sleep now, at most `slice`: what was waited for has just not been there, and perhaps this one was
    /// woken `in_vain`.
    fn slice(&mut self, slice: Duration, in_vain: bool) -> Duration {
        let search = self.search;
        let did_nap = self.end();
        fence(SeqCst); // pairs with the one in `look`
        if in_vain || search.is_on() {
            let (before, now) = (search.naps.load(Relaxed), now());
            let mine = after(now, NAPS);
            let is_free = !is_ahead(before, NAPS, now);
            if is_free
                && search
                    .naps
                    .compare_exchange(before, mine, SeqCst, Relaxed)
                    .is_ok()
            {
                self.until = mine;
                fault::point("search.napping");
                return slice.min(nap());
            }
        } else if did_nap {
            return Duration::ZERO; // looks once more: nobody may have been woken for what came before this
        }
        slice
    }

    /// Takes back that this one naps; whether it did.
    fn end(&mut self) -> bool {
        let mine = std::mem::take(&mut self.until);
        // Where this fails, the moment had passed, and another one naps now.
        mine != 0 && {
            let _ = self.search.naps.compare_exchange(mine, 0, SeqCst, Relaxed);
            true
        }
    }

    /// The same for one that goes; and nobody will be back, as far as it knows.
    fn end_for_good(mut self) {
        if self.end() {
            self.search.looks.store(0, SeqCst);
            fence(SeqCst); // pairs with the fence of who brings
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use manycore_os::Deadline;

    use super::*;

    #[test]
    fn a_search_is_on_while_somebody_looks() {
        let search = Search::default();
        assert!(!search.is_on());
        let mut was_on = false;
        let ready = || {
            was_on |= search.is_on();
            was_on
        };
        assert!(search.look(ready, || ()));
        assert!(was_on && !search.is_on());
    }

    #[test]
    fn one_searches_at_a_time() {
        let search = Search::default();
        let looks_once = || {
            let mut looks = 0;
            let ready = || {
                looks += 1;
                false
            };
            search.looks.store(after(now(), LOOK), Relaxed); // as one that looks does in time
            search.look(ready, || ());
            looks == 1
        };
        // Again where the scheduler had the moment pass.
        assert!((0..1000).any(|_| looks_once()));
    }

    #[test]
    fn a_search_that_was_never_ended_ends_by_itself() {
        let search = Search::default();
        search.looks.store(after(now(), LOOK), Relaxed); // as one leaves it that is killed
        while search.is_on() {}
        assert!(search.look(|| true, || ()));
    }

    /// Looks with success as one whose last thing was quick; again where the scheduler made that untrue.
    fn say_to_be_back(search: &Search) {
        while search.looks.load(Relaxed) == 0 {
            search.naps.store(after(now(), NAPS), Relaxed);
            LOOKED.set(now());
            assert!(search.look(|| true, || ()));
        }
    }

    /// Leaves what it said, and naps: what processes are killed in.
    pub(crate) fn leave_and_nap() {
        let search = Search::default();
        say_to_be_back(&search);
        let mut napping = Napping {
            search: &search,
            until: 0,
        };
        while napping.until == 0 {
            search.looks.store(after(now(), LOOK), Relaxed); // as long as another one looks
            search.naps.store(0, Relaxed);
            napping.slice(NAP, false);
        }
        napping.end_for_good();
    }

    #[test]
    fn who_found_something_will_be_back_if_another_one_naps() {
        let search = Search::default();
        LOOKED.set(now());
        assert!(
            search.look(|| true, || ()) && !search.is_on(),
            "nobody naps"
        );
        say_to_be_back(&search);
        let mut looks = 0;
        let ready = || {
            looks += 1;
            looks > 1
        };
        let found = search.look(ready, || ());
        assert!(
            found && looks == 2,
            "what this thread said keeps others from looking"
        );
    }

    #[test]
    fn who_was_long_will_not_be_back() {
        let search = Search::default();
        search.naps.store(after(now(), NAPS), Relaxed);
        LOOKED.set(now().wrapping_sub(QUICK + 1));
        assert!(search.look(|| true, || ()));
        assert_eq!(search.looks.load(Relaxed), 0);
    }

    #[test]
    fn who_naps_looks_once_more_when_nobody_will_be_back() {
        let search = Search::default();
        let mut napping = Napping {
            search: &search,
            until: 0,
        };
        let slice = Duration::from_millis(50);
        assert_eq!(napping.slice(slice, false), slice);
        while napping.until == 0 {
            search.looks.store(after(now(), LOOK), Relaxed); // as long as another one looks
            let sleep = napping.slice(slice, false);
            assert_eq!(sleep == NAP, napping.until != 0);
        }
        while search.is_on() {}
        assert_eq!(napping.slice(slice, false), Duration::ZERO);
        assert_eq!(napping.slice(slice, false), slice);
    }

    #[test]
    fn who_was_woken_in_vain_naps_once() {
        let search = Search::default();
        let mut napping = Napping {
            search: &search,
            until: 0,
        };
        let slice = Duration::from_millis(50);
        assert_eq!(napping.slice(slice, true), NAP);
        assert_eq!(napping.slice(slice, false), Duration::ZERO);
        assert_eq!(napping.slice(slice, false), slice);
    }

    #[test]
    fn who_wakes_from_its_naps_takes_back_what_others_left() {
        let search = Search::default();
        say_to_be_back(&search);
        let napping = Napping {
            search: &search,
            until: search.naps.load(Relaxed),
        };
        napping.end_for_good();
        assert_eq!(search.looks.load(Relaxed), 0);
        assert_eq!(search.naps.load(Relaxed), 0);
    }

    #[test]
    fn what_one_left_that_was_killed_in_its_naps_delays_others_by_a_slice() {
        let (search, bell) = (Search::default(), Bell::default());
        let is_there = std::sync::atomic::AtomicBool::new(false);
        let (mut before, mut slices) = (true, 0);
        let mut tick = || {
            slices += 1;
            if std::mem::take(&mut before) {
                // Two are killed: one that was to be back, and one that napped. Nobody is woken for what is brought.
                search.looks.store(after(now(), LOOK), Relaxed);
                search.naps.store(after(now(), NAPS), Relaxed);
                is_there.store(true, Relaxed);
                bell.ring_unless(|| search.is_on());
            }
            true
        };
        let mut patience = Patience::new(Deadline::NEVER, &mut tick);
        let waited = search.wait(&bell, &mut patience, &|| is_there.load(Relaxed));
        assert_eq!(waited, Ok(Waited::Asleep));
        assert!((1..=2).contains(&slices));
    }

    #[test]
    fn a_moment_may_be_beyond_the_end_of_the_count() {
        assert!(is_ahead(3, LOOK, u32::MAX - 2));
        assert!(!is_ahead(u32::MAX - 2, LOOK, 3));
        assert!(!is_ahead(0, LOOK, u32::MAX));
    }
}
