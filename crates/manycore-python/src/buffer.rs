//! Python's buffers and the heap's bytes: one of the modules of the binding with `unsafe`, see SAFETY.md.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

use manycore_ipc::block::BlockRef;
use manycore_ipc::heap::Bytes;
use manycore_ipc::object::integer::Integer;
use manycore_ipc::{Corrupted, Family, Hold, Kind};
use manycore_os::view;
use pyo3::buffer::PyUntypedBuffer;
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

/// Copies of so many bytes, and new memory of that size, let other Python threads run meanwhile.
pub const DETACHED: usize = 1 << 20;

/// Runs `read` with the bytes of a contiguous buffer, which others may write: `read` is not to let them, so it runs
/// no Python code and keeps the interpreter.
pub fn with_bytes<R>(
    buffer: &PyUntypedBuffer,
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

/// Runs `read` with the bytes of a `bytes`, which nobody writes; if they are many, without the interpreter.
pub fn with_constant_bytes<R: Send>(
    bytes: &Py<PyBytes>,
    py: Python<'_>,
    read: impl FnOnce(&[u8]) -> R + Send,
) -> R {
    let bytes = bytes.as_bytes(py); // the caller's reference keeps them while the interpreter is gone
    if bytes.len() < DETACHED {
        read(bytes)
    } else {
        py.detach(|| read(bytes))
    }
}

/// Runs `read`, which runs no Python code, with the bytes of a `bytearray`.
pub fn with_array_bytes<R>(array: &Bound<'_, PyByteArray>, read: impl FnOnce(&[u8]) -> R) -> R {
    // SAFETY: the interpreter is held, and `read` runs no Python code, so nobody writes the bytes or moves them.
    read(unsafe { array.as_bytes() })
}

/// A `bytearray` with a copy of heap bytes.
pub fn to_bytearray<'py>(py: Python<'py>, bytes: Bytes) -> PyResult<Bound<'py, PyByteArray>> {
    let len = isize::try_from(bytes.len()).map_err(|_| PyMemoryError::new_err(()))?;
    // SAFETY: without a source the new object has `len` bytes that are not written yet.
    let object = unsafe { ffi::PyByteArray_FromStringAndSize(std::ptr::null(), len) };
    // SAFETY: a new reference to a bytearray, or null with an exception set.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
    // SAFETY: it is a bytearray.
    let address = unsafe { ffi::PyByteArray_AsString(object.as_ptr()) };
    // SAFETY: it has so many bytes there, and nobody else has the new object.
    let space = unsafe { std::slice::from_raw_parts_mut(address.cast(), bytes.len()) };
    copy(py, bytes, 0, space)?;
    Ok(object.cast_into::<PyByteArray>()?)
}

/// A `bytes` with a copy of heap bytes, from `start` on.
pub fn to_bytes<'py>(py: Python<'py>, bytes: Bytes, start: usize) -> PyResult<Bound<'py, PyBytes>> {
    let rest = bytes.len().saturating_sub(start);
    let len = isize::try_from(rest).map_err(|_| PyMemoryError::new_err(()))?;
    if len == 0 {
        return Ok(PyBytes::new(py, &[])); // of which there is one only
    }
    // SAFETY: as in `to_bytearray`; an object that is not empty is a new one.
    let object = unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), len) };
    // SAFETY: a new reference to a bytes object, or null with an exception set.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
    // SAFETY: it is a bytes object.
    let address = unsafe { ffi::PyBytes_AsString(object.as_ptr()) };
    // SAFETY: it has so many bytes there, and nobody else has the new object.
    let space = unsafe { std::slice::from_raw_parts_mut(address.cast(), rest) };
    copy(py, bytes, start, space)?;
    Ok(object.cast_into::<PyBytes>()?)
}

/// Copies heap bytes to where no Python code can look yet; many of them without the interpreter.
fn copy(
    py: Python<'_>,
    bytes: Bytes,
    start: usize,
    space: &mut [MaybeUninit<u8>],
) -> Result<(), Error> {
    if space.len() < DETACHED {
        Ok(bytes.read_new(start, space)?)
    } else {
        Ok(py.detach(|| bytes.read_new(start, space))?)
    }
}

/// Shared memory in the heap, with Python's buffer protocol. Writable by every process that has it.
#[pyclass(frozen, module = "manycore._engine")]
pub struct Memory {
    hold: Hold,
    len: usize,
}

