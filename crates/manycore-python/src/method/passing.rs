//! The methods by which items go into queues and out of them.
//!
//! Numbers go the short way. For all else a function of the binding's making is called, without looking for it.

use std::ffi::{CStr, CString, c_int};
use std::ptr::null_mut;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyType};

use super::{add_pointer, attached, instance, none};
use crate::codec;
use crate::errors;
use crate::message;
use crate::queue::RingQueue;
use crate::wait::deadline;

const FLAGS: c_int = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;

static PUT_ANYTHING: PyOnceLock<Function> = PyOnceLock::new();
static GET_ANYTHING: PyOnceLock<Function> = PyOnceLock::new();

/// Adds what puts and gets to a class of queues.
///
/// # Safety
/// The class is derived from `RingQueue`.
pub(super) unsafe fn add_passing(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    PUT_ANYTHING.get_or_try_init(py, || Function::of(wrap_pyfunction!(put_anything, py)?))?;
    GET_ANYTHING.get_or_try_init(py, || Function::of(wrap_pyfunction!(get_anything, py)?))?;
    for (name, function) in [
        (c"put", put as ffi::PyCFunctionFastWithKeywords),
        (c"get", get),
    ] {
        let doc = described(class, name)?;
        let function = ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: function,
        };
        // SAFETY: the caller's promise.
        unsafe { add_pointer(class, name, doc, function, FLAGS) }?;
    }
    Ok(())
}

/// What the method that a class has so far says of itself.
fn described(class: &Bound<'_, PyType>, name: &CStr) -> PyResult<&'static CStr> {
    let name = name.to_string_lossy();
    let method = class.getattr(&*name)?;
    let signature = method.getattr("__text_signature__")?;
    let doc = method.getattr("__doc__")?;
    let text = CString::new(format!("{name}{signature}\n--\n\n{doc}"))?;
    Ok(Box::leak(text.into_boxed_c_str()))
}

/// A function that the binding has made, as the interpreter calls it.
struct Function {
    call: ffi::PyCFunctionFastWithKeywords,
    /// What it belongs to, which keeps it.
    _object: Py<PyCFunction>,
}

impl Function {
    fn of(object: Bound<'_, PyCFunction>) -> PyResult<Self> {
        // SAFETY: a function object; so below.
        let flags = unsafe { ffi::PyCFunction_GetFlags(object.as_ptr()) };
        // SAFETY: as above.
        let function = unsafe { ffi::PyCFunction_GetFunction(object.as_ptr()) };
        match function {
            Some(function) if flags == FLAGS => Ok(Self {
                // SAFETY: the flags say that it takes these arguments.
                call: unsafe {
                    std::mem::transmute::<ffi::PyCFunction, ffi::PyCFunctionFastWithKeywords>(
                        function,
                    )
                },
                _object: object.unbind(),
            }),
            _ => Err(PyRuntimeError::new_err(
                "the binding makes functions of another kind",
            )),
        }
    }
}

/// The most arguments of these functions, the queue included.
const MOST: usize = 4;

/// Calls such a function with a queue and what a method of it was given; a queue was not made without it.
///
/// # Safety
/// Called by the interpreter as a method of `RingQueue` with these arguments, and names for the last of them.
unsafe fn call_with(
    function: &'static PyOnceLock<Function>,
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let named = if names.is_null() {
        0
    } else {
        // SAFETY: a tuple that the caller keeps during the call.
        unsafe { ffi::PyTuple_Size(names) }
    };
    // SAFETY: the interpreter calls methods attached.
    let py = unsafe { Python::assume_attached() };
    let Some(function) = function.get(py) else {
        return attached(|_| Err(PyRuntimeError::new_err("no class of queues has been made")));
    };
    let given = usize::try_from(count + named).unwrap_or(0); // never negative
    let mut all = Vec::new(); // of too many, which the function says
    let mut few = [slf; MOST];
    let place = if given < MOST {
        &mut few[..]
    } else {
        all.resize(given + 1, slf);
        &mut all[..]
    };
    for (n, place) in place.iter_mut().skip(1).take(given).enumerate() {
        // SAFETY: there are so many arguments; so below.
        let argument = unsafe { arguments.add(n) };
        // SAFETY: as above.
        *place = unsafe { *argument };
    }
    // SAFETY: a function of the binding's making, which belongs to no module, and its arguments.
    unsafe { (function.call)(null_mut(), place.as_ptr(), count + 1, names) }
}

#[pyfunction]
#[pyo3(name = "put", signature = (queue, obj, block=true, timeout=None))]
fn put_anything(
    queue: &Bound<'_, RingQueue>,
    obj: &Bound<'_, PyAny>,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<()> {
    queue.get().put_until(obj, deadline(block, timeout))
}

#[pyfunction]
#[pyo3(name = "get", signature = (queue, block=true, timeout=None))]
fn get_anything<'py>(
    queue: &Bound<'py, RingQueue>,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    let next = queue.get().next(queue.py(), deadline(block, timeout))?;
    next.ok_or_else(errors::shut_down)
}

unsafe extern "C" fn put(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    if count == 1 && names.is_null() {
        // SAFETY: called by the interpreter as a method of `RingQueue`; so below.
        let this = unsafe { instance::<RingQueue>(slf) };
        // SAFETY: as above.
        let py = unsafe { Python::assume_attached() };
        // SAFETY: there is one argument.
        let item = unsafe { *arguments };
        // SAFETY: an object that the caller keeps during the call.
        let item = unsafe { Borrowed::from_ptr(py, item) };
        if this.put_number(&item) {
            return none();
        }
    }
    // SAFETY: as above.
    unsafe { call_with(&PUT_ANYTHING, slf, arguments, count, names) }
}

unsafe extern "C" fn get(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    if count == 0 && names.is_null() {
        // SAFETY: called by the interpreter as a method of `RingQueue`; so below.
        let this = unsafe { instance::<RingQueue>(slf) };
        let usual = this.get_likely_number(|family, message| {
            // SAFETY: as above.
            let py = unsafe { Python::assume_attached() };
            if message::is_number(message)
                && let Some(number) = codec::decode_number(py, &message.payload)
            {
                return number.into_ptr();
            }
            attached(|py| this.decode(py, family, message))
        });
        if let Some(item) = usual {
            return item;
        }
    }
    // SAFETY: as above.
    unsafe { call_with(&GET_ANYTHING, slf, arguments, count, names) }
}
