//! Shares: which process has taken how many tokens, so that they come back when it is killed.
//!
//! A share is a word, `owner:32 | count:32`. The first ones lie in the body; a block has one for each slot of
//! the registry, for more processes than that.
//!
//! Tokens and share change by *one* store, the exchange of the state word. Who changes a share writes what
//! it is going to be into the journal, `index:16 | count:32 | sequence:16`, for the *next* sequence number of
//! the state, and then changes the state's tokens and its sequence together. A journal with the state's own
//! number is what has happened, and is copied into the share before anything else is done; one with
//! another number has not happened. So who takes over the lock from a dead process has nothing to find out.
//!
//! The lock is an engine lock, held for this only. Tokens may be taken and given meanwhile by those that take
//! no shares.

mod looks;
mod places;

use std::sync::atomic::Ordering::{Relaxed, Release};

use manycore_os::Deadline;

use super::tokens::{DIED, MOST, VALUE, WAITERS, sequence_of, value_of, with_next_sequence};
use super::{Guard, Locked, Tokens};
use crate::block::Blocks;
use crate::block::allocator::Taken;
use crate::error::Corrupted;
use crate::fault;
use crate::heap::layout::SLOTS;
use crate::registry::{OwnerId, Registry};
use crate::wait::{GaveUp, Patience};
use crate::word::Word64;

/// Bytes of the block of further shares.
pub(crate) const BLOCK: u64 = (SLOTS * size_of::<Word64>()) as u64;

const OWNER: u32 = 32;
const COUNT: u64 = (1 << OWNER) - 1;
const INDEX: u32 = 48;
const JOURNAL_COUNT: u32 = 16;
const NUMBER: u64 = (1 << JOURNAL_COUNT) - 1;

/// What came of taking a share.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It was taken.
    Done,
    /// There are not as many tokens.
    None,
    /// There is no place to note it: call again with a block.
    NeedsBlock,
}

/// Tokens on behalf of a process, with who has taken how many.
#[derive(Clone, Copy)]
pub struct Shares {
    pub(super) tokens: &'static Tokens,
    index: u32,
    blocks: Blocks,
}

/// A share that is about to change.
#[derive(Clone, Copy)]
pub(super) struct Share {
    at: usize,
    pub(super) owner: OwnerId,
    pub(super) count: u32,
}

impl Shares {
    /// The shares of the tokens in the object with this index.
    pub(crate) fn new(tokens: &'static Tokens, index: u32, blocks: Blocks) -> Self {
        Self {
            tokens,
            index,
            blocks,
        }
    }

