//! Python's buffers and the heap's bytes: the one module of the binding with `unsafe`, see SAFETY.md.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};

use manycore_ipc::heap::Bytes;
use manycore_ipc::{Corrupted, Hold, Kind};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyMemoryError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::errors::Error;
use crate::family::{self, Parts};

/// Takes over a descriptor by its number.
pub fn owned_fd(fd: i32) -> PyResult<OwnedFd> {
    if fd < 0 {
        return Err(PyValueError::new_err(format!(
            "{fd} is not a file descriptor"
        )));
    }
    // SAFETY: not -1; the Python caller hands over a descriptor that it opened or inherited for this.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs `read` with the bytes of a contiguous buffer.
pub fn with_bytes<R>(
    buffer: &PyBuffer<u8>,
    py: Python<'_>,
    read: impl FnOnce(&[u8]) -> R,
) -> PyResult<R> {
    if !buffer.is_c_contiguous() && !buffer.is_fortran_contiguous() {
        return Err(PyBufferError::new_err("a buffer is not contiguous"));
    }
    let _attached = py; // the interpreter is held, so no Python code changes the bytes meanwhile
    if buffer.len_bytes() == 0 {
        return Ok(read(&[]));
    }
    // SAFETY: the export keeps `len_bytes` bytes at `buf_ptr` alive and in place until it is released;
    // it is contiguous (checked above). Native code that writes them from another thread without the
    // interpreter would be a race in any program that copies the buffer.
    let bytes =
        unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes()) };
    Ok(read(bytes))
}

/// A `bytearray` with a copy of heap bytes.
pub fn to_bytearray<'py>(py: Python<'py>, bytes: Bytes) -> PyResult<Bound<'py, PyByteArray>> {
    let len = isize::try_from(bytes.len()).map_err(|_| PyMemoryError::new_err(()))?;
    // SAFETY: `len` bytes at the address are mapped for ever; the new object copies them.
    let object = unsafe { ffi::PyByteArray_FromStringAndSize(bytes.address().cast(), len) };
    // SAFETY: a new reference to a bytearray, or null with an exception set.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
    Ok(object.cast_into::<PyByteArray>()?)
}

/// A `bytes` with a copy of heap bytes.
pub fn to_bytes<'py>(py: Python<'py>, bytes: Bytes) -> PyResult<Bound<'py, PyBytes>> {
    let len = isize::try_from(bytes.len()).map_err(|_| PyMemoryError::new_err(()))?;
    // SAFETY: as in `to_bytearray`.
    let object = unsafe { ffi::PyBytes_FromStringAndSize(bytes.address().cast(), len) };
    // SAFETY: a new reference to a bytes object, or null with an exception set.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
    Ok(object.cast_into::<PyBytes>()?)
}

/// Shared memory in the heap, with Python's buffer protocol. Writable by every process that has it.
#[pyclass(frozen, module = "manycore._engine")]
pub struct Memory {
    hold: Hold,
    len: usize,
}

impl Memory {
    /// The memory, of the length that it has had from the beginning.
    fn bytes(&self) -> Result<Bytes, Error> {
        let bytes = self.hold.memory()?;
        if bytes.len() == self.len {
            Ok(bytes)
        } else {
            Err(Corrupted::new("shared memory has changed its length").into())
        }
    }
}

#[pymethods]
impl Memory {
    /// `size` bytes of new shared memory, all zero; or, with `handle`, memory that exists.
    #[new]
    #[pyo3(signature = (size=0, *, handle=None))]
    fn new(size: u64, handle: Option<Parts>) -> Result<Self, Error> {
        let hold = match handle {
            Some(parts) => family::hold(parts, Kind::Memory)?,
            None => family::family()?.make_memory(size)?,
        };
        let len = hold.memory()?.len();
        Ok(Self { hold, len })
    }

    /// Family, index and generation: what a pickle of this memory consists of.
    #[getter]
    fn handle(&self) -> Parts {
        crate::message::note_handle(self.hold.handle())
    }

    fn __len__(&self) -> usize {
        self.len
    }

    /// The address in this process, for `ctypes`.
    #[getter]
    fn address(&self) -> Result<usize, Error> {
        Ok(self.bytes()?.address() as usize)
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: std::ffi::c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let memory = this.bytes()?;
        let len = isize::try_from(this.len).map_err(|_| PyMemoryError::new_err(()))?;
        // SAFETY: the memory has `len` bytes (checked by `bytes`), is mapped for ever and held by `slf`, of
        // which the view keeps a reference; `view` comes from the interpreter.
        let rc = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), memory.address().cast(), len, 0, flags)
        };
        if rc == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }
}
