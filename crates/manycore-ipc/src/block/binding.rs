//! Which object a block belongs to, and where in it: what a survivor believes instead of a record or a
//! word that names the block, which may be half written.

use std::sync::atomic::Ordering::Relaxed;

use manycore_os::mapping::PAGE;

use super::allocator::Blocks;
use super::table::{BlockRef, Run, State};
use crate::error::Corrupted;
use crate::fault;
use crate::registry::OwnerId;

impl Blocks {
    /// Binds a block that this process has filled, or has received and hands on as it is, to an object, so that
    /// it lives as long as the object or its message does.
    pub(crate) fn bind(
        &self,
        block: BlockRef,
        object: u32,
        place: u64,
        owner: OwnerId,
    ) -> Result<bool, Corrupted> {
        self.bind_from(
            |state| matches!(state, State::Filling | State::Held),
            block,
            object,
            place,
            owner,
        )
    }

    /// Binds a block that this process has received to an object, so that it lives as long as the object.
    pub(crate) fn bind_received(&self, block: BlockRef, object: u32) -> Result<bool, Corrupted> {
        self.bind_from(
            |state| state == State::Held,
            block,
            object,
            u64::MAX,
            OwnerId::NOBODY,
        )
    }

    fn bind_from(
        &self,
        is_right: impl Fn(State) -> bool,
        block: BlockRef,
        object: u32,
        place: u64,
        owner: OwnerId,
    ) -> Result<bool, Corrupted> {
        let entry = self.entry(u64::from(block.page))?;
        let is_mine = |run: Run| is_right(run.state) && run.owner == self.me;
        // Nobody else changes a block that this process fills or holds; of any other, these words are not ours.
        if !is_mine(self.run(u64::from(block.page))?)
            || entry.generation.load(Relaxed) != block.generation
        {
            return Ok(false);
        }
        entry.link.store(place, Relaxed); // published by the state change below
        entry.object.store(u64::from(object), Relaxed);
        fault::point("block.binding");
        self.change(block, is_mine, State::InFlight, owner)
    }

    /// Frees a block that a message would have had, if the message was never committed.
    pub(crate) fn free_if_bound(&self, block: BlockRef, object: u32, place: u64) {
        self.free_if_bound_where(block, object, |bound| bound == place);
    }

    /// Frees a block that belongs to an object and whose place there is `right`. The reference may be half
    /// written: what it names without being meant is bound elsewhere.
    pub(crate) fn free_if_bound_where(
        &self,
        block: BlockRef,
        object: u32,
        right: impl Fn(u64) -> bool,
    ) {
        if self.is_bound(block, object, right) {
            self.give_back(block, |run| run.state == State::InFlight);
        }
    }

    /// Gives a block back to the message that a dead consumer had begun to take.
    pub(crate) fn put_back(&self, block: BlockRef, object: u32, place: u64) {
        if self.is_bound(block, object, |bound| bound == place) {
            // Fails only if the block is not held, which is as it should be.
            let _ = self.change(
                block,
                |run| run.state == State::Held,
                State::InFlight,
                OwnerId::NOBODY,
            );
        }
    }

    /// Whether a block belongs to an object, for as long as the object lives or until what lies at `place` of
    /// it is taken, and has as many bytes as the reference says.
    pub(crate) fn is_lent(&self, block: BlockRef, object: u32, place: u64) -> bool {
        let page = u64::from(block.page);
        let (Ok(run), Ok(entry)) = (self.run(page), self.entry(page)) else {
            return false;
        };
        run.state == State::InFlight
            && block.len <= run.pages * PAGE as u64
            && entry.generation.load(Relaxed) == block.generation // ordered by the state, as in `is_bound`
            && self.is_bound(block, object, |bound| bound == place)
    }

    fn is_bound(&self, block: BlockRef, object: u32, place: impl Fn(u64) -> bool) -> bool {
        let Ok(entry) = self.entry(u64::from(block.page)) else {
            return false;
        };
        // Ordered by the state change that follows: these words change only before a block is bound.
        entry.object.load(Relaxed) == u64::from(object) && place(entry.link.load(Relaxed))
    }
}
