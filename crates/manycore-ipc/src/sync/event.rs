//! A flag that processes set, clear and wait for.
//!
//! | EPOCH (30 bits) | WAITING | SET | meaning                                                  |
//! |-----------------|---------|-----|----------------------------------------------------------|
//! | n               | 0       | 0   | not set; nobody is known to sleep                         |
//! | n               | 1       | 0   | not set; somebody may sleep: `set` clears the bit, wakes  |
//! | n               | 0       | 1   | set                                                      |
//! | n               | 1       | 1   | never stored                                             |
//!
//! `set` begins an epoch. Who waits has what it waits for when the word says SET, or is of another epoch than when
//! it came: so all that wait for a `set` return, however soon a `clear` follows.
//!
//! There is nothing to repair. What a process does to the word is one exchange; what it dies over after that is
//! the waking, and who sleeps looks again after a slice.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use manycore_os::Deadline;

use crate::fault;
use crate::kernel;
use crate::wait::{GaveUp, Patience, spin};
use crate::word::Word32;

const SET: u32 = 1;
const WAITING: u32 = 2;
const ONE: u32 = 4;
const EPOCH: u32 = !(SET | WAITING);

/// See the module.
#[repr(C, align(64))]
pub struct EventBody {
    word: Word32,
    spare: [Word32; 15],
}

impl EventBody {
    /// Clears the flag. For an object that is not live yet.
    pub(crate) fn initialise(&self) {
        self.word.store(0, Relaxed); // published with the object
    }

    /// Whether the flag is set.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.word.load(Acquire) & SET != 0 // pairs with the exchange in `set`
    }

    /// Sets the flag and wakes all who wait.
    pub fn set(&self) {
        loop {
            let word = self.word.load(Relaxed);
            let next = if word & SET == 0 {
                (word & EPOCH).wrapping_add(ONE) | SET
            } else {
                word
            };
            // AcqRel: pairs with the Acquire of who sees the flag, and with `clear`, which is ordered before or
            // after it. Also where nothing changes: what this process did before is to be seen with the flag.
            if self
                .word
                .compare_exchange(word, next, AcqRel, Relaxed)
                .is_ok()
            {
                if word & WAITING != 0 {
                    self.wake_all();
                }
                return;
            }
            #[cfg(test)]
            if crate::crash::is_dead() {
                return;
            }
        }
    }

    #[cold]
    fn wake_all(&self) {
        fault::point("event.set");
        kernel::wake(&self.word, u32::MAX);
    }

    /// Clears the flag. Who waited when it was set returns all the same.
    pub fn clear(&self) {
        self.word.fetch_and(!SET, AcqRel); // ordered against the exchange in `set`
    }

    /// Waits until the flag is set, or was since the call.
    ///
    /// # Errors
    /// When the patience ends first.
    pub fn wait(&self, patience: &mut Patience<'_>) -> Result<(), GaveUp> {
        let first = self.word.load(Acquire); // as in `is_set`
        let is_over = |word: u32| word & SET != 0 || (word ^ first) & EPOCH != 0;
        if is_over(first) {
            return Ok(());
        }
        if patience.until() == Deadline::PASSED {
            return Err(GaveUp::TimedOut); // who tries does not spin
        }
        if spin::look(|| is_over(self.word.load(Acquire))) {
            return Ok(());
        }
        let mut slept = None;
        loop {
            let word = self.word.load(Acquire); // as in `is_set`
            if is_over(word) {
                return Ok(());
            }
            patience.after(slept)?;
            let waited = word | WAITING;
            fault::point("event.waiting");
            // Relaxed: the word says nothing else than before.
            let is_flagged = word == waited
                || self
                    .word
                    .compare_exchange(word, waited, Relaxed, Relaxed)
                    .is_ok();
            if is_flagged {
                slept = Some(kernel::sleep(&self.word, waited, patience.slice()));
            }
            #[cfg(test)]
            if crate::crash::is_dead() {
                return Err(GaveUp::Interrupted);
            }
        }
    }
}

#[cfg(test)]
impl EventBody {
    pub(super) fn for_test() -> &'static Self {
        Box::leak(Box::new(Self {
            word: Word32::new(0),
            spare: Default::default(),
        }))
    }

    pub(crate) fn has_waiters(&self) -> bool {
        self.word.load(Relaxed) & WAITING != 0
    }
}
