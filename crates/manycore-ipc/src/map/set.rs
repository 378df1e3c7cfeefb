//! Putting a value in.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::rebuild::{Shape, Spare};
use super::record::{HEADER, Record, UNIT};
use super::stripe::{Freed, Key, Map, MapError, Open, Released};
use super::table::{Found, Search, Table, word_of};
use crate::block::BlockRef;
use crate::error::Corrupted;
use crate::fault;
use crate::object::Handle;
use crate::ring::Outgoing;
use crate::wait::Patience;

/// In which case a value is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In any.
    Always,
    /// If the key has no value.
    Absent,
    /// If the key's value is still the one that came with this number, see [`Map::get`].
    Unchanged(u64),
}

impl When {
    pub(super) fn is_true_of(self, found: Option<&Found>) -> bool {
        match self {
            Self::Always => true,
            Self::Absent => found.is_none(),
            Self::Unchanged(serial) => found.is_some_and(|it| it.record.serial == serial),
        }
    }
}

/// How an attempt to put a value in ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// It is in, and its blocks and handles are the map's.
    Done(Freed),
    /// It was not the case that was asked for.
    Refused,
    /// There is no room: bring memory for a table and try again.
    NeedsTable(Shape),
}

impl Map {
    /// Puts a value in: `false` if it is not the case that was asked for. Its blocks are in state `Filling`, its
    /// handles are counted as in flight; they are the map's afterwards, or still the caller's.
    ///
    /// # Errors
    /// Why the map is as it was.
    pub fn set(
        &self,
        key: &Key<'_>,
        value: &Outgoing<'_>,
        when: When,
        patience: &mut Patience<'_>,
    ) -> Result<bool, MapError> {
        let mut spare = None;
        let outcome = self.set_with(key, value, when, &mut spare, patience);
        if let Some(unused) = spare {
            self.blocks.free(unused.block);
        }
        outcome
    }

    fn set_with(
        &self,
        key: &Key<'_>,
        value: &Outgoing<'_>,
        when: When,
        spare: &mut Option<Spare>,
        patience: &mut Patience<'_>,
    ) -> Result<bool, MapError> {
        loop {
            match self.try_set(key, value, when, spare, patience)? {
                Set::Done(freed) => {
                    self.trim(freed);
                    return Ok(true);
                }
                Set::Refused => return Ok(false),
                Set::NeedsTable(shape) => {
                    // Others may have filled the stripe since a table was taken that is too small now.
                    if let Some(small) = spare.take() {
                        self.blocks.free(small.block);
                    }
                    *spare = Some(self.take_table(shape)?);
                }
            }
        }
    }

    /// Puts a value in if there is room for it. `spare` is memory for a table, which is taken out if it is used.
    ///
    /// # Errors
    /// As for [`Map::set`].
    #[inline]
    pub fn try_set(
        &self,
        key: &Key<'_>,
        value: &Outgoing<'_>,
        when: When,
        spare: &mut Option<Spare>,
        patience: &mut Patience<'_>,
    ) -> Result<Set, MapError> {
        let mut released = Released::default();
        let outcome = {
            let (open, _guard) = self.open_for(key, patience)?;
            open.set(key, value, when, spare, &mut released)?
        };
        let freed = self.finish(&released)?;
        Ok(match outcome {
            Set::Done(_) => Set::Done(freed),
            other => other,
        })
    }
}

