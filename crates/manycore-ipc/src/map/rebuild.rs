//! A larger table, or one without gaps.
//!
//! It is made aside, of the entries that count, and then counts itself by one store. So a stripe's records take at
//! most about twice the room that they need right after, and each is copied about once for each time that one is
//! written.

use std::sync::atomic::Ordering::Relaxed;

use manycore_os::mapping::PAGE;

use super::layout::{HEAD, LEAST_SLOTS, TableHead};
use super::stripe::{Map, MapError, Open};
use super::table::{EMPTY, Table, word_of};
use crate::block::BlockRef;
use crate::error::Corrupted;
use crate::fault;

/// How large a table has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The logarithm of the number of slots.
    slots: u32,
    /// Bytes of all of it: whole pages.
    bytes: u64,
}

/// Memory for a table, all slots empty.
#[derive(Clone, Copy, Debug)]
pub struct Spare {
    pub(super) block: BlockRef,
    shape: Shape,
}

impl Shape {
    /// What a stripe needs for the entries that it has and one more.
    pub(super) fn holding(table: Option<&Table>, need: u64) -> Result<Self, Corrupted> {
        let (live, bytes) = table.map_or((0, 0), |it| {
            (it.head.live.load(Relaxed), it.head.live_bytes.load(Relaxed))
        });
        if table.is_some_and(|it| live > it.slots() || bytes > it.len()) {
            return Err(Corrupted::new("a map's counters are larger than its table"));
        }
        let slots = ((live + 1) * 2).next_power_of_two().trailing_zeros();
        let slots = slots.max(LEAST_SLOTS);
        let bytes = HEAD + (8 << slots) + (bytes + need) * 2;
        Ok(Self {
            slots,
            bytes: bytes.next_multiple_of(PAGE as u64),
        })
    }
}

impl Spare {
    /// Whether it is large enough.
    pub(super) fn holds(&self, wanted: Shape) -> bool {
        self.shape.slots >= wanted.slots && self.shape.bytes >= wanted.bytes
    }
}

impl Map {
    /// Takes memory for a table.
    pub(super) fn take_table(&self, shape: Shape) -> Result<Spare, MapError> {
        let taken = self.blocks.take(shape.bytes)?;
        let block = BlockRef {
            len: shape.bytes,
            ..taken.block
        };
        self.blocks.populate(block);
        let slots = BlockRef {
            len: HEAD + (8 << shape.slots),
            ..block
        };
        self.blocks.bytes(slots)?.clear();
        Ok(Spare { block, shape })
    }
}

impl Open<'_> {
    /// Gives the stripe another table with the same entries.
    #[cold]
    pub(super) fn rebuild(&self, old: Option<&Table>, spare: Spare) -> Result<Table, Corrupted> {
        let blocks = &self.map.blocks;
        let bytes = blocks.bytes(spare.block)?;
        let head: &TableHead = blocks.heap.at(bytes.offset())?;
        head.slots.store(u64::from(spare.shape.slots), Relaxed); // all is published by `replace_table`
        let table = Table::new(blocks.heap, bytes)?;
        let (mut tail, mut live) = (table.records_at(), 0);
        let mut record = Vec::new();
        let copied = old.map(|old| {
            old.for_each(|found| {
                record.clear();
                let len = found.record.total();
                old.append(&found, 0, len as u32, &mut record)?; // sane, so short
                if len > table.len().saturating_sub(tail) {
                    return Err(Corrupted::new(
                        "a map's records take more room than it says",
                    ));
                }
                table.write(tail, &record);
                table.add(found.record.hash, tail)?;
                (tail, live) = (tail + len, live + 1);
                Ok(())
            })
        });
        copied.transpose()?;
        head.tail.store(tail, Relaxed);
        head.live.store(live, Relaxed);
        head.used.store(live, Relaxed);
        head.live_bytes.store(tail - table.records_at(), Relaxed);
        self.replace_table(Some(spare.block))?;
        Ok(table)
    }

    /// Makes another block the stripe's table, or none, and frees the one before.
    pub(super) fn replace_table(&self, next: Option<BlockRef>) -> Result<(), Corrupted> {
        let (old, other) = self.words();
        other.set(next); // before it is bound: a bound block is found through these words
        if let Some(block) = next {
            fault::point("map.table.named");
            let (place, blocks) = (self.table_place(), &self.map.blocks);
            if !blocks.bind(block, self.map.index, place, self.me())? {
                return Err(Corrupted::new("a map's new table changed hands"));
            }
        }
        fault::point("map.table.bound");
        self.commit();
        fault::point("map.table.replaced");
        if let Some(block) = old.block() {
            let (place, blocks) = (self.table_place(), &self.map.blocks);
            blocks.free_if_bound(block, self.map.index, place);
        }
        Ok(())
    }
}

impl Table {
    /// Lets a slot of a table that does not count yet lead to a record.
    fn add(&self, hash: u64, at: u64) -> Result<(), Corrupted> {
        let home = self.home(hash);
        for n in home..home + self.slots() {
            let slot = self.slot(n)?;
            if slot.load(Relaxed) == EMPTY {
                slot.store(word_of(hash, at), Relaxed); // nobody else looks here yet
                return Ok(());
            }
        }
        Err(Corrupted::new("a map has more entries than it says"))
    }
}
