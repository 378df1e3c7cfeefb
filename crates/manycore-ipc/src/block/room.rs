//! How much the heap may grow.
//!
//! The kernel says what is left, and it takes a while to ask. Other processes grow meanwhile, so what they
//! have taken since, and what they were taking just then, is subtracted: the first two numbers below are
//! read before the kernel is asked, and compared under the allocator's lock.

use std::sync::atomic::Ordering::Relaxed;

use manycore_os::limits;
use manycore_os::mapping::PAGE;

use super::allocator::Blocks;
use crate::error::AllocError;
use crate::heap::Heap;
use crate::object::header::Object;

/// What is left at one moment.
pub(super) struct Room {
    /// Bytes in use then.
    pub(super) used: u64,
    /// Bytes that the machine and the control groups left then, less a reserve.
    pub(super) spare: u64,
}

impl Room {
    pub(super) fn of(blocks: &Blocks) -> Self {
        let used = used_bytes(blocks.heap); // first, see the module
        let memory = limits::memory();
        let spare = memory.available.saturating_sub(memory.total / 20);
        Self { used, spare }
    }

    /// Whether `pages` more fit. Exact under the allocator's lock, a hint without.
    pub(super) fn check(&self, blocks: &Blocks, pages: u64) -> Result<(), AllocError> {
        let wanted = pages.saturating_mul(PAGE as u64);
        let backing = bytes_of(blocks.header().backing.load(Relaxed));
        let (used, set) = (used_bytes(blocks.heap), blocks.heap.header().limit());
        let left_by_limit = match set {
            0 => u64::MAX,
            set => set.saturating_sub(used.saturating_add(backing)),
        };
        let taken = used.saturating_add(backing).saturating_sub(self.used);
        let left = left_by_limit.min(self.spare.saturating_sub(taken));
        if wanted <= left {
            return Ok(());
        }
        let limit = used.saturating_add(left);
        Err(AllocError::HeapFull {
            wanted,
            used,
            limit,
        })
    }
}

impl Blocks {
    /// Bytes of blocks in use and of all that have memory, as the tables say, which may be changing.
    pub(crate) fn bytes_with_memory(&self) -> (u64, u64) {
        let header = self.header();
        // Relaxed: for who only looks.
        let (committed, idle) = (header.committed.load(Relaxed), header.idle.load(Relaxed));
        (
            bytes_of(committed.saturating_sub(idle)),
            bytes_of(committed),
        )
    }

    /// Whether more than half of the limit that was set for the heap has memory: who could keep a block for long
    /// had better copy it, so that senders go on finding some.
    #[must_use]
    pub fn is_scarce(&self) -> bool {
        let limit = self.heap.header().limit();
        limit != 0 && used_bytes(self.heap) > limit / 2
    }
}

/// Bytes of memory behind blocks and objects.
pub(super) fn used_bytes(heap: &'static Heap) -> u64 {
    let header = heap.header();
    // Relaxed: changed under locks, and whoever must be exact holds the lock of what it changes.
    let objects = u64::from(header.objects.backed.load(Relaxed)) * size_of::<Object>() as u64;
    bytes_of(header.allocator.committed.load(Relaxed)).saturating_add(objects)
}

fn bytes_of(pages: u64) -> u64 {
    pages.saturating_mul(PAGE as u64)
}
