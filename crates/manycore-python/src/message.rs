//! Python objects as messages.
//!
//! A small plain value is encoded natively, anything else is pickled (protocol 5). Large buffers
//! travel out of band in blocks of the heap and arrive as private, writable copies. Handles of shared
//! objects that are met on the way are counted as in flight.

use std::cell::RefCell;

use manycore_ipc::block::BlockRef;
use manycore_ipc::block::allocator::Taken;
use manycore_ipc::ring::record::{MOST_BLOCKS, MOST_HANDLES, MOST_INLINE};
use manycore_ipc::ring::{Message, Outgoing, PutError, Ring};
use manycore_ipc::wait::Patience;
use manycore_ipc::{Family, Handle};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::buffer;
use crate::codec;
use crate::errors::{self, Error};
use crate::family::Parts;
use crate::imported::imported;

/// The payload is in the native encoding.
pub const NATIVE: u8 = 1;
/// The payload is a pickle; its out-of-band buffers are the message's blocks.
pub const PICKLE: u8 = 2;
/// The message is one `bytes` object, which is its block.
pub const BYTES: u8 = 3;
/// Added to a kind: the payload is in the last block.
pub const IN_BLOCK: u8 = 0x40;
/// Bits that are the pool's.
pub const KIND: u8 = 0x07;

/// `bytes` from this length on are sent as a block.
const OUT_OF_BAND: usize = 32 << 10;

thread_local! {
    /// Handles met while this thread encodes a message; `None` when it does not.
    static COLLECTING: RefCell<Option<Vec<Handle>>> = const { RefCell::new(None) };
    /// Space that is used again.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
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
    let (result, handles) = collecting(|| function.call0());
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
    buffers: Vec<PyBuffer<u8>>,
    handles: Vec<Handle>,
}

impl Encoded {
    /// An empty message with space that was used before; `head` is where the payload begins.
    pub fn new() -> Self {
        let mut payload = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        payload.clear();
        Self {
            kind: NATIVE,
            payload,
            buffers: Vec::new(),
            handles: Vec::new(),
        }
    }

    /// Appends an object.
    #[inline]
    pub fn object(&mut self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let start = self.payload.len();
        if start == 0 && self.large_bytes(object)? {
            return Ok(());
        }
        if codec::encode(object, &mut self.payload).is_ok() {
            return Ok(());
        }
        self.payload.truncate(start);
        self.pickle(object)
    }

    fn large_bytes(&mut self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(bytes) = object.cast_exact::<PyBytes>() else {
            return Ok(false);
        };
        if bytes.as_bytes().len() < OUT_OF_BAND {
            return Ok(false);
        }
        self.kind = BYTES;
        self.buffers.push(PyBuffer::get(object)?);
        Ok(true)
    }

    #[cold]
    fn pickle(&mut self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = object.py();
        let dumps = imported(&DUMPS, py, "manycore._pickling", "dumps")?;
        let (pickled, handles) = collecting(|| dumps.call1((object,)));
        let pickled = pickled?.cast_into::<PyTuple>()?;
        let bytes = pickled.get_item(0)?.cast_into::<PyBytes>()?;
        self.payload.extend_from_slice(bytes.as_bytes());
        for view in pickled.get_item(1)?.cast_into::<PyList>()? {
            self.buffers.push(PyBuffer::get(&view)?);
        }
        if self.buffers.len() >= MOST_BLOCKS || handles.len() > MOST_HANDLES {
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

    /// Copies what travels out of band into blocks, and counts the handles.
    pub fn ready(mut self, py: Python<'_>, family: &'static Family) -> Result<Ready, Error> {
        let mut ready = Ready {
            family,
            kind: self.kind,
            payload: Vec::new(),
            blocks: Vec::new(),
            handles: Vec::new(),
        };
        for buffer in &self.buffers {
            buffer::with_bytes(buffer, py, |bytes| ready.add_block(bytes))??;
        }
        if self.payload.len() > MOST_INLINE {
            ready.add_block(&self.payload)?;
            ready.kind |= IN_BLOCK;
            self.payload.clear();
        }
        family.send(&self.handles)?;
        ready.handles = std::mem::take(&mut self.handles);
        ready.payload = std::mem::take(&mut self.payload);
        Ok(ready)
    }

    /// Whether the message has no parts but its payload, and that is short.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.buffers.is_empty() && self.handles.is_empty() && self.payload.len() <= MOST_INLINE
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        recycle(std::mem::take(&mut self.payload));
    }
}

fn recycle(payload: Vec<u8>) {
    if payload.capacity() > 0 && payload.capacity() <= 4 * MOST_INLINE {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < 8 {
                spare.push(payload);
            }
        });
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
    fn add_block(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let taken: Taken = self.family.take_block(bytes.len() as u64)?;
        self.blocks.push(taken.block);
        Ok(self.family.blocks()?.fill(&taken, 0, bytes)?)
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
    if message.header.kind & (KIND | IN_BLOCK) == NATIVE && message.blocks.is_empty() {
        return codec::decode(py, message.payload.get(skip..).unwrap_or_default());
    }
    decode_slow(py, family, message, skip)
}

#[cold]
fn decode_slow<'py>(
    py: Python<'py>,
    family: &'static Family,
    message: &Message,
    skip: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let held = family.receive(&message.handles).map_err(Error::from);
    let parts = take_blocks(py, family, message);
    let (_held, mut buffers) = (held?, parts?);
    let kind = message.header.kind;
    let outside = if kind & IN_BLOCK != 0 {
        buffers.pop()
    } else {
        None
    };
    let start = if outside.is_some() { skip } else { 0 };
    let payload = match &outside {
        Some(bytes) => PyBuffer::get(bytes)?,
        None => PyBuffer::get(&PyBytes::new(
            py,
            message.payload.get(skip..).unwrap_or_default(),
        ))?,
    };
    match kind & KIND {
        BYTES => buffers
            .pop()
            .ok_or_else(|| errors::corrupted("a message has lost its block")),
        NATIVE => buffer::with_bytes(&payload, py, |bytes| {
            codec::decode(py, bytes.get(start..).unwrap_or_default())
        })?,
        PICKLE => {
            static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let loads = imported(&LOADS, py, "pickle", "loads")?;
            let pickled = buffer::with_bytes(&payload, py, |bytes| {
                PyBytes::new(py, bytes.get(start..).unwrap_or_default())
            })?;
            let options = PyDict::new(py);
            options.set_item("buffers", PyList::new(py, buffers)?)?;
            loads.call((pickled,), Some(&options))
        }
        _ => Err(errors::corrupted("a message is of no known kind")),
    }
}

/// Copies the message's blocks into private memory and frees them.
fn take_blocks<'py>(
    py: Python<'py>,
    family: &'static Family,
    message: &Message,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let blocks = family.blocks().map_err(Error::from)?;
    let whole_bytes = message.header.kind & KIND == BYTES;
    let mut parts = Vec::with_capacity(message.blocks.len());
    let mut failed = None;
    for &block in &message.blocks {
        let part = blocks
            .bytes(block)
            .map_err(|e| Error::from(e).into())
            .and_then(|bytes| {
                if whole_bytes {
                    Ok(buffer::to_bytes(py, bytes)?.into_any())
                } else {
                    Ok(buffer::to_bytearray(py, bytes)?.into_any())
                }
            });
        blocks.free(block);
        match part {
            Ok(part) => parts.push(part),
            Err(error) => failed = Some(error),
        }
    }
    if !message.blocks.is_empty() {
        blocks.trim().map_err(Error::from)?;
    }
    failed.map_or(Ok(parts), Err)
}
