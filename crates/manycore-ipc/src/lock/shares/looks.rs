//! Who has shares, by looks without the lock.

use std::sync::atomic::Ordering::Acquire;

use super::{COUNT, INDEX, JOURNAL_COUNT, NUMBER, Shares, owner_of, share};
use crate::lock::tokens::{INLINE, sequence_of};
use crate::registry::{OwnerId, Registry};
use crate::word::Word64;

impl Shares {
    /// Whether a process has, or has had, a share, or waits to write. A look without the lock: of a process that has ended, it
    /// sees all that there is.
    pub(crate) fn may_have(&self, owner: OwnerId) -> bool {
        // Acquire: as in `owners`.
        if self.tokens.writer.load(Acquire) == owner.bits() {
            return true;
        }
        let is_its = |word: &Word64| owner_of(word.load(Acquire)) == owner;
        let further = self.block().and_then(|block| self.further(block, owner));
        self.tokens.shares.iter().any(is_its) || further.is_some_and(is_its)
    }

    /// The processes that have, or have had, a share, or wait to write, by a look without the lock.
    pub(crate) fn owners(&self) -> impl Iterator<Item = OwnerId> {
        let (block, slots) = (self.block(), Registry::new(self.blocks.heap).used());
        let further = slots.filter_map(move |slot| {
            let owner = OwnerId::from_bits(slot as u32);
            self.further(block?, owner)
        });
        // Acquire pairs with the Release in `commit` and `enter_or_flag`: whoever is named has joined, and its
        // place in the registry is to be seen.
        let words = self.tokens.shares.iter().chain(further);
        let writer = OwnerId::from_bits(self.tokens.writer.load(Acquire));
        let owners = words.map(|word| owner_of(word.load(Acquire)));
        owners.chain([writer]).filter(|owner| !owner.is_nobody())
    }

    /// The processes that have tokens, and how many each, by a look without the lock: true at some moment each.
    #[must_use]
    pub fn holders(&self) -> Vec<(OwnerId, u32)> {
        let journal = self.tokens.journal.load(Acquire); // pairs with the Release in `commit`
        let happened = journal & NUMBER == sequence_of(self.tokens.state()) & NUMBER;
        let changed = happened.then_some((journal >> INDEX) as usize);
        let (block, slots) = (self.block(), Registry::new(self.blocks.heap).used());
        let further = slots.filter_map(|slot| {
            let word = self.further(block?, OwnerId::from_bits(slot as u32))?;
            Some((INLINE + slot, word))
        });
        let all = self.tokens.shares.iter().enumerate().chain(further);
        let shares = all.map(|(at, word)| {
            let found = share(at, word.load(Acquire)); // as in `owners`
            let count = match changed {
                Some(changed) if changed == at => (journal >> JOURNAL_COUNT & COUNT) as u32,
                _ => found.count,
            };
            (found.owner, count)
        });
        let has_any = |&(owner, count): &(OwnerId, u32)| !owner.is_nobody() && count > 0;
        shares.filter(has_any).collect()
    }
}
