//! The bytes of a ring: a block, addressed in a circle.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::layout::{RegionWords, RingBody, Shape, Side};
use super::position::Position;
use super::record::{HEADER, Header};
use crate::block::allocator::Taken;
use crate::block::{BlockRef, Blocks};
use crate::error::{AllocError, Corrupted};
use crate::heap::Bytes;
use crate::lock::Locked;
use crate::object::Objects;
use crate::registry::{OwnerId, Registry};
use crate::wait::{Bell, GaveUp, Patience};

/// Bytes of the smallest region: a power of two that holds a message and a link.
const LEAST_CAPACITY: u64 = 128;

/// A ring, on behalf of one process.
#[derive(Clone, Copy)]
pub struct Ring {
    pub(crate) body: &'static RingBody,
    pub(crate) index: u32,
    pub(crate) blocks: Blocks,
    pub(crate) objects: Objects,
}

/// A region, as its words say and as was checked.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    bytes: Bytes,
    start: u64,
}

impl Region {
    pub(crate) fn capacity(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    #[inline]
    fn offset(&self, at: Position, skip: u64) -> usize {
        // The capacity is a power of two, checked when the region was looked up.
        (at.since(self.start).wrapping_add(skip) & (self.capacity() - 1)) as usize
    }

    /// Writes bytes `skip` after a position; they may continue at the region's beginning.
    #[inline]
    pub(crate) fn write(&self, at: Position, skip: u64, bytes: &[u8]) {
        let offset = self.offset(at, skip);
        let (first, rest) = bytes.split_at(bytes.len().min(self.bytes.len() - offset));
        self.bytes.write(offset, first);
        if !rest.is_empty() {
            self.bytes.write(0, rest);
        }
    }

    /// Appends `len` bytes from `skip` after a position to `to`.
    #[inline]
    pub(crate) fn append(
        &self,
        at: Position,
        skip: u64,
        len: usize,
        to: &mut Vec<u8>,
    ) -> Result<(), Corrupted> {
        let offset = self.offset(at, skip);
        let first = len.min(self.bytes.len() - offset);
        self.bytes.append_to(offset, first, to)?;
        if first < len {
            self.bytes.append_to(0, len - first, to)
        } else {
            Ok(())
        }
    }

    /// Writes the header of a record. It never wraps: headers are aligned to their size.
    #[inline]
    pub(crate) fn write_header(&self, at: Position, header: Header) {
        self.bytes.write(self.offset(at, 0), &header.to_bytes());
    }

    pub(crate) fn read<const N: usize>(
        &self,
        at: Position,
        skip: u64,
    ) -> Result<[u8; N], Corrupted> {
        let mut bytes = [0; N];
        let offset = self.offset(at, skip);
        let first = N.min(self.bytes.len() - offset);
        let (head, tail) = bytes.split_at_mut(first);
        self.bytes.read(offset, head)?;
        if !tail.is_empty() {
            self.bytes.read(0, tail)?;
        }
        Ok(bytes)
    }

    /// The header of the record at a position, as it is found there.
    #[inline]
    pub(crate) fn header(&self, at: Position) -> Result<Header, Corrupted> {
        // Headers are aligned to their size, so they never wrap.
        let mut bytes = [0; HEADER];
        self.bytes.read(self.offset(at, 0), &mut bytes)?;
        Ok(Header::from_bytes(bytes))
    }

    /// Block number `n` of the record at a position.
    pub(crate) fn block(&self, at: Position, n: usize) -> Result<BlockRef, Corrupted> {
        let skip = (HEADER + n * BlockRef::SIZE) as u64;
        Ok(BlockRef::from_bytes(self.read(at, skip)?))
    }
}

impl RegionWords {
    pub(crate) fn set(&self, block: BlockRef, start: u64) {
        let size = u64::from(block.len.trailing_zeros()); // a power of two
        self.run.store(size << 32 | u64::from(block.page), Relaxed); // all are committed by the position
        self.generation.store(block.generation, Relaxed);
        self.start.store(start, Relaxed);
    }

    #[inline]
    pub(crate) fn block(&self) -> BlockRef {
        let run = self.run.load(Relaxed);
        BlockRef {
            page: run as u32,
            len: 1_u64.checked_shl((run >> 32) as u32).unwrap_or(0),
            generation: self.generation.load(Relaxed),
        }
    }
}

impl Ring {
    /// The ring that is the body of object `index`.
    ///
    /// # Errors
    /// When there is no such object.
    #[inline(always)]
    pub fn new(index: u32, blocks: Blocks, objects: Objects) -> Result<Self, Corrupted> {
        Ok(Self {
            body: objects.body(index)?,
            index,
            blocks,
            objects,
        })
    }

