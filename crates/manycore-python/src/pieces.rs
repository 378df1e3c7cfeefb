//! What a pickler writes to.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer;
use crate::outside;

/// More buffers than this in one object stay inside the pickle.
const MOST_BUFFERS: usize = 190;

/// A piece of a pickle.
pub enum Piece {
    /// A long `bytes` of the object's, which nobody writes.
    Bytes(Py<PyBytes>),
    /// A copy, made when it was written: what it is of may change before the pickle is sent.
    Copy(Vec<u8>),
}

impl Piece {
    /// How many bytes.
    pub fn len(&self, py: Python<'_>) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes(py).len(),
            Self::Copy(bytes) => bytes.len(),
        }
    }

    /// Runs `read`, which runs no Python code, with the bytes.
    pub fn read<R: Send>(&self, py: Python<'_>, read: impl FnOnce(&[u8]) -> R + Send) -> R {
        match self {
            Self::Bytes(bytes) => buffer::with_constant_bytes(bytes, py, read),
            Self::Copy(bytes) => read(bytes),
        }
    }
}

/// What a pickler has made of an object.
#[derive(Default)]
pub struct Pickled {
    /// The pickle, one piece after the other.
    pub pieces: Vec<Piece>,
    /// What travels beside it.
    pub buffers: Vec<PyUntypedBuffer>,
}

/// What a pickler writes to, and asks about each buffer that can travel beside the pickle.
#[pyclass(module = "manycore._engine")]
#[derive(Default)]
pub struct Pieces {
    pickled: Pickled,
}

impl Pieces {
    /// All that was written; nothing is left.
    pub fn take(&mut self) -> Pickled {
        std::mem::take(&mut self.pickled)
    }

    fn copy(&mut self, bytes: &[u8]) {
        let pieces = &mut self.pickled.pieces;
        if let Some(Piece::Copy(last)) = pieces.last_mut() {
            last.extend_from_slice(bytes);
        } else {
            pieces.push(Piece::Copy(bytes.to_vec()));
        }
    }
}

#[pymethods]
impl Pieces {
    /// Appends the bytes of any buffer.
    fn write(&mut self, piece: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = piece.cast_exact::<PyBytes>();
        if let Ok(bytes) = bytes {
            if bytes.as_bytes().len() >= outside::LEAST {
                let piece = Piece::Bytes(bytes.clone().unbind());
                self.pickled.pieces.push(piece);
                return Ok(());
            }
            self.copy(bytes.as_bytes());
            return Ok(());
        }
        let buffer = PyUntypedBuffer::get(piece)?;
        buffer::with_bytes(&buffer, piece.py(), |bytes| self.copy(bytes))
    }

    /// Whether a buffer stays inside the pickle; otherwise it is noted.
    fn __call__(&mut self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let raw = match PyUntypedBuffer::get(buffer) {
            Err(error) if error.is_instance_of::<PyBufferError>(buffer.py()) => return Ok(true),
            raw => raw?,
        };
        let is_contiguous = raw.is_c_contiguous() || raw.is_fortran_contiguous();
        let is_small = raw.len_bytes() < outside::LEAST;
        let buffers = &mut self.pickled.buffers;
        if !is_contiguous || is_small || buffers.len() >= MOST_BUFFERS {
            return Ok(true);
        }
        buffers.push(raw);
        Ok(false)
    }
}
