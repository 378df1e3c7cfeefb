//! The shared words of a map, and what it is made of.
//!
//! ```text
//! body, in the object:  stripe 0 | stripe 1 | ...                                  (48 bytes each)
//! table, in a block:    head (64 bytes) | slots, 8 bytes each | records, one after the other | room
//! ```
//!
//! A record is written behind the others and never changed. One store to a slot makes it the value of its key; what
//! it replaces stays where it is until the stripe gets another table.

use crate::lock::EngineLock;
use crate::word::{Word32, Word64};

/// Parts of a map, each with a lock of its own, so that not everybody waits for the same.
pub const STRIPES: usize = 8;

/// Which block a table is.
#[repr(C)]
pub struct TableWords {
    /// `pages:32 | page:32`; zero for no table.
    pub(super) run: Word64,
    /// Generation of the block.
    pub(super) generation: Word64,
}

/// One part of a map. All is changed under its lock alone.
#[repr(C)]
pub struct Stripe {
    /// Held while an entry is looked for, copied or changed.
    pub lock: EngineLock,
    /// Which of the two tables counts; the store of this word commits a table.
    pub(super) current: Word32,
    pub(super) tables: [TableWords; 2],
    /// The record that was begun last: numbers that are used once.
    pub(super) serial: Word64,
}

#[cfg(any(test, feature = "fuzzing"))]
impl Stripe {
    /// The page where the block of its table begins, as its words say now.
    pub(crate) fn page_of_table(&self) -> u32 {
        use std::sync::atomic::Ordering::Relaxed;
        self.tables[self.current.load(Relaxed) as usize & 1]
            .run
            .load(Relaxed) as u32
    }

    /// Whether it has a table, as its words say now.
    #[cfg(test)]
    pub(crate) fn has_table(&self) -> bool {
        self.bytes_of_table() > 0
    }

    /// The length of its table, as its words say now.
    #[cfg(test)]
    pub(crate) fn bytes_of_table(&self) -> u64 {
        use std::sync::atomic::Ordering::Relaxed;
        let words = &self.tables[self.current.load(Relaxed) as usize & 1];
        words.block().map_or(0, |block| block.len)
    }
}

/// See the module.
#[repr(C, align(64))]
pub struct MapBody {
    /// See [`Stripe`].
    pub stripes: [Stripe; STRIPES],
}

const _: () = assert!(size_of::<MapBody>() <= crate::object::header::BODY_WORDS * 8);

/// The beginning of a table.
#[repr(C, align(64))]
pub struct TableHead {
    /// How many slots: the logarithm.
    pub(super) slots: Word64,
    /// Where the next record goes.
    pub(super) tail: Word64,
    /// Slots that lead to a record.
    pub(super) live: Word64,
    /// The same, and those that did.
    pub(super) used: Word64,
    /// Bytes of the records that slots lead to.
    pub(super) live_bytes: Word64,
    /// The record that is being written, if it has blocks; zero for none.
    pub(super) pending: Word64,
    /// The record whose blocks are being freed; zero for none.
    pub(super) retired: Word64,
    spare: Word64,
}

/// Bytes of a table's head.
pub(super) const HEAD: u64 = size_of::<TableHead>() as u64;
/// No fewer slots than these: the logarithm.
pub(super) const LEAST_SLOTS: u32 = 3;
/// An empty stripe keeps a table up to this length.
pub(crate) const KEPT: u64 = 64 << 10;
