//! Slots that lead to records, in a block.
//!
//! A slot is a word: zero if it is empty, one if its record is gone, else `tag:24 | place of the record:40`, the place
//! in units of 8 bytes. A key is looked for from the slot that its hash's highest bits name to the next empty one.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::hash::TAG_BITS;
use super::layout::{HEAD, LEAST_SLOTS, TableHead};
use super::record::{HEADER, Record, UNIT};
use super::stripe::Key;
use crate::block::BlockRef;
use crate::error::Corrupted;
use crate::heap::{Bytes, Heap};
use crate::object::Handle;
use crate::word::Word64;

/// A slot that never led to a record, at least since the table was made.
pub(super) const EMPTY: u64 = 0;
/// A slot whose record was removed: who looks for another key goes on behind it.
pub(super) const GONE: u64 = 1;

const PLACE_BITS: u32 = 64 - TAG_BITS;

/// A table, as its words say and as was checked.
#[derive(Clone, Copy)]
pub(super) struct Table {
    pub(super) head: &'static TableHead,
    heap: &'static Heap,
    bytes: Bytes,
    /// How many slots: the logarithm.
    pub(super) log2: u32,
}

/// A key's entry.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) slot: u64,
    /// Where its record is.
    pub(super) at: u64,
    pub(super) record: Record,
}

/// What looking for a key has brought.
#[derive(Clone, Copy)]
pub(super) struct Search {
    pub(super) found: Option<Found>,
    /// The slot for a new entry.
    free: Option<u64>,
    /// Whether that slot is an empty one.
    pub(super) takes_empty: bool,
}

impl Search {
    /// The slot of the key's entry, or for it.
    pub(super) fn slot(&self) -> Result<u64, Corrupted> {
        let found = self.found.map(|found| found.slot);
        found
            .or(self.free)
            .ok_or(Corrupted::new("a map's table is full"))
    }
}

/// A slot's word for a record.
pub(super) fn word_of(hash: u64, at: u64) -> u64 {
    (hash << PLACE_BITS) | (at / UNIT)
}

/// Where the record is that a slot leads to.
#[inline]
pub(super) fn place_of(word: u64) -> Option<u64> {
    (word > GONE).then_some((word & ((1 << PLACE_BITS) - 1)) * UNIT)
}

