//! What lies where in the heap.
//!
//! ```text
//! header page | registry (1 MiB) | objects (1 KiB each) | block table (32 B a page) | payload pages
//! ```
//!
//! All regions are sparse: only what is used is backed by memory. The sizes follow from the length of
//! the mapping alone, so every process computes the same layout.

use manycore_os::mapping::PAGE;

use crate::block::table::Entry;
use crate::object::header::Object;
use crate::registry::slot::Slot;

/// Process slots of a family; slot 0 is never used, so that a zero word names nobody.
pub const SLOTS: usize = 4096;
/// The smallest heap that makes sense.
pub const LEAST: usize = 16 << 20;
/// The largest heap: block lengths are stored in 28 bits of pages.
pub const MOST: usize = 1 << 40;

/// Offsets and counts of the regions of a heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the whole mapping.
    pub len: usize,
    /// Offset of the process slots.
    pub registry: usize,
    /// Offset of the object slots.
    pub objects: usize,
    /// How many objects there may be.
    pub max_objects: usize,
    /// Offset of the block table.
    pub table: usize,
    /// Offset of the payload area.
    pub payload: usize,
    /// Pages of the payload area.
    pub pages: usize,
}

impl Layout {
    /// The layout of a mapping of `len` bytes, or `None` when it is too small or too large.
    #[must_use]
    pub fn new(len: usize) -> Option<Self> {
        if !(LEAST..=MOST).contains(&len) || !len.is_multiple_of(PAGE) {
            return None;
        }
        let registry = PAGE;
        let objects = registry + SLOTS * size_of::<Slot>();
        let max_objects = (len / 64 / size_of::<Object>()).min(1 << 20);
        let table = objects + max_objects * size_of::<Object>();
        let rest = len - table;
        // One page of payload costs a page and a table entry; the table ends with one entry more, so
        // that "the entry after the last block" exists, and is padded to whole pages.
        let pages = (rest - 2 * PAGE) / (PAGE + size_of::<Entry>());
        let payload = (table + (pages + 1) * size_of::<Entry>()).next_multiple_of(PAGE);
        Some(Self {
            len,
            registry,
            objects,
            max_objects,
            table,
            payload,
            pages,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_follow_each_other_and_fit() {
        for len in [LEAST, 1 << 26, 1 << 36, MOST] {
            let layout = Layout::new(len).expect("a sensible length");
            assert!(layout.objects.is_multiple_of(PAGE));
            assert!(layout.table.is_multiple_of(64));
            assert!(layout.payload.is_multiple_of(PAGE));
            assert!(layout.table + (layout.pages + 1) * size_of::<Entry>() <= layout.payload);
            assert!(layout.payload + layout.pages * PAGE <= len);
            assert!(layout.pages * PAGE > len / 10 * 8, "most of it is payload");
        }
        assert_eq!(Layout::new(LEAST - PAGE), None);
        assert_eq!(Layout::new(LEAST + 1), None);
    }
}
