//! A lock of the user's that its owning thread may acquire again: thread and depth lie beside the word.

use std::sync::atomic::Ordering::Relaxed;

use super::{HOLDER, TAG, TIMES, UserLock};
use crate::registry::OwnerId;

impl UserLock {
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

    /// How often the owner has acquired a recursive lock.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.depth.load(Relaxed) & TIMES
    }

    /// Of a recursive lock that is held: the owning thread, and how often it has acquired.
    #[must_use]
    pub fn owner(&self) -> Option<(u32, u64)> {
        let (thread, depth) = (self.thread.load(Relaxed), self.depth.load(Relaxed));
        let is_its_own = self.holder().map(u64::from) == Some(depth >> TAG);
        (is_its_own && thread != 0).then_some((thread as u32, depth & TIMES))
    }
}
