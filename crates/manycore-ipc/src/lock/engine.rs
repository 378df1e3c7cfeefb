//! The robust lock inside the engine.
//!
//! One word, in the format that the kernel's robust-futex interface knows:
//!
//! | WAITERS | OWNER_DIED | TID  | meaning                                                      |
//! |---------|------------|------|--------------------------------------------------------------|
//! | 0       | 0          | 0    | free                                                         |
//! | 0       | 0          | t    | held by thread t; nobody asleep                              |
//! | 1       | 0          | t    | held; `release` must wake one                                |
//! | *       | 1          | 0    | its owner died (stored by the kernel, or by who found it out) |
//! | *       | 1          | t    | held by t, who has not yet repaired what the dead owner left |
//! | 1       | 0          | 0    | free; a waiter set the bit just as the owner released        |
//!
//! While it is held, the kernel knows the word as this thread's pending operation, see
//! [`manycore_os::robust`]. Nothing else of the holder is stored in shared memory.

use std::cell::Cell;
use std::hint::spin_loop;
use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manycore_os::robust::{OWNER_DIED, TID, WAITERS};

use crate::fault;
use crate::kernel::{self, Holder, Slept};
use crate::wait::patience::stall;
use crate::wait::{GaveUp, Patience, spin};
use crate::word::Word32;

/// Looks at a held lock this often before it counts as contended: about a microsecond, the time that
/// an owner on another core needs to finish.
const LOOKS: u32 = 100;

/// See the module.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct EngineLock(Word32);

/// A lock that was taken.
#[must_use]
pub enum Locked<'a> {
    /// What it guards is in order.
    Clean(Guard<'a>),
    /// The last owner died inside. Repair what it guards, then call [`Guard::repaired`]; if this
    /// process dies first, the next locker gets the same answer.
    OwnerDied(Guard<'a>),
}

/// Releases the lock when dropped. What was not repaired is passed on as such.
pub struct Guard<'a> {
    lock: &'a EngineLock,
    holder: Holder,
    is_damaged: Cell<bool>,
}

