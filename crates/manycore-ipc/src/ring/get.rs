//! The consumers' side of a ring.

mod repair;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manycore_os::cache;

use super::ahead::Ahead;
use super::pollers::Event;
use super::position::Position;
use super::record::{HEADER, Header, LINK, LINK_BYTES};
use super::region::{Region, Ring};
use crate::block::{BlockRef, State};
use crate::error::Corrupted;
use crate::fault;
use crate::object::Handle;
use crate::object::group::{Row, Taking};
use crate::wait::{GaveUp, Patience, Waited};

/// A message that was received. Its blocks are held by this process; free each when it is not needed.
#[derive(Debug, Default)]
pub struct Message {
    /// What was said about it.
    pub header: Header,
    /// The payload.
    pub payload: Vec<u8>,
    /// Blocks that belong to it.
    pub blocks: Vec<BlockRef>,
    /// Index and generation of the handles in it. They count as in flight until
    /// [`Family::receive`](crate::Family::receive) has taken them over.
    pub handles: Vec<(u32, u32)>,
    /// Whether a region was freed on the way to it.
    pub left_region: bool,
}

impl Message {
    pub(crate) fn clear(&mut self) {
        self.left_region = false;
        self.payload.clear();
        self.blocks.clear();
        self.handles.clear();
    }
}

