//! A word to sleep on.
//!
//! | COUNT (31 bits) | WAITING | meaning                                                       |
//! |-----------------|---------|---------------------------------------------------------------|
//! | n               | 0       | nobody is known to sleep: ringing costs one load              |
//! | n               | 1       | somebody may sleep: the ringer clears the bit, counts, wakes   |
//!
//! The *ringer* clears the flag. A burst of events therefore makes one system call, not one for every
//! event until the sleeper is back on a core. Who wakes up sets the flag again, because others may
//! still sleep; that costs one needless system call per real sleep.
//!
//! **No wake-up is lost among the living.** The sleeper sets WAITING, then looks at its condition; the
//! ringer makes the condition true, then looks at WAITING; a `SeqCst` fence stands between the two
//! steps on each side, so at least one of them sees the other. If the ringer changes the word after
//! the sleeper read it, the kernel refuses the sleep. A wake-up given to a process that is being
//! killed is lost; every sleep is bounded by a slice, after which the sleeper looks again.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use super::spin;
use super::{GaveUp, Patience};
use crate::fault;
use crate::kernel::{self, Slept};
use crate::word::{Word32, fence};

const WAITING: u32 = 1;
const ONE: u32 = 2;

/// See the module.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Bell(Word32);

impl Bell {
    /// Tells one sleeper that its condition may be true now. Call it after making it true.
    #[inline]
    pub fn ring(&self) {
        self.ring_for(1);
    }

    /// Tells one sleeper, unless somebody else will find out: that is asked behind the fence.
    #[inline]
    pub(crate) fn ring_unless(&self, is_known: impl FnOnce() -> bool) {
        fence(SeqCst); // as in `ring_for`
        if self.0.load(Relaxed) & WAITING != 0 && !is_known() {
            self.ring_slow(1);
        }
    }

    /// Tells all sleepers.
    #[inline]
    pub fn ring_all(&self) {
        self.ring_for(u32::MAX);
    }

    #[inline]
    fn ring_for(&self, sleepers: u32) {
        fence(SeqCst); // pairs with the fence in `wait`: the condition is stored before the flag is read
        if self.0.load(Relaxed) & WAITING != 0 {
            self.ring_slow(sleepers);
        }
    }

    #[cold]
    fn ring_slow(&self, sleepers: u32) {
        let mut word = self.0.load(Relaxed);
        while word & WAITING != 0 {
            // SeqCst: this change and the sleeper's `fetch_or` are ordered against both fences.
            let next = word.wrapping_add(ONE) & !WAITING;
            match self.0.compare_exchange(word, next, SeqCst, Relaxed) {
                Ok(_) => {
                    fault::point("bell.cleared");
                    kernel::wake(&self.0, sleepers);
                    return;
                }
                Err(found) => word = found,
            }
        }
    }

    /// Whether somebody may be asleep here.
    #[inline]
    #[must_use]
    pub fn has_sleepers(&self) -> bool {
        fence(SeqCst); // as in `ring_for`
        self.0.load(Relaxed) & WAITING != 0
    }

    /// Waits until `ready` is true: looks for a while, then sleeps. Returns whether it slept, in which
    /// case others may be asleep and the caller passes the news on if there is more.
    ///
    /// # Errors
    /// When the patience ends first.
    pub fn wait(
        &self,
        patience: &mut Patience<'_>,
        mut ready: impl FnMut() -> bool,
    ) -> Result<bool, GaveUp> {
        if spin::look(&mut ready) {
            return Ok(false);
        }
        self.sleep(patience, ready)
    }

    /// Says that somebody may be asleep here; the word that the sleeper has to find unchanged.
    pub(super) fn flag(&self) -> u32 {
        self.0.fetch_or(WAITING, SeqCst) | WAITING
    }

    pub(super) fn word(&self) -> &Word32 {
        &self.0
    }

    /// As [`Bell::wait`], but sleeps at once: for who would only take a core from those it waits for.
    ///
    /// # Errors
    /// When the patience ends first.
    pub fn sleep(
        &self,
        patience: &mut Patience<'_>,
        ready: impl FnMut() -> bool,
    ) -> Result<bool, GaveUp> {
        self.sleep_for(patience, ready, |slice, _| slice)
    }

    /// The same, and asks before each sleep how long it may be at most, given how long it would be.
    pub(super) fn sleep_for(
        &self,
        patience: &mut Patience<'_>,
        mut ready: impl FnMut() -> bool,
        mut at_most: impl FnMut(Duration, Option<Slept>) -> Duration,
    ) -> Result<bool, GaveUp> {
        let mut slept = None;
        loop {
            // At every turn, also the last one: the ringer cleared the flag, and others may still sleep.
            let word = self.flag();
            fence(SeqCst); // pairs with the fence in `ring_for`: the flag is set before the condition is read
            fault::point("bell.flagged");
            if ready() {
                return Ok(true);
            }
            patience.after(slept)?;
            let outcome = kernel::sleep(&self.0, word, at_most(patience.slice(), slept));
            if outcome == Slept::Woken {
                fault::point("bell.woken");
            }
            slept = Some(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::{Acquire, Release};

    use manycore_os::Deadline;

    use super::*;

    #[test]
    fn a_sleeper_is_woken() {
        let bell = Bell::default();
        let flag = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !bell.has_sleepers() {
                    std::hint::spin_loop();
                }
                flag.store(true, Release);
                bell.ring();
            });
            let mut tick = || true;
            let mut patience = Patience::new(Deadline::NEVER, &mut tick);
            assert_eq!(bell.wait(&mut patience, || flag.load(Acquire)), Ok(true));
        });
    }

    #[test]
    fn who_gives_up_leaves_the_flag_to_those_that_still_sleep() {
        let bell = Bell::default();
        let mut looks = 0;
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::PASSED, &mut tick);
        let gave_up = bell.sleep(&mut patience, || {
            looks += 1;
            if looks == 1 {
                bell.ring(); // the one wake-up of this burst goes to the thread that gives up
            }
            false
        });
        assert_eq!(gave_up, Err(GaveUp::TimedOut));
        assert!(
            bell.has_sleepers(),
            "the next ringer must look for the others"
        );
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_when_told() {
        let bell = Bell::default();
        let mut go_on = || true;
        let mut patience = Patience::new(Deadline::PASSED, &mut go_on);
        assert_eq!(bell.wait(&mut patience, || false), Err(GaveUp::TimedOut));
        let mut stop = || false;
        let mut patience = Patience::new(Deadline::NEVER, &mut stop);
        assert_eq!(bell.wait(&mut patience, || false), Err(GaveUp::Interrupted));
    }
}