impl EngineLock {
    /// Takes the lock if that needs no sleep.
    #[inline(always)] // so that the guard is a few registers: see `Ring::try_put`
    pub fn try_lock(&self) -> Option<Locked<'_>> {
        let holder = Holder::current();
        holder.announce(&self.0);
        // Acquire pairs with the Release in `release`, and with the kernel's when an owner died.
        let taken = self.0.compare_exchange(0, holder.tid(), Acquire, Relaxed);
        let died = match taken {
            Ok(_) => false,
            Err(_) => self.try_lock_slow(holder)?,
        };
        Some(self.locked(holder, died))
    }

    /// Whether the last owner died, if the lock could be taken.
    #[cold]
    #[inline(never)]
    fn try_lock_slow(&self, holder: Holder) -> Option<bool> {
        for _ in 0..spin::looks(LOOKS) {
            if let Some(died) = self.try_take(holder, 0) {
                return Some(died);
            }
            spin_loop();
        }
        holder.retract();
        None
    }

    /// Takes the lock, sleeping while another thread holds it. `may_own` says whether a thread that lives can
    /// be the owner at all: it is asked about one that does not go on.
    ///
    /// # Errors
    /// When the patience ends first.
    pub fn lock(
        &self,
        patience: &mut Patience<'_>,
        may_own: &dyn Fn(u32) -> bool,
    ) -> Result<Locked<'_>, GaveUp> {
        if let Some(locked) = self.try_lock() {
            return Ok(locked);
        }
        let mut slices = 0_u32;
        loop {
            let holder = Holder::current();
            holder.announce(&self.0);
            // Others may sleep beside this thread: once it slept, it keeps WAITERS set.
            if let Some(died) = self.try_take(holder, WAITERS) {
                return Ok(self.locked(holder, died));
            }
            let word = self.0.fetch_or(WAITERS, Relaxed) | WAITERS; // ordered by the CAS that takes it
            if word & TID == 0 {
                holder.retract();
                continue; // it was released meanwhile, and whoever takes it next sees the bit
            }
            fault::point("engine.waiting");
            let outcome = kernel::sleep(&self.0, word, patience.slice());
            holder.retract();
            if outcome == Slept::Woken {
                continue; // without a look at the time: who takes a wake-up must not leave with it
            }
            if outcome == Slept::TimedOut {
                slices = slices.saturating_add(1);
            }
            if !self.is_found_ownerless(word & TID, holder.tid(), slices >= stall(), may_own) {
                patience.check()?;
            }
        }
    }

    /// The thread that holds the lock, for whoever looks from outside.
    #[must_use]
    pub fn owner(&self) -> Option<u32> {
        match self.0.load(Relaxed) & TID {
            0 => None,
            tid => Some(tid),
        }
    }

    /// Whether its owner died, and nobody has it.
    pub(crate) fn is_orphaned(&self) -> bool {
        self.0.load(Relaxed) & (TID | OWNER_DIED) == OWNER_DIED // a hint
    }

    /// Whether the word could be taken; `Some(true)` when its last owner died.
    fn try_take(&self, holder: Holder, extra: u32) -> Option<bool> {
        let word = self.0.load(Relaxed);
        if word & TID != 0 {
            return None;
        }
        let taken = holder.tid() | (word & (WAITERS | OWNER_DIED)) | extra;
        // Acquire: as in `try_lock`.
        self.0
            .compare_exchange(word, taken, Acquire, Relaxed)
            .ok()?;
        Some(word & OWNER_DIED != 0)
    }

    #[inline(always)]
    fn locked(&self, holder: Holder, died: bool) -> Locked<'_> {
        let guard = Guard {
            lock: self,
            holder,
            is_damaged: Cell::new(died),
        };
        if died {
            fault::point("engine.inherited");
            Locked::OwnerDied(guard)
        } else {
            Locked::Clean(guard)
        }
    }

    /// A last resort where the kernel did not mark the word (no robust lists in this sandbox, or a
    /// process made by a raw `clone`, or a word that was scribbled on): a thread id that names no thread is
    /// no owner, nor is one that names the waiting thread itself, nor one that may not own the lock.
    /// Returns whether the word was marked.
    fn is_found_ownerless(
        &self,
        tid: u32,
        own: u32,
        is_stalled: bool,
        may_own: &dyn Fn(u32) -> bool,
    ) -> bool {
        let word = self.0.load(Relaxed); // before anybody is asked, so that the answer is about this owner
        if word & TID != tid {
            return false;
        }
        if tid == own || kernel::thread_has_ended(tid) || (is_stalled && !may_own(tid)) {
            // Release pairs with the Acquire of who takes the lock next.
            let dead = (word & WAITERS) | OWNER_DIED;
            return self
                .0
                .compare_exchange(word, dead, Release, Relaxed)
                .is_ok();
        }
        if is_stalled {
            crate::stall::report(tid);
        }
        false
    }

    /// What a guard does in the end. By value, so that the compiler needs no address of one.
    #[inline(always)]
    fn give_up(&self, holder: Holder, is_damaged: bool) {
        let left = if is_damaged { OWNER_DIED } else { 0 };
        #[cfg(test)]
        if let Err(death) = crate::crash::releasing(|| self.release(left)) {
            // What the kernel does for a thread that died holding this lock; that of a model does it itself.
            if !crate::model::is_active() {
                holder.retract();
                self.die_as_owner();
            }
            return death.go_on();
        }
        #[cfg(not(test))]
        self.release(left);
        holder.retract();
    }

    #[cold]
    #[inline(never)]
    fn give_up_elsewhere(&self, holder: Holder, is_damaged: bool) {
        self.give_up(holder, is_damaged);
    }

    #[inline(always)]
    fn release(&self, left: u32) {
        // Release pairs with the Acquire in `try_lock` and `try_take`.
        if self.0.swap(left, Release) & WAITERS != 0 {
            self.wake_next();
        }
    }

    #[cold]
    fn wake_next(&self) {
        fault::point("engine.released");
        kernel::wake(&self.0, 1);
    }
}

impl Guard<'_> {
    /// Releases the lock, as dropping does, but where it is called: for what has to be quick.
    #[inline(always)]
    pub fn release(self) {
        let this = ManuallyDrop::new(self);
        this.lock.give_up(this.holder, this.is_damaged.get());
    }

    /// Says that what the dead owner left has been repaired.
    #[inline]
    pub fn repaired(&self) {
        self.is_damaged.set(false);
        self.lock.0.fetch_and(!OWNER_DIED, Relaxed); // only this thread, as the owner, changes the bit
    }
}

impl Drop for Guard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock
            .give_up_elsewhere(self.holder, self.is_damaged.get());
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl EngineLock {
    /// Makes the word what it is while a thread holds the lock, or after one died.
    pub(crate) fn pretend_held(&self, word: u32) {
        self.0.store(word, Relaxed);
    }
}

#[cfg(test)]
impl EngineLock {
    /// Whether somebody waits for it.
    pub(crate) fn is_contended(&self) -> bool {
        self.0.load(Relaxed) & WAITERS != 0
    }

    /// Whether somebody has it.
    pub(crate) fn is_held(&self) -> bool {
        self.0.load(Relaxed) & TID != 0
    }

    /// Does what the kernel does for a thread that died holding this lock.
    pub(crate) fn die_as_owner(&self) {
        use std::sync::atomic::Ordering::SeqCst;
        let word = self.0.as_futex();
        let died = (word.load(SeqCst) & WAITERS) | OWNER_DIED;
        word.store(died, SeqCst);
        manycore_os::futex::wake(word, 1);
    }
}
