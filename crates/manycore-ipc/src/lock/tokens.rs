//! Tokens: what a semaphore counts, and what a reader-writer lock hands out.
//!
//! Who takes a token takes it by one compare-and-swap of the state word, and gives it back by another.
//!
//! | SEQUENCE | DIED | WAITERS | VALUE | meaning                                                            |
//! |----------|------|---------|-------|--------------------------------------------------------------------|
//! | n        | *    | *       | v     | v tokens are there, and shares were changed n times, see [`shares`] |
//! | *        | *    | 1       | *     | somebody may sleep: who gives clears the bit, counts `bell`, wakes  |
//! | *        | 1    | *       | *     | who wrote last under a reader-writer lock was killed at it          |
//!
//! A sleeper reads `bell`, finds no token, sets WAITERS, and sleeps while `bell` is what it was. Whoever was
//! woken leaves WAITERS set when it takes, since others may still sleep, and passes the news on if more is
//! there.
//!
//! A token that was taken like this belongs to nobody: it may be a signal, which one process takes and
//! another one gives. Tokens that shall come back when their holder is killed are taken as *shares*.
//!
//! [`shares`]: super::shares

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use super::EngineLock;
use super::since::Since;
use crate::block::BlockRef;
use crate::fault;
use crate::kernel::{self, Slept};
use crate::wait::{GaveUp, Patience, spin};
use crate::word::{Word32, Word64};

pub(super) const VALUE: u64 = 0x7fff_ffff;
pub(super) const WAITERS: u64 = 1 << 31;
pub(super) const DIED: u64 = 1 << 32;
const SEQUENCE: u32 = 33;

/// The most tokens that there can be, as of the semaphores of POSIX.
pub const MOST: u32 = VALUE as u32;

/// Shares that lie in the body itself.
pub(crate) const INLINE: usize = 47;

/// See the module.
#[repr(C, align(64))]
pub struct Tokens {
    state: Word64,
    /// Grows whenever sleepers are woken.
    bell: Word32,
    /// How many tokens there may be.
    most: Word32,
    /// One when every token is taken as a share.
    returns: Word32,
    /// Of a reader-writer lock: a process that waits to write.
    pub(super) writer: Word32,
    /// Guards the shares.
    pub(crate) lock: EngineLock,
    spare: Word32,
    /// The last change of a share, see [`shares`](super::shares).
    pub(super) journal: Word64,
    /// The pid of the writer that was killed last.
    pub(super) dead: Word64,
    page: Word64,
    generation: Word64,
    /// Since when somebody waits, with what `bell` was: nobody was woken since.
    pub(crate) since: Since,
    /// `owner:32 | count:32`.
    pub(super) shares: [Word64; INLINE],
}

const _: () = assert!(size_of::<Tokens>() == 448);

/// How many tokens a word says there are.
pub(super) fn value_of(state: u64) -> u32 {
    (state & VALUE) as u32
}

/// The word after one more change of a share.
pub(super) fn with_next_sequence(state: u64) -> u64 {
    state.wrapping_add(1 << SEQUENCE)
}

pub(super) fn sequence_of(state: u64) -> u64 {
    state >> SEQUENCE
}

impl Tokens {
    /// For an object that is not live yet.
    pub(crate) fn initialise(&self, value: u32, most: u32, returns: bool) {
        for word in [&self.journal, &self.dead, &self.page, &self.generation] {
            word.store(0, Relaxed); // all published with the object
        }
        for share in &self.shares {
            share.store(0, Relaxed);
        }
        self.writer.store(0, Relaxed);
        self.since.forget();
        self.most.store(most.min(MOST), Relaxed);
        self.returns.store(u32::from(returns), Relaxed);
        self.state.store(u64::from(value.min(MOST)), Relaxed);
    }

    /// How many tokens are there.
    #[must_use]
    pub fn value(&self) -> u32 {
        value_of(self.state.load(Acquire)) // pairs with the exchanges in `change`
    }