    /// Makes the ring empty and gives it its first region. For an object that is not live yet.
    ///
    /// # Errors
    /// When there is no memory for the region.
    pub fn initialise(&self, shape: Shape) -> Result<(), AllocError> {
        let body = self.body;
        // Both sides stay where the last ring in this object ended: they are at the same place, always, so
        // that a death at any of these stores leaves an empty ring, and no place is ever named twice.
        let start = Position::from_bits(body.put.position.load(Relaxed));
        if !start.is_at(Position::from_bits(body.get.position.load(Relaxed))) {
            return Err(Corrupted::new("a new ring is not empty").into());
        }
        for side in [&body.put, &body.get] {
            side.peer.store(start.bits(), Relaxed); // all of it is published with the object
            side.peer_count.store(0, Relaxed);
            side.noted.store(0, Relaxed);
            side.polled.store(0, Relaxed);
            for parity in 0..2 {
                side.count[parity].store(0, Relaxed);
                side.block_bytes[parity].store(0, Relaxed);
            }
        }
        body.closed.store(0, Relaxed);
        body.grows.store(u32::from(shape.grows), Relaxed);
        body.items_at.store(shape.items_at, Relaxed);
        body.space_at.store(shape.space_at, Relaxed);
        body.max_messages.store(shape.max_messages, Relaxed);
        body.max_bytes.store(shape.max_bytes, Relaxed);
        let volume = body.put.passed(start).volume();
        body.put.noted.store(volume, Relaxed);
        body.first_volume.store(volume, Relaxed);
        body.put_sleeps.store(0, Relaxed);
        body.get_sleeps.store(0, Relaxed);
        body.pollers[0].store(0, Relaxed);
        body.done.store(0, Relaxed);
        body.source.store(0, Relaxed);
        let group = shape
            .group
            .map(|index| Ok::<_, Corrupted>((index, self.objects.stage(index)?)));
        if let Some((index, stage)) = group.transpose()? {
            body.group_generation.store(stage.generation, Relaxed);
            body.group.store(index + 1, Relaxed);
        } else {
            body.group.store(0, Relaxed);
        }
        let capacity = shape.capacity.next_power_of_two().max(LEAST_CAPACITY);
        let Taken { block, .. } = self.blocks.take(capacity)?;
        let block = BlockRef {
            len: capacity,
            ..block
        };
        self.blocks.populate(block);
        // Named before it is bound: a bound block is found through these words.
        for side in [&body.put, &body.get] {
            if let Some(words) = side.region.get(start.region_index()) {
                words.set(block, start.bytes());
            }
        }
        let place = start.before_region();
        if !self.blocks.bind(block, self.index, place, self.blocks.me)? {
            return Err(Corrupted::new("a ring's first region changed hands").into());
        }
        Ok(())
    }

    /// Takes the lock of a side, sleeping while another thread holds it.
    pub(super) fn lock(
        &self,
        side: &'static Side,
        patience: &mut Patience<'_>,
    ) -> Result<Locked<'static>, GaveUp> {
        Registry::new(self.blocks.heap).lock(&side.lock, patience)
    }

    #[inline(always)]
    pub(crate) fn region(&self, side: &Side, at: Position) -> Result<Region, Corrupted> {
        let words = side
            .region
            .get(at.region_index())
            .ok_or(Corrupted::new("no such region"))?;
        let block = words.block();
        if !block.len.is_power_of_two() || block.len < super::record::LINK_BYTES {
            return Err(Corrupted::new("a ring's region has an impossible size"));
        }
        Ok(Region {
            bytes: self.blocks.bytes(block)?,
            start: words.start.load(Relaxed),
        })
    }

    fn bell_at(&self, offset: u64, own: &'static Bell) -> &'static Bell {
        if offset == 0 {
            return own;
        }
        // A scribbled offset wakes nobody, and changes nothing; who sleeps looks again after its slice.
        self.objects.bell_at(offset).unwrap_or(own)
    }

    /// Where consumers sleep.
    #[inline]
    #[must_use]
    pub fn items_bell(&self) -> &'static Bell {
        self.bell_at(self.body.items_at.load(Relaxed), &self.body.items) // set once
    }

    /// Wakes a consumer. Where it sleeps among those that wait for other things, all are woken: one
    /// that waits for something else would keep the news to itself.
    #[inline]
    pub(crate) fn announce(&self) {
        if self.body.items_at.load(Relaxed) == 0 {
            self.body
                .items
                .ring_unless(|| self.body.search.is_on_or_wakes()); // set once
        } else {
            self.items_bell().ring_all();
        }
    }

    /// Where producers sleep.
    #[inline]
    #[must_use]
    pub fn space_bell(&self) -> &'static Bell {
        self.bell_at(self.body.space_at.load(Relaxed), &self.body.space) // set once
    }

    /// Whether there was nothing to get at some moment during the call.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let head = Position::from_bits(self.body.get.position.load(Acquire));
        head.is_at(Position::from_bits(self.body.put.position.load(Acquire)))
    }

    /// The shared words, for what a queue keeps beside its ring.
    #[must_use]
    pub fn body(&self) -> &'static RingBody {
        self.body
    }

    /// The object that this ring is the body of.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The process on whose behalf.
    #[must_use]
    pub fn me(&self) -> OwnerId {
        self.blocks.me
    }
}
