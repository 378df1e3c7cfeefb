//! What becomes of a lock of the user's whose holder was killed, or has given up in the middle.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::{DIED, HOLDER, TAG, TIMES, UserLock};
use crate::fault;
use crate::kernel;
use crate::registry::OwnerId;

impl UserLock {
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

    pub(super) fn dead_pid(&self) -> u32 {
        (self.dead.load(Relaxed) & TIMES) as u32 // noted before the word said so
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

    /// Whether what it guards is to be repaired after a death: somebody holds it who will not, or nobody does and all are
    /// refused.
    #[must_use]
    pub fn is_to_be_repaired(&self) -> bool {
        match self.word.load(Acquire) & HOLDER {
            0 => false,
            DIED => self.refuses(),
            _ => self.unrepaired.load(Relaxed) != 0, // a hint: the holder's own
        }
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

/// What `dead` says of a holder.
fn note(name: u32, pid: u32) -> u64 {
    u64::from(name) << TAG | u64::from(pid)
}
