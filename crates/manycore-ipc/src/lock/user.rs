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

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

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
    spare_words: [Word64; 3],
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

    /// Whether a death has to be repaired before anybody gets the lock.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.refuses.load(Relaxed) == 1 // set once, before the object is live
    }

    /// The holder that was killed, if nobody has had the lock since: its pid.
    #[must_use]
    pub fn dead_holder(&self) -> Option<u32> {
        let died = self.word.load(Acquire) & HOLDER == DIED; // pairs with the exchange in `hand_over`
        died.then(|| self.dead_pid())
    }

    fn dead_pid(&self) -> u32 {
        (self.dead.load(Relaxed) & TIMES) as u32 // noted before the word said so
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
                    Some(acquired) => return Ok(acquired),
                    None => continue,
                }
            }
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
                    self.wake_next(left);
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
    fn wake_next(&self, left: u32) {
        if left == DIED {
            fault::point("lock.abandoned");
            kernel::wake(&self.word, u32::MAX); // all are told
        } else {
            fault::point("lock.released");
            kernel::wake(&self.word, 1);
        }
    }

    /// Says, by the holder, that what the lock guards is still to be repaired: when it is released, the next one is
    /// told that a holder was killed.
    pub fn leave_unrepaired(&self) {
        self.unrepaired.store(1, Relaxed); // published by the release
    }

    /// Says, by the holder, that what the lock guards has been repaired.
    pub fn repaired(&self) {
        self.unrepaired.store(0, Relaxed); // as in `leave_unrepaired`
    }

    /// Says, by the holder, that it gives up in the middle of its work: when it is released, the next one is told that
    /// this process, with its pid, has died.
    pub fn abandon(&self, me: OwnerId, pid: u32) {
        // Relaxed: published by the release. A reaper of an earlier holder that comes late sees that the word has
        // changed hands, or that the note has.
        self.dead.store(note(Self::name_of(me), pid), Relaxed);
        self.leave_unrepaired();
    }

    /// Acquires a recursive lock again if this thread has it.
    #[inline]
    pub fn reenter(&self, me: OwnerId, thread: u64) -> bool {
        let mine = self.is_held_by(me, thread);
        if mine {
            self.depth.fetch_add(1, Relaxed); // only the owner touches it
        }
        mine
    }

    /// Notes the owning thread of a recursive lock that was just acquired.
    #[inline]
    pub fn enter(&self, thread: u64) {
        let holder = self.word.load(Relaxed) & HOLDER; // this process, since it was just acquired
        self.thread.store(thread, Relaxed); // only the owner's own thread finds its own number here
        self.depth.store(u64::from(holder) << TAG | 1, Relaxed);
    }

    /// The same for a thread that had it so many times before it left it for a while.
    pub fn enter_times(&self, thread: u64, times: u64) {
        self.enter(thread);
        self.depth
            .fetch_add((times & TIMES).saturating_sub(1), Relaxed); // only the owner touches it
    }

    /// Leaves a recursive lock, however often this thread has acquired it; `None` when it does not have it.
    pub fn leave_all(&self, me: OwnerId, thread: u64) -> Option<u64> {
        if !self.is_held_by(me, thread) {
            return None;
        }
        let times = self.depth();
        self.thread.store(0, Relaxed);
        self.release();
        Some(times)
    }

    /// Leaves a recursive lock once; `None` when this thread does not have it, else whether that was
    /// the last time, and the lock is free.
    pub fn leave(&self, me: OwnerId, thread: u64) -> Option<bool> {
        if !self.is_held_by(me, thread) {
            return None;
        }
        let left = self.depth.saturating_sub(1, Relaxed) & TIMES <= 1;
        if left {
            self.thread.store(0, Relaxed);
            self.release();
        }
        Some(left)
    }

    /// Whether this thread of this process has the recursive lock.
    #[must_use]
    pub fn is_held_by(&self, me: OwnerId, thread: u64) -> bool {
        let name = Self::name_of(me);
        self.word.load(Relaxed) & HOLDER == name
            && self.thread.load(Relaxed) == thread
            && self.depth.load(Relaxed) >> TAG == u64::from(name)
    }

    /// The holder, as far as its word tells: compare with [`UserLock::name_of`].
    #[must_use]
    pub fn holder(&self) -> Option<u32> {
        match self.word.load(Acquire) & HOLDER {
            0 | DIED => None,
            holder => Some(holder),
        }
    }

    /// How often the owner has acquired a recursive lock.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.depth.load(Relaxed) & TIMES
    }

    /// Whether somebody waits for it, or did until just now.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.word.load(Relaxed) & WAITERS != 0
    }

    /// Of a recursive lock that is held: the owning thread, and how often it has acquired.
    #[must_use]
    pub fn owner(&self) -> Option<(u32, u64)> {
        let (thread, depth) = (self.thread.load(Relaxed), self.depth.load(Relaxed));
        let is_its_own = self.holder().map(u64::from) == Some(depth >> TAG);
        (is_its_own && thread != 0).then_some((thread as u32, depth & TIMES))
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

    /// Gives a killed holder's lock to whoever comes next. May be done twice, and by several at once.
    pub fn hand_over(&self, dead: OwnerId, pid: u32) {
        let name = Self::name_of(dead);
        let note = note(name, pid);
        loop {
            // Before the word, so that a note about a later holder is not replaced: Acquire pairs with the
            // Release below, and who sees that note sees that the word has changed hands.
            let noted = self.dead.load(Acquire);
            let word = self.word.load(Acquire);
            if word & HOLDER != name {
                return;
            }
            let is_noted = noted == note
                || self
                    .dead
                    .compare_exchange(noted, note, Release, Relaxed)
                    .is_ok();
            fault::point("lock.noted");
            // Fails when a waiter set its bit meanwhile.
            if is_noted
                && self
                    .word
                    .compare_exchange(word, DIED, AcqRel, Relaxed)
                    .is_ok()
            {
                fault::point("lock.handed");
                kernel::wake(&self.word, u32::MAX);
                return;
            }
            #[cfg(test)]
            if crate::crash::is_dead() {
                return;
            }
        }
    }
}

