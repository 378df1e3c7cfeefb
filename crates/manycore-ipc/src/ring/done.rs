//! Counting what is done: what a joinable queue keeps beside its ring.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::region::Ring;
use crate::fault;
use crate::wait::{GaveUp, Patience};

/// That a message was put needs no count of its own: the producers' counter is committed with it, so no
/// death leaves one that nobody can be done with.
impl Ring {
    /// Marks one message as done; `false` when all that were put are done already.
    #[must_use]
    pub fn mark_done(&self) -> bool {
        let done = &self.body.done;
        let mut seen = done.load(Relaxed); // the exchange below checks it
        while seen < self.passed_of(&self.body.put).messages {
            // SeqCst: as a condition of `finished`, ordered against its fences.
            match done.compare_exchange(seen, seen + 1, SeqCst, Relaxed) {
                Ok(_) => {
                    fault::point("ring.done");
                    if self.is_finished() {
                        self.body.finished.ring_all();
                    }
                    return true;
                }
                Err(found) => seen = found,
            }
        }
        false
    }

    /// Whether every message that was put was marked done at some moment during the call.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // In this order: what is put meanwhile makes it less true, what is done meanwhile more.
        let done = self.body.done.load(SeqCst);
        done >= self.passed_of(&self.body.put).messages
    }

    /// Waits until every message is done.
    ///
    /// # Errors
    /// When the patience ends first.
    pub fn wait_finished(&self, patience: &mut Patience<'_>) -> Result<(), GaveUp> {
        let finished = &self.body.finished;
        finished.wait(patience, || self.is_finished()).map(|_| ())
    }
}
