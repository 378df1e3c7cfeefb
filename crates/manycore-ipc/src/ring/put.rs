//! The producers' side of a ring.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manycore_os::cache;

use super::layout::{LARGEST, MANY_REGIONS};
use super::outgoing::{Outgoing, Put, PutError};
use super::pollers::Event;
use super::position::Position;
use super::record::{HEADER, Header, LINK, LINK_BYTES};
use super::region::{Region, Ring};
use crate::block::BlockRef;
use crate::block::allocator::Taken;
use crate::error::{AllocError, Corrupted};
use crate::fault;
use crate::heap::layout::MOST;
use crate::lock::{Guard, Locked};
use crate::object::Handle;
use crate::wait::Patience;

impl Ring {
    /// Puts a message if that needs no sleep. `region` is a block for a larger region, which is taken
    /// out if it is used.
    ///
    /// # Errors
    /// When the ring's bytes make no sense.
    #[inline(always)] // what was returned in memory would be read again before it is there: 20 ns
    pub fn try_put(
        &self,
        message: &Outgoing<'_>,
        region: &mut Option<Taken>,
    ) -> Result<Put, Corrupted> {
        message.check()?;
        let Some(locked) = self.body.put.lock.try_lock() else {
            return Ok(Put::Busy);
        };
        let guard = self.repaired_put(locked)?;
        let outcome = self.put_locked(message, region);
        guard.release();
        if outcome == Ok(Put::Done) {
            self.announce();
            fault::point("ring.put.rung");
        }
        outcome
    }

    /// Asks for what the next message is put with, so that it is there by then: see [`cache`].
    #[inline]
    pub fn foresee_put(&self) {
        cache::fetch_to_write(&self.body.put.lock);
    }

    /// Puts a message if nothing at all stands in the way; [`Ring::put`] says what does.
    #[inline(always)]
    pub fn put_at_once(&self, message: &Outgoing<'_>) -> bool {
        matches!(self.try_put(message, &mut None), Ok(Put::Done))
    }

