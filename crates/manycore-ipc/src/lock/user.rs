//! The lock behind `multiprocessing.Lock` and `RLock`.
//!
//! Any thread of any process may release it, so the kernel's per-thread lists do not fit. The word
//! names the holding process; who waits asks the registry now and then whether that process lives.
//!
//! | WAITERS | HOLDER | meaning                                                         |
//! |---------|--------|-----------------------------------------------------------------|
//! | 0       | 0      | free                                                            |
//! | 0       | DIED   | free; its last holder was killed, and `dead` says which one     |
//! | 0       | p      | held by process p; nobody asleep                                |
//! | 1       | p      | held; `release` must wake one                                   |
//! | 1       | 0, DIED | never stored: who makes the lock free clears WAITERS            |
//!
//! Only an *abnormal* death hands the lock over: the reaper of a killed process makes the lock free and says
//! so, and the next owner reports it. What a process holds when it leaves in order stays held, as with the
//! standard library.
//!
//! A lock that *refuses* is not taken then: whoever comes is told of the death, until one takes it to repair
//! what it guards. If that one gives it up unrepaired, or is killed, it is refused again.
//!
//! A hand-over is one compare-and-swap of the word, and anyone who knows that the holder has ended may make
//! it: what lies beside the word bears the name of the owner it is about, so that nothing of a dead owner has
//! to be cleared.
//!
//! The word has 31 bits for the holder: the slot, and 19 bits of its generation. A slot would have to
//! change hands 524,288 times while a lock stays held for two holders to look the same.

mod death;
mod recursive;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use super::since::Since;
use crate::fault;
use crate::kernel::{self, Slept};
use crate::registry::OwnerId;
use crate::wait::{GaveUp, Patience, spin};
use crate::word::{Word32, Word64};

const WAITERS: u32 = 0x8000_0000;
const HOLDER: u32 = !WAITERS;
/// In place of a holder: there is none, and the last one was killed. No process has slot 0.
const DIED: u32 = 1 << 12;
/// Where the holder lies in `dead` and `depth`, and the bits below it.
const TAG: u32 = 32;
const TIMES: u64 = (1 << TAG) - 1;

/// How a lock was acquired.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// In the usual way.
    Clean,
    /// Its holder, with this pid, was killed while holding it.
    HolderDied(u32),
    /// It was not: its holder, with this pid, was killed, and nobody has repaired what it guards.
    Refused(u32),
}

/// See the module.
#[repr(C, align(64))]
pub struct UserLock {
    word: Word32,
    /// One when it refuses after a death.
    refuses: Word32,
    /// `holder:32 | pid:32`: the holder that was killed last.
    dead: Word64,
    /// Of a recursive lock: the owning thread.
    thread: Word64,
    /// `holder:32 | times:32`: how often the owning thread of that holder has acquired.
    depth: Word64,
    /// One while somebody holds it who has not repaired what it guards, and will not. Changed by the holder alone.
    unrepaired: Word64,
    /// Since when somebody waits for this holder.
    pub(crate) since: Since,
    spare_words: [Word64; 2],
}

impl UserLock {
    /// Makes the lock free. For an object that is not live yet.
    pub(crate) fn initialise(&self, refuses: bool) {
        self.word.store(0, Relaxed); // published with the object
        self.refuses.store(u32::from(refuses), Relaxed);
        self.dead.store(0, Relaxed);
        self.thread.store(0, Relaxed);
        self.depth.store(0, Relaxed);
        self.unrepaired.store(0, Relaxed);
        self.since.forget();
    }

    /// Acquires the lock if it is free.
    #[inline]
    pub fn try_acquire(&self, me: OwnerId) -> Option<Acquired> {
        self.try_acquire_unless(|| self.refuses(), me)
    }

    #[inline]
    fn try_acquire_unless(&self, refuses: impl FnOnce() -> bool, me: OwnerId) -> Option<Acquired> {
        let name = Self::name_of(me);
        // Acquire pairs with the Release in `release` and `hand_over`.
        match self.word.compare_exchange(0, name, Acquire, Relaxed) {
            Ok(_) => Some(Acquired::Clean),
            Err(DIED) if refuses() => Some(Acquired::Refused(self.dead_pid())),
            Err(DIED) => self.try_take(DIED, name),
            Err(_) => None,
        }
    }

    /// Acquires the lock if it is free and nobody died with it.
    #[inline]
    pub fn try_acquire_clean(&self, me: OwnerId) -> bool {
        // Acquire: as in `try_acquire`.
        let taken = self
            .word
            .compare_exchange(0, Self::name_of(me), Acquire, Relaxed);
        taken.is_ok()
    }

    /// Takes the lock if its word still is `free`.
    fn try_take(&self, free: u32, taken: u32) -> Option<Acquired> {
        self.word
            .compare_exchange(free, taken, Acquire, Relaxed) // Acquire: as in `try_acquire`
            .ok()?;
        if free & HOLDER != DIED {
            return Some(Acquired::Clean);
        }
        fault::point("lock.inherited");
        self.unrepaired.store(0, Relaxed); // that of an earlier holder
        Some(Acquired::HolderDied(self.dead_pid()))
    }

    /// Acquires the lock, sleeping while it is held. `check_holder` runs after each slice of sleep with
    /// the holder's name: it finds out whether that process died, and has it cleaned up after if so.
    ///
    /// # Errors
    /// When the patience ends first.
    pub fn acquire(
        &self,
        me: OwnerId,
        patience: &mut Patience<'_>,
        check_holder: impl FnMut(u32),
    ) -> Result<Acquired, GaveUp> {
        self.acquire_unless(self.refuses(), me, patience, check_holder)
    }

