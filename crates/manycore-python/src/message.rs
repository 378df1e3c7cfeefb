//! Python objects as messages.
//!
//! A small plain value is encoded natively, anything else is pickled (protocol 5). Large buffers
//! travel outside the payload (see [`crate::outside`]) and arrive private and writable. Handles of shared
//! objects that are met on the way are counted as in flight.

use std::cell::{Cell, RefCell};

use manycore::pipeline::Parcel;
use manycore::pool::backlog::Waiting;
use manycore_ipc::block::BlockRef;
use manycore_ipc::map::{Key, Map, MapError, When};
use manycore_ipc::ring::record::{MOST_BLOCKS, MOST_HANDLES, MOST_INLINE};
use manycore_ipc::ring::{Message, Outgoing, PutError, Ring};
use manycore_ipc::wait::Patience;
use manycore_ipc::{Family, Handle};
use manycore_os::Deadline;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::calling;
use crate::codec;
use crate::decoding;
use crate::errors::{self, Error};
use crate::family::Parts;
use crate::imported::imported;
use crate::outside::{self, Part, Received};
use crate::pickler;
use crate::pieces::Piece;
use crate::wait::detached;

/// The payload is in the native encoding.
pub const NATIVE: u8 = 1;
/// The payload is a pickle; its out-of-band buffers are the message's blocks.
pub const PICKLE: u8 = 2;
/// The program sent bytes, and no object: they are the payload.
pub const RAW: u8 = 3;
/// Added to a kind: the payload is in the last block.
pub const IN_BLOCK: u8 = 0x40;
/// Bits that are the pool's.
pub const KIND: u8 = 0x07;

thread_local! {
    /// Handles met while this thread encodes a message; `None` when it does not.
    static COLLECTING: RefCell<Option<Vec<Handle>>> = const { RefCell::new(None) };
    /// Space that is used again.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Notes that a handle is being pickled.
pub fn note_handle(handle: Handle) -> Parts {
    COLLECTING.with_borrow_mut(|collecting| {
        if let Some(handles) = collecting {
            handles.push(handle);
        }
    });
    (handle.family, handle.index, handle.generation)
}

/// Runs `function()` and returns its result and the handles that were pickled meanwhile.
#[pyfunction]
pub fn collect_handles<'py>(
    function: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Vec<Parts>)> {
    let (result, handles) = collecting(|| calling::call(function, ()));
    let handles = handles
        .into_iter()
        .map(|h| (h.family, h.index, h.generation))
        .collect();
    Ok((result?, handles))
}

fn collecting<R>(encode: impl FnOnce() -> R) -> (R, Vec<Handle>) {
    let outer = COLLECTING.with_borrow_mut(|slot| slot.replace(Vec::new()));
    let result = encode();
    let handles = COLLECTING.with_borrow_mut(|slot| std::mem::replace(slot, outer));
    (result, handles.unwrap_or_default())
}

/// A message that has been encoded and not yet sent.
pub struct Encoded {
    /// What the payload is.
    pub kind: u8,
    /// The payload.
    pub payload: Vec<u8>,
    /// The rest of the payload, if it is a pickle that is too long for a record: one after the other.
    pickle: Vec<Piece>,
    parts: Vec<Part>,
    handles: Vec<Handle>,
}

impl Encoded {
    /// An empty message, with space that was used before.
    #[inline]
    pub fn new() -> Self {
        let mut payload = SPARE.take();
        payload.clear();
        Self {
            kind: NATIVE,
            payload,
            pickle: Vec::new(),
            parts: Vec::new(),
            handles: Vec::new(),
        }
    }

    /// A message that was encoded before.
    pub fn of(kind: u8, payload: &[u8]) -> Self {
        let mut encoded = Self::new();
        encoded.kind = kind;
        encoded.payload.extend_from_slice(payload);
        encoded
    }

