//! What a dead process has left.

use std::sync::atomic::Ordering::{Relaxed, Release};

use manycore_os::Deadline;

use super::layout::{STRIPES, TableHead};
use super::record::Record;
use super::stripe::{Map, Open};
use super::table::{EMPTY, GONE, Table};
use crate::error::Corrupted;
use crate::wait::Patience;

impl Map {
    /// Takes each lock once whose owner died, so that what was left is repaired now.
    pub fn settle(&self) {
        let mut go_on = || true;
        // Who has taken the lock meanwhile repairs what was left, and may be stopped over it.
        let mut patience = Patience::new(Deadline::PASSED, &mut go_on);
        for number in 0..STRIPES {
            if self.body.stripes[number].lock.is_orphaned() {
                let _ = self.open(number, &mut patience); // what cannot be repaired stays marked
            }
        }
    }

    /// Takes every entry out that has handles, and counts these down. The caller frees the object, and with it all
    /// blocks. May be done twice. What is damaged is not found.
    pub fn drain(&self) {
        let mut go_on = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
        for number in 0..STRIPES {
            let Ok((open, guard)) = self.open(number, &mut patience) else {
                continue; // damaged
            };
            let handles = open.take_handles();
            drop(guard);
            for index in handles {
                let _ = self.objects.arrived(index);
            }
        }
    }
}

impl Open<'_> {
    /// Removes all entries with handles from a map that nobody uses any more.
    fn take_handles(&self) -> Vec<u32> {
        let mut handles = Vec::new();
        // Who died while it made the map has left anything there, and what is damaged cannot be found.
        if let Ok(Some(table)) = self.table() {
            let _ = table.for_each(|found| {
                if found.record.handles == 0 {
                    return Ok(());
                }
                for n in 0..found.record.handles {
                    handles.push(table.handle(&found, n)?.0);
                }
                // Before they are counted down: a count may be too high, never too low.
                table.slot(found.slot)?.store(GONE, Relaxed);
                Ok(())
            });
        }
        handles
    }

    /// Puts the stripe in order. May be done twice.
    #[cold]
    pub(super) fn repair(&self) -> Result<(), Corrupted> {
        let (current, other) = (self.words().0.block(), self.words().1.block());
        if let Some(block) = other {
            // Left, or not committed. What half-written words name without being meant is bound elsewhere, or is
            // the very table that counts.
            if current.is_none_or(|it| it.page != block.page) {
                let (place, blocks) = (self.table_place(), &self.map.blocks);
                blocks.free_if_bound(block, self.map.index, place);
            }
        }
        match self.table()? {
            Some(table) => self.repair_table(&table),
            None => Ok(()),
        }
    }

    fn repair_table(&self, table: &Table) -> Result<(), Corrupted> {
        let TableHead {
            pending, retired, ..
        } = table.head;
        let marked = [pending, retired].map(|word| word.load(Relaxed));
        let mut counts = [false; 2];
        let (mut live, mut bytes, mut used) = (0, 0, 0);
        table.for_each(|found| {
            (live, bytes) = (live + 1, bytes + found.record.total());
            for (counts, at) in counts.iter_mut().zip(marked) {
                *counts |= found.at == at;
            }
            Ok(())
        })?;
        for slot in 0..table.slots() {
            used += u64::from(table.word(slot)? != EMPTY);
        }
        // The record that was being written has the last number, whatever stands there by now.
        let last = self.stripe.serial.load(Relaxed);
        if marked[0] != 0 && !counts[0] {
            let record = table.record(marked[0])?; // half written: believed in nothing
            self.free_blocks(table, marked[0], record.blocks, last)?;
        }
        if marked[1] != 0 && !counts[1] {
            let Record { blocks, serial, .. } = table.record(marked[1])?;
            self.free_blocks(table, marked[1], blocks, serial)?;
        }
        table.head.live.store(live, Relaxed); // all under the lock
        table.head.used.store(used, Relaxed);
        table.head.live_bytes.store(bytes, Relaxed);
        pending.store(0, Release); // after their blocks are free
        retired.store(0, Release);
        Ok(())
    }
}
