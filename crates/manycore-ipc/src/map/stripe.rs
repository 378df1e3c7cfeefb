//! One of a map's parts: its lock and its table.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manycore_os::mapping::PAGE;

use super::hash::{hash, stripe_of};
use super::layout::{MapBody, STRIPES, Stripe, TableWords};
use super::record::MOST_KEY;
use super::table::Table;
use crate::block::{BlockRef, Blocks};
use crate::error::{AllocError, Corrupted};
use crate::lock::{Guard, Locked};
use crate::object::Objects;
use crate::registry::{OwnerId, Registry};
use crate::wait::{GaveUp, Patience};

/// Why an operation on a map did nothing.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapError {
    /// The deadline passed while another process was changing this part of the map.
    #[error("the map was in use until the deadline")]
    Busy,
    /// The caller's tick ended the wait.
    #[error("the wait was interrupted")]
    Interrupted,
    /// The key is too long.
    #[error("a key of {0} bytes is longer than the {MOST_KEY} bytes that a key may have")]
    KeyTooLong(usize),
    /// No memory for a table or a value.
    #[error(transparent)]
    Alloc(#[from] AllocError),
}

impl MapError {
    /// Whether there may be room once somebody has cleaned up behind the dead.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Alloc(error) if error.is_full())
    }
}

impl From<Corrupted> for MapError {
    fn from(error: Corrupted) -> Self {
        Self::Alloc(error.into())
    }
}

impl From<GaveUp> for MapError {
    fn from(gave_up: GaveUp) -> Self {
        match gave_up {
            GaveUp::TimedOut => Self::Busy,
            GaveUp::Interrupted => Self::Interrupted,
        }
    }
}

/// A key: two are the same if their bytes are.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) hash: u64,
}

/// A map, on behalf of one process.
#[derive(Clone, Copy)]
pub struct Map {
    pub(crate) body: &'static MapBody,
    pub(super) index: u32,
    pub(super) blocks: Blocks,
    pub(super) objects: Objects,
}

/// What a change has released: dealt with once the lock is.
#[derive(Debug, Default)]
pub(super) struct Released {
    /// Handles that are in the map once less.
    pub(super) handles: Vec<u32>,
    /// Whether blocks were freed.
    pub(super) has_freed: bool,
}

/// Whether a change has freed blocks: then [`Map::trim`] is due, which may take the kernel a while.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed(bool);

impl Freed {
    /// Whether it has.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.0
    }
}

/// A stripe of a map, locked.
pub(super) struct Open<'a> {
    pub(super) map: &'a Map,
    pub(super) number: usize,
    pub(super) stripe: &'static Stripe,
}

impl TableWords {
    pub(super) fn set(&self, block: Option<BlockRef>) {
        let run = block.map_or(0, |it| ((it.len / PAGE as u64) << 32) | u64::from(it.page));
        let generation = block.map_or(0, |it| it.generation);
        self.run.store(run, Relaxed); // both are committed by the store of `current`
        self.generation.store(generation, Relaxed);
    }

    pub(super) fn block(&self) -> Option<BlockRef> {
        let run = self.run.load(Relaxed); // under the lock
        (run >> 32 != 0).then(|| BlockRef {
            page: run as u32,
            len: (run >> 32) * PAGE as u64,
            generation: self.generation.load(Relaxed),
        })
    }
}

impl Map {
    /// The map that is the body of object `index`.
    ///
    /// # Errors
    /// When there is no such object.
    #[inline]
    pub fn new(index: u32, blocks: Blocks, objects: Objects) -> Result<Self, Corrupted> {
        Ok(Self {
            body: objects.body(index)?,
            index,
            blocks,
            objects,
        })
    }

    /// Makes the map empty. For an object that is not live yet.
    pub fn initialise(&self) {
        for stripe in &self.body.stripes {
            // Published with the object. What a dead owner has left in a lock is repaired by who takes it.
            stripe.tables.iter().for_each(|words| words.set(None));
            stripe.current.store(0, Relaxed);
        }
    }