impl Open<'_> {
    #[inline]
    fn set(
        &self,
        key: &Key<'_>,
        value: &Outgoing<'_>,
        when: When,
        spare: &mut Option<Spare>,
        released: &mut Released,
    ) -> Result<Set, Corrupted> {
        let serial = self.stripe.serial.load(Relaxed).wrapping_add(1); // changed under the lock only
        let record = Record::new(key.hash, serial, key.bytes, value);
        if !record.is_sane() || usize::from(record.blocks) != value.blocks.len() {
            return Err(Corrupted::new(
                "a value over the limits of a record was to be stored",
            ));
        }
        let mut table = self.table()?;
        let mut search = table.map(|it| it.find(key)).transpose()?;
        let found = search.and_then(|it| it.found);
        if !when.is_true_of(found.as_ref()) {
            return Ok(Set::Refused);
        }
        let has_room = |(table, search): (Table, Search)| table.has_room(record.total(), &search);
        if !table.zip(search).is_some_and(has_room) {
            let wanted = Shape::holding(table.as_ref(), record.total())?;
            let Some(taken) = spare.take_if(|it| it.holds(wanted)) else {
                return Ok(Set::NeedsTable(wanted));
            };
            let larger = match self.rebuild(table.as_ref(), taken) {
                Ok(larger) => larger,
                Err(error) => {
                    *spare = Some(taken); // the caller's again
                    return Err(error);
                }
            };
            released.has_freed = true;
            let found = larger.find(key)?;
            if !larger.has_room(record.total(), &found) {
                return Err(Corrupted::new(
                    "a map's records take more room than it says",
                ));
            }
            (table, search) = (Some(larger), Some(found));
        }
        let (Some(table), Some(search)) = (table, search) else {
            return Err(Corrupted::new("a map's table is not there"));
        };
        self.stripe.serial.store(serial, Relaxed); // the number of this record, whatever becomes of it
        self.put(&table, &search, key, record, value, released)?;
        Ok(Set::Done(Freed::default())) // what it has freed is known in the end
    }

    /// Writes a record and makes it the value of its key.
    #[inline]
    fn put(
        &self,
        table: &Table,
        search: &Search,
        key: &Key<'_>,
        record: Record,
        value: &Outgoing<'_>,
        released: &mut Released,
    ) -> Result<(), Corrupted> {
        let head = table.head;
        let slot = table.slot(search.slot()?)?;
        let at = head.tail.load(Relaxed);
        table.write_record(at, record, key.bytes, value);
        if !value.blocks.is_empty() {
            self.bind_blocks(table, at, record.serial, value.blocks)?;
        }
        if let Some(old) = search.found.filter(|it| it.record.blocks != 0) {
            head.retired.store(old.at, Relaxed); // published by the commit
        }
        // Release: who repairs this finds no slot that leads behind the tail.
        head.tail.store(at + record.total(), Release);
        fault::point("map.written");
        slot.store(word_of(key.hash, at), Release); // the commit; pairs with the Acquire in `Table::word`
        fault::point("map.committed");
        let live_bytes = head.live_bytes.load(Relaxed).wrapping_add(record.total());
        match search.found {
            None => {
                head.live_bytes.store(live_bytes, Relaxed);
                head.live
                    .store(head.live.load(Relaxed).wrapping_add(1), Relaxed);
                let more = u64::from(search.takes_empty);
                head.used
                    .store(head.used.load(Relaxed).wrapping_add(more), Relaxed);
            }
            Some(old) => {
                let left = live_bytes.saturating_sub(old.record.total());
                head.live_bytes.store(left, Relaxed);
                self.let_go(table, &old, released)?;
            }
        }
        if !value.blocks.is_empty() {
            head.pending.store(0, Release); // after the commit, which would not be ordered before it by itself
        }
        Ok(())
    }

    /// Makes blocks those of a record that is written but does not count.
    #[cold]
    fn bind_blocks(
        &self,
        table: &Table,
        at: u64,
        serial: u64,
        blocks: &[BlockRef],
    ) -> Result<(), Corrupted> {
        // Before they are bound: who repairs this side finds them through the record.
        table.head.pending.store(at, Relaxed); // published with the first of them
        for block in blocks {
            fault::point("map.binding");
            let (place, allocator) = (self.place(serial), &self.map.blocks);
            if !allocator.bind(*block, self.map.index, place, self.me())? {
                return Err(Corrupted::new(
                    "a block changed hands while it was being stored",
                ));
            }
        }
        Ok(())
    }

    /// Frees the blocks of a record that counts no more, and says which handles are to be counted down once the
    /// lock is released.
    #[inline]
    pub(super) fn let_go(
        &self,
        table: &Table,
        old: &Found,
        released: &mut Released,
    ) -> Result<(), Corrupted> {
        for n in 0..old.record.handles {
            released.handles.push(table.handle(old, n)?.0);
        }
        if old.record.blocks != 0 {
            self.free_blocks(table, old.at, old.record.blocks, old.record.serial)?;
            released.has_freed = true;
            table.head.retired.store(0, Release); // as `pending`
        }
        Ok(())
    }

    /// Frees what is bound as a block of a record, believing nothing else about it.
    #[cold]
    pub(super) fn free_blocks(
        &self,
        table: &Table,
        at: u64,
        count: u8,
        serial: u64,
    ) -> Result<(), Corrupted> {
        for n in 0..usize::from(count) {
            let block = table.block(at, n)?;
            let (blocks, place) = (&self.map.blocks, self.place(serial));
            blocks.free_if_bound(block, self.map.index, place);
            fault::point("map.freed");
        }
        Ok(())
    }
}

impl Table {
    /// Whether a record fits behind the others, and its key into the slots.
    fn has_room(&self, need: u64, search: &Search) -> bool {
        let tail = self.head.tail.load(Relaxed); // under the lock, as all of the head
        let is_sane = tail >= self.records_at() && tail.is_multiple_of(UNIT); // else a new table will be
        let fits = is_sane && need <= self.len().saturating_sub(tail);
        let used = self.head.used.load(Relaxed);
        let is_crowded = used.saturating_add(1) > self.slots() / 4 * 3;
        fits && !(is_crowded && search.found.is_none() && search.takes_empty)
    }

    #[inline]
    fn write_record(&self, at: u64, record: Record, key: &[u8], value: &Outgoing<'_>) {
        self.write(at, &record.to_bytes());
        let mut to = at + HEADER as u64;
        for block in value.blocks {
            self.write(to, &block.to_bytes());
            to += BlockRef::SIZE as u64;
        }
        for handle in value.handles {
            let word = u64::from(handle.index) | (u64::from(handle.generation) << 32);
            self.write(to, &word.to_le_bytes());
            to += Handle::RECORD_SIZE as u64;
        }
        self.write(to, key);
        self.write(to + key.len() as u64, value.payload);
    }
}
