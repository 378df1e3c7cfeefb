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

use super::{add_pointer, attached, call, instance, none};
use crate::decoding;
use crate::message;
use crate::queue::RingQueue;

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

/// Calls such a function; a queue was not made without it.
///
/// # Safety
/// The interpreter is held, and keeps the arguments during the call.
unsafe fn call_at<const N: usize>(
    function: &'static PyOnceLock<Function>,
    arguments: [*mut ffi::PyObject; N],
) -> *mut ffi::PyObject {
    // SAFETY: the caller's promise.
    let py = unsafe { Python::assume_attached() };
    match function.get(py) {
        // SAFETY: a function of the binding's making, which belongs to no module, and its arguments.
        Some(function) => unsafe {
            (function.call)(null_mut(), arguments.as_ptr(), N as isize, null_mut())
        },
        None => attached(|_| Err(PyRuntimeError::new_err("no class of queues has been made"))),
    }
}

#[pyfunction]
fn put_anything(queue: &Bound<'_, RingQueue>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
    queue.get().put_and_wait(obj)
}

#[pyfunction]
fn get_anything<'py>(queue: &Bound<'py, RingQueue>) -> PyResult<Bound<'py, PyAny>> {
    queue.get().get_and_wait(queue.py())
}

unsafe extern "C" fn put(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    if count != 1 || !names.is_null() {
        // SAFETY: called by the interpreter as a method of `RingQueue`; so below.
        return attached(|py| unsafe {
            call::<RingQueue>(py, "put", slf, arguments, count, names)
        });
    }
    // SAFETY: as above.
    let this = unsafe { instance::<RingQueue>(slf) };
    // SAFETY: there is one argument.
    let item = unsafe { *arguments };
    // SAFETY: the interpreter calls methods attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: an object that the caller keeps during the call.
    let borrowed = unsafe { Borrowed::from_ptr(py, item) };
    if this.put_number(&borrowed) {
        return none();
    }
    // SAFETY: as above.
    unsafe { call_at(&PUT_ANYTHING, [slf, item]) }
}

unsafe extern "C" fn get(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    if count != 0 || !names.is_null() {
        // SAFETY: called by the interpreter as a method of `RingQueue`; so below.
        return attached(|py| unsafe {
            call::<RingQueue>(py, "get", slf, arguments, count, names)
        });
    }
    // SAFETY: as above.
    let this = unsafe { instance::<RingQueue>(slf) };
    let usual = this.get_likely_number(|family, message| {
        // SAFETY: the interpreter calls methods attached.
        let py = unsafe { Python::assume_attached() };
        if message::is_native(message)
            && let Some(number) = decoding::number(py, &message.payload)
        {
            return number.into_ptr();
        }
        attached(|py| this.decode(py, family, message))
    });
    // SAFETY: as above.
    usual.unwrap_or_else(|| unsafe { call_at(&GET_ANYTHING, [slf]) })
}
