//! How much a ring may hold: messages, and bytes.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::outgoing::PutError;
use super::passed::{Passed, volume_since};
use super::position::Position;
use super::record::LINK_BYTES;
use super::region::Ring;
use crate::error::Corrupted;

impl Ring {
    /// Whether a bounded ring was full at some moment during the call.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let (messages, bytes) = (self.max_messages(), self.max_bytes());
        (messages != 0 && self.len() >= messages) || (bytes != 0 && self.bytes() >= bytes)
    }

    /// Whether any message would be put now. A ring that is bounded by bytes has to be empty for that.
    #[must_use]
    pub fn takes_anything(&self) -> bool {
        self.bytes() == 0 || (self.max_bytes() == 0 && !self.is_full())
    }

    /// The most messages at a time; zero for any number.
    #[must_use]
    pub fn max_messages(&self) -> u64 {
        self.body.max_messages.load(Relaxed) // set once, as the next
    }

    /// The most bytes of messages at a time; zero for any number.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.body.max_bytes.load(Relaxed)
    }

    /// Bytes that the messages in the ring take, at some moment during the call.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let got = self.passed_of(&self.body.get); // first, as in `len`
        let put = self.passed_of(&self.body.put);
        if put.messages == got.messages {
            return 0; // a link is no message
        }
        volume_since(put.volume(), got.volume())
    }

    /// Whether a message that takes so many bytes is one too many. Under the producers' lock.
    #[inline]
    pub(super) fn is_over_limit(&self, passed: Passed, bytes: u64) -> Result<bool, Corrupted> {
        if self.max_messages() == 0 && self.max_bytes() == 0 {
            return Ok(false);
        }
        self.is_over_limits(passed, bytes)
    }

    fn is_over_limits(&self, passed: Passed, bytes: u64) -> Result<bool, Corrupted> {
        let (most, most_bytes) = (self.max_messages(), self.max_bytes());
        // As far as this side knew last time; it can only have become truer.
        let put = &self.body.put;
        let inside = passed.messages.wrapping_sub(put.peer_count.load(Relaxed));
        let bytes_inside = volume_since(passed.volume(), put.noted.load(Relaxed));
        if (most == 0 || inside < most) && (most_bytes == 0 || bytes_inside + bytes <= most_bytes) {
            return Ok(false);
        }
        let got = self.passed_of(&self.body.get);
        put.peer_count.store(got.messages, Relaxed);
        put.noted.store(got.volume(), Relaxed);
        if got.messages > passed.messages {
            // `has_room` would not see it, and who waits for room would look for ever.
            return Err(Corrupted::new("more was taken out of a ring than put in"));
        }
        Ok(self.exceeds(passed, got, bytes))
    }

    fn exceeds(&self, put: Passed, got: Passed, bytes: u64) -> bool {
        let inside = put.messages.saturating_sub(got.messages);
        let bytes_inside = volume_since(put.volume(), got.volume());
        let (most, most_bytes) = (self.max_messages(), self.max_bytes());
        (most != 0 && inside >= most)
            || (most_bytes != 0 && inside != 0 && bytes_inside + bytes > most_bytes)
    }

    /// Whether a message seems to fit now: `need` bytes of record, `bytes` with its blocks. A ring that grows
    /// makes room itself.
    pub(super) fn has_room(&self, need: u64, bytes: u64) -> bool {
        let got = self.passed_of(&self.body.get); // first, as in `len`
        let put = self.passed_of(&self.body.put);
        !self.exceeds(put, got, bytes)
            && (self.body.grows.load(Relaxed) != 0 || self.has_space_for(need))
    }

    fn has_space_for(&self, need: u64) -> bool {
        let put = &self.body.put;
        let tail = Position::from_bits(put.position.load(Acquire));
        let head = Position::from_bits(self.body.get.position.load(Acquire));
        self.region(put, tail).is_ok_and(|region| {
            super::put::used(tail, head, &region) + need + LINK_BYTES <= region.capacity()
        })
    }

    /// Whether a message fits at all, however long one waits.
    pub(super) fn check_capacity(&self, need: u64) -> Result<(), PutError> {
        if self.body.grows.load(Relaxed) != 0 {
            return Ok(()); // full by number
        }
        let tail = Position::from_bits(self.body.put.position.load(Acquire));
        let max = self.region(&self.body.put, tail)?.capacity() - LINK_BYTES; // at least that, see `region`
        if need <= max {
            Ok(())
        } else {
            Err(PutError::TooLarge { len: need, max })
        }
    }
}
