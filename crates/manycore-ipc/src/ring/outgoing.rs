//! What is put into a ring, and how that ends.

use super::record::{Header, LINK, MOST_BLOCKS, MOST_HANDLES, MOST_INLINE};
use crate::block::BlockRef;
use crate::error::{AllocError, Corrupted};
use crate::object::Handle;
use crate::wait::GaveUp;

/// A message to be put. Its blocks are in state `Filling`, its handles are counted as in flight.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing<'a> {
    /// What the payload is, for the receiver. Not [`LINK`].
    pub kind: u8,
    /// The sender's.
    pub tag: u64,
    /// Blocks that belong to the message.
    pub blocks: &'a [BlockRef],
    /// Handles inside it.
    pub handles: &'a [Handle],
    /// At most [`MOST_INLINE`] bytes.
    pub payload: &'a [u8],
}

/// How an attempt to put ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The message is in the ring.
    Done,
    /// There is no room, and this ring does not grow.
    Full,
    /// There is no room in this region: bring a block of this many bytes and try again.
    NeedsRegion(u64),
    /// The ring was closed.
    Closed,
    /// A process that polls the ring cannot be told: the system's error number.
    Untold(i32),
    /// Another thread holds the lock.
    Busy,
}

/// Why a message was not put. The ring is unchanged.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutError {
    /// The deadline passed while the ring was full.
    #[error("the queue stayed full until the deadline")]
    Full,
    /// The caller's tick ended the wait.
    #[error("the wait was interrupted")]
    Interrupted,
    /// The ring was closed.
    #[error("the queue is closed")]
    Closed,
    /// The message does not fit into this ring, however long one waits.
    #[error("a message of {len} bytes is larger than this queue can hold at all ({max} bytes)")]
    TooLarge {
        /// Bytes of its record.
        len: u64,
        /// Bytes that there is room for.
        max: u64,
    },
    /// A process that polls the ring cannot be told.
    #[error(
        "a process that polls this queue cannot be told of a message: {}",
        std::io::Error::from_raw_os_error(*.0)
    )]
    Untold(i32),
    /// No memory for a larger region.
    #[error(transparent)]
    Alloc(#[from] AllocError),
}

impl From<Corrupted> for PutError {
    fn from(error: Corrupted) -> Self {
        Self::Alloc(error.into())
    }
}

impl From<GaveUp> for PutError {
    fn from(gave_up: GaveUp) -> Self {
        match gave_up {
            GaveUp::TimedOut => Self::Full,
            GaveUp::Interrupted => Self::Interrupted,
        }
    }
}

impl Outgoing<'_> {
    /// What a receiver would refuse must not be sent: it would stay at the head of the ring for ever.
    pub(super) fn check(&self) -> Result<(), Corrupted> {
        let sane = self.payload.len() <= MOST_INLINE
            && self.blocks.len() <= MOST_BLOCKS
            && self.handles.len() <= MOST_HANDLES
            && self.kind != LINK;
        if sane {
            Ok(())
        } else {
            Err(Corrupted::new(
                "a message over the limits of a record was to be sent",
            ))
        }
    }

    /// Bytes of its blocks.
    #[inline]
    pub(super) fn block_bytes(&self) -> u64 {
        // Each is less than the heap, and there are 200 of them at most.
        self.blocks.iter().map(|block| block.len).sum()
    }

    pub(super) fn header(&self) -> Header {
        Header {
            len: self.payload.len() as u32,
            kind: self.kind,
            blocks: self.blocks.len() as u8,
            handles: self.handles.len() as u16,
            tag: self.tag,
        }
    }
}
