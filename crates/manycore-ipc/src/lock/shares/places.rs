//! Where shares lie: the first ones in the body, a slot's own in a block.

use std::sync::atomic::Ordering::Relaxed;

use super::{BLOCK, COUNT, Share, Shares, owner_of, share};
use crate::block::BlockRef;
use crate::block::allocator::Taken;
use crate::error::Corrupted;
use crate::fault;
use crate::heap::layout::SLOTS;
use crate::lock::tokens::INLINE;
use crate::registry::{OwnerId, Registry};
use crate::word::Word64;

impl Shares {
    /// This process's share, or a place for one.
    pub(in crate::lock) fn own_place(
        &self,
        block: &mut Option<Taken>,
    ) -> Result<Option<Share>, Corrupted> {
        let me = self.me();
        let mut free = None;
        for (at, word) in self.tokens.shares.iter().enumerate() {
            let word = word.load(Relaxed); // all under the lock
            let owner = owner_of(word);
            if owner == me {
                return Ok(Some(share(at, word)));
            }
            if owner.is_nobody() {
                free = Some(at); // the places behind it were never used
                break;
            }
            if word & COUNT == 0 && free.is_none() {
                free = Some(at);
            }
        }
        let here = self.block().and_then(|block| self.further(block, me));
        if let Some(word) = here.map(|word| word.load(Relaxed)) {
            if owner_of(word) == me {
                return Ok(Some(share(INLINE + me.slot(), word)));
            }
        }
        if free.is_none() && (self.block().is_some() || self.extend(block)?) {
            free = Some(INLINE + me.slot());
        }
        Ok(free.map(|at| Share {
            at,
            owner: me,
            count: 0,
        }))
    }

    /// The share of a process. Under the lock, as all that looks for one.
    pub(in crate::lock) fn share_of(&self, owner: OwnerId) -> Result<Option<Share>, Corrupted> {
        self.find(|share| share.owner == owner)
    }

    pub(super) fn find(&self, is_it: impl Fn(&Share) -> bool) -> Result<Option<Share>, Corrupted> {
        let block = self.block();
        let used = Registry::new(self.blocks.heap).used();
        let further = used.filter_map(|slot| {
            let word = self.further(block?, OwnerId::from_bits(slot as u32))?;
            Some((INLINE + slot, word))
        });
        let inline = self.tokens.shares.iter().enumerate();
        // The places behind the first that nobody has were never used.
        let inline = inline.take_while(|(_, word)| word.load(Relaxed) != 0);
        let mut all = inline.chain(further);
        Ok(all.find_map(|(at, word)| {
            Some(share(at, word.load(Relaxed))).filter(|share| is_it(share))
        }))
    }

    /// Makes a block the place of further shares.
    fn extend(&self, block: &mut Option<Taken>) -> Result<bool, Corrupted> {
        let Some(taken) = block.take() else {
            return Ok(false);
        };
        let named = BlockRef {
            len: BLOCK,
            ..taken.block
        };
        self.tokens.name_block(named); // before it is bound: a bound block is found through the body
        fault::point("shares.extending");
        let is_bound = self
            .blocks
            .bind(named, self.index, u64::MAX, OwnerId::NOBODY)?;
        if is_bound {
            Ok(true)
        } else {
            Err(Corrupted::new(
                "a block changed hands while it was being filled",
            ))
        }
    }

    /// The block of further shares, if it is this object's.
    pub(super) fn block(&self) -> Option<BlockRef> {
        let block = self.tokens.block()?;
        self.blocks
            .is_lent(block, self.index, u64::MAX)
            .then_some(block)
    }

    /// A process's place in the block of further shares.
    pub(super) fn further(&self, block: BlockRef, owner: OwnerId) -> Option<&'static Word64> {
        let bytes = self.blocks.bytes(block).ok()?;
        let at = bytes.offset() + owner.slot() * size_of::<Word64>();
        self.blocks.heap.at(at).ok()
    }

    pub(super) fn word(&self, at: usize) -> Option<&'static Word64> {
        match self.tokens.shares.get(at) {
            Some(word) => Some(word),
            None if at < INLINE + SLOTS => {
                self.further(self.block()?, OwnerId::from_bits((at - INLINE) as u32))
            }
            None => None,
        }
    }
}
