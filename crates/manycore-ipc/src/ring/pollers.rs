//! Processes that wait for a ring outside the engine, in `select` and its kin.
//!
//! Each has a socket, to which a *token* is sent before that which it waits for is committed: when there is a
//! message, or room, there is a token, whoever dies. All of it happens under the lock of the side that makes it
//! true, so there is no race to think about; it costs one load where nobody polls, in the lock's own cache line.

use std::io;
use std::sync::atomic::Ordering::{Relaxed, Release};

use manycore_os::token::{self, Sent};

use super::layout::Side;
use super::outgoing::PutError;
use super::region::Ring;
use crate::block::BlockRef;
use crate::error::Corrupted;
use crate::fault;
use crate::registry::OwnerId;
use crate::wait::Patience;
use crate::word::Word64;

/// What a process waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// That there is a message, or that there will be none: the ring is closed.
    Message,
    /// That there is room for any message, or that there will be none; and, where there was not, that a message
    /// has been taken.
    Room,
}

/// A socket that is to be sent a token: whose, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poller {
    owner: OwnerId,
    number: u32,
}

/// Processes that can wait for one event of a ring; one more makes all of them look.
const MOST: usize = 256;
/// Bytes of a ring's pollers: a word for each, for both events.
const BYTES: u64 = 2 * MOST as u64 * 8;

impl Poller {
    /// Socket `number` of a process. Numbers are not used again.
    #[must_use]
    pub fn new(owner: OwnerId, number: u32) -> Self {
        Self { owner, number }
    }

    /// The name of its socket.
    #[must_use]
    pub fn name(self, family: u64) -> String {
        format!(
            "manycore-{family:x}-{:x}-{:x}",
            self.owner.bits(),
            self.number
        )
    }

    fn encode(self) -> u64 {
        u64::from(self.owner.bits()) | u64::from(self.number) << 32
    }

    fn decode(word: u64) -> Self {
        Self::new(OwnerId::from_bits(word as u32), (word >> 32) as u32)
    }
}

impl Ring {
    /// Asks for a token when there is a message, or room; whether there is now, in which case none may come.
    ///
    /// # Errors
    /// When there is no memory for it, or the ring's bytes make no sense.
    pub fn arm(
        &self,
        event: Event,
        poller: Poller,
        patience: &mut Patience<'_>,
    ) -> Result<bool, PutError> {
        self.prepare_pollers(patience)?;
        let side = self.side_of(event);
        let locked = self.lock(side, &mut patience.for_lock())?;
        let _guard = match event {
            Event::Message => self.repaired_put(locked)?,
            Event::Room => self.repaired_get(locked)?,
        };
        self.note(event, poller)?;
        Ok(match event {
            Event::Message => !self.is_empty() || self.end()?.is_some(),
            Event::Room => self.takes_anything() || self.is_closed(),
        })
    }

    fn note(&self, event: Event, poller: Poller) -> Result<(), PutError> {
        let word = poller.encode();
        let free = |n: usize| {
            let found = self.poller(event, n)?.load(Relaxed); // under the lock, as all of these
            Ok::<_, Corrupted>(found == 0 || found == word)
        };
        let mut n = 0;
        while n < MOST && !free(n)? {
            n += 1;
        }
        if n == MOST {
            // Who looks for nothing asks again.
            let told = self.tell(event);
            told.map_err(|error| PutError::Untold(error.raw_os_error().unwrap_or_default()))?;
            n = 0;
        }
        self.poller(event, n)?.store(word, Relaxed);
        fault::point("poller.noted");
        let polled = &self.side_of(event).polled;
        let most = polled.load(Relaxed).max(n as u32 + 1);
        polled.store(most, Relaxed);
        Ok(())
    }

