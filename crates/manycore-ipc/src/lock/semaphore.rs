//! What a semaphore is made of its tokens.

use super::shares::{Shares, Take};
use super::tokens::Stopped;
use crate::block::allocator::Taken;
use crate::error::HandleError;
use crate::wait::{GaveUp, Patience};

impl Shares {
    /// Takes a token as this process's share if there is one. `make_block` makes the block that further shares
    /// need; it is called with no lock held.
    ///
    /// # Errors
    /// When there is no room for the block, or the heap is corrupted.
    pub(crate) fn try_hold(
        &self,
        extra: u64,
        make_block: &mut dyn FnMut() -> Result<Taken, HandleError>,
    ) -> Result<bool, HandleError> {
        let mut block = None;
        let outcome = loop {
            match self.take(1, extra, &mut block) {
                Ok(Take::NeedsBlock) if block.is_none() => block = Some(make_block()?),
                outcome => break outcome,
            }
        };
        if let Some(unused) = block {
            self.discard(unused); // another process was quicker
        }
        Ok(outcome? == Take::Done)
    }

    /// Takes a token as this process's share, sleeping while there is none.
    ///
    /// # Errors
    /// When the patience ends first; or as [`Shares::try_hold`].
    pub(crate) fn hold(
        &self,
        patience: &mut Patience<'_>,
        look_after: impl FnMut(),
        make_block: &mut dyn FnMut() -> Result<Taken, HandleError>,
    ) -> Result<Result<(), GaveUp>, HandleError> {
        let attempt = |extra| self.try_hold(extra, make_block);
        match self.tokens.take_by(patience, look_after, attempt) {
            Ok(()) => Ok(Ok(())),
            Err(Stopped::GaveUp(error)) => Ok(Err(error)),
            Err(Stopped::Other(error)) => Err(error),
        }
    }

    /// Gives a token of this process's share back. Where it has none, as in a process that was forked inside,
    /// gives one all the same; of another's share, if every token is taken as one. `false` when as many are
    /// there as there may be.
    ///
    /// # Errors
    /// When the heap is corrupted.
    pub fn give_back(&self) -> Result<bool, HandleError> {
        let given = self.give(1, self.tokens.returns())?;
        Ok(given.unwrap_or_else(|| self.tokens.give()))
    }
}
