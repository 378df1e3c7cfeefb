//! What a consumer that died inside has left.

use std::sync::atomic::Ordering::Relaxed;

use crate::error::Corrupted;
use crate::lock::{Guard, Locked};
use crate::object::Handle;
use crate::ring::position::Position;
use crate::ring::record::LINK;
use crate::ring::region::Ring;

impl Ring {
    /// Repairs what a dead consumer left: a message that it had begun to take is whole again.
    #[inline(always)]
    pub(crate) fn repaired_get(
        &self,
        locked: Locked<'static>,
    ) -> Result<Guard<'static>, Corrupted> {
        match locked {
            Locked::Clean(guard) => Ok(guard),
            Locked::OwnerDied(guard) => {
                self.repair_get()?;
                guard.repaired();
                self.space_bell().ring_all(); // its wake-ups may have died with it
                self.items_bell().ring_all();
                Ok(guard)
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn repair_get(&self) -> Result<(), Corrupted> {
        let get = &self.body.get;
        let head = Position::from_bits(get.position.load(Relaxed)); // under the lock
        self.void_rows(head.place());
        get.peer.store(head.bits(), Relaxed); // look again
        self.free_left_region(head);
        let Some(ahead) = self.ahead(head) else {
            return Ok(());
        };
        let region = self.region(get, head)?;
        let available = self.available(head, ahead, &region)?;
        let header = region.header(head)?;
        if header.kind == LINK {
            return Ok(());
        }
        header.check(available)?;
        for n in 0..usize::from(header.blocks) {
            self.blocks
                .put_back(region.block(head, n)?, self.index, head.place());
        }
        Ok(())
    }

    /// A worker that died here may have noted the record that it had not yet taken: its row is void,
    /// or the death of the next worker would be blamed on that record's task.
    fn void_rows(&self, place: u64) {
        let Some(index) = self.body.group.load(Relaxed).checked_sub(1) else {
            return;
        };
        let generation = self.body.group_generation.load(Relaxed); // both set once
        let group = Handle {
            family: 0,
            index,
            generation,
        };
        if self.objects.check(group).is_err() {
            return; // without its group nobody reads rows, and their memory may be another's
        }
        for row in self.objects.rows(index, &self.blocks).unwrap_or_default() {
            if row.read().is_some_and(|taking| taking.place == place) {
                row.void();
            }
        }
    }

    /// The consumer may have died between going over to this region and freeing the last one.
    fn free_left_region(&self, head: Position) {
        let other = self
            .body
            .get
            .region
            .get(head.region_index() ^ 1)
            .map(|words| words.block());
        if let Some(block) = other {
            // The last region was linked from the one before it. What was linked from the present one is
            // the next; and what half-written words name is bound to a message, which lies further on.
            let last = |place| Position::from_bits(place).epoch() == head.epoch_before_last();
            self.blocks.free_if_bound_where(block, self.index, last);
        }
    }
}
