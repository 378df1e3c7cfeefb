//! A message as it lies in a region.
//!
//! ```text
//! len:u32 | kind:u8 | blocks:u8 | handles:u16 | tag:u64   (16 bytes)
//! blocks x (page:u64, len:u64, generation:u64)
//! handles x (index:u32, generation:u32)
//! payload, len bytes | padding to 16
//! ```

use super::position::UNIT;
use crate::block::BlockRef;
use crate::error::Corrupted;
use crate::object::Handle;

/// Bytes of a header.
pub const HEADER: usize = 16;
/// The largest payload that travels inside a ring; a larger one goes into a block.
pub const MOST_INLINE: usize = 32 << 10;
/// The most blocks that one message may have.
pub const MOST_BLOCKS: usize = 200;
/// The most handles that one message may have.
pub const MOST_HANDLES: usize = 1000;
/// A record that leads to the next region.
pub const LINK: u8 = 0xff;
/// Bytes of a link: a header, one block, padding. There is always room for one.
pub const LINK_BYTES: u64 = (HEADER + BlockRef::SIZE).next_multiple_of(UNIT as usize) as u64;

/// The header of a record. `tag` is the sender's: for a pool it names task and attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload.
    pub len: u32,
    /// What the payload is, for the receiver; [`LINK`] is taken.
    pub kind: u8,
    /// How many blocks belong to it.
    pub blocks: u8,
    /// How many handles are in it.
    pub handles: u16,
    /// The sender's.
    pub tag: u64,
}

impl Header {
    /// As stored.
    #[inline]
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER] {
        let word = u64::from(self.len)
            | (u64::from(self.kind) << 32)
            | (u64::from(self.blocks) << 40)
            | (u64::from(self.handles) << 48);
        (u128::from(word) | (u128::from(self.tag) << 64)).to_le_bytes()
    }

    /// From stored bytes; [`Header::check`] says whether it can be true.
    #[inline]
    #[must_use]
    pub fn from_bytes(bytes: [u8; HEADER]) -> Self {
        let both = u128::from_le_bytes(bytes);
        let word = both as u64;
        Self {
            len: word as u32,
            kind: (word >> 32) as u8,
            blocks: (word >> 40) as u8,
            handles: (word >> 48) as u16,
            tag: (both >> 64) as u64,
        }
    }

    /// Where the payload begins in the record.
    #[inline]
    #[must_use]
    pub fn payload_at(&self) -> u64 {
        (HEADER
            + usize::from(self.blocks) * BlockRef::SIZE
            + usize::from(self.handles) * Handle::RECORD_SIZE) as u64
    }

    /// Bytes of the whole record.
    #[inline]
    #[must_use]
    pub fn record_len(&self) -> u64 {
        (self.payload_at() + u64::from(self.len)).next_multiple_of(UNIT)
    }

    /// Whether a record with this header can lie where `available` bytes were committed.
    ///
    /// # Errors
    /// When it cannot.
    #[inline]
    pub fn check(self, available: u64) -> Result<Self, Corrupted> {
        let sane = self.len as usize <= MOST_INLINE
            && usize::from(self.blocks) <= MOST_BLOCKS
            && usize::from(self.handles) <= MOST_HANDLES
            && self.record_len() <= available;
        if sane {
            Ok(self)
        } else {
            Err(Corrupted::new("a record's header makes no sense"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_its_bytes() {
        let header = Header {
            len: 32768,
            kind: 7,
            blocks: 200,
            handles: 1000,
            tag: u64::MAX,
        };
        assert_eq!(Header::from_bytes(header.to_bytes()), header);
        assert_eq!(header.record_len() % UNIT, 0);
    }

    #[test]
    fn a_header_that_claims_too_much_is_refused() {
        let small = Header {
            len: 10,
            ..Header::default()
        };
        assert!(small.check(32).is_ok());
        assert!(small.check(16).is_err());
        assert!(
            Header {
                len: u32::MAX,
                ..small
            }
            .check(u64::MAX)
            .is_err()
        );
        assert!(
            Header {
                blocks: 255,
                ..small
            }
            .check(u64::MAX)
            .is_err()
        );
    }
}