    /// Appends an object.
    #[inline]
    pub fn object(&mut self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let start = self.payload.len();
        if codec::encode(object, &mut self.payload, &mut self.parts)? {
            return Ok(());
        }
        self.payload.truncate(start);
        self.parts.clear();
        self.pickle(object)
    }

    /// Makes it a message of bytes.
    pub fn raw(&mut self, bytes: &Bound<'_, PyAny>) -> PyResult<()> {
        self.kind = RAW;
        let buffer = PyUntypedBuffer::get(bytes)?;
        if buffer.len_bytes() >= outside::LEAST {
            self.parts.push(Part::Buffer(buffer));
            return Ok(());
        }
        crate::buffer::with_bytes(&buffer, bytes.py(), |bytes| {
            self.payload.extend_from_slice(bytes);
        })
    }

    #[cold]
    fn pickle(&mut self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let (pickled, handles) = collecting(|| pickler::pickle(object));
        let pickled = pickled?;
        self.append(object.py(), pickled.pieces);
        self.parts
            .extend(pickled.buffers.into_iter().map(Part::Buffer));
        if self.parts.len() >= MOST_BLOCKS || handles.len() > MOST_HANDLES {
            return Err(PyValueError::new_err(format!(
                "an object with {} shared objects in it is too much for one message (at most {MOST_HANDLES}); \
                 send it in parts",
                handles.len()
            )));
        }
        self.kind = PICKLE;
        self.handles = handles;
        Ok(())
    }

    /// Appends the pieces of a pickle.
    fn append(&mut self, py: Python<'_>, pieces: Vec<Piece>) {
        let len: usize = pieces.iter().map(|piece| piece.len(py)).sum();
        if self.payload.len() + len > MOST_INLINE {
            self.pickle = pieces;
            return;
        }
        for piece in pieces {
            piece.read(py, |bytes| self.payload.extend_from_slice(bytes));
        }
    }

    /// Copies what travels outside into blocks, and counts the handles.
    pub fn ready(mut self, py: Python<'_>, family: &'static Family) -> Result<Ready, Error> {
        let mut ready = Ready {
            family,
            kind: self.kind,
            payload: Vec::new(),
            blocks: Vec::new(),
            handles: Vec::new(),
        };
        for part in &self.parts {
            part.send(py, family, &mut ready.blocks)?;
        }
        if self.payload.len() > MOST_INLINE || !self.pickle.is_empty() {
            ready.add_payload(py, &self.payload, &self.pickle)?;
            self.payload.clear();
        }
        family.send(&self.handles)?;
        ready.handles = std::mem::take(&mut self.handles);
        ready.payload = std::mem::take(&mut self.payload);
        Ok(ready)
    }

    /// The message as a parcel, which is put into one ring or another.
    pub fn into_parcel(self, py: Python<'_>, family: &'static Family) -> Result<Parcel, Error> {
        if let Some(plain) = self.plain() {
            let payload = plain.payload.to_vec();
            return Ok(Parcel::new(
                family,
                plain.kind,
                payload,
                Vec::new(),
                Vec::new(),
            ));
        }
        let mut ready = self.ready(py, family)?;
        let (payload, blocks, handles) = (
            std::mem::take(&mut ready.payload),
            std::mem::take(&mut ready.blocks),
            std::mem::take(&mut ready.handles),
        );
        Ok(Parcel::new(family, ready.kind, payload, blocks, handles))
    }

    /// How many bytes it is, whatever travels beside the payload included.
    #[inline]
    pub fn len(&self, py: Python<'_>) -> usize {
        let pickle: usize = self.pickle.iter().map(|piece| piece.len(py)).sum();
        let parts: usize = self.parts.iter().map(|part| part.len(py)).sum();
        self.payload.len() + pickle + parts
    }