    /// How many there may be.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.most.load(Relaxed).min(MOST) // set once, before the object is live
    }

    /// Whether every token is taken as a share.
    #[must_use]
    pub fn returns(&self) -> bool {
        self.returns.load(Relaxed) == 1 // as in `most`
    }

    /// The block of further shares, if it is named; whether it is this object's says the table of blocks.
    pub(crate) fn block(&self) -> Option<BlockRef> {
        let page = self.page.load(Acquire).checked_sub(1)?; // pairs with the Release in `name_block`
        Some(BlockRef {
            page: page as u32,
            len: super::shares::BLOCK,
            generation: self.generation.load(Relaxed),
        })
    }

    /// Says which block has further shares, before it is bound. Under the lock only.
    pub(super) fn name_block(&self, block: BlockRef) {
        self.generation.store(block.generation, Relaxed);
        self.page.store(u64::from(block.page) + 1, Release);
    }

    /// The state, for who is about to change it or to sleep.
    pub(crate) fn state(&self) -> u64 {
        self.state.load(Acquire) // pairs with the exchanges in `change`
    }

    /// Changes the state to what `next` makes of it; the state before, unless `next` refused.
    #[inline]
    pub(super) fn change(&self, next: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let mut state = self.state.load(Relaxed); // a guess, which the exchange confirms
        loop {
            // Pairs with itself and the loads of the state: who takes a token sees what was done before it was given.
            match self
                .state
                .compare_exchange(state, next(state)?, AcqRel, Relaxed)
            {
                Ok(_) => return Some(state),
                #[cfg(test)]
                Err(_) if crate::crash::is_dead() => return None,
                Err(found) => state = found,
            }
        }
    }

    /// Whether somebody waits for a token, or did until just now.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.state.load(Relaxed) & WAITERS != 0 // a hint
    }

    /// For how long somebody has waited at least, and nobody was woken.
    #[must_use]
    pub fn awaited_for(&self) -> Option<Duration> {
        let rung = self.rung();
        self.is_awaited().then(|| self.since.lasts(rung))?
    }

    /// Takes a token if there is one.
    #[inline]
    pub fn try_take(&self) -> bool {
        self.take_with(0)
    }

    #[inline]
    fn take_with(&self, extra: u64) -> bool {
        self.change(|state| (value_of(state) > 0).then(|| (state - 1) | extra))
            .is_some()
    }

    /// Gives a token; `false` when as many are there as there may be.
    #[inline]
    pub fn give(&self) -> bool {
        let most = self.most();
        let before = self.change(|state| (value_of(state) < most).then(|| (state + 1) & !WAITERS));
        let Some(before) = before else {
            return false;
        };
        if before & WAITERS != 0 {
            self.wake(1);
        }
        true
    }

    /// Wakes sleepers, after what they wait for has been stored.
    #[cold]
    pub(super) fn wake(&self, sleepers: u32) {
        fault::point("tokens.given");
        self.bell.fetch_add(1, Release); // pairs with the Acquire in `rung`
        kernel::wake(&self.bell, sleepers);
    }

    /// What `bell` has to be still for a sleep. Before the state is looked at: whoever clears WAITERS counts
    /// afterwards, so that who reads the new count sees the cleared bit.
    pub(super) fn rung(&self) -> u32 {
        self.bell.load(Acquire) // pairs with the Release in `wake`
    }

    /// Says that somebody may be asleep. Under the lock, by who would be woken under it.
    pub(super) fn flag(&self) {
        self.state.fetch_or(WAITERS, AcqRel); // as in `change`
    }

    /// Sleeps until `bell` is not `rung` any more, at most for a slice.
    pub(super) fn sleep(&self, rung: u32, patience: &Patience<'_>) -> Slept {
        self.since.note(rung); // after WAITERS was set: who clears that changes `bell`, and the note is about nothing
        fault::point("tokens.waiting");
        kernel::sleep(&self.bell, rung, patience.slice())
    }

    /// Takes a token, sleeping while there is none. `look_after` runs after each slice of sleep: it cleans up
    /// behind those that were killed.
    ///
    /// # Errors
    /// When the patience ends first.
    pub fn take(
        &self,
        patience: &mut Patience<'_>,
        look_after: impl FnMut(),
    ) -> Result<(), GaveUp> {
        let attempt = |extra, _: &mut Patience<'_>| Ok(self.take_with(extra));
        let taken = self.take_by(patience, look_after, attempt);
        match taken {
            Ok(()) => Ok(()),
            Err(Stopped::GaveUp(error)) => Err(error),
            Err(Stopped::Other(never)) => {
                let never: std::convert::Infallible = never;
                match never {}
            }
        }
    }

    /// Takes by `attempt`, which is given the bits that the state has to have afterwards, and sleeps while it
    /// says that there is no token.
    pub(super) fn take_by<E>(
        &self,
        patience: &mut Patience<'_>,
        mut look_after: impl FnMut(),
        mut attempt: impl FnMut(u64, &mut Patience<'_>) -> Result<bool, Stopped<E>>,
    ) -> Result<(), Stopped<E>> {
        spin::look(|| self.value() > 0);
        let mut slept = None;
        let taken = loop {
            if slept == Some(Slept::TimedOut) {
                look_after();
            }
            let extra = if slept.is_some() { WAITERS } else { 0 };
            match attempt(extra, patience) {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(stopped) => break Err(stopped),
            }
            if let Err(error) = self.sleep_once(patience, &mut slept) {
                break Err(Stopped::GaveUp(error));
            }
        };
        // It may have been woken for one of several tokens, or may leave one that it was woken for.
        if slept.is_some() && self.value() > 0 {
            self.wake(1);
        }
        taken
    }

    /// Sleeps, unless there is a token by now.
    fn sleep_once(
        &self,
        patience: &mut Patience<'_>,
        slept: &mut Option<Slept>,
    ) -> Result<(), GaveUp> {
        let rung = self.rung();
        let state = self.state();
        if value_of(state) > 0 {
            return Ok(());
        }
        let flagged = state | WAITERS;
        // AcqRel: as in `change`.
        if state != flagged
            && self
                .state
                .compare_exchange(state, flagged, AcqRel, Relaxed)
                .is_err()
        {
            return Ok(());
        }
        patience.after(*slept)?; // with WAITERS set: a wake-up that came here is made up for
        *slept = Some(self.sleep(rung, patience));
        Ok(())
    }
}

/// Why a wait ended without a token.
pub(super) enum Stopped<E> {
    /// The patience ended.
    GaveUp(GaveUp),
    /// The attempt failed.
    Other(E),
}

#[cfg(any(test, feature = "fuzzing"))]
impl Tokens {
    /// Makes the state what it was, as if what has been done since had not been committed.
    pub(crate) fn restore(&self, state: u64) {
        self.state.store(state, Relaxed);
    }
}

#[cfg(test)]
impl Tokens {
    pub(in crate::lock) fn for_test(value: u32, most: u32) -> &'static Self {
        let tokens: &'static Self = Box::leak(Box::new(Self {
            state: Word64::new(0),
            bell: Word32::new(0),
            most: Word32::new(0),
            returns: Word32::new(0),
            writer: Word32::new(0),
            lock: EngineLock::default(),
            spare: Word32::new(0),
            journal: Word64::new(0),
            dead: Word64::new(0),
            page: Word64::new(0),
            generation: Word64::new(0),
            since: Since::default(),
            shares: std::array::from_fn(|_| Word64::new(0)),
        }));
        tokens.initialise(value, most, false);
        tokens
    }

    pub(in crate::lock) fn has_waiters(&self) -> bool {
        self.state() & WAITERS != 0
    }
}
