//! Making objects.

use super::{Family, Hold};
use crate::block::BlockRef;
use crate::block::allocator::Taken;
use crate::error::{Corrupted, HandleError};
use crate::fault;
use crate::heap::Bytes;
use crate::lock::{Tokens, UserLock, tokens};
use crate::map::Map;
use crate::object::Objects;
use crate::object::group::{GroupBody, Row};
use crate::object::header::{Handle, Kind, Object};
use crate::object::memory::{INLINE, MemoryBody};
use crate::registry::OwnerId;
use crate::ring::{Ring, Shape};

impl Family {
    pub(super) fn make(
        &'static self,
        kind: Kind,
        fill: impl FnOnce(&Objects, Handle) -> Result<(), HandleError>,
    ) -> Result<Hold, HandleError> {
        self.free_buried()?;
        let objects = self.objects()?;
        let handle = objects.make(kind)?;
        if let Err(error) = fill(&objects, handle) {
            objects.freed(handle.index)?;
            return Err(error);
        }
        // Under the lock, so that a fork finds the count and the bit together.
        let mut counts = self.holdings.lock();
        objects.publish(handle)?;
        Ok(Hold::counted(self, handle, kind, objects.me(), &mut counts))
    }

    /// Makes a ring.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_ring(&'static self, shape: Shape) -> Result<Hold, HandleError> {
        let blocks = self.blocks()?;
        self.make(Kind::Ring, |objects, handle| {
            Ok(Ring::new(handle.index, blocks, *objects)?.initialise(shape)?)
        })
    }

    /// Makes a lock of the user's.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_lock(&'static self) -> Result<Hold, HandleError> {
        self.make_lock_that(false)
    }

    /// Makes a lock that nobody gets after a holder was killed, but by [`Hold::acquire_to_repair`].
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_refusing_lock(&'static self) -> Result<Hold, HandleError> {
        self.make_lock_that(true)
    }

    fn make_lock_that(&'static self, refuses: bool) -> Result<Hold, HandleError> {
        self.make(Kind::Lock, |objects, handle| {
            objects.body::<UserLock>(handle.index)?.initialise(refuses);
            Ok(())
        })
    }

    /// Makes a semaphore with `value` tokens, of which there may be `most`. If it `returns` tokens, all that a
    /// killed process had come back, else those that it held by [`Hold::hold_token`].
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_semaphore(
        &'static self,
        value: u32,
        most: u32,
        returns: bool,
    ) -> Result<Hold, HandleError> {
        self.make_tokens(Kind::Semaphore, value, most, returns)
    }

    /// Makes a reader-writer lock.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_rw_lock(&'static self) -> Result<Hold, HandleError> {
        self.make_tokens(Kind::RwLock, tokens::MOST, tokens::MOST, true)
    }

    fn make_tokens(
        &'static self,
        kind: Kind,
        value: u32,
        most: u32,
        returns: bool,
    ) -> Result<Hold, HandleError> {
        self.make(kind, |objects, handle| {
            let tokens: &Tokens = objects.body(handle.index)?;
            tokens.initialise(value, most, returns);
            Ok(())
        })
    }

    /// Makes a map.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_map(&'static self) -> Result<Hold, HandleError> {
        let blocks = self.blocks()?;
        self.make(Kind::Map, |objects, handle| {
            Map::new(handle.index, blocks, *objects)?.initialise();
            Ok(())
        })
    }

    /// Makes `len` bytes of shared memory, all zero.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_memory(&'static self, len: u64) -> Result<Hold, HandleError> {
        self.make(Kind::Memory, |objects, handle| {
            let body: &MemoryBody = objects.body(handle.index)?;
            if len <= INLINE as u64 {
                body.set(len, None);
                self.inline_bytes(objects, handle.index, len)?.clear();
                return Ok(());
            }
            let block = self.take_zeroed(len)?.block;
            body.set(len, Some(block)); // before it is bound: a bound block is found through the body
            self.bind(handle.index, block)
        })
    }

    /// Keeps a block that was received, without copying it: it lives as long as an object, which this makes. So
    /// it is held by a child that this process forks, too, and its bytes stay until both have let go.
    ///
    /// # Errors
    /// When there is no room for an object; the block is what it was then.
    pub fn keep(&'static self, block: BlockRef) -> Result<Hold, HandleError> {
        self.make(Kind::Memory, |objects, handle| {
            let body: &MemoryBody = objects.body(handle.index)?;
            body.set(block.len, Some(block)); // before it is bound, as in `make_memory`
            fault::point("memory.named");
            let is_bound = self.blocks()?.bind_received(block, handle.index)?;
            fault::point("memory.bound");
            if is_bound {
                Ok(())
            } else {
                Err(Corrupted::new("a block that was received is not this process's").into())
            }
        })
    }

    /// Makes a group of up to `rows` workers.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_group(&'static self, rows: u32) -> Result<Hold, HandleError> {
        self.make(Kind::Group, |objects, handle| {
            let len = u64::from(rows.max(1)) * size_of::<Row>() as u64;
            let block = self.take_zeroed(len)?.block;
            objects
                .body::<GroupBody>(handle.index)?
                .set(rows.max(1), block);
            self.bind(handle.index, block)
        })
    }

    pub(super) fn take_zeroed(&self, len: u64) -> Result<Taken, HandleError> {
        let taken = self.take_block(len)?;
        self.blocks()?.bytes(taken.block)?.clear();
        Ok(taken)
    }

    /// Lets a block live as long as an object does.
    pub(super) fn bind(&self, object: u32, block: BlockRef) -> Result<(), HandleError> {
        if self
            .blocks()?
            .bind(block, object, u64::MAX, OwnerId::NOBODY)?
        {
            Ok(())
        } else {
            Err(Corrupted::new("a block changed hands while it was being filled").into())
        }
    }

    /// Keeps bytes for as long as an object lives, or until [`Family::discard`].
    ///
    /// # Errors
    /// When there is no room.
    pub fn store(&self, object: &Hold, bytes: &[u8]) -> Result<BlockRef, HandleError> {
        let taken = self.take_block(bytes.len().max(1) as u64)?;
        let blocks = self.blocks()?;
        blocks.fill(&taken, 0, bytes)?;
        let block = BlockRef {
            len: bytes.len() as u64,
            ..taken.block
        };
        self.bind(object.handle.index, block)?;
        Ok(block)
    }

    /// The bytes that [`Family::store`] kept for an object.
    ///
    /// # Errors
    /// When the block is not that one any more.
    pub fn stored(&self, object: &Hold, block: BlockRef) -> Result<Bytes, HandleError> {
        self.lent_bytes(object.handle.index, block)
    }

    /// The bytes of a block that lives as long as an object.
    pub(super) fn lent_bytes(&self, object: u32, block: BlockRef) -> Result<Bytes, HandleError> {
        let blocks = self.blocks()?;
        if blocks.is_lent(block, object, u64::MAX) {
            Ok(blocks.bytes(block)?)
        } else {
            Err(Corrupted::new("a block is not its object's").into())
        }
    }

    /// Frees what [`Family::store`] kept.
    pub fn discard(&self, block: BlockRef) {
        if let Ok(blocks) = self.blocks() {
            blocks.free(block);
        }
    }

    pub(super) fn inline_bytes(
        &self,
        objects: &Objects,
        index: u32,
        len: u64,
    ) -> Result<Bytes, Corrupted> {
        if len > INLINE as u64 {
            return Err(Corrupted::new("shared memory is longer than its body"));
        }
        let body = objects.offset_of(index) + std::mem::offset_of!(Object, body);
        self.heap.bytes(
            body + std::mem::offset_of!(MemoryBody, inline),
            len as usize,
        )
    }
}