    /// The same by who repairs what the lock guards: it is not refused.
    ///
    /// # Errors
    /// When the patience ends first.
    pub fn acquire_to_repair(
        &self,
        me: OwnerId,
        patience: &mut Patience<'_>,
        check_holder: impl FnMut(u32),
    ) -> Result<Acquired, GaveUp> {
        self.acquire_unless(false, me, patience, check_holder)
    }

    fn acquire_unless(
        &self,
        refuses: bool,
        me: OwnerId,
        patience: &mut Patience<'_>,
        mut check_holder: impl FnMut(u32),
    ) -> Result<Acquired, GaveUp> {
        if spin::look(|| is_free(self.word.load(Relaxed))) {
            if let Some(acquired) = self.try_acquire_unless(|| refuses, me) {
                return Ok(acquired);
            }
        }
        let mut is_last_look = false;
        loop {
            let word = self.word.load(Relaxed);
            if refuses && word & HOLDER == DIED {
                // Acquire pairs with `hand_over`, which wakes all who sleep: each is told the same.
                if let Some(pid) = self.dead_holder() {
                    return Ok(Acquired::Refused(pid));
                }
                continue;
            }
            if is_free(word) {
                // Others may sleep: who has slept keeps WAITERS set.
                match self.try_take(word, Self::name_of(me) | WAITERS) {
                    Some(acquired) => {
                        self.since.forget(); // those who still wait note it anew
                        return Ok(acquired);
                    }
                    None => continue,
                }
            }
            // Before the bit is set: who releases the lock then finds the note, and takes it away.
            self.since.note(word & HOLDER);
            let waited = word | WAITERS;
            if word != waited
                && self
                    .word
                    .compare_exchange(word, waited, Relaxed, Relaxed)
                    .is_err()
            {
                continue;
            }
            if is_last_look {
                return Err(GaveUp::TimedOut); // with WAITERS set: a wake-up that came here is made up for
            }
            match kernel::sleep(&self.word, waited, patience.slice()) {
                Slept::Woken => {}
                Slept::Interrupted => patience.tick()?,
                Slept::TimedOut => {
                    check_holder(waited & HOLDER);
                    patience.tick()?;
                }
            }
            is_last_look = patience.until().has_passed();
        }
    }

    /// Releases the lock, whoever holds it. `false` when nobody does.
    #[inline]
    pub fn release(&self) -> bool {
        let mut word = self.word.load(Relaxed); // compared by the exchange
        loop {
            if is_free(word) {
                return false; // and what the next owner is to be told stays said
            }
            let left = self.left_behind();
            // Release pairs with the Acquire of the next owner.
            match self.word.compare_exchange(word, left, Release, Relaxed) {
                Ok(_) if word & WAITERS != 0 => {
                    self.wake_next(word & HOLDER, left);
                    return true;
                }
                Ok(_) => return true,
                #[cfg(test)]
                Err(_) if crate::crash::is_dead() => return false,
                Err(found) => word = found, // a waiter has set its bit
            }
        }
    }

    /// What the word says once the present holder has released it. `dead` says who was killed last, until another
    /// holder is.
    #[inline]
    fn left_behind(&self) -> u32 {
        if self.unrepaired.load(Relaxed) == 0 {
            0
        } else {
            DIED
        }
    }

    #[cold]
    fn wake_next(&self, holder: u32, left: u32) {
        self.since.forget_about(holder);
        if left == DIED {
            fault::point("lock.abandoned");
            kernel::wake(&self.word, u32::MAX); // all are told
        } else {
            fault::point("lock.released");
            kernel::wake(&self.word, 1);
        }
    }

    /// The holder, as far as its word tells: compare with [`UserLock::name_of`].
    #[must_use]
    pub fn holder(&self) -> Option<u32> {
        match self.word.load(Acquire) & HOLDER {
            0 | DIED => None,
            holder => Some(holder),
        }
    }

    /// Whether somebody waits for it, or did until just now.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.word.load(Relaxed) & WAITERS != 0
    }

    /// For how long it has been held at least by whoever holds it, if somebody waits: that knows since when it waits.
    #[must_use]
    pub fn held_for(&self) -> Option<Duration> {
        let word = self.word.load(Relaxed); // a hint, as the note
        let is_awaited = !is_free(word) && word & WAITERS != 0;
        is_awaited.then(|| self.since.lasts(word & HOLDER))?
    }

    /// The slot of the process that a word names as the holder.
    #[must_use]
    pub fn slot_of(holder: u32) -> usize {
        OwnerId::from_bits(holder).slot()
    }

    /// What a lock's word holds while this process has it.
    #[must_use]
    pub fn name_of(owner: OwnerId) -> u32 {
        owner.bits() & HOLDER
    }
}

fn is_free(word: u32) -> bool {
    matches!(word & HOLDER, 0 | DIED)
}

#[cfg(test)]
impl UserLock {
    pub(in crate::lock) fn for_test() -> Self {
        Self {
            word: Word32::new(0),
            refuses: Word32::new(0),
            dead: Word64::new(0),
            thread: Word64::new(0),
            depth: Word64::new(0),
            unrepaired: Word64::new(0),
            since: Since::default(),
            spare_words: Default::default(),
        }
    }

    pub(in crate::lock) fn has_waiters(&self) -> bool {
        self.word.load(Relaxed) & WAITERS != 0
    }
}
