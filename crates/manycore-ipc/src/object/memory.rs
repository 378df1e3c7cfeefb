//! The body of a piece of shared memory.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::block::BlockRef;
use crate::word::Word64;

/// Bytes that fit into the body itself.
pub const INLINE: usize = (super::header::BODY_WORDS - 8) * 8;

/// Shared memory, in the body if it is short, else in a block of its own.
#[repr(C, align(64))]
pub struct MemoryBody {
    len: Word64,
    page: Word64,
    generation: Word64,
    spare: [Word64; 5],
    /// The memory, when it is short.
    pub inline: [Word64; INLINE / 8],
}

impl MemoryBody {
    pub(crate) fn set(&self, len: u64, block: Option<BlockRef>) {
        let (page, generation) = block.map_or((0, 0), |b| (u64::from(b.page) + 1, b.generation));
        self.page.store(page, Relaxed); // published by the store of the length
        self.generation.store(generation, Relaxed);
        self.len.store(len, Release); // pairs with the Acquire in `len`
    }

    /// Bytes of memory.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len.load(Acquire)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The block that holds them, if they do not fit into the body.
    #[must_use]
    pub fn block(&self) -> Option<BlockRef> {
        let len = self.len();
        let page = self.page.load(Relaxed).checked_sub(1)?; // ordered by the load of the length
        Some(BlockRef {
            page: page as u32,
            len,
            generation: self.generation.load(Relaxed),
        })
    }
}