    /// A key of this map.
    ///
    /// # Errors
    /// When it is too long.
    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Result<Key<'k>, MapError> {
        if bytes.len() > MOST_KEY {
            return Err(MapError::KeyTooLong(bytes.len()));
        }
        let family = self.blocks.heap.header().family();
        let hash = hash(bytes, family);
        Ok(Key { bytes, hash })
    }

    /// Which stripe a key belongs to.
    #[cfg(test)]
    pub(crate) fn stripe_of(&self, bytes: &[u8]) -> usize {
        stripe_of(self.key(bytes).expect("short").hash)
    }

    /// Locks the stripe where a key belongs.
    #[inline]
    pub(super) fn open_for(
        &self,
        key: &Key<'_>,
        patience: &mut Patience<'_>,
    ) -> Result<(Open<'_>, Guard<'static>), MapError> {
        self.open(stripe_of(key.hash), patience)
    }

    /// Locks a stripe; what a dead owner has left is repaired first.
    #[inline]
    pub(super) fn open(
        &self,
        number: usize,
        patience: &mut Patience<'_>,
    ) -> Result<(Open<'_>, Guard<'static>), MapError> {
        let stripe = &self.body.stripes[number % STRIPES];
        let open = Open {
            map: self,
            number,
            stripe,
        };
        let locked = match stripe.lock.try_lock() {
            Some(locked) => locked,
            None => Registry::new(self.blocks.heap).lock(&stripe.lock, patience)?,
        };
        match locked {
            Locked::Clean(guard) => Ok((open, guard)),
            Locked::OwnerDied(guard) => {
                open.repair()?;
                guard.repaired();
                Ok((open, guard))
            }
        }
    }

    /// Ends a change, with no lock held.
    #[inline]
    pub(super) fn finish(&self, released: &Released) -> Result<Freed, Corrupted> {
        for &index in &released.handles {
            self.objects.arrived(index)?;
        }
        Ok(Freed(released.has_freed))
    }

    /// Gives memory back to the system, if a change has freed much.
    #[inline]
    pub fn trim(&self, freed: Freed) {
        if freed.0 {
            let _ = self.blocks.trim(); // a damaged table shows again at the next block
        }
    }

    /// How many entries there are, of each stripe at some moment during the call.
    ///
    /// # Errors
    /// When the patience ends first, or the map's bytes make no sense.
    pub fn len(&self, patience: &mut Patience<'_>) -> Result<u64, MapError> {
        let mut sum = 0_u64;
        for number in 0..STRIPES {
            let (open, _guard) = self.open(number, patience)?;
            let table = open.table()?;
            sum = sum.saturating_add(table.map_or(0, |it| it.head.live.load(Relaxed)));
        }
        Ok(sum)
    }

    /// How many values have been put in so far: where that is the same before and after a walk, what the walk found
    /// empty was empty at the end, too.
    ///
    /// # Errors
    /// As for [`Map::len`].
    pub fn writes(&self, patience: &mut Patience<'_>) -> Result<u64, MapError> {
        let mut sum = 0_u64;
        for number in 0..STRIPES {
            // Under the lock: what was put in before is counted.
            let (open, _guard) = self.open(number, patience)?;
            sum = sum.wrapping_add(open.stripe.serial.load(Relaxed));
        }
        Ok(sum)
    }
}

impl Open<'_> {
    /// The descriptor that counts, and the other one.
    pub(super) fn words(&self) -> (&'static TableWords, &'static TableWords) {
        let [first, second] = &self.stripe.tables;
        // Acquire pairs with the Release in `commit`.
        match self.stripe.current.load(Acquire) & 1 {
            0 => (first, second),
            _ => (second, first),
        }
    }

    /// Makes the other descriptor the one that counts.
    pub(super) fn commit(&self) {
        let next = (self.stripe.current.load(Relaxed) & 1) ^ 1;
        self.stripe.current.store(next, Release); // pairs with the Acquire in `words`
    }

    /// The place of this stripe's table, for the block that it is in.
    pub(super) fn table_place(&self) -> u64 {
        u64::MAX - 1 - self.number as u64
    }

    /// The place of a record, for its blocks: no other record's.
    pub(super) fn place(&self, serial: u64) -> u64 {
        ((self.number as u64) << 56) | (serial & ((1 << 56) - 1))
    }

    /// The stripe's table, if it has one.
    #[inline]
    pub(super) fn table(&self) -> Result<Option<Table>, Corrupted> {
        let Some(block) = self.words().0.block() else {
            return Ok(None);
        };
        let blocks = &self.map.blocks;
        if !blocks.is_lent(block, self.map.index, self.table_place()) {
            return Err(Corrupted::new("a map's table is not in a block of its own"));
        }
        Table::new(blocks.heap, blocks.bytes(block)?).map(Some)
    }

    /// The process on whose behalf.
    pub(super) fn me(&self) -> OwnerId {
        self.map.blocks.me
    }
}
