//! Calls of Python code, which may take longer than the program does.
//!
//! A program does not wait for its daemon threads when it ends. Before Python 3.14 such a thread is ended by
//! `pthread_exit` as soon as it wants the interpreter back, which unwinds its stack, and what it meets there of Rust
//! ends the process by `SIGABRT`. Here it sleeps for ever instead, as it does in Python 3.14, and as PyO3 has it do
//! where it attaches.
//!
//! PyO3 declares Python's functions as such that never unwind, and whoever calls one that is declared so has nothing
//! done where it does: here they are called by pointers of another type, whose origin the compiler does not see.
#![allow(unsafe_code)] // to call them so

use std::hint::black_box;
use std::mem::{forget, transmute};
use std::ptr::null_mut;

use pyo3::IntoPyObjectExt;
use pyo3::ffi::{PyErr_WriteUnraisable, PyIter_Next, PyObject, PyObject_Call, PyObject_GetIter};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyString, PyTuple};

type Call = unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject;
type UnwindingCall =
    unsafe extern "C-unwind" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject;
type Of = unsafe extern "C" fn(*mut PyObject) -> *mut PyObject;
type UnwindingOf = unsafe extern "C-unwind" fn(*mut PyObject) -> *mut PyObject;
type Show = unsafe extern "C" fn(*mut PyObject);
type UnwindingShow = unsafe extern "C-unwind" fn(*mut PyObject);

/// Sleeps for ever where the stack is unwound.
struct SleepsForEver;

impl Drop for SleepsForEver {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// Calls a function of the program's.
pub fn call<'py, A>(function: &Bound<'py, PyAny>, arguments: A) -> PyResult<Bound<'py, PyAny>>
where
    A: IntoPyObject<'py, Target = PyTuple>,
{
    call_with(function, arguments, None)
}

/// Calls a function of the program's, with arguments by name.
pub fn call_with<'py, A>(
    function: &Bound<'py, PyAny>,
    arguments: A,
    by_name: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>>
where
    A: IntoPyObject<'py, Target = PyTuple>,
{
    let py = function.py();
    let arguments = arguments.into_bound_py_any(py)?;
    let by_name = by_name.map_or(null_mut(), Bound::as_ptr);
    // SAFETY: the ABI is the same, but for what it says of unwinding.
    let call = unsafe { transmute::<Call, UnwindingCall>(black_box(PyObject_Call)) };
    let sleeps = SleepsForEver;
    // SAFETY: objects that live: a tuple, and null or a dict; the interpreter is attached.
    let returned = unsafe { call(function.as_ptr(), arguments.as_ptr(), by_name) };
    forget(sleeps);
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, returned) }
}

/// Calls a method of an object of the program's.
pub fn call_method<'py, A>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    arguments: A,
) -> PyResult<Bound<'py, PyAny>>
where
    A: IntoPyObject<'py, Target = PyTuple>,
{
    call(&object.getattr(name)?, arguments)
}

/// The next item of an iterator of the program's.
pub fn next<'py>(iterator: &Bound<'py, PyIterator>) -> Option<PyResult<Bound<'py, PyAny>>> {
    let py = iterator.py();
    // SAFETY: the ABI is the same, but for what it says of unwinding.
    let next = unsafe { transmute::<Of, UnwindingOf>(black_box(PyIter_Next)) };
    let sleeps = SleepsForEver;
    // SAFETY: an iterator that lives, and the interpreter is attached.
    let item = unsafe { next(iterator.as_ptr()) };
    forget(sleeps);
    // SAFETY: a new reference, or null; then an exception is set unless that was the last one.
    match unsafe { Bound::from_owned_ptr_or_opt(py, item) } {
        Some(item) => Some(Ok(item)),
        None => PyErr::take(py).map(Err),
    }
}

/// What goes through an object of the program's.
pub fn iter<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyIterator>> {
    // SAFETY: the ABI is the same, but for what it says of unwinding.
    let iter = unsafe { transmute::<Of, UnwindingOf>(black_box(PyObject_GetIter)) };
    let sleeps = SleepsForEver;
    // SAFETY: an object that lives, and the interpreter is attached.
    let iterator = unsafe { iter(object.as_ptr()) };
    forget(sleeps);
    // SAFETY: a new reference, or null with an exception set.
    let iterator = unsafe { Bound::from_owned_ptr_or_err(object.py(), iterator) }?;
    Ok(iterator.cast_into()?)
}

/// Shows an error that nobody could handle, in the way that the program has chosen.
pub fn show(error: PyErr, place: &Bound<'_, PyAny>) {
    error.restore(place.py());
    // SAFETY: the ABI is the same, but for what it says of unwinding.
    let show = unsafe { transmute::<Show, UnwindingShow>(black_box(PyErr_WriteUnraisable)) };
    let sleeps = SleepsForEver;
    // SAFETY: an object that lives; an exception is set, and the interpreter is attached.
    unsafe { show(place.as_ptr()) };
    forget(sleeps);
}
