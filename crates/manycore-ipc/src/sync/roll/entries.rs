//! Where the entries of a roll lie: in the object's body, and in blocks.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::entry::Entry;
use crate::error::Corrupted;
use crate::heap::Heap;
use crate::lock::EngineLock;
use crate::word::{Word32, Word64};

/// Entries in the body.
pub(super) const INLINE: usize = 40;
/// Entries in each of the blocks.
pub(super) const IN_BLOCKS: [usize; 4] = [1 << 9, 1 << 12, 1 << 15, 1 << 18];

/// Entries that there can be.
pub(crate) const MOST: usize = INLINE + IN_BLOCKS[0] + IN_BLOCKS[1] + IN_BLOCKS[2] + IN_BLOCKS[3];

/// A block of entries.
#[repr(C)]
pub(super) struct Extension {
    /// Page + 1; zero while there is none.
    pub(super) page: Word64,
    pub(super) generation: Word64,
}

/// The roll's part of an object's body.
#[repr(C)]
pub struct RollBody {
    pub(super) lock: EngineLock,
    /// The ticket that was given last.
    pub(super) tickets: Word32,
    /// Entries behind this many are free. Under the lock.
    pub(super) used: Word32,
    /// One once a block may have been bound to the object.
    pub(super) extended: Word32,
    pub(super) extensions: [Extension; IN_BLOCKS.len()],
    pub(super) inline: [Entry; INLINE],
}

impl RollBody {
    /// Whether blocks may have been bound to the object.
    pub(crate) fn is_extended(&self) -> bool {
        self.extended.load(Acquire) != 0 // pairs with the Release in `expect_block`
    }

    /// Makes the roll empty. For an object that is not live yet.
    pub(crate) fn initialise(&self) {
        let words = [&self.tickets, &self.used, &self.extended];
        words.into_iter().for_each(|word| word.store(0, Relaxed)); // published with the object
        for extension in &self.extensions {
            extension.page.store(0, Relaxed);
        }
        for entry in &self.inline {
            entry.word.store(0, Relaxed);
        }
    }
}

/// All entries of a roll that may be taken.
pub(super) struct Entries {
    pub(super) body: &'static RollBody,
    pub(super) heap: &'static Heap,
    /// Where the blocks lie in the heap.
    pub(super) blocks: [usize; IN_BLOCKS.len()],
    pub(super) used: usize,
    /// How many there are, taken or not.
    pub(super) capacity: usize,
}

impl Entries {
    pub(super) fn get(&self, number: usize) -> Result<&'static Entry, Corrupted> {
        if let Some(entry) = self.body.inline.get(number) {
            return Ok(entry);
        }
        let mut number = number - INLINE;
        for (&block, len) in self.blocks.iter().zip(IN_BLOCKS) {
            if number < len && block != 0 {
                return self.heap.at(block + number * size_of::<Entry>());
            }
            number = number.wrapping_sub(len);
        }
        Err(Corrupted::new("a roll has no such entry"))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'static Entry> {
        (0..self.used).map_while(|number| self.get(number).ok()) // all are below the capacity
    }
}

/// Bytes of one of the blocks.
pub(super) fn block_len(n: usize) -> u64 {
    (IN_BLOCKS[n] * size_of::<Entry>()) as u64
}