    /// Puts messages, one after the other, as long as nothing at all stands in the way: under one lock, and with one
    /// announcement. Returns how many; [`Ring::put`] says what stands in the way of the next one.
    pub fn put_each_at_once<'a>(&self, messages: impl IntoIterator<Item = Outgoing<'a>>) -> usize {
        let Some(locked) = self.body.put.lock.try_lock() else {
            return 0;
        };
        let Ok(guard) = self.repaired_put(locked) else {
            return 0;
        };
        let is_put = |message: &Outgoing<'_>| {
            message.check().is_ok() && self.put_locked(message, &mut None) == Ok(Put::Done)
        };
        let count = messages.into_iter().take_while(is_put).count();
        guard.release();
        if count > 0 {
            self.announce();
            fault::point("ring.put.rung");
        }
        count
    }

    /// Puts a message, waiting for room and growing the ring as it may.
    ///
    /// # Errors
    /// Why the message was not put.
    pub fn put(&self, message: &Outgoing<'_>, patience: &mut Patience<'_>) -> Result<(), PutError> {
        let mut region: Option<Taken> = None;
        let outcome = self.put_with(message, &mut region, patience);
        if let Some(unused) = region {
            self.blocks.free(unused.block);
        }
        outcome
    }

    pub(super) fn put_with(
        &self,
        message: &Outgoing<'_>,
        region: &mut Option<Taken>,
        patience: &mut Patience<'_>,
    ) -> Result<(), PutError> {
        loop {
            match self.try_put(message, region)? {
                Put::Done => return Ok(()),
                Put::Closed => return Err(PutError::Closed),
                Put::Untold(error) => return Err(PutError::Untold(error)),
                Put::NeedsRegion(bytes) => {
                    // Others may have grown the ring since a region was taken that is too small now.
                    if let Some(small) = region.take() {
                        self.blocks.free(small.block);
                    }
                    *region = Some(self.take_region(bytes)?);
                }
                Put::Full => {
                    let need = message.header().record_len();
                    self.check_capacity(need)?;
                    let bytes = need + message.block_bytes();
                    let ready = || self.has_room(need, bytes) || self.is_closed();
                    if self.space_bell().wait(patience, ready)? {
                        self.body.put_sleeps.fetch_add(1, Relaxed); // a count that orders nothing
                    }
                }
                Put::Busy => drop(self.lock_put(patience)?),
            }
        }
    }

    fn lock_put(&self, patience: &mut Patience<'_>) -> Result<Guard<'static>, PutError> {
        let locked = self.lock(&self.body.put, &mut patience.for_lock())?;
        Ok(self.repaired_put(locked)?)
    }

    fn take_region(&self, bytes: u64) -> Result<Taken, AllocError> {
        let mut taken = self.blocks.take(bytes)?;
        taken.block.len = bytes;
        self.blocks.populate(taken.block);
        Ok(taken)
    }

    #[inline(always)]
    fn put_locked(
        &self,
        message: &Outgoing<'_>,
        region: &mut Option<Taken>,
    ) -> Result<Put, Corrupted> {
        if self.is_closed() {
            return Ok(Put::Closed);
        }
        let put = &self.body.put;
        let mut tail = Position::from_bits(put.position.load(Relaxed)); // only changed under this lock
        let passed = put.passed(tail);
        let header = message.header();
        let need = header.record_len();
        let block_bytes = message.block_bytes();
        if self.is_over_limit(passed, need + block_bytes)? {
            return Ok(Put::Full);
        }
        let mut current = self.region(put, tail)?;
        if !self.fits(tail, &current, need) {
            if self.body.grows.load(Relaxed) == 0 {
                return Ok(Put::Full);
            }
            let head = Position::from_bits(put.peer.load(Relaxed)); // looked at by `fits`
            let wanted = next_capacity(current.capacity(), need, tail.regions_since(head));
            match region.take_if(|taken| taken.block.len >= wanted) {
                None => return Ok(Put::NeedsRegion(wanted)),
                Some(taken) => tail = self.link(tail, &current, taken.block)?,
            }
            current = self.region(put, tail)?;
            if need + LINK_BYTES > current.capacity() {
                return Err(Corrupted::new(
                    "a ring's new region is not the one that was linked",
                ));
            }
        }
        // Before the message is there: a death in between leaves a token too many and not one too few.
        if self.is_polled(Event::Message) {
            if let Err(error) = self.tell(Event::Message) {
                return Ok(Put::Untold(error.raw_os_error().unwrap_or_default()));
            }
        }
        self.write_record(tail, &current, header, message)?;
        let next = tail.after_message(need);
        put.pass_to(passed.and(next, block_bytes));
        fault::point("ring.put.written");
        // Release: the commit. Pairs with the Acquire loads of the position in `get`.
        put.position.store(next.bits(), Release);
        fault::point("ring.put.committed");
        Ok(Put::Done)
    }

    /// Puts under a lock that the test holds.
    #[cfg(test)]
    pub(super) fn put_inside(&self, message: &Outgoing<'_>) {
        self.body.closed.store(0, Relaxed);
        assert_eq!(self.put_locked(message, &mut None), Ok(Put::Done));
        self.body.closed.store(1, Release);
    }

    #[inline(always)]
    fn fits(&self, tail: Position, region: &Region, need: u64) -> bool {
        let put = &self.body.put;
        let room = |head: u64| {
            used(tail, Position::from_bits(head), region) + need + LINK_BYTES <= region.capacity()
        };
        if room(put.peer.load(Relaxed)) {
            return true;
        }
        // Acquire pairs with the Release of a consumer's commit: its bytes are read before they are reused.
        let head = self.body.get.position.load(Acquire);
        put.peer.store(head, Relaxed);
        room(head)
    }

    /// Chains a larger region: the link and everything after it lie in the new one.
    fn link(
        &self,
        tail: Position,
        region: &Region,
        block: BlockRef,
    ) -> Result<Position, Corrupted> {
        let header = Header {
            kind: LINK,
            blocks: 1,
            ..Header::default()
        };
        region.write_header(tail, header);
        region.write(tail, HEADER as u64, &block.to_bytes());
        if !self
            .blocks
            .bind(block, self.index, tail.place(), self.blocks.me)?
        {
            return Err(Corrupted::new("a ring's new region changed hands"));
        }
        let next = tail.after_link(LINK_BYTES);
        let words = self
            .body
            .put
            .region
            .get(next.region_index())
            .ok_or(Corrupted::new("no such region"))?;
        words.set(block, next.bytes());
        fault::point("ring.put.linked");
        self.body.put.position.store(next.bits(), Release); // the commit, as in `put_locked`
        Ok(next)
    }

    #[inline(always)]
    fn write_record(
        &self,
        tail: Position,
        region: &Region,
        header: Header,
        message: &Outgoing<'_>,
    ) -> Result<(), Corrupted> {
        region.write_header(tail, header);
        let mut skip = HEADER as u64;
        for block in message.blocks {
            region.write(tail, skip, &block.to_bytes());
            skip += BlockRef::SIZE as u64;
        }
        for handle in message.handles {
            let word = u64::from(handle.index) | (u64::from(handle.generation) << 32);
            region.write(tail, skip, &word.to_le_bytes());
            skip += Handle::RECORD_SIZE as u64;
        }
        region.write(tail, skip, message.payload);
        // After the record names them: who repairs this side finds them through it.
        for block in message.blocks {
            fault::point("ring.put.binding");
            if !self
                .blocks
                .bind(*block, self.index, tail.place(), self.blocks.me)?
            {
                return Err(Corrupted::new(
                    "a block changed hands while it was being sent",
                ));
            }
        }
        Ok(())
    }

    /// Repairs what a dead producer left: a record that was never committed may have bound blocks.
    #[inline(always)]
    pub(crate) fn repaired_put(
        &self,
        locked: Locked<'static>,
    ) -> Result<Guard<'static>, Corrupted> {
        match locked {
            Locked::Clean(guard) => Ok(guard),
            Locked::OwnerDied(guard) => {
                self.repair_put()?;
                guard.repaired();
                self.items_bell().ring_all(); // its wake-up may have died with it
                Ok(guard)
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn repair_put(&self) -> Result<(), Corrupted> {
        let tail = Position::from_bits(self.body.put.position.load(Relaxed)); // under the lock
        let region = self.region(&self.body.put, tail)?;
        let header = region.header(tail)?; // half-written or from the last lap: believed in nothing
        for n in 0..usize::from(header.blocks) {
            let block = region.block(tail, n)?;
            self.blocks.free_if_bound(block, self.index, tail.place());
        }
        Ok(())
    }
}

/// Bytes of a region that are taken, seen from its producers.
pub(super) fn used(tail: Position, head: Position, region: &Region) -> u64 {
    // Consumers in an earlier region have taken nothing from this one.
    let from = if head.epoch() == tail.epoch() {
        head.bytes()
    } else {
        region.start()
    };
    tail.since(from)
}

/// Bytes of the next region. Half of all epochs ahead of the consumers, regions double without a limit: the
/// heap is full long before a region could bear the epoch that the consumers are still in.
fn next_capacity(capacity: u64, need: u64, regions_ahead: u64) -> u64 {
    let largest = if regions_ahead < MANY_REGIONS {
        LARGEST
    } else {
        MOST as u64
    };
    let doubled = (capacity * 2).min(largest);
    doubled.max((need + LINK_BYTES).next_power_of_two() * 2)
}