    /// The tokens.
    #[must_use]
    pub fn tokens(&self) -> &'static Tokens {
        self.tokens
    }

    /// The process on whose behalf.
    pub(super) fn me(&self) -> OwnerId {
        self.blocks.me
    }

    /// Takes `count` tokens as this process's share. Where there is no place to note it, `block` becomes one.
    ///
    /// # Errors
    /// When the heap is corrupted.
    pub(super) fn take(
        &self,
        _guard: &Guard<'_>,
        count: u32,
        extra: u64,
        block: &mut Option<Taken>,
    ) -> Result<Take, Corrupted> {
        if self.tokens.value() < count {
            return Ok(Take::None);
        }
        let Some(share) = self.own_place(block)? else {
            return Ok(Take::NeedsBlock);
        };
        let taken = self.commit(share, share.count.saturating_add(count), |state| {
            (value_of(state) >= count).then(|| (state - u64::from(count)) | extra)
        })?;
        Ok(if taken.is_some() {
            Take::Done
        } else {
            Take::None
        })
    }

    /// Gives `count` tokens back, of this process's share or, `from_any`, of some other's if it has none.
    /// `None` when there is no such share; `Some(false)` when as many are there as there may be.
    pub(super) fn give(
        &self,
        guard: Guard<'_>,
        count: u32,
        from_any: bool,
    ) -> Result<Option<bool>, Corrupted> {
        let mut share = self.share_of(self.me())?.filter(|it| it.count >= count);
        if share.is_none() && from_any {
            share = self.find(|it| it.count >= count)?;
        }
        let Some(share) = share else {
            return Ok(None);
        };
        let before = self.put_back(share, count, (WAITERS, 0))?;
        drop(guard);
        self.tell(before, count);
        let value = u64::from(value_of(before)) + u64::from(count);
        Ok(Some(value <= u64::from(self.tokens.most())))
    }

    /// Tells those who wait for tokens, which are there now. Without the lock.
    pub(super) fn tell(&self, before: u64, count: u32) {
        if before & WAITERS != 0 {
            self.tokens.wake(count);
        }
    }

    /// Makes a share smaller and gives as many tokens as there may be, and these bits instead of those; the
    /// state before.
    pub(super) fn put_back(
        &self,
        share: Share,
        count: u32,
        (cleared, set): (u64, u64),
    ) -> Result<u64, Corrupted> {
        let most = self.tokens.most();
        let before = self.commit(share, share.count - count, |state| {
            let value = value_of(state).saturating_add(count).min(most);
            Some((state & !(VALUE | cleared)) | u64::from(value) | set)
        })?;
        Ok(before.unwrap_or_default()) // `None` only in a test whose process has died
    }

    /// Settles what a process that has ended had: if it was killed, with its pid, the tokens come back, else
    /// they stay taken. May be done twice, and by several at once. `false` when a process that was stopped has the
    /// lock: then it is still to be done.
    ///
    /// # Errors
    /// When the heap is corrupted.
    pub(crate) fn settle(&self, dead: OwnerId, killed: Option<u32>) -> Result<bool, Corrupted> {
        match self.lock_for_a_turn()? {
            Some(guard) => self.settle_inside(guard, dead, killed).map(|()| true),
            None => Ok(false),
        }
    }

    pub(super) fn settle_inside(
        &self,
        guard: Guard<'_>,
        dead: OwnerId,
        killed: Option<u32>,
    ) -> Result<(), Corrupted> {
        let is_writer = self.tokens.writer.load(Relaxed) == dead.bits(); // under the lock, as the rest
        if is_writer {
            self.tokens.writer.store(0, Relaxed);
        }
        let share = self.share_of(dead)?.filter(|share| share.count > 0);
        let before = match (share, killed) {
            (Some(share), Some(pid)) => {
                let bits = if share.count == MOST { DIED } else { 0 };
                if bits != 0 {
                    self.tokens.dead.store(u64::from(pid), Relaxed); // before the state says so
                }
                let before = self.put_back(share, share.count, (WAITERS, bits))?;
                fault::point("shares.returned");
                before
            }
            (Some(share), None) => self.commit(share, 0, Some)?.unwrap_or_default(),
            (None, _) => self.tokens.state(),
        };
        drop(guard);
        if is_writer || (share.is_some() && killed.is_some()) {
            self.tell(before, u32::MAX);
        }
        Ok(())
    }

    /// Gives back a block that was made for shares and not needed.
    pub(super) fn discard(&self, unused: Taken) {
        self.blocks.free(unused.block);
    }

    /// Takes the lock. Nobody has it for longer than a change of a share takes, unless it was stopped.
    pub(super) fn lock(
        &self,
        patience: &mut Patience<'_>,
    ) -> Result<Result<Guard<'static>, GaveUp>, Corrupted> {
        let registry = Registry::new(self.blocks.heap);
        match registry.lock(&self.tokens.lock, &mut patience.for_lock()) {
            Ok(locked) => self.inside(locked).map(Ok),
            Err(gave_up) => Ok(Err(gave_up)),
        }
    }

    /// Takes the lock if that needs no sleep.
    pub(super) fn try_lock(&self) -> Result<Option<Guard<'static>>, Corrupted> {
        let locked = self.tokens.lock.try_lock();
        locked.map(|locked| self.inside(locked)).transpose()
    }

    /// Takes the lock for a caller whose wait nobody ends: as long as others need that were not stopped.
    pub(super) fn lock_for_a_turn(&self) -> Result<Option<Guard<'static>>, Corrupted> {
        let mut go_on = || true;
        let locked = self.lock(&mut Patience::new(Deadline::PASSED, &mut go_on))?;
        Ok(locked.ok())
    }

    fn inside(&self, locked: Locked<'static>) -> Result<Guard<'static>, Corrupted> {
        let guard = match locked {
            Locked::Clean(guard) => guard,
            Locked::OwnerDied(guard) => {
                guard.repaired(); // by the next line, as always
                guard
            }
        };
        self.apply_journal()?;
        Ok(guard)
    }

    /// Copies the last change into its share, if it has happened.
    fn apply_journal(&self) -> Result<(), Corrupted> {
        let journal = self.tokens.journal.load(Relaxed); // written under the lock only
        if journal & NUMBER != sequence_of(self.tokens.state()) & NUMBER {
            return Ok(());
        }
        let count = journal >> JOURNAL_COUNT & COUNT;
        let Some(word) = self.word((journal >> INDEX) as usize) else {
            return Err(Corrupted::new("a change of a share names none"));
        };
        let share = word.load(Relaxed);
        if share & COUNT != count {
            // The next change of the journal comes later; Release: as in `commit`.
            word.store(share & !COUNT | count, Release);
        }
        Ok(())
    }

    /// Changes a share and the state by one exchange; the state before, unless `next` refused. Under the lock.
    pub(super) fn commit(
        &self,
        share: Share,
        count: u32,
        next: impl Fn(u64) -> Option<u64>,
    ) -> Result<Option<u64>, Corrupted> {
        let Some(word) = self.word(share.at) else {
            return Err(Corrupted::new("a share has no place"));
        };
        if owner_of(word.load(Relaxed)) != share.owner {
            // It had no tokens: see `own_place`. Release pairs with the Acquire in `owners`.
            word.store(u64::from(share.owner.bits()) << OWNER, Release);
        }
        let number = sequence_of(with_next_sequence(self.tokens.state())) & NUMBER;
        let journal = (share.at as u64) << INDEX | u64::from(count) << JOURNAL_COUNT | number;
        // Release: what was copied from the last journal, and whose share this is, comes first.
        self.tokens.journal.store(journal, Release);
        fault::point("shares.noted");
        let before = self
            .tokens
            .change(|state| next(state).map(with_next_sequence));
        fault::point("shares.changed");
        Ok(before)
    }
}

fn owner_of(word: u64) -> OwnerId {
    OwnerId::from_bits((word >> OWNER) as u32)
}

fn share(at: usize, word: u64) -> Share {
    Share {
        at,
        owner: owner_of(word),
        count: (word & COUNT) as u32,
    }
}

#[cfg(test)]
impl Shares {
    /// How many tokens a process has.
    pub(crate) fn count_of(&self, owner: OwnerId) -> Result<u32, Corrupted> {
        let _guard = self.lock_for_a_turn()?;
        Ok(self.share_of(owner)?.map_or(0, |share| share.count))
    }
}