/// How an attempt to get ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Get {
    /// The message was received.
    Done,
    /// There is none.
    Empty,
    /// Another thread holds the lock.
    Busy,
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum GetError {
    /// The deadline passed while the ring was empty.
    #[error("the queue stayed empty until the deadline")]
    Empty,
    /// The caller's tick ended the wait.
    #[error("the wait was interrupted")]
    Interrupted,
    /// The ring is closed and empty.
    #[error("the queue is closed and empty")]
    Closed,
    /// The ring is empty, and all that produced for it have closed or died.
    #[error("the queue is empty, and all of its producers have closed or died")]
    Ended,
    /// See [`Corrupted`].
    #[error(transparent)]
    Corrupted(#[from] Corrupted),
}

impl From<GaveUp> for GetError {
    fn from(gave_up: GaveUp) -> Self {
        match gave_up {
            GaveUp::TimedOut => Self::Empty,
            GaveUp::Interrupted => Self::Interrupted,
        }
    }
}

impl Ring {
    /// Gets a message if there is one and that needs no sleep.
    ///
    /// # Errors
    /// When the ring's bytes make no sense.
    #[inline(always)] // as `try_put`
    pub fn try_get(&self, into: &mut Message, row: Option<&Row>) -> Result<Get, Corrupted> {
        if self.seems_empty() {
            return Ok(Get::Empty); // without the lock: an idle consumer disturbs nobody
        }
        let Some(locked) = self.body.get.lock.try_lock() else {
            return Ok(Get::Busy);
        };
        let guard = self.repaired_get(locked)?;
        let outcome = self.get_locked(into, row);
        guard.release();
        if outcome == Ok(Get::Done) {
            self.after_get();
        }
        if into.left_region {
            let _ = self.blocks.trim(); // the message is taken; a damaged table shows again at the next block
        }
        outcome
    }

    /// Asks for what the next message is taken with, so that it is there by then: see [`cache`].
    #[inline]
    pub fn foresee_get(&self) {
        cache::fetch_to_write(&self.body.get.lock);
    }

    /// Gets a message if there is one and nothing stands in the way; [`Ring::get`] says what does.
    #[inline(always)]
    pub fn get_at_once(&self, into: &mut Message, row: Option<&Row>) -> bool {
        matches!(self.try_get(into, row), Ok(Get::Done))
    }

    /// Gets a message, waiting for one.
    ///
    /// # Errors
    /// Why there is none.
    pub fn get(
        &self,
        into: &mut Message,
        row: Option<&Row>,
        patience: &mut Patience<'_>,
    ) -> Result<(), GetError> {
        let mut slept = false;
        loop {
            match self.try_get(into, row)? {
                Get::Done => {
                    if slept && !self.is_empty() {
                        self.announce(); // a burst may have woken only this consumer
                    }
                    return Ok(());
                }
                Get::Empty => slept |= self.wait_for_more(patience)?,
                Get::Busy => {
                    let locked = self.lock(&self.body.get, &mut patience.for_lock())?;
                    drop(self.repaired_get(locked)?);
                }
            }
        }
    }

    /// Waits until a message is there, without taking it.
    ///
    /// # Errors
    /// Why there is none.
    pub fn wait_for_message(&self, patience: &mut Patience<'_>) -> Result<(), GetError> {
        let mut slept = false;
        while self.is_empty() {
            slept |= self.wait_for_more(patience)?;
        }
        if slept {
            self.announce(); // to one who takes it: this wake-up was perhaps the only one
        }
        Ok(())
    }

    /// Waits until there seems to be a message in a ring that was empty; whether it slept.
    fn wait_for_more(&self, patience: &mut Patience<'_>) -> Result<bool, GetError> {
        if let Some(end) = self.end()? {
            // A producer that found the ring open, or was one, may still be about to commit.
            let locked = self.lock(&self.body.put, &mut patience.for_lock())?;
            drop(self.repaired_put(locked)?);
            return if self.is_empty() { Err(end) } else { Ok(false) };
        }
        if self.body.group.load(Relaxed) == 0 {
            let slept = self.items_bell().wait(patience, || self.is_ready())?;
            return Ok(self.count_if(slept));
        }
        let waited = self.body.search.wait(self.items_bell(), patience, self)?;
        self.count_if(waited == Waited::Asleep);
        Ok(true) // also without a sleep others may be asleep, and were not woken
    }

    fn count_if(&self, slept: bool) -> bool {
        if slept {
            self.body.get_sleeps.fetch_add(1, Relaxed); // a count that orders nothing
        }
        slept
    }

    /// Whether there is nothing to get. The producers' position is only looked at when this side has
    /// taken all that it knew of: looking takes their cache line away from them.
    #[inline]
    pub(crate) fn seems_empty(&self) -> bool {
        self.has_taken_all_known() && self.is_empty()
    }

    #[inline(always)]
    pub(super) fn get_locked(
        &self,
        into: &mut Message,
        row: Option<&Row>,
    ) -> Result<Get, Corrupted> {
        into.clear();
        let get = &self.body.get;
        let mut head = Position::from_bits(get.position.load(Relaxed)); // only changed under this lock
        let (region, header) = loop {
            let Some(ahead) = self.ahead(head) else {
                return Ok(Get::Empty);
            };
            let region = self.region(get, head)?;
            let available = self.available(head, ahead, &region)?;
            let header = region.header(head)?;
            if header.kind != LINK {
                break (region, header.check(available)?);
            }
            if ahead != Ahead::Elsewhere || available < LINK_BYTES {
                return Err(Corrupted::new("a ring's last region leads to another one"));
            }
            head = self.follow(head, &region)?;
            into.left_region = true;
        };
        self.copy_out(head, &region, header, into)?;
        if let Some(row) = row {
            row.write(Taking {
                tag: header.tag,
                place: head.place(),
            });
        }
        fault::point("ring.get.copied");
        self.tell_if_polled(Event::Room);
        let next = head.after_message(header.record_len());
        let block_bytes = into.blocks.iter().map(|block| block.len); // checked by `claim`
        get.pass_to(get.passed(head).and(next, block_bytes.sum()));
        // Release: the commit. Pairs with the Acquire in `fits`: the bytes were read before they are reused.
        get.position.store(next.bits(), Release);
        fault::point("ring.get.committed");
        Ok(Get::Done)
    }

    /// Goes over to the next region and frees this one.
    fn follow(&self, head: Position, region: &Region) -> Result<Position, Corrupted> {
        let get = &self.body.get;
        let block = region.block(head, 0)?;
        let old = get
            .region
            .get(head.region_index())
            .ok_or(Corrupted::new("no such region"))?
            .block();
        if !self.blocks.is_lent(block, self.index, head.place()) {
            return Err(Corrupted::new("a link leads to no region of its ring"));
        }
        let next = head.after_link(LINK_BYTES);
        let words = get
            .region
            .get(next.region_index())
            .ok_or(Corrupted::new("no such region"))?;
        words.set(block, next.bytes());
        fault::point("ring.get.linked");
        get.position.store(next.bits(), Release); // the commit, as in `get_locked`
        fault::point("ring.get.followed");
        self.blocks.free(old);
        Ok(next)
    }

    #[inline(always)]
    fn copy_out(
        &self,
        head: Position,
        region: &Region,
        header: Header,
        into: &mut Message,
    ) -> Result<(), Corrupted> {
        into.header = header;
        if header.blocks != 0 || header.handles != 0 {
            self.take_over(head, region, header, into)?;
        }
        let len = header.len as usize;
        region.append(head, header.payload_at(), len, &mut into.payload)
    }

    /// Takes over what belongs to a message beside its payload.
    #[cold]
    fn take_over(
        &self,
        head: Position,
        region: &Region,
        header: Header,
        into: &mut Message,
    ) -> Result<(), Corrupted> {
        for n in 0..usize::from(header.blocks) {
            let block = region.block(head, n)?;
            self.claim(block)?;
            fault::point("ring.get.claimed");
            into.blocks.push(block);
        }
        let handles = HEADER + usize::from(header.blocks) * BlockRef::SIZE;
        for n in 0..usize::from(header.handles) {
            let skip = (handles + n * Handle::RECORD_SIZE) as u64;
            let word = u64::from_le_bytes(region.read(head, skip)?);
            into.handles.push((word as u32, (word >> 32) as u32));
        }
        Ok(())
    }

    /// Takes a block over from its message, or from a consumer that died before it had the message.
    fn claim(&self, block: BlockRef) -> Result<(), Corrupted> {
        if block.len > self.blocks.used_bytes() {
            return Err(Corrupted::new(
                "a message claims more bytes than the heap has",
            ));
        }
        let claimable =
            |run: crate::block::table::Run| matches!(run.state, State::InFlight | State::Held);
        if self
            .blocks
            .change(block, claimable, State::Held, self.blocks.me)?
        {
            Ok(())
        } else {
            Err(Corrupted::new("a message's block is not there"))
        }
    }

    /// What follows a commit, with the lock released.
    #[inline]
    pub(super) fn after_get(&self) {
        let body = self.body;
        // A growing ring without a bound has no sleeping producers.
        if body.grows.load(Relaxed) == 0 || self.max_messages() != 0 || self.max_bytes() != 0 {
            self.offer_space();
        }
    }

    /// Wakes producers once a quarter of the ring is free, so that they wake for more than one message.
    fn offer_space(&self) {
        let bell = self.space_bell();
        if !bell.has_sleepers() {
            return;
        }
        let is_low =
            |now: u64, most: u64| most == 0 || now.saturating_mul(4) <= most.saturating_mul(3);
        // The producers of a growing ring wait for what it may hold only.
        let is_roomy = self.body.grows.load(Relaxed) != 0 || self.has_quarter_free();
        let has_few =
            is_low(self.len(), self.max_messages()) && is_low(self.bytes(), self.max_bytes());
        if self.is_empty() || (has_few && is_roomy) {
            bell.ring_all();
        }
    }

    fn has_quarter_free(&self) -> bool {
        let put = &self.body.put;
        let tail = Position::from_bits(put.position.load(Acquire));
        let head = Position::from_bits(self.body.get.position.load(Acquire));
        self.region(put, tail).is_ok_and(|region| {
            head.epoch() == tail.epoch() && tail.since(head.bytes()) * 4 <= region.capacity() * 3
        })
    }
}
