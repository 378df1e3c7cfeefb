//! An entry of a roll: one that waits, and the word at which it does.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use crate::error::Corrupted;
use crate::fault;
use crate::kernel::{self, Slept};
use crate::registry::OwnerId;
use crate::wait::{GaveUp, Patience, spin};
use crate::word::Word32;

const STATE: u32 = 3;
pub(super) const TICKETS: u32 = u32::MAX >> 2;

/// Where an entry is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Nobody's.
    Free = 0,
    /// Its owner waits.
    Waiting = 1,
    /// Its owner has what it waits for.
    Notified = 2,
    /// Its owner will not get it.
    Broken = 3,
}

impl State {
    pub(super) fn of(word: u32) -> Self {
        match word & STATE {
            0 => Self::Free,
            1 => Self::Waiting,
            2 => Self::Notified,
            _ => Self::Broken,
        }
    }
}

/// See the module.
#[repr(C)]
pub struct Entry {
    pub(super) word: Word32,
    pub(super) owner: Word32,
}

impl Entry {
    pub(in crate::sync) fn state(&self) -> State {
        State::of(self.word.load(Acquire)) // pairs with the Release of whoever changed it
    }

    /// Whose it is, if it is not free.
    pub(in crate::sync) fn owner(&self) -> OwnerId {
        OwnerId::from_bits(self.owner.load(Relaxed)) // ordered by the load of the state
    }

    /// Changes the state, unless it has changed meanwhile. Under the lock only.
    pub(super) fn turn(&self, from: State, into: State) -> bool {
        let word = self.word.load(Relaxed); // checked by the exchange
        let next = match into {
            State::Free => 0,
            _ => (word & !STATE) | into as u32,
        };
        // Release pairs with the Acquire of the owner, Acquire with the Release of who took the entry.
        State::of(word) == from
            && self
                .word
                .compare_exchange(word, next, AcqRel, Relaxed)
                .is_ok()
    }

    /// Wakes the owner of an entry that was changed.
    pub(in crate::sync) fn wake(&self) {
        kernel::wake(&self.word, 1);
    }
}

/// An entry that was taken, and what its word was then.
#[must_use]
#[derive(Clone, Copy)]
pub struct Place {
    pub(super) entry: &'static Entry,
    pub(super) waiting: u32,
}

impl Place {
    fn word_as(&self, state: State) -> u32 {
        (self.waiting & !STATE) | state as u32
    }

    /// What has become of it; `None` while it waits.
    ///
    /// # Errors
    /// When it is another's by now: nobody takes it from the living.
    pub(in crate::sync) fn outcome(&self) -> Result<Option<State>, Corrupted> {
        let word = self.entry.word.load(Acquire); // pairs with the Release in `Entry::turn`
        match State::of(word) {
            State::Waiting if word == self.waiting => Ok(None),
            state @ (State::Notified | State::Broken) if word == self.word_as(state) => {
                Ok(Some(state))
            }
            _ => Err(Corrupted::new("an entry of a roll is another's")),
        }
    }

    pub(super) fn is_still_its(&self) -> bool {
        self.entry.word.load(Acquire) & !STATE == self.waiting & !STATE
    }

    /// Frees the entry if it is in this state: takes what it says. `false` when it is in another.
    pub(in crate::sync) fn leave(&self, state: State) -> bool {
        // Acquire pairs with the Release in `Entry::turn`, Release with the Acquire of who takes the entry next.
        let its = self.word_as(state);
        self.entry
            .word
            .compare_exchange(its, 0, AcqRel, Relaxed)
            .is_ok()
    }

    /// Sleeps until the entry does not wait any more. `look_around` runs after each slice without news.
    ///
    /// # Errors
    /// When the patience ends first: the entry waits on.
    pub(in crate::sync) fn sleep(
        &self,
        patience: &mut Patience<'_>,
        mut look_around: impl FnMut(),
    ) -> Result<(), GaveUp> {
        let is_over = || self.entry.word.load(Acquire) != self.waiting; // as in `outcome`
        if spin::look(is_over) {
            return Ok(());
        }
        let mut slept = None;
        loop {
            if is_over() {
                return Ok(());
            }
            patience.after(slept)?;
            fault::point("roll.waiting");
            let outcome = kernel::sleep(&self.entry.word, self.waiting, patience.slice());
            if outcome == Slept::TimedOut {
                look_around();
            }
            slept = Some(outcome);
            #[cfg(test)]
            if crate::crash::is_dead() {
                return Err(GaveUp::Interrupted);
            }
        }
    }
}

#[cfg(test)]
impl Place {
    /// Where its owner sleeps.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(&self.entry.word).addr()
    }

    pub(in crate::sync) fn scribble(&self, word: u32) {
        self.entry.word.store(word, Relaxed);
    }
}