    /// The message, if it is a short payload and nothing else.
    #[inline]
    pub fn plain(&self) -> Option<Outgoing<'_>> {
        let is_plain = self.parts.is_empty()
            && self.handles.is_empty()
            && self.pickle.is_empty()
            && self.payload.len() <= MOST_INLINE;
        is_plain.then(|| Outgoing {
            kind: self.kind,
            payload: &self.payload,
            ..Outgoing::default()
        })
    }

    /// Puts the message if it is a short payload and nothing at all stands in the way.
    #[inline(always)]
    pub fn put_at_once(&self, ring: &Ring, tag: u64, flags: u8) -> bool {
        self.plain().is_some_and(|message| {
            ring.put_at_once(&Outgoing {
                kind: message.kind | flags,
                tag,
                ..message
            })
        })
    }

    /// Puts the message, waiting for as long as it takes.
    #[inline]
    pub fn put(
        self,
        py: Python<'_>,
        family: &'static Family,
        ring: &Ring,
        tag: u64,
        flags: u8,
    ) -> PyResult<()> {
        if self.put_at_once(ring, tag, flags) {
            return Ok(());
        }
        let ready = self.ready(py, family)?;
        let (result, raised) = detached(py, Deadline::NEVER, |patience| {
            ready.put(ring, tag, flags, patience)
        });
        result.map_err(|error| errors::from_put(error, raised))
    }
}

impl Drop for Encoded {
    #[inline]
    fn drop(&mut self) {
        recycle(std::mem::take(&mut self.payload));
    }
}

#[inline]
fn recycle(payload: Vec<u8>) {
    if payload.capacity() > 0 && payload.capacity() <= 4 * MOST_INLINE {
        // A thread that is ending has no use for it.
        let _ = SPARE.try_with(|spare| spare.set(payload));
    }
}

/// A message whose blocks are filled and whose handles are counted. Dropping it takes both back.
pub struct Ready {
    family: &'static Family,
    kind: u8,
    payload: Vec<u8>,
    blocks: Vec<BlockRef>,
    handles: Vec<Handle>,
}

impl Ready {
    /// Puts the payload, which is `head` and what follows, into the last block.
    fn add_payload(&mut self, py: Python<'_>, head: &[u8], rest: &[Piece]) -> Result<(), Error> {
        let rest_len: usize = rest.iter().map(|piece| piece.len(py)).sum();
        let taken = outside::take(py, self.family, head.len() + rest_len)?;
        self.blocks.push(taken.block);
        self.kind |= IN_BLOCK;
        let blocks = self.family.blocks()?;
        blocks.fill(&taken, 0, head)?;
        let mut at = head.len();
        for piece in rest {
            piece.read(py, |bytes| blocks.fill(&taken, at, bytes))?;
            at += piece.len(py);
        }
        Ok(())
    }

    /// Sends it.
    pub fn put(
        mut self,
        ring: &Ring,
        tag: u64,
        flags: u8,
        patience: &mut Patience<'_>,
    ) -> Result<(), PutError> {
        let message = Outgoing {
            kind: self.kind | flags,
            tag,
            blocks: &self.blocks,
            handles: &self.handles,
            payload: &self.payload,
        };
        ring.put(&message, patience)?;
        self.blocks.clear();
        self.handles.clear();
        Ok(())
    }

    /// The task that it is, which is kept instead of being sent.
    pub fn into_waiting(mut self, tag: u64) -> Waiting {
        Waiting {
            kind: self.kind,
            tag,
            payload: std::mem::take(&mut self.payload),
            blocks: std::mem::take(&mut self.blocks),
            handles: std::mem::take(&mut self.handles),
        }
    }

    /// Makes it the value of a key; `false` if it is not the case that was asked for.
    pub fn store(
        mut self,
        map: &Map,
        key: &Key<'_>,
        when: When,
        patience: &mut Patience<'_>,
    ) -> Result<bool, MapError> {
        let value = Outgoing {
            kind: self.kind,
            tag: 0,
            blocks: &self.blocks,
            handles: &self.handles,
            payload: &self.payload,
        };
        let set = || map.set(key, &value, when, patience);
        let is_in = self.family.with_room(MapError::is_full, set)?;
        if is_in {
            self.blocks.clear();
            self.handles.clear();
        }
        Ok(is_in)
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if let Ok(blocks) = self.family.blocks() {
            for &block in &self.blocks {
                blocks.free(block);
            }
        }
        self.family.unsend(&self.handles);
        recycle(std::mem::take(&mut self.payload));
    }
}

