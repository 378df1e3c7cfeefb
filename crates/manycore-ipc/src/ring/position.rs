//! One word that says how far a side of a ring is.
//!
//! `epoch:16 | bytes:44 (in units of 16) | spare:3 | parity:1`
//!
//! The *epoch* counts regions: it tells which of the two region descriptors of that side counts. The
//! *parity* flips with every message: it tells which of the two message counters counts. So one store
//! of this word commits a message, a counter and a region together; whatever was written for it before
//! that store is invisible.

const EPOCH_SHIFT: u32 = 48;
const BYTES: u64 = ((1 << EPOCH_SHIFT) - 1) & !0xf;
const PARITY: u64 = 1;
const EPOCHS: u64 = 0xffff;
/// Records and positions are multiples of this.
pub const UNIT: u64 = 16;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(u64);

impl Position {
    /// From a shared word.
    #[inline]
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// For a shared word.
    #[inline]
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Which region.
    #[inline]
    #[must_use]
    pub fn epoch(self) -> u64 {
        self.0 >> EPOCH_SHIFT
    }

    /// Which of the two region descriptors.
    #[inline]
    #[must_use]
    pub fn region_index(self) -> usize {
        (self.epoch() & 1) as usize
    }

    /// Bytes since the ring was made, modulo 2^48.
    #[inline]
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0 & BYTES
    }

    /// Which of the two counters.
    #[inline]
    #[must_use]
    pub fn parity(self) -> usize {
        (self.0 & PARITY) as usize
    }

    /// Whether both are at the same place: nothing lies between them.
    #[inline]
    #[must_use]
    pub fn is_at(self, other: Self) -> bool {
        (self.0 ^ other.0) & !0xf == 0
    }

    /// The place, without the parity: a name for one record of this ring.
    #[inline]
    #[must_use]
    pub fn place(self) -> u64 {
        self.0 & !0xf
    }

    /// Bytes from `earlier` to here, in the same region.
    #[inline]
    #[must_use]
    pub fn since(self, earlier: u64) -> u64 {
        self.bytes().wrapping_sub(earlier) & BYTES
    }

    /// After one more message of this many bytes.
    #[inline]
    #[must_use]
    pub fn after_message(self, bytes: u64) -> Self {
        let moved = self.bytes().wrapping_add(bytes) & BYTES;
        Self((self.0 & !(BYTES | 0xf)) | moved | ((self.0 & PARITY) ^ PARITY))
    }

    /// A place in the region before this one's: where the link to this region would lie.
    #[inline]
    #[must_use]
    pub fn before_region(self) -> u64 {
        let epoch = self.epoch().wrapping_sub(1) << EPOCH_SHIFT; // wraps by itself
        epoch | self.bytes()
    }

    /// The epoch that the link to the region before this one's lies in.
    #[inline]
    #[must_use]
    pub fn epoch_before_last(self) -> u64 {
        self.epoch().wrapping_sub(2) & EPOCHS
    }

    /// How many regions further this is than `earlier`.
    #[inline]
    #[must_use]
    pub fn regions_since(self, earlier: Self) -> u64 {
        self.epoch().wrapping_sub(earlier.epoch()) & EPOCHS
    }

    /// After a link of this many bytes: the first place of the next region.
    #[inline]
    #[must_use]
    pub fn after_link(self, bytes: u64) -> Self {
        let moved = self.bytes().wrapping_add(bytes) & BYTES;
        let epoch = (self.epoch() + 1) << EPOCH_SHIFT; // wraps by itself
        Self(epoch | moved | (self.0 & PARITY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_moves_the_bytes_and_flips_the_parity() {
        let start = Position::from_bits(0);
        let next = start.after_message(48);
        assert_eq!((next.epoch(), next.bytes(), next.parity()), (0, 48, 1));
        assert_eq!(next.since(start.bytes()), 48);
        assert!(!next.is_at(start));
        assert_eq!(next.after_message(16).parity(), 0);
    }

    #[test]
    fn a_link_starts_the_next_region_and_keeps_the_parity() {
        let here = Position::from_bits(0).after_message(16);
        let next = here.after_link(32);
        assert_eq!((next.epoch(), next.bytes(), next.parity()), (1, 48, 1));
        assert_eq!(next.region_index(), 1);
    }

    #[test]
    fn the_region_before_the_first_is_the_last() {
        let start = Position::from_bits(0).after_message(64);
        assert_eq!(Position::from_bits(start.before_region()).epoch(), 0xffff);
        assert_eq!(
            Position::from_bits(start.after_link(32).before_region()).epoch(),
            0
        );
        assert_ne!(start.before_region(), u64::MAX);
    }

    #[test]
    fn everything_wraps() {
        let last = Position::from_bits((0xffff << EPOCH_SHIFT) | BYTES);
        assert_eq!(last.after_message(16).bytes(), 0);
        assert_eq!(last.after_message(32).since(last.bytes()), 32);
        assert_eq!(last.after_link(16).epoch(), 0);
    }
}