impl Memory {
    /// The integer of `size` bytes at a position, if there is one. It is there as long as the memory is.
    pub fn integer(&self, at: usize, size: usize) -> Result<Option<Integer>, Error> {
        let heap = self.hold.family().heap();
        Ok(Integer::new(heap, self.bytes()?, at, size))
    }

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
    fn new(py: Python<'_>, size: u64, handle: Option<Parts>) -> Result<Self, Error> {
        let hold = match handle {
            Some(parts) => family::hold(parts, Kind::Memory)?,
            None if size < DETACHED as u64 => family::family()?.make_memory(size)?,
            None => {
                let family = family::family()?;
                py.detach(|| family.make_memory(size))?
            }
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
        let address = this.bytes()?.address();
        // SAFETY: the memory has `len` bytes (checked by `bytes`), is mapped for ever and held by `slf`; `view`
        // comes from the interpreter.
        unsafe { export(&slf, address, this.len, view, flags) }
    }
}

/// Lets the interpreter look at an object's bytes, writable.
///
/// # Safety
/// There are `len` bytes at `address` as long as `owner` lives, and `view` is one to be filled.
unsafe fn export<T>(
    owner: &Bound<'_, T>,
    address: *mut u8,
    len: usize,
    view: *mut ffi::Py_buffer,
    flags: std::ffi::c_int,
) -> PyResult<()> {
    let len = isize::try_from(len).map_err(|_| PyMemoryError::new_err(()))?;
    // SAFETY: the caller's promise; the view keeps a reference to the owner.
    let rc = unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), address.cast(), len, 0, flags) };
    if rc == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(owner.py()))
    }
}

/// What was received without copying it: a view of a block of the heap that is private to this process, with
/// Python's buffer protocol. It keeps the block until it is collected.
#[pyclass(frozen, weakref, module = "manycore._engine")]
pub struct PrivateView {
    view: view::PrivateView, // the first to go: without the hold the block may soon be another's
    _hold: Hold,
}

impl PrivateView {
    /// A view of a block that this process has received. `None` when there is no room for a view, or for the object
    /// that keeps the block; the block is what it was then.
    pub fn of(family: &'static Family, block: BlockRef) -> Result<Option<Self>, Error> {
        let bytes = family.blocks()?.bytes(block)?;
        let mapping = family.heap().mapping();
        let Ok(view) = mapping.private_view(bytes.offset(), bytes.len()) else {
            return Ok(None);
        };
        let kept = family.keep(block).ok();
        Ok(kept.map(|hold| Self { view, _hold: hold }))
    }
}

#[pymethods]
impl PrivateView {
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: std::ffi::c_int,
    ) -> PyResult<()> {
        let own = &slf.get().view;
        // SAFETY: the view has `len` bytes until it is dropped, which is with `slf`; `view` comes from the
        // interpreter.
        unsafe { export(&slf, own.address().as_ptr(), own.len(), view, flags) }
    }
}

/// A buffer's memory with another format and shape: what lies behind a `memoryview` that was received.
#[pyclass(frozen, module = "manycore._engine")]
pub struct Shaped {
    buffer: PyUntypedBuffer,
    format: CString,
    item_size: isize,
    shape: Box<[isize]>,
    strides: Box<[isize]>,
}

#[pymethods]
impl Shaped {
    /// The memory of `buffer`, which is writable and contiguous, as items of `itemsize` bytes in C order.
    #[new]
    fn new(
        buffer: &Bound<'_, PyAny>,
        format: CString,
        itemsize: isize,
        shape: Vec<isize>,
    ) -> PyResult<Self> {
        let buffer: PyUntypedBuffer = PyUntypedBuffer::get(buffer)?;
        let mut strides = vec![0; shape.len()];
        let mut bytes = Some(itemsize).filter(|&size| size >= 0);
        for (stride, &count) in strides.iter_mut().zip(&shape).rev() {
            *stride = bytes.unwrap_or(0);
            bytes = bytes.and_then(|bytes| bytes.checked_mul(count).filter(|_| count >= 0));
        }
        let is_whole = bytes.is_some_and(|bytes| bytes.unsigned_abs() == buffer.len_bytes());
        if buffer.readonly() || !buffer.is_c_contiguous() || !is_whole {
            return Err(PyValueError::new_err("the shape is not the buffer's"));
        }
        Ok(Self {
            buffer,
            format,
            item_size: itemsize,
            shape: shape.into(),
            strides: strides.into(),
        })
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: std::ffi::c_int,
    ) -> PyResult<()> {
        if flags & ffi::PyBUF_FULL_RO != ffi::PyBUF_FULL_RO {
            return Err(PyBufferError::new_err("only for a memoryview"));
        }
        let this = slf.get();
        let mut filled = ffi::Py_buffer::new();
        filled.buf = this.buffer.buf_ptr();
        filled.len = this.buffer.len_bytes().cast_signed();
        filled.itemsize = this.item_size;
        filled.ndim = this.shape.len() as i32; // a `memoryview` refuses more than it can have
        filled.format = this.format.as_ptr().cast_mut();
        filled.shape = this.shape.as_ptr().cast_mut();
        filled.strides = this.strides.as_ptr().cast_mut();
        filled.obj = slf.clone().into_ptr();
        // SAFETY: `view` comes from the interpreter. The reference to `slf` keeps the export of the bytes, which
        // are as many as the shape says (checked by `new`), and format, shape and strides, which nobody writes.
        unsafe { view.write(filled) };
        Ok(())
    }
}