/// Builds the object that a message holds, from byte `skip` of its payload on. The message's blocks are
/// freed and its handles taken over, whether that succeeds or not.
#[inline]
pub fn decode<'py>(
    py: Python<'py>,
    family: &'static Family,
    message: &Message,
    skip: usize,
) -> PyResult<Bound<'py, PyAny>> {
    if is_native(message) {
        return decoding::decode(py, message.payload.get(skip..).unwrap_or_default(), None);
    }
    decode_slow(py, family, message, skip)
}

/// Whether a message is a number, a flag or `None`.
#[inline]
pub fn is_number(message: &Message) -> bool {
    is_native(message) && codec::is_number(&message.payload)
}

/// Whether a message is an object in the native encoding and nothing beside it.
#[inline]
fn is_native(message: &Message) -> bool {
    message.header.kind & (KIND | IN_BLOCK) == NATIVE && message.blocks.is_empty()
}

#[cold]
fn decode_slow<'py>(
    py: Python<'py>,
    family: &'static Family,
    message: &Message,
    skip: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let held = family.receive(&message.handles).map_err(Error::from);
    let mut parts = Received::new(family, &message.blocks)?;
    let _held = held?;
    let is_in_block = message.header.kind & IN_BLOCK != 0;
    let inline = message.payload.get(skip..).unwrap_or_default();
    match message.header.kind & KIND {
        NATIVE if is_in_block => {
            let payload = parts.payload()?;
            let payload = payload.get(skip..).unwrap_or_default();
            decoding::decode(py, payload, Some(&mut parts))
        }
        NATIVE => decoding::decode(py, inline, Some(&mut parts)),
        RAW if parts.len() > 0 => Ok(parts.bytes(py)?.into_any()),
        RAW => Ok(PyBytes::new(py, inline).into_any()),
        PICKLE => {
            let pickled = if is_in_block {
                parts.payload_bytes(py, skip)?
            } else {
                PyBytes::new(py, inline)
            };
            unpickle(py, &pickled, &mut parts)
        }
        _ => Err(errors::corrupted("a message is of no known kind")),
    }
}

/// The first bytes of a message's payload.
pub fn front<const N: usize>(family: &'static Family, message: &Message) -> PyResult<[u8; N]> {
    if message.header.kind & IN_BLOCK == 0 {
        let front = message.payload.first_chunk().copied();
        return front.ok_or_else(|| errors::corrupted("a message is too short"));
    }
    let block = message
        .blocks
        .last()
        .ok_or_else(|| errors::corrupted("a message has lost its block"))?;
    let blocks = family.blocks().map_err(Error::from)?;
    let bytes = blocks.bytes(*block).map_err(Error::from)?;
    let mut front = [0; N];
    bytes.read(0, &mut front).map_err(Error::from)?;
    Ok(front)
}

/// How many bytes a message is, those in blocks included.
#[inline]
pub fn len(message: &Message) -> usize {
    let outside: u64 = message.blocks.iter().map(|block| block.len).sum();
    message.payload.len() + outside as usize
}

/// Whether the program sent bytes, and no object.
pub fn is_raw(message: &Message) -> bool {
    message.header.kind & KIND == RAW
}

fn unpickle<'py>(
    py: Python<'py>,
    pickled: &Bound<'py, PyBytes>,
    parts: &mut Received<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let loads = imported(&LOADS, py, "pickle", "loads")?;
    if parts.len() == 0 {
        return calling::call(loads, (pickled,));
    }
    let buffers = PyList::empty(py);
    while parts.len() > 0 {
        buffers.append(parts.buffer(py)?)?;
    }
    let options = PyDict::new(py);
    options.set_item("buffers", buffers)?;
    calling::call_with(loads, (pickled,), Some(&options))
}