    /// Sends the tokens that were asked for. Under the lock of the event's side, before the event is made true.
    ///
    /// # Errors
    /// When the system refuses it: then the event must not happen.
    #[cold]
    pub(super) fn tell(&self, event: Event) -> io::Result<()> {
        let polled = &self.side_of(event).polled;
        let most = MOST.min(polled.load(Relaxed) as usize);
        let family = self.blocks.heap.header().family();
        let from = token::sender()?;
        for n in 0..most {
            let Ok(word) = self.poller(event, n) else {
                break; // scribbled on: who is not told looks for itself, or waits
            };
            let asked = word.load(Relaxed);
            if asked != 0 {
                let name = Poller::decode(asked).name(family);
                let (Sent::Arrived | Sent::Nowhere) = token::send(&from, name.as_bytes())?;
                fault::point("poller.told");
                word.store(0, Relaxed);
            }
        }
        polled.store(0, Relaxed);
        Ok(())
    }

    pub(super) fn tell_if_polled(&self, event: Event) {
        if self.is_polled(event) {
            let _ = self.tell(event); // who cannot be told now finds out when it looks
        }
    }

    #[inline]
    pub(super) fn is_polled(&self, event: Event) -> bool {
        self.side_of(event).polled.load(Relaxed) != 0
    }

    fn side_of(&self, event: Event) -> &'static Side {
        match event {
            Event::Message => &self.body.put,
            Event::Room => &self.body.get,
        }
    }

    /// The block that the pollers are in, if there is one.
    fn pollers(&self) -> Option<BlockRef> {
        let [page, generation] = &self.body.pollers;
        let block = BlockRef {
            page: page.load(Relaxed).checked_sub(1)? as u32,
            len: BYTES,
            generation: generation.load(Relaxed),
        };
        self.blocks
            .is_lent(block, self.index, u64::MAX)
            .then_some(block)
    }

    fn poller(&self, event: Event, n: usize) -> Result<&'static Word64, Corrupted> {
        let block = self.pollers();
        let block = block.ok_or(Corrupted::new("the pollers of a ring are not its own"))?;
        let n = if event == Event::Message { n } else { MOST + n };
        let bytes = self.blocks.bytes(block)?;
        self.blocks
            .heap
            .at(bytes.offset() + n * size_of::<Word64>())
    }

    fn prepare_pollers(&self, patience: &mut Patience<'_>) -> Result<(), PutError> {
        if self.pollers().is_some() {
            return Ok(());
        }
        let taken = self.blocks.take(BYTES)?;
        let block = BlockRef {
            len: BYTES,
            ..taken.block
        };
        self.blocks.bytes(block)?.clear(); // before the lock: no page is touched for the first time under it
        let outcome = self.name_pollers(block, patience);
        if outcome != Ok(true) {
            self.blocks.free(block);
        }
        outcome.map(drop)
    }

    /// Makes a block that of the pollers; `false` if there is one already.
    fn name_pollers(&self, block: BlockRef, patience: &mut Patience<'_>) -> Result<bool, PutError> {
        let locked = self.lock(&self.body.put, &mut patience.for_lock())?;
        let _guard = self.repaired_put(locked)?;
        if self.pollers().is_some() {
            return Ok(false);
        }
        // Named before it is bound: a bound block is found through these words. Half written they name a
        // block that is not bound here.
        let [page, generation] = &self.body.pollers;
        generation.store(block.generation, Relaxed);
        page.store(u64::from(block.page) + 1, Release); // pairs with nothing: whoever reads checks the block
        fault::point("poller.named");
        let nobody = OwnerId::NOBODY;
        if self.blocks.bind(block, self.index, u64::MAX, nobody)? {
            Ok(true)
        } else {
            Err(Corrupted::new("the block of a ring's pollers changed hands").into())
        }
    }

    /// Whether anybody has ever polled the ring.
    #[cfg(test)]
    pub(crate) fn has_pollers(&self) -> bool {
        self.pollers().is_some()
    }

    /// Frees what the pollers are in. For a ring that nobody holds any more.
    pub(super) fn free_pollers(&self) {
        if let Some(block) = self.pollers() {
            self.blocks
                .free_if_bound_where(block, self.index, |place| place == u64::MAX);
        }
    }
}
