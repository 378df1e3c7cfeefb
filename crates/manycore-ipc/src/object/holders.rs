//! Who holds an object: one bit for each process, and a count of handles inside messages.
//!
//! Every change errs on the side of "held": a process that dies in the middle leaves a bit or a count
//! too many, never one too few.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::header::{Handle, Kind, Phase, Stage};
use super::table::Objects;
use crate::error::{Corrupted, HandleError};
use crate::fault;
use crate::registry::OwnerId;
use crate::word::{Word64, fence};

/// Generations of objects are compared in this many bits.
const GENERATION: u32 = 0xff_ffff;

impl Objects {
    pub(crate) fn holder_word(
        &self,
        index: u32,
        who: OwnerId,
    ) -> Result<(&'static Word64, u64), Corrupted> {
        let object = self.object(index)?;
        let word = object
            .holders
            .get(who.slot() / 64)
            .ok_or(Corrupted::new("no such holder"))?;
        Ok((word, 1 << (who.slot() % 64)))
    }

    /// Notes that a process holds an object, whatever its state. Returns whether that is news.
    pub(crate) fn set_holder(&self, index: u32, who: OwnerId) -> Result<bool, Corrupted> {
        let (word, bit) = self.holder_word(index, who)?;
        Ok(word.fetch_or(bit, SeqCst) & bit == 0) // ordered against the fence in `bury`, see `attach_for`
    }

    /// Notes that a process does not hold an object any more, and buries it if nobody does.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn clear_holder(&self, index: u32, who: OwnerId) -> Result<(), Corrupted> {
        let (word, bit) = self.holder_word(index, who)?;
        if word.load(SeqCst) & bit == 0 {
            return Ok(()); // no store into the lines of objects that a sweep finds unheld
        }
        word.fetch_and(!bit, SeqCst);
        fault::point("object.released");
        self.bury_if_unheld(index)
    }

    /// Makes this process a holder of the object that a handle names.
    ///
    /// # Errors
    /// When the object is gone or of another kind.
    pub fn attach(&self, handle: Handle, kind: Kind) -> Result<(), HandleError> {
        if handle.family != self.heap.header().family() {
            return Err(HandleError::OtherFamily);
        }
        if handle.index >= self.used() {
            return Err(HandleError::Gone); // a handle may come from anywhere, unlike a shared word
        }
        let stage = self.stage(handle.index)?;
        if stage.kind != Some(kind) && is_of(stage, handle.generation) {
            return Err(HandleError::OtherKind);
        }
        self.attach_for(self.me, handle.index, handle.generation)
    }

    /// Makes a process (this one, or the child that it is about to fork) a holder of an object.
    ///
    /// # Errors
    /// When the object is gone.
    pub(crate) fn attach_for(
        &self,
        who: OwnerId,
        index: u32,
        generation: u32,
    ) -> Result<(), HandleError> {
        if !is_of(self.stage(index)?, generation) {
            return Err(HandleError::Gone); // whoever lives there now is left alone
        }
        let is_news = self.set_holder(index, who)?;
        fence(SeqCst); // pairs with the fence in `bury`: the bit is set before the phase is read
        fault::point("object.attaching");
        while let Ok(stage) = self.stage(index) {
            match stage.phase {
                Phase::Live if is_of(stage, generation) => return Ok(()),
                // Undecided: the bit says that it is held, so the burial can be called off right here.
                Phase::Buried if is_of(stage, generation) => self.revive(index, stage)?,
                _ => break,
            }
        }
        // Not a bit that was there before: it is for the object that lives there now.
        if is_news {
            self.clear_holder(index, who)?;
        }
        Err(HandleError::Gone)
    }

    /// Whether the object that a handle names is still there. Stays true while the caller holds it.
    ///
    /// # Errors
    /// [`HandleError::Gone`] when it is not.
    #[inline]
    pub fn check(&self, handle: Handle) -> Result<(), HandleError> {
        let stage = self.stage(handle.index)?;
        let is_there =
            is_of(stage, handle.generation) && matches!(stage.phase, Phase::Live | Phase::Buried);
        if is_there {
            Ok(())
        } else {
            Err(HandleError::Gone)
        }
    }

    /// Counts a handle that is about to travel in a message.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn send(&self, index: u32) -> Result<(), Corrupted> {
        self.object(index)?.in_flight.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Counts a handle that has arrived, or whose message was never sent.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn arrived(&self, index: u32) -> Result<(), Corrupted> {
        let before = self.object(index)?.in_flight.saturating_sub(1, SeqCst);
        if before == 1 {
            self.bury_if_unheld(index)
        } else {
            Ok(())
        }
    }

    /// The slots of the processes that hold the object, at some moment each.
    pub(crate) fn holder_slots(
        &self,
        index: u32,
    ) -> Result<impl Iterator<Item = usize> + use<>, Corrupted> {
        let words = self.object(index)?.holders.iter().enumerate();
        Ok(words.flat_map(|(n, word)| {
            let mut left = word.load(SeqCst);
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left = left & left.checked_sub(1)?; // without the lowest one
                Some(n * 64 + bit)
            })
        }))
    }

    /// Messages that the object is in, or more after a crash.
    pub(crate) fn in_flight(&self, index: u32) -> Result<u64, Corrupted> {
        Ok(self.object(index)?.in_flight.load(Relaxed)) // for who only looks
    }

    /// Whether the process in a slot holds the object.
    pub(crate) fn is_held_by(&self, index: u32, slot: usize) -> Result<bool, Corrupted> {
        let (word, bit) = self.holder_word(index, OwnerId::new(slot, 0))?;
        Ok(word.load(SeqCst) & bit != 0)
    }

    /// Whether anybody holds the object, or a message does.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn is_held(&self, index: u32) -> Result<bool, Corrupted> {
        let object = self.object(index)?;
        // The count last: who passes its hold on to a message counts first and clears its bit then.
        let held = object.holders.iter().any(|word| word.load(SeqCst) != 0);
        Ok(held || object.in_flight.load(SeqCst) != 0)
    }
}

pub(crate) fn is_of(stage: Stage, generation: u32) -> bool {
    stage.generation == generation & GENERATION
}
