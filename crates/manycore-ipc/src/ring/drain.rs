//! Emptying a ring that nobody holds any more, and repairing one on request.

use manycore_os::Deadline;

use super::get::{Get, Message};
use super::position::Position;
use super::region::Ring;
use crate::error::Corrupted;
use crate::wait::patience::SLICE;
use crate::wait::{GaveUp, Patience};

impl Ring {
    /// Frees everything inside: messages, their blocks and handles, and the regions. The caller has
    /// taken over the freeing of the object. Returns when nothing is left; may be done twice.
    ///
    /// # Errors
    /// When the ring's bytes make no sense; what could not be found stays taken.
    pub fn drain(&self) -> Result<(), Corrupted> {
        // A record that was never committed, and a region that was left but not freed, are found by the
        // repairs only.
        self.settle();
        self.discard()?;
        self.free_pollers();
        let tail = Position::from_bits(
            self.body
                .put
                .position
                .load(std::sync::atomic::Ordering::Acquire),
        );
        if let Some(words) = self.body.put.region.get(tail.region_index()) {
            // Only if it is this ring's: who died while it made the ring has left anything there.
            self.blocks
                .free_if_bound_where(words.block(), self.index, |_| true);
        }
        Ok(())
    }

    /// Takes all messages out and frees what belongs to them; in a joinable queue they are done.
    ///
    /// # Errors
    /// As for [`Ring::drain`].
    pub fn discard(&self) -> Result<(), Corrupted> {
        let mut message = Message::default();
        loop {
            match self.try_get(&mut message, None)? {
                Get::Done => {
                    for &block in &message.blocks {
                        self.blocks.free(block);
                    }
                    for &(index, _) in &message.handles {
                        self.objects.arrived(index)?;
                    }
                    let _ = self.mark_done(); // `false` in a queue of which nobody counts
                }
                Get::Empty => return Ok(()),
                Get::Busy => self.settle(),
            }
        }
    }

    /// Takes all messages out, under one lock: until it returns nobody else gets one, and so none that was put behind
    /// one of these. `each` is called with the lock held, and may take what belongs to its message. `false` if another
    /// thread has the lock; [`Ring::settle_get`] waits for that.
    ///
    /// # Errors
    /// As for [`Ring::drain`]. What came before has been taken.
    pub fn try_take_all(&self, mut each: impl FnMut(&mut Message)) -> Result<bool, Corrupted> {
        let Some(locked) = self.body.get.lock.try_lock() else {
            return Ok(false);
        };
        let guard = self.repaired_get(locked)?;
        let mut message = Message::default();
        let mut left_region = false;
        let outcome = loop {
            let outcome = self.get_locked(&mut message, None);
            left_region |= message.left_region;
            if outcome != Ok(Get::Done) {
                break outcome;
            }
            each(&mut message);
        };
        guard.release();
        self.after_get();
        if left_region {
            let _ = self.blocks.trim(); // as in `try_get`
        }
        outcome.map(|_| true)
    }

    /// Takes each lock once, so that whatever a dead owner left is repaired now.
    pub fn settle(&self) {
        let mut go_on = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
        if let Ok(locked) = self.lock(&self.body.put, &mut patience) {
            let _ = self.repaired_put(locked);
        }
        let _ = self.settle_get(&mut patience);
    }

    /// The same for the consumers' lock alone: a producer that was stopped with its own keeps nobody waiting.
    ///
    /// # Errors
    /// When the patience ends before the lock is free: a consumer that was stopped may have it.
    pub fn settle_get(&self, patience: &mut Patience<'_>) -> Result<(), GaveUp> {
        let locked = self.lock(&self.body.get, patience)?;
        let _ = self.repaired_get(locked);
        Ok(())
    }

    /// The same, but waits for a moment only; whether the lock was free.
    pub fn settle_get_soon(&self) -> bool {
        let mut go_on = || true;
        let mut briefly = Patience::new(Deadline::after(SLICE), &mut go_on);
        self.settle_get(&mut briefly).is_ok()
    }
}
