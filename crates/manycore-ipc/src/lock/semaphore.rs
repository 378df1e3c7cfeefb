//! What a semaphore is made of its tokens.

use super::Guard;
use super::shares::{Shares, Take};
use super::tokens::Stopped;
use crate::block::allocator::Taken;
use crate::error::{Corrupted, HandleError};
use crate::wait::{GaveUp, Patience};

impl Shares {
    /// Takes a token as this process's share if that needs neither a sleep nor a block. `Some(false)` when there is
    /// no token.
    ///
    /// # Errors
    /// When the heap is corrupted.
    pub fn hold_at_once(&self) -> Result<Option<bool>, HandleError> {
        let Some(guard) = self.try_lock()? else {
            return Ok(None);
        };
        Ok(match self.take(&guard, 1, 0, &mut None)? {
            Take::Done => Some(true),
            Take::None => Some(false),
            Take::NeedsBlock => None,
        })
    }

    /// Takes a token as this process's share, sleeping while there is none. `make_block` makes the block that
    /// further shares need; it is called with no lock held.
    ///
    /// # Errors
    /// When the patience ends first; when there is no room for the block, or the heap is corrupted.
    pub(crate) fn hold(
        &self,
        patience: &mut Patience<'_>,
        look_after: impl FnMut(),
        make_block: &mut dyn FnMut() -> Result<Taken, HandleError>,
    ) -> Result<Result<(), GaveUp>, HandleError> {
        let attempt =
            |extra, patience: &mut Patience<'_>| self.try_hold(extra, patience, make_block);
        match self.tokens.take_by(patience, look_after, attempt) {
            Ok(()) => Ok(Ok(())),
            Err(Stopped::GaveUp(error)) => Ok(Err(error)),
            Err(Stopped::Other(error)) => Err(error),
        }
    }

    /// One attempt of [`Shares::hold`]: whether there was a token.
    fn try_hold(
        &self,
        extra: u64,
        patience: &mut Patience<'_>,
        make_block: &mut dyn FnMut() -> Result<Taken, HandleError>,
    ) -> Result<bool, Stopped<HandleError>> {
        let mut block = None;
        let outcome = loop {
            match self.take_in_turn(extra, patience, &mut block) {
                Ok(Ok(Take::NeedsBlock)) if block.is_none() => {
                    block = Some(make_block().map_err(Stopped::Other)?);
                }
                outcome => break outcome,
            }
        };
        if let Some(unused) = block {
            self.discard(unused); // another process was quicker
        }
        match outcome {
            Ok(Ok(take)) => Ok(take == Take::Done),
            Ok(Err(error)) => Err(Stopped::GaveUp(error)),
            Err(error) => Err(Stopped::Other(error.into())),
        }
    }

    fn take_in_turn(
        &self,
        extra: u64,
        patience: &mut Patience<'_>,
        block: &mut Option<Taken>,
    ) -> Result<Result<Take, GaveUp>, Corrupted> {
        match self.lock(patience)? {
            Ok(guard) => self.take(&guard, 1, extra, block).map(Ok),
            Err(gave_up) => Ok(Err(gave_up)),
        }
    }

    /// Gives a token of this process's share back. Where it has none, as in a process that was forked inside,
    /// gives one all the same; of another's share, if every token is taken as one. `false` when as many are
    /// there as there may be.
    ///
    /// # Errors
    /// When the patience ends before it is the caller's turn; when the heap is corrupted.
    pub fn give_back(
        &self,
        patience: &mut Patience<'_>,
    ) -> Result<Result<bool, GaveUp>, HandleError> {
        match self.lock(patience)? {
            Ok(guard) => self.give_one(guard).map(Ok),
            Err(gave_up) => Ok(Err(gave_up)),
        }
    }

    /// The same if that needs no sleep.
    ///
    /// # Errors
    /// When the heap is corrupted.
    pub fn give_back_at_once(&self) -> Result<Option<bool>, HandleError> {
        let guard = self.try_lock()?;
        guard.map(|guard| self.give_one(guard)).transpose()
    }

    fn give_one(&self, guard: Guard<'_>) -> Result<bool, HandleError> {
        let given = self.give(guard, 1, self.tokens.returns())?;
        Ok(given.unwrap_or_else(|| self.tokens.give()))
    }
}
