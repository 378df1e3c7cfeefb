//! The bytes of a ring: a block, addressed in a circle.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use super::layout::{RegionWords, RingBody, Shape, Side};
use super::position::Position;
use super::record::{HEADER, Header};
use crate::block::allocator::Taken;
use crate::block::{BlockRef, Blocks};
use crate::error::{AllocError, Corrupted};
use crate::fault;
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
        self.page.store(u64::from(block.page), Relaxed); // all four are committed by the position
        self.generation.store(block.generation, Relaxed);
        self.capacity.store(block.len, Relaxed);
        self.start.store(start, Relaxed);
    }

    pub(crate) fn block(&self) -> BlockRef {
        BlockRef {
            page: self.page.load(Relaxed) as u32,
            len: self.capacity.load(Relaxed),
            generation: self.generation.load(Relaxed),
        }
    }
}

impl Side {
    pub(crate) fn messages(&self, at: Position) -> u64 {
        // Acquire pairs with the Release in `count_to`, so that `messages_of` sees the position that
        // came before the counter was used again.
        self.count[at.parity()].load(Acquire)
    }

    /// Says how many messages have passed once the position is `next`.
    pub(crate) fn count_to(&self, next: Position, messages: u64) {
        self.count[next.parity()].store(messages, Release);
    }
}

impl Ring {
    /// The ring that is the body of object `index`.
    ///
    /// # Errors
    /// When there is no such object.
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
            side.count[0].store(0, Relaxed);
            side.count[1].store(0, Relaxed);
        }
        body.closed.store(0, Relaxed);
        body.grows.store(u32::from(shape.grows), Relaxed);
        body.items_at.store(shape.items_at, Relaxed);
        body.space_at.store(shape.space_at, Relaxed);
        body.max_messages.store(shape.max_messages, Relaxed);
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
            self.body.items.ring(); // set once
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

    /// How many messages are in the ring, at some moment during the call.
    #[must_use]
    pub fn len(&self) -> u64 {
        // The consumers' side first: it can only be behind then, so the difference is never negative.
        let got = self.messages_of(&self.body.get);
        let put = self.messages_of(&self.body.put);
        put.saturating_sub(got)
    }

    /// How many messages have been taken out so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.messages_of(&self.body.get)
    }

    /// How many messages have passed a side.
    pub(crate) fn messages_of(&self, side: &Side) -> u64 {
        let mut seen = side.position.load(Acquire); // pairs with the Release of a commit
        for _ in 0..100 {
            let count = side.messages(Position::from_bits(seen));
            // A counter is rewritten only after the position has moved on: unchanged means true.
            let again = side.position.load(Acquire);
            if again == seen {
                return count;
            }
            seen = again;
        }
        side.messages(Position::from_bits(seen)) // busy: off by one at most
    }

    /// Whether there was nothing to get at some moment during the call.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let head = Position::from_bits(self.body.get.position.load(Acquire));
        head.is_at(Position::from_bits(self.body.put.position.load(Acquire)))
    }

    /// Whether a bounded ring was full at some moment during the call.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let most = self.body.max_messages.load(Relaxed); // set once
        most != 0 && self.len() >= most
    }

    /// The most messages at a time; zero for any number.
    #[must_use]
    pub fn max_messages(&self) -> u64 {
        self.body.max_messages.load(Relaxed)
    }

    /// Refuses further messages, in all processes, and wakes whoever sleeps.
    pub fn close(&self) {
        self.body.closed.store(1, Release); // pairs with the Acquire in `is_closed`
        fault::point("ring.closed");
        self.items_bell().ring_all();
        self.space_bell().ring_all();
    }

    /// Whether [`Ring::close`] was called.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.body.closed.load(Acquire) != 0
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

/// What a joinable queue keeps beside its ring. That a message was put needs no count of its own: the
/// producers' counter is committed with it, so no death leaves one that nobody can be done with.
impl Ring {
    /// Marks one message as done; `false` when all that were put are done already.
    #[must_use]
    pub fn mark_done(&self) -> bool {
        let done = &self.body.done;
        let mut seen = done.load(Relaxed); // the exchange below checks it
        while seen < self.messages_of(&self.body.put) {
            // SeqCst: as a condition of `finished`, ordered against its fences.
            match done.compare_exchange(seen, seen + 1, SeqCst, Relaxed) {
                Ok(_) => {
                    fault::point("ring.done");
                    if self.is_finished() {
                        self.body.finished.ring_all();
                    }
                    return true;
                }
                Err(found) => seen = found,
            }
        }
        false
    }

    /// Whether every message that was put was marked done at some moment during the call.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // In this order: what is put meanwhile makes it less true, what is done meanwhile more.
        let done = self.body.done.load(SeqCst);
        done >= self.messages_of(&self.body.put)
    }

    /// Waits until every message is done.
    ///
    /// # Errors
    /// When the patience ends first.
    pub fn wait_finished(&self, patience: &mut Patience<'_>) -> Result<(), GaveUp> {
        let finished = &self.body.finished;
        finished.wait(patience, || self.is_finished()).map(|_| ())
    }
}
