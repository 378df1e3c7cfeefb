//! A key and its value as they lie in a table.
//!
//! ```text
//! hash:u64 | serial:u64 | key:u32 | len:u32 | kind:u8 | blocks:u8 | handles:u16 | spare:u32   (32 bytes)
//! blocks x (page:u64, len:u64, generation:u64)
//! handles x (index:u32, generation:u32)
//! key | payload, len bytes | padding to 8
//! ```

use crate::block::BlockRef;
use crate::object::Handle;
use crate::ring::Outgoing;
use crate::ring::record::{MOST_BLOCKS, MOST_HANDLES, MOST_INLINE};

/// Bytes of a header.
pub(super) const HEADER: usize = 32;
/// Records begin at multiples of this.
pub(super) const UNIT: u64 = 8;
/// The longest key.
pub const MOST_KEY: usize = 32 << 10;

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) hash: u64,
    /// Which of the stripe's records.
    pub(super) serial: u64,
    /// Bytes of the key.
    pub(super) key: u32,
    /// Bytes of the payload.
    pub(super) len: u32,
    /// What the payload is, for the receiver.
    pub(super) kind: u8,
    pub(super) blocks: u8,
    pub(super) handles: u16,
}

impl Record {
    pub(super) fn new(hash: u64, serial: u64, key: &[u8], value: &Outgoing<'_>) -> Self {
        Self {
            hash,
            serial,
            key: key.len() as u32, // all within their limits, as was checked before
            len: value.payload.len() as u32,
            kind: value.kind,
            blocks: value.blocks.len() as u8,
            handles: value.handles.len() as u16,
        }
    }

    #[inline]
    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let sizes = u64::from(self.key) | (u64::from(self.len) << 32);
        let rest =
            u64::from(self.kind) | (u64::from(self.blocks) << 8) | (u64::from(self.handles) << 16);
        let mut bytes = [0; HEADER];
        let words = [self.hash, self.serial, sizes, rest];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    #[inline]
    pub(super) fn from_bytes(bytes: [u8; HEADER]) -> Self {
        let word = |n: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[n * 8..][..8]);
            u64::from_le_bytes(word)
        };
        let (sizes, rest) = (word(2), word(3));
        Self {
            hash: word(0),
            serial: word(1),
            key: sizes as u32,
            len: (sizes >> 32) as u32,
            kind: rest as u8,
            blocks: (rest >> 8) as u8,
            handles: (rest >> 16) as u16,
        }
    }

    /// Whether its counts are within their limits.
    pub(super) fn is_sane(&self) -> bool {
        self.key as usize <= MOST_KEY
            && self.len as usize <= MOST_INLINE
            && usize::from(self.blocks) <= MOST_BLOCKS
            && usize::from(self.handles) <= MOST_HANDLES
    }

    /// Where its handles begin.
    pub(super) fn handles_at(&self) -> u64 {
        (HEADER + usize::from(self.blocks) * BlockRef::SIZE) as u64
    }

    /// Where its key begins.
    #[inline]
    pub(super) fn key_at(&self) -> u64 {
        self.handles_at() + u64::from(self.handles) * Handle::RECORD_SIZE as u64
    }

    /// Where its payload begins.
    #[inline]
    pub(super) fn payload_at(&self) -> u64 {
        self.key_at() + u64::from(self.key)
    }

    /// Bytes of all of it.
    #[inline]
    pub(super) fn total(&self) -> u64 {
        (self.payload_at() + u64::from(self.len)).next_multiple_of(UNIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_bytes() {
        let record = Record {
            hash: u64::MAX,
            serial: 1 << 40,
            key: 7,
            len: 32768,
            kind: 3,
            blocks: 200,
            handles: 1000,
        };
        assert_eq!(Record::from_bytes(record.to_bytes()), record);
        assert!(record.is_sane());
        assert_eq!(record.total() % UNIT, 0);
        let too_long = Record {
            key: u32::MAX,
            ..record
        };
        assert!(!too_long.is_sane());
    }
}
