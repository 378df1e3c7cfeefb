//! Encoded messages of any size through a ring.
//!
//! Up to [`MOST_INLINE`] bytes travel inside the ring, more in one block beside it, which the receiver
//! copies out and frees. Either side may be killed at any time: a message is there whole or not at all,
//! and its block is found by whoever cleans up.

use manycore_ipc::block::Blocks;
use manycore_ipc::object::group::Row;
use manycore_ipc::ring::record::{MOST_HANDLES, MOST_INLINE};
use manycore_ipc::ring::{GetError, Message, Outgoing, PutError, Ring};
use manycore_ipc::wait::Patience;
use manycore_ipc::{Corrupted, Family, Handle, HandleError, Hold};
use manycore_os::Deadline;

/// Why a message was not sent. The ring is unchanged, and nothing is taken or counted for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The ring stayed full until the deadline.
    Full,
    /// The caller's tick ended the wait.
    Interrupted,
    /// The ring was closed.
    Closed,
    /// More handles than a message may have.
    TooManyHandles(usize),
    /// No memory, or corrupted memory.
    Heap(HandleError),
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecvError {
    /// The ring stayed empty until the deadline.
    Empty,
    /// The caller's tick ended the wait.
    Interrupted,
    /// The ring is closed and empty, or empty and without producers.
    Closed,
    /// Corrupted memory.
    Heap(HandleError),
}

/// Sends `bytes` through the ring that `ring` holds. The caller keeps the objects of `handles` alive
/// until this returns.
pub(crate) fn send(
    ring: &Hold,
    kind: u8,
    tag: u64,
    handles: &[Handle],
    bytes: &[u8],
    patience: &mut Patience<'_>,
) -> Result<(), SendError> {
    let message = Outgoing {
        kind,
        tag,
        handles,
        ..Outgoing::default()
    };
    send_through(ring.family(), &ring.ring()?, message, bytes, patience)
}

/// As [`send`], through a ring that somebody holds; `bytes` become the payload of `message`.
pub(crate) fn send_through(
    family: &'static Family,
    target: &Ring,
    message: Outgoing<'_>,
    bytes: &[u8],
    patience: &mut Patience<'_>,
) -> Result<(), SendError> {
    let handles = message.handles;
    if handles.len() > MOST_HANDLES {
        return Err(SendError::TooManyHandles(handles.len()));
    }
    if target.is_closed() {
        return Err(SendError::Closed); // before a block is filled; looked at again under the lock
    }
    if patience.until() == Deadline::PASSED && target.is_full() {
        return Err(SendError::Full); // who tries does not spin
    }
    family.send(handles)?;
    let outcome = put(family, target, message, bytes, patience);
    if outcome.is_err() {
        family.unsend(handles);
    }
    outcome
}

fn put(
    family: &'static Family,
    ring: &Ring,
    message: Outgoing<'_>,
    bytes: &[u8],
    patience: &mut Patience<'_>,
) -> Result<(), SendError> {
    if bytes.len() <= MOST_INLINE {
        return Ok(ring.put(
            &Outgoing {
                payload: bytes,
                ..message
            },
            patience,
        )?);
    }
    let taken = family.take_block(bytes.len() as u64)?;
    let blocks = family.blocks()?;
    let filled = blocks.fill(&taken, 0, bytes);
    let outcome = filled.map_err(SendError::from).and_then(|()| {
        Ok(ring.put(
            &Outgoing {
                blocks: &[taken.block],
                ..message
            },
            patience,
        )?)
    });
    if outcome.is_err() {
        blocks.free(taken.block);
    }
    outcome
}

/// Receives a message: kind and tag are in `into.header`, the bytes in `into.payload`. Returns holds on
/// the objects in it; keep them until the bytes have been decoded. A worker gives its `row`.
pub(crate) fn recv(
    ring: &Hold,
    into: &mut Message,
    row: Option<&Row>,
    patience: &mut Patience<'_>,
) -> Result<Vec<Hold>, RecvError> {
    ring.get(into, row, patience)??;
    Ok(unpack(ring.family(), into)?)
}

/// Makes a message that was got from a ring whole: copies its blocks behind its payload and frees
/// them, and takes over its handles. [`recv`] has done so already.
pub(crate) fn unpack(
    family: &'static Family,
    message: &mut Message,
) -> Result<Vec<Hold>, HandleError> {
    if !message.blocks.is_empty() {
        copy_blocks(family.blocks()?, message)?;
    }
    let holds = family.receive(&message.handles);
    message.handles.clear();
    holds
}

fn copy_blocks(blocks: Blocks, message: &mut Message) -> Result<(), Corrupted> {
    let mut outcome = Ok(());
    for block in message.blocks.drain(..) {
        let copied = blocks
            .bytes(block)
            .and_then(|bytes| bytes.append_to(0, bytes.len(), &mut message.payload));
        outcome = outcome.and(copied);
        blocks.free(block); // whether or not it could be read
    }
    blocks.trim()?;
    outcome
}

impl From<HandleError> for SendError {
    fn from(error: HandleError) -> Self {
        Self::Heap(error)
    }
}

impl From<Corrupted> for SendError {
    fn from(error: Corrupted) -> Self {
        Self::Heap(error.into())
    }
}

impl From<PutError> for SendError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Full => Self::Full,
            PutError::Interrupted => Self::Interrupted,
            PutError::Alloc(error) => Self::Heap(error.into()),
            _ => Self::Closed,
        }
    }
}

impl From<HandleError> for RecvError {
    fn from(error: HandleError) -> Self {
        Self::Heap(error)
    }
}

impl From<GetError> for RecvError {
    fn from(error: GetError) -> Self {
        match error {
            GetError::Empty => Self::Empty,
            GetError::Interrupted => Self::Interrupted,
            GetError::Corrupted(error) => Self::Heap(error.into()),
            _ => Self::Closed,
        }
    }
}
