//! Memory for what is received, used again: one of the modules of the binding with `unsafe`, see SAFETY.md.
//!
//! A program that receives one array after the other would have the kernel find, and zero, the pages of each anew,
//! since the C library gives memory of this size back: that takes longer than copying what is received.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::mem::ManuallyDrop;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use manycore_ipc::heap::Bytes;
use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::buffer::DETACHED;
use crate::errors::Error;

/// Buffers from this length on are in such memory: shorter ones the C library keeps itself.
pub const LEAST: usize = 128 << 10;

/// Bytes that are kept for later.
const KEPT: usize = 16 << 20;

/// Lengths are rounded up to a multiple of this, so that arrays of nearly the same length have each other's memory.
const STEP: usize = 64 << 10;

/// Memory that nobody uses. Who finds it locked goes without: after a `fork` it may be for ever.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Private memory with Python's buffer protocol, writable.
#[pyclass(frozen, weakref, module = "manycore._engine")]
pub struct Recycled {
    /// The parts of a vector, whose bytes Python code writes.
    address: AtomicPtr<u8>,
    len: usize,
    capacity: usize,
}

impl Recycled {
    /// A copy of heap bytes.
    pub fn copy_of(py: Python<'_>, bytes: Bytes) -> PyResult<Self> {
        let mut space = take(bytes.len())?;
        let mut copy = || bytes.append_to(0, bytes.len(), &mut space);
        if bytes.len() < DETACHED {
            copy()
        } else {
            py.detach(copy)
        }
        .map_err(Error::from)?;
        let mut space = ManuallyDrop::new(space);
        Ok(Self {
            address: AtomicPtr::new(space.as_mut_ptr()),
            len: space.len(),
            capacity: space.capacity(),
        })
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        let address = self.address.load(Relaxed); // never changed
        // SAFETY: the parts of a vector that was not dropped; no export is left, since each refers to this.
        give_back(unsafe { Vec::from_raw_parts(address, 0, self.capacity) });
    }
}

/// An empty vector with room for so many bytes.
fn take(len: usize) -> PyResult<Vec<u8>> {
    if let Ok(mut spare) = SPARE.try_lock() {
        let fits = |space: &Vec<u8>| (len..=2 * len).contains(&space.capacity());
        if let Some(place) = spare.iter().rposition(fits) {
            return Ok(spare.swap_remove(place));
        }
    }
    let mut space = Vec::new();
    space
        .try_reserve_exact(len.next_multiple_of(STEP))
        .map_err(|_| PyMemoryError::new_err(()))?;
    Ok(space)
}

/// Keeps memory for later, in place of what was kept for longest.
fn give_back(space: Vec<u8>) {
    let mut dropped = Vec::new(); // not under the lock
    if let Ok(mut spare) = SPARE.try_lock() {
        let mut kept: usize = spare.iter().map(Vec::capacity).sum();
        while kept + space.capacity() > KEPT && !spare.is_empty() {
            let oldest = spare.remove(0);
            kept -= oldest.capacity();
            dropped.push(oldest);
        }
        spare.push(space);
    }
}

#[pymethods]
impl Recycled {
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let own = slf.get();
        let address = own.address.load(Relaxed).cast();
        // SAFETY: there are `len` bytes at the address as long as `slf` lives, to which the view has a reference;
        // `view` comes from the interpreter. A vector's length fits.
        let rc = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), address, own.len as isize, 0, flags)
        };
        if rc == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(slf.py()))
        }
    }
}
