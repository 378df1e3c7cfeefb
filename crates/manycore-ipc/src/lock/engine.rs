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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use manycore_os::Deadline;

    use super::*;

    fn lock<T>(
        lock: &EngineLock,
        until: Deadline,
        then: impl FnOnce(Locked<'_>) -> T,
    ) -> Option<T> {
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
        word.0.store(tid, Relaxed);
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
        word.0.store(std::process::id(), Relaxed); // lives, and does not hold it
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
        word.0.store(OWNER_DIED, Relaxed);
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
        word.0.store(WAITERS, Relaxed); // a waiter died right after its `fetch_or`
        drop(word.try_lock().expect("nobody owns it"));
        assert_eq!(word.0.load(Relaxed), 0);
    }
}
