//! What has passed a side of a ring: counters that are committed together with its position.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::layout::Side;
use super::position::Position;
use super::region::Ring;

/// Volumes are counted modulo 2^48, as bytes are in positions.
const VOLUMES: u64 = (1 << 48) - 1;

/// What has passed a side when it was at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) at: Position,
    pub(crate) messages: u64,
    /// Bytes of their blocks.
    pub(crate) block_bytes: u64,
}

impl Passed {
    /// Bytes of all messages, records and blocks, modulo 2^48.
    pub(crate) fn volume(&self) -> u64 {
        self.at.bytes().wrapping_add(self.block_bytes) & VOLUMES
    }

    /// After one more message, whose record ends at `next`.
    pub(crate) fn and(self, next: Position, block_bytes: u64) -> Self {
        Self {
            at: next,
            messages: self.messages.wrapping_add(1),
            block_bytes: self.block_bytes.wrapping_add(block_bytes),
        }
    }
}

/// Bytes from one volume to a later one.
pub(crate) fn volume_since(later: u64, earlier: u64) -> u64 {
    later.wrapping_sub(earlier) & VOLUMES
}

impl Side {
    /// What has passed this side, which is at this position.
    #[inline]
    pub(crate) fn passed(&self, at: Position) -> Passed {
        // Acquire pairs with the Release in `pass_to`, so that `passed_of` sees the position that came
        // before the counters were used again.
        Passed {
            at,
            messages: self.count[at.parity()].load(Acquire),
            block_bytes: self.block_bytes[at.parity()].load(Acquire),
        }
    }

    /// Says what has passed once the position is `next.at`.
    #[inline]
    pub(crate) fn pass_to(&self, next: Passed) {
        let parity = next.at.parity();
        self.count[parity].store(next.messages, Release);
        let block_bytes = &self.block_bytes[parity];
        // Relaxed: only changed under this side's lock. Most messages have no blocks; what is not written to
        // stays in the caches of all who read it.
        if block_bytes.load(Relaxed) != next.block_bytes {
            block_bytes.store(next.block_bytes, Release);
        }
    }
}

impl Ring {
    /// What has passed a side, at some moment during the call.
    pub(crate) fn passed_of(&self, side: &Side) -> Passed {
        let mut seen = side.position.load(Acquire); // pairs with the Release of a commit
        for _ in 0..100 {
            let passed = side.passed(Position::from_bits(seen));
            // A counter is rewritten only after the position has moved on: unchanged means true.
            let again = side.position.load(Acquire);
            if again == seen {
                return passed;
            }
            seen = again;
        }
        side.passed(Position::from_bits(seen)) // busy: off by one message at most
    }

    /// How many messages have been taken out so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.passed_of(&self.body.get).messages
    }

    /// How many messages are in the ring, at some moment during the call.
    #[must_use]
    pub fn len(&self) -> u64 {
        // The consumers' side first: it can only be behind then, so the difference is never negative.
        let got = self.passed_of(&self.body.get).messages;
        let put = self.passed_of(&self.body.put).messages;
        put.saturating_sub(got)
    }
}