fn is_free(word: u32) -> bool {
    matches!(word & HOLDER, 0 | DIED)
}

/// What `dead` says of a holder.
fn note(name: u32, pid: u32) -> u64 {
    u64::from(name) << TAG | u64::from(pid)
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
            spare_words: Default::default(),
        }
    }

    pub(in crate::lock) fn has_waiters(&self) -> bool {
        self.word.load(Relaxed) & WAITERS != 0
    }
}

#[cfg(test)]
mod tests {
    use manycore_os::Deadline;

    use super::*;

    const ME: u32 = 0x1001;
    const OTHER: u32 = 0x1002;

    fn lock() -> UserLock {
        UserLock::for_test()
    }

    #[test]
    fn a_lock_that_refuses_is_repaired_before_anybody_gets_it() {
        let (lock, me, other) = (lock(), OwnerId::from_bits(ME), OwnerId::from_bits(OTHER));
        lock.initialise(true);
        assert_eq!(lock.try_acquire(other), Some(Acquired::Clean));
        lock.hand_over(other, 77);
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut tick);
        for _ in 0..2 {
            assert_eq!(lock.try_acquire(me), Some(Acquired::Refused(77)));
            let refused = lock.acquire(me, &mut patience, |_| ());
            assert_eq!(refused, Ok(Acquired::Refused(77)));
            assert!(!lock.release(), "nobody has it");
            assert_eq!(lock.dead_holder(), Some(77));
            let taken = lock.acquire_to_repair(me, &mut patience, |_| ());
            assert_eq!(taken, Ok(Acquired::HolderDied(77)));
            assert_eq!((lock.dead_holder(), lock.try_acquire(other)), (None, None));
            lock.leave_unrepaired();
            lock.release();
        }
        let taken = lock.acquire_to_repair(me, &mut patience, |_| ());
        assert_eq!(taken, Ok(Acquired::HolderDied(77)));
        assert!(lock.release());
        assert_eq!(lock.try_acquire(other), Some(Acquired::Clean));
    }

    #[test]
    fn who_gives_up_in_the_middle_is_named_until_it_is_repaired() {
        let (lock, me, other) = (lock(), OwnerId::from_bits(ME), OwnerId::from_bits(OTHER));
        lock.initialise(true);
        assert_eq!(lock.try_acquire(other), Some(Acquired::Clean));
        lock.abandon(other, 78);
        assert!(lock.release());
        assert_eq!(lock.try_acquire(me), Some(Acquired::Refused(78)));
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut tick);
        for is_last in [false, true] {
            let taken = lock.acquire_to_repair(me, &mut patience, |_| ());
            assert_eq!(taken, Ok(Acquired::HolderDied(78)));
            lock.leave_unrepaired();
            if is_last {
                lock.repaired();
            }
            assert!(lock.release());
        }
        assert_eq!(lock.try_acquire(other), Some(Acquired::Clean));
    }

    #[test]
    fn anyone_may_release_and_twice_is_noticed() {
        let (lock, me) = (lock(), OwnerId::from_bits(ME));
        assert_eq!(lock.try_acquire(me), Some(Acquired::Clean));
        assert_eq!(lock.try_acquire(OwnerId::from_bits(OTHER)), None);
        assert!(lock.release());
        assert!(!lock.release());
    }

    #[test]
    fn a_killed_holders_lock_is_handed_over_with_its_pid_once() {
        let (lock, me, other) = (lock(), OwnerId::from_bits(ME), OwnerId::from_bits(OTHER));
        assert_eq!(lock.try_acquire(other), Some(Acquired::Clean));
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut tick);
        let acquired = lock.acquire(me, &mut patience, |holder| {
            assert_eq!(holder, UserLock::name_of(other));
            lock.hand_over(other, 77);
            lock.hand_over(other, 77);
        });
        assert_eq!(acquired, Ok(Acquired::HolderDied(77)));
        lock.release();
        assert_eq!(lock.try_acquire(me), Some(Acquired::Clean));
    }

    #[test]
    fn a_recursive_lock_belongs_to_one_thread() {
        let (lock, me) = (lock(), OwnerId::from_bits(ME));
        assert!(lock.try_acquire(me).is_some());
        lock.enter(1);
        assert!(lock.reenter(me, 1));
        assert!(!lock.reenter(me, 2));
        assert_eq!(lock.leave(me, 2), None);
        assert_eq!(lock.leave(me, 1), Some(false));
        assert_eq!(lock.leave(me, 1), Some(true));
        assert_eq!(lock.leave(me, 1), None);
    }

    #[test]
    fn a_recursive_lock_can_be_left_for_a_while() {
        let (lock, me) = (lock(), OwnerId::from_bits(ME));
        assert!(lock.try_acquire(me).is_some());
        lock.enter(1);
        assert!(lock.reenter(me, 1) && lock.reenter(me, 1));
        assert_eq!(lock.leave_all(me, 2), None);
        assert_eq!(lock.leave_all(me, 1), Some(3));
        assert_eq!(lock.try_acquire(me), Some(Acquired::Clean));
        lock.enter_times(1, 3);
        for is_last in [false, false, true] {
            assert_eq!(lock.leave(me, 1), Some(is_last));
        }
    }
}
