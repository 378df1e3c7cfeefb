//! Copying a value out.

use super::stripe::{Key, Map, MapError, Open};
use super::table::{Found, Table};
use crate::block::{BlockRef, State};
use crate::error::Corrupted;
use crate::fault;
use crate::heap::Bytes;
use crate::ring::Message;
use crate::ring::record::Header;
use crate::wait::Patience;

/// Bytes of a block that are copied at a time.
const PIECE: usize = 64 << 10;

impl Map {
    /// Copies the value of a key out; `None` if it has none. Its handles count as in flight and its blocks are held by
    /// this process, as those of a message that was received. Returns the value's number, which no other value of
    /// this key ever has.
    ///
    /// # Errors
    /// When the patience ends first, there is no memory, or the map's bytes make no sense.
    pub fn get(
        &self,
        key: &Key<'_>,
        into: &mut Message,
        patience: &mut Patience<'_>,
    ) -> Result<Option<u64>, MapError> {
        let mut own = Vec::new();
        let outcome = self.get_with(key, &mut own, into, patience);
        if !matches!(outcome, Ok(Some(_))) {
            self.free_all(&own); // the value was removed meanwhile
        }
        outcome
    }

    fn get_with(
        &self,
        key: &Key<'_>,
        own: &mut Vec<BlockRef>,
        into: &mut Message,
        patience: &mut Patience<'_>,
    ) -> Result<Option<u64>, MapError> {
        loop {
            match self.try_get(key, own, into, patience)? {
                Got::Done(serial) => return Ok(serial),
                Got::NeedsBlocks(lens) => {
                    self.free_all(own);
                    own.clear();
                    *own = self.take_blocks(&lens)?;
                }
            }
        }
    }

    /// Copies the value of a key out, into these blocks if they are what it needs.
    ///
    /// # Errors
    /// As for [`Map::get`].
    #[inline]
    pub fn try_get(
        &self,
        key: &Key<'_>,
        own: &[BlockRef],
        into: &mut Message,
        patience: &mut Patience<'_>,
    ) -> Result<Got, MapError> {
        into.clear();
        let (open, _guard) = self.open_for(key, patience)?;
        Ok(open.copy(key, own, into)?)
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// When the patience ends first, or the map's bytes make no sense.
    pub fn contains(&self, key: &Key<'_>, patience: &mut Patience<'_>) -> Result<bool, MapError> {
        let (open, _guard) = self.open_for(key, patience)?;
        let found = open.table()?.map(|table| table.find(key)).transpose()?;
        Ok(found.is_some_and(|search| search.found.is_some()))
    }

    fn free_all(&self, blocks: &[BlockRef]) {
        blocks.iter().for_each(|&block| self.blocks.free(block));
    }

    /// Takes blocks of these lengths, and populates them: pages are not faulted in under a lock.
    #[cold]
    fn take_blocks(&self, lens: &[u64]) -> Result<Vec<BlockRef>, MapError> {
        let mut taken = Vec::with_capacity(lens.len());
        for &len in lens {
            match self.blocks.take(len) {
                Ok(one) => taken.push(BlockRef { len, ..one.block }),
                Err(error) => {
                    self.free_all(&taken);
                    return Err(error.into());
                }
            }
        }
        taken.iter().for_each(|&block| self.blocks.populate(block));
        Ok(taken)
    }
}

/// How an attempt to copy a value ended.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// It is copied, and has this number; or there is none.
    Done(Option<u64>),
    /// Bring blocks of these lengths for its blocks.
    NeedsBlocks(Vec<u64>),
}

impl Open<'_> {
    #[inline]
    fn copy(&self, key: &Key<'_>, own: &[BlockRef], into: &mut Message) -> Result<Got, Corrupted> {
        let Some(table) = self.table()? else {
            return Ok(Got::Done(None));
        };
        let Some(found) = table.find(key)?.found else {
            return Ok(Got::Done(None));
        };
        if found.record.blocks != 0 || !own.is_empty() {
            let blocks = self.blocks_of(&table, &found)?;
            let lens = |blocks: &[BlockRef]| blocks.iter().map(|it| it.len).collect::<Vec<_>>();
            if lens(&blocks) != lens(own) {
                return Ok(Got::NeedsBlocks(lens(&blocks)));
            }
            for (&from, &to) in blocks.iter().zip(own) {
                self.copy_block(from, to)?;
            }
            into.blocks.extend_from_slice(own);
        }
        self.copy_payload(&table, &found, into)?;
        for n in 0..found.record.handles {
            let (index, generation) = table.handle(&found, n)?;
            self.map.objects.send(index)?; // one more, beside the one in the map
            fault::point("map.handle.sent");
            into.handles.push((index, generation));
        }
        Ok(Got::Done(Some(found.record.serial)))
    }

    /// Copies what a record has beside blocks and handles.
    #[inline]
    pub(super) fn copy_payload(
        &self,
        table: &Table,
        found: &Found,
        into: &mut Message,
    ) -> Result<(), Corrupted> {
        let record = found.record;
        into.header = Header {
            len: record.len,
            kind: record.kind,
            blocks: record.blocks,
            handles: record.handles,
            tag: record.serial,
        };
        table.append(found, record.payload_at(), record.len, &mut into.payload)
    }

    /// The blocks of a record, all of which are its own.
    #[cold]
    pub(super) fn blocks_of(
        &self,
        table: &Table,
        found: &Found,
    ) -> Result<Vec<BlockRef>, Corrupted> {
        let place = self.place(found.record.serial);
        (0..usize::from(found.record.blocks))
            .map(|n| {
                let block = table.block(found.at, n)?;
                if self.map.blocks.is_lent(block, self.map.index, place) {
                    Ok(block)
                } else {
                    Err(Corrupted::new("a map's value has lost its block"))
                }
            })
            .collect()
    }

    fn copy_block(&self, from: BlockRef, to: BlockRef) -> Result<(), Corrupted> {
        let blocks = &self.map.blocks;
        let (source, target): (Bytes, Bytes) = (blocks.bytes(from)?, blocks.bytes(to)?);
        let mut piece = Vec::new();
        for at in (0..source.len()).step_by(PIECE) {
            piece.clear();
            source.append_to(at, PIECE.min(source.len() - at), &mut piece)?;
            target.write(at, &piece);
        }
        let me = self.me();
        let is_mine =
            |run: crate::block::table::Run| run.state == State::Filling && run.owner == me;
        if blocks.change(to, is_mine, State::Held, me)? {
            Ok(())
        } else {
            Err(Corrupted::new(
                "a block changed hands while it was being filled",
            ))
        }
    }
}
