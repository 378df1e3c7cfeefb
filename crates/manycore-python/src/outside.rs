//! What travels outside a message's payload, each part in a block of its own.
//!
//! On its way in, a part is copied once into memory of the receiver's ([`Recycled`], if it is long), and its block is
//! free again; from 4 MiB on, what is not bound to be a `bytes` or a `bytearray` is not copied at all (see
//! [`PrivateView`]).

use manycore_ipc::Family;
use manycore_ipc::block::BlockRef;
use manycore_ipc::block::allocator::{Blocks, Taken};
use manycore_ipc::heap::Bytes;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use crate::buffer::{self, PrivateView};
use crate::errors::{self, Error};
use crate::recycled::{self, Recycled};

/// Parts from this length on travel outside.
pub const LEAST: usize = 32 << 10;
/// Parts from this length on are viewed instead of copied.
const VIEWED: u64 = 4 << 20;
/// Blocks from this length on are taken without the interpreter.
const SLOW: u64 = 1 << 20;

/// A part of a message that is to be sent.
pub enum Part {
    /// Nobody writes these.
    Bytes(Py<PyBytes>),
    /// Python code may write these.
    Buffer(PyUntypedBuffer),
}

impl Part {
    /// How many bytes it is.
    pub fn len(&self, py: Python<'_>) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes(py).len(),
            Self::Buffer(buffer) => buffer.len_bytes(),
        }
    }

    /// Copies the part into a block, which is added to `sent`, whether that succeeds or not.
    pub fn send(
        &self,
        py: Python<'_>,
        family: &'static Family,
        sent: &mut Vec<BlockRef>,
    ) -> Result<(), Error> {
        let taken = take(py, family, self.len(py))?;
        sent.push(taken.block);
        let blocks = family.blocks()?;
        let fill = |bytes: &[u8]| blocks.fill(&taken, 0, bytes);
        match self {
            Self::Bytes(bytes) => buffer::with_constant_bytes(bytes, py, fill)?,
            Self::Buffer(buffer) => buffer::with_bytes(buffer, py, fill)??,
        }
        Ok(())
    }
}

/// Takes a block; a large one, for which the kernel may have to find memory, without the interpreter.
pub fn take(py: Python<'_>, family: &'static Family, len: usize) -> Result<Taken, Error> {
    let len = len as u64;
    if len < SLOW {
        Ok(family.take_block(len)?)
    } else {
        Ok(py.detach(|| family.take_block(len))?)
    }
}

/// The blocks of a message that was received. Those that nobody has asked for are freed in the end.
pub struct Received<'a> {
    family: &'static Family,
    blocks: Blocks,
    left: std::slice::Iter<'a, BlockRef>,
    has_blocks: bool,
}

impl<'a> Received<'a> {
    /// All of them.
    pub fn new(family: &'static Family, parts: &'a [BlockRef]) -> Result<Self, Error> {
        Ok(Self {
            family,
            blocks: family.blocks()?,
            left: parts.iter(),
            has_blocks: !parts.is_empty(),
        })
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.left.len()
    }

    /// The last one, which is a payload, as memory of this process's own.
    pub fn payload(&mut self) -> PyResult<Vec<u8>> {
        let block = *self.left.next_back().ok_or_else(lost)?;
        self.copied(block, |bytes| {
            let mut payload = Vec::new();
            bytes
                .append_to(0, bytes.len(), &mut payload)
                .map_err(Error::from)?;
            Ok(payload)
        })
    }

    /// The last one, which is a payload, from byte `skip` on.
    pub fn payload_bytes<'py>(
        &mut self,
        py: Python<'py>,
        skip: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let block = *self.left.next_back().ok_or_else(lost)?;
        self.copied(block, |bytes| buffer::to_bytes(py, bytes, skip))
    }

    /// The next one as a `bytes`.
    pub fn bytes<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let block = self.next()?;
        self.copied(block, |bytes| buffer::to_bytes(py, bytes, 0))
    }

    /// The next one as a `bytearray`.
    pub fn bytearray<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        let block = self.next()?;
        self.copied(block, |bytes| buffer::to_bytearray(py, bytes))
    }

    /// The next one as a writable buffer: a `bytearray`, or a `memoryview` if it is long.
    pub fn buffer<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let block = self.next()?;
        if block.len >= VIEWED && !self.blocks.is_scarce() {
            match PrivateView::of(self.family, block) {
                Ok(None) => {} // then a copy
                Ok(Some(view)) => {
                    let view = Bound::new(py, view)?.into_any();
                    return Ok(PyMemoryView::from(&view)?.into_any());
                }
                Err(error) => {
                    self.blocks.free(block);
                    return Err(error.into());
                }
            }
        }
        if block.len >= recycled::LEAST as u64 && block.len < VIEWED {
            let own = self.copied(block, |bytes| Recycled::copy_of(py, bytes))?;
            let own = Bound::new(py, own)?.into_any();
            return Ok(PyMemoryView::from(&own)?.into_any());
        }
        let array = self.copied(block, |bytes| buffer::to_bytearray(py, bytes))?;
        Ok(array.into_any())
    }

    fn next(&mut self) -> PyResult<BlockRef> {
        self.left.next().copied().ok_or_else(lost)
    }

    /// Copies a block and frees it.
    fn copied<R>(&self, block: BlockRef, copy: impl FnOnce(Bytes) -> PyResult<R>) -> PyResult<R> {
        let bytes = self.blocks.bytes(block).map_err(Error::from);
        let copied = bytes.map_err(PyErr::from).and_then(copy);
        self.blocks.free(block);
        copied
    }
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        for &block in self.left.by_ref() {
            self.blocks.free(block);
        }
        if !self.has_blocks {
            return;
        }
        // As who this process is now: unpickling may have forked it. Damage shows again when a block is taken.
        let _ = self.family.blocks().map(|blocks| blocks.trim());
    }
}

fn lost() -> PyErr {
    errors::corrupted("a message has lost its block")
}
