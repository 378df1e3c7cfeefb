//! How much there is for the consumers. What is committed fits into a region, whatever the words say: else
//! scribbled bytes would lead a consumer round and round.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::layout::Side;
use super::position::Position;
use super::region::{Region, Ring};
use crate::error::Corrupted;
use crate::fault;

/// Where the producers are, seen from the consumers, who are behind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    /// In the same region, this many bytes on.
    Here(u64),
    /// In a later region: they have committed everything in this one.
    Elsewhere,
}

/// In `left_at`, where places have no bits: that there is one.
const NOTED: u64 = 1;

impl Ring {
    /// How far the producers are from `head`, `None` if they are not.
    #[inline]
    pub(super) fn ahead(&self, head: Position) -> Option<Ahead> {
        let peer = &self.body.get.peer;
        let mut tail = Position::from_bits(peer.load(Relaxed)); // under the lock
        if tail.is_at(head) {
            // Acquire pairs with the Release of a producer's commit.
            tail = Position::from_bits(self.body.put.position.load(Acquire));
            peer.store(tail.bits(), Relaxed);
            self.note_depth(head, tail);
        }
        if tail.is_at(head) {
            return None;
        }
        Some(if tail.epoch() == head.epoch() {
            Ahead::Here(tail.since(head.bytes()))
        } else {
            Ahead::Elsewhere
        })
    }

    /// Notes how many messages are waiting, if it is the most so far. Under the lock.
    fn note_depth(&self, head: Position, tail: Position) {
        let Side {
            count, position, ..
        } = &self.body.put;
        let put = count[tail.parity()].load(Acquire); // as in `Side::passed`
        if position.load(Relaxed) != tail.bits() {
            return; // the counter may be that of a later message; the next look will tell
        }
        let waiting = put.wrapping_sub(self.body.get.passed(head).messages);
        let most = &self.body.get.noted;
        if waiting > most.load(Relaxed) {
            most.store(waiting, Relaxed);
        }
    }

    /// Bytes that are committed from `head` on in its region.
    #[inline]
    pub(super) fn available(
        &self,
        head: Position,
        ahead: Ahead,
        region: &Region,
    ) -> Result<u64, Corrupted> {
        match ahead {
            Ahead::Here(bytes) if bytes <= region.capacity() => Ok(bytes),
            Ahead::Here(_) => Err(Corrupted::new("a ring has more in it than it can hold")),
            Ahead::Elsewhere => self.left_over(head, region),
        }
    }

    /// The same in a region that the producers have left: at most a lap from where that was found out, so
    /// that scribbled bytes do not lead round and round.
    fn left_over(&self, head: Position, region: &Region) -> Result<u64, Corrupted> {
        let left_at = &self.body.get.left_at;
        let noted = left_at.load(Relaxed); // under the lock, as all of this
        let from = Position::from_bits(noted);
        if noted & NOTED == 0 || from.epoch() != head.epoch() {
            left_at.store(head.place() | NOTED, Relaxed);
            fault::point("ring.get.noted");
            return Ok(region.capacity());
        }
        region
            .capacity()
            .checked_sub(head.since(from.bytes()))
            .ok_or(Corrupted::new("a region of a ring does not end"))
    }
}
