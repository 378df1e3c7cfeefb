//! What a pickler writes to.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer;
use crate::outside;

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

/// A pickle in pieces, one after the other.
#[pyclass(module = "manycore._engine")]
#[derive(Default)]
pub struct Pieces {
    pieces: Vec<Piece>,
}

impl Pieces {
    /// All that was written; nothing is left.
    pub fn take_all(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.pieces)
    }
}

#[pymethods]
impl Pieces {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Appends the bytes of any buffer.
    fn write(&mut self, piece: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = piece.cast_exact::<PyBytes>();
        if let Ok(bytes) = bytes {
            if bytes.as_bytes().len() >= outside::LEAST {
                self.pieces.push(Piece::Bytes(bytes.clone().unbind()));
                return Ok(());
            }
            self.copy(bytes.as_bytes());
            return Ok(());
        }
        let buffer = PyUntypedBuffer::get(piece)?;
        buffer::with_bytes(&buffer, piece.py(), |bytes| self.copy(bytes))
    }

    /// All that was written, in one piece.
    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let mut joined = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) => joined.extend_from_slice(bytes.as_bytes(py)),
                Piece::Copy(bytes) => joined.extend_from_slice(bytes),
            }
        }
        PyBytes::new(py, &joined)
    }

    /// All that was written, as a value of its own; nothing is left here.
    fn take(&mut self) -> Self {
        Self {
            pieces: self.take_all(),
        }
    }
}

impl Pieces {
    fn copy(&mut self, bytes: &[u8]) {
        if let Some(Piece::Copy(last)) = self.pieces.last_mut() {
            last.extend_from_slice(bytes);
        } else {
            self.pieces.push(Piece::Copy(bytes.to_vec()));
        }
    }
}