impl Table {
    /// The table in a block, whose reference was checked.
    pub(super) fn new(heap: &'static Heap, bytes: Bytes) -> Result<Self, Corrupted> {
        let head: &TableHead = heap.at(bytes.offset())?;
        let log2 = head.slots.load(Relaxed) as u32; // set before the table counts
        let table = Self {
            head,
            heap,
            bytes,
            log2,
        };
        let is_sane =
            (LEAST_SLOTS..PLACE_BITS).contains(&log2) && table.records_at() <= table.len();
        if is_sane {
            Ok(table)
        } else {
            Err(Corrupted::new("a map's table has an impossible size"))
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn slots(&self) -> u64 {
        1 << self.log2
    }

    /// Where the first record is.
    pub(super) fn records_at(&self) -> u64 {
        HEAD + self.slots() * 8
    }

    /// The slot where a hash belongs.
    #[inline]
    pub(super) fn home(&self, hash: u64) -> u64 {
        hash >> (64 - self.log2)
    }

    /// Slot number `n`, counted in a circle.
    #[inline]
    pub(super) fn slot(&self, n: u64) -> Result<&'static Word64, Corrupted> {
        let n = n & (self.slots() - 1);
        self.heap.at(self.bytes.offset() + (HEAD + n * 8) as usize)
    }

    /// What a slot says.
    #[inline]
    pub(super) fn word(&self, n: u64) -> Result<u64, Corrupted> {
        Ok(self.slot(n)?.load(Acquire)) // pairs with the Release of a commit
    }

    /// The header of a record, as it is found there.
    #[inline]
    pub(super) fn record(&self, at: u64) -> Result<Record, Corrupted> {
        let mut bytes = [0; HEADER];
        self.bytes.read(at as usize, &mut bytes)?;
        Ok(Record::from_bytes(bytes))
    }

    /// The record that a slot's word leads to.
    #[inline]
    pub(super) fn entry(&self, slot: u64, word: u64) -> Result<Option<Found>, Corrupted> {
        let Some(at) = place_of(word) else {
            return Ok(None);
        };
        let record = self.record(at)?;
        let is_inside = at >= self.records_at() && record.total() <= self.len().saturating_sub(at);
        if is_inside && record.is_sane() {
            Ok(Some(Found { slot, at, record }))
        } else {
            Err(Corrupted::new("a map's slot leads to no record"))
        }
    }

    /// Looks for a key.
    #[inline]
    pub(super) fn find(&self, key: &Key<'_>) -> Result<Search, Corrupted> {
        let mut search = Search {
            found: None,
            free: None,
            takes_empty: false,
        };
        let (home, tag) = (self.home(key.hash), word_of(key.hash, 0));
        for slot in home..home + self.slots() {
            let word = self.word(slot)?;
            match word {
                EMPTY => {
                    search.takes_empty = search.free.is_none();
                    search.free.get_or_insert(slot);
                    return Ok(search);
                }
                GONE => {
                    search.free.get_or_insert(slot);
                }
                _ if (word ^ tag) >> PLACE_BITS == 0 => {
                    let entry = self.entry(slot, word)?;
                    if let Some(found) = entry.filter(|it| it.record.hash == key.hash) {
                        if self.has_key(&found, key.bytes)? {
                            search.found = Some(found);
                            return Ok(search);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(search)
    }

    fn has_key(&self, found: &Found, key: &[u8]) -> Result<bool, Corrupted> {
        if found.record.key as usize != key.len() {
            return Ok(false);
        }
        let mut at = (found.at + found.record.key_at()) as usize;
        let mut piece = [0; 64];
        for wanted in key.chunks(piece.len()) {
            let piece = &mut piece[..wanted.len()];
            self.bytes.read(at, piece)?;
            if piece != wanted {
                return Ok(false);
            }
            at += wanted.len();
        }
        Ok(true)
    }

    /// Appends a part of a record to `to`.
    #[inline]
    pub(super) fn append(
        &self,
        found: &Found,
        skip: u64,
        len: u32,
        to: &mut Vec<u8>,
    ) -> Result<(), Corrupted> {
        self.bytes
            .append_to((found.at + skip) as usize, len as usize, to)
    }

    /// Block number `n` of a record.
    pub(super) fn block(&self, at: u64, n: usize) -> Result<BlockRef, Corrupted> {
        let mut bytes = [0; BlockRef::SIZE];
        let skip = HEADER + n * BlockRef::SIZE;
        self.bytes.read(at as usize + skip, &mut bytes)?;
        Ok(BlockRef::from_bytes(bytes))
    }

    /// Handle number `n` of a record: index and generation.
    pub(super) fn handle(&self, found: &Found, n: u16) -> Result<(u32, u32), Corrupted> {
        let mut bytes = [0; Handle::RECORD_SIZE];
        let skip = found.record.handles_at() + u64::from(n) * Handle::RECORD_SIZE as u64;
        self.bytes.read((found.at + skip) as usize, &mut bytes)?;
        let word = u64::from_le_bytes(bytes);
        Ok((word as u32, (word >> 32) as u32))
    }

    /// Writes bytes at a place.
    #[inline]
    pub(super) fn write(&self, at: u64, bytes: &[u8]) {
        self.bytes.write(at as usize, bytes);
    }

    /// Visits every record that a slot leads to.
    pub(super) fn for_each(
        &self,
        mut visit: impl FnMut(Found) -> Result<(), Corrupted>,
    ) -> Result<(), Corrupted> {
        for slot in 0..self.slots() {
            if let Some(found) = self.entry(slot, self.word(slot)?)? {
                visit(found)?;
            }
        }
        Ok(())
    }
}
