//! The methods by which a lock is held.

use std::ffi::CStr;

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::{PyBool, PyDict, PyTuple, PyType};

use super::{add, add_pointer, attached, instance, none};

/// A class of locks, the way of which in the usual case is short.
pub trait Held: PyClass<Frozen = True> + Sync {
    /// Acquires it if nothing at all stands in the way.
    fn acquire_at_once(&self) -> bool;
    /// Acquires it; without `block` only if nobody has it.
    fn acquire_slowly(&self, py: Python<'_>, block: bool) -> PyResult<bool>;
    /// Releases it; `false`, and nothing was done, when that is an error.
    fn release_at_once(&self) -> bool;
    /// Releases it, or says why not.
    fn release_slowly(&self) -> PyResult<()>;
}

const ACQUIRE: &CStr = c"acquire($self, /, block=True, timeout=None)\n--\n\n\
    Acquires the lock; `False` when `timeout` seconds were not enough, or at once with `block=False`.";
const RELEASE: &CStr = c"release($self, /)\n--\n\nReleases the lock.";
const ENTER: &CStr = c"__enter__($self, /)\n--\n\nAcquires the lock.";
const EXIT: &CStr = c"__exit__($self, /, *_args)\n--\n\nReleases the lock.";

/// Adds what acquires and releases to a class of locks.
///
/// # Safety
/// The class is `T`, or derived from it.
pub(super) unsafe fn add_holding<T: Held>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let acquire = ffi::PyMethodDefPointer {
        PyCFunctionFastWithKeywords: acquire::<T>,
    };
    let flags = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
    // SAFETY: the caller's promise; so below.
    unsafe { add_pointer(class, c"acquire", ACQUIRE, acquire, flags) }?;
    // SAFETY: as above.
    unsafe { add(class, c"release", RELEASE, release::<T>, ffi::METH_NOARGS) }?;
    // SAFETY: as above.
    unsafe { add(class, c"__enter__", ENTER, enter::<T>, ffi::METH_NOARGS) }?;
    let exit = ffi::PyMethodDefPointer {
        PyCFunctionFast: exit::<T>,
    };
    // SAFETY: as above.
    unsafe { add_pointer(class, c"__exit__", EXIT, exit, ffi::METH_FASTCALL) }
}

unsafe extern "C" fn acquire<T: Held>(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a method of `T`.
    let this = unsafe { instance::<T>(slf) };
    // SAFETY: the interpreter gives so many arguments.
    match unsafe { usual_block(arguments, count, names) } {
        Some(_) if this.acquire_at_once() => truth(true),
        Some(block) => attached(|py| {
            let acquired = this.acquire_slowly(py, block)?;
            Ok(PyBool::new(py, acquired).to_owned().into_any())
        }),
        // SAFETY: as above.
        None => attached(|py| unsafe { acquire_with::<T>(py, slf, arguments, count, names) }),
    }
}

/// Whether to block, if that is all that is said, and said by place.
///
/// # Safety
/// There are so many arguments, and more if `names` names some.
#[inline(always)]
unsafe fn usual_block(
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> Option<bool> {
    match count {
        _ if !names.is_null() => None,
        0 => Some(true),
        1 => {
            // SAFETY: there is one.
            let block = unsafe { *arguments };
            // SAFETY: there is one `True`, which lasts for ever; so below.
            let is_true = block == unsafe { ffi::Py_True() };
            // SAFETY: as above.
            (is_true || block == unsafe { ffi::Py_False() }).then_some(is_true)
        }
        _ => None,
    }
}

/// Acquires by the method that looks through all arguments.
///
/// # Safety
/// Called by the interpreter as a method of `T` with these arguments, and names for the last of them.
unsafe fn acquire_with<'py, T: Held>(
    py: Python<'py>,
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> PyResult<Bound<'py, PyAny>> {
    let at = |n: usize| {
        // SAFETY: the caller asks for arguments that there are; so below.
        let argument = unsafe { arguments.add(n) };
        // SAFETY: as above.
        let argument = unsafe { *argument };
        // SAFETY: an object that the caller keeps during the call.
        unsafe { Borrowed::from_ptr(py, argument) }
    };
    // SAFETY: as above.
    let slf = unsafe { Borrowed::from_ptr(py, slf) };
    let count = usize::try_from(count).unwrap_or(0); // never negative
    let by_place = std::iter::once(slf).chain((0..count).map(at));
    let by_place = PyTuple::new(py, by_place.collect::<Vec<_>>())?;
    let by_name = PyDict::new(py);
    if !names.is_null() {
        // SAFETY: a tuple that the caller keeps during the call.
        let names = unsafe { Borrowed::from_ptr(py, names) };
        for (n, name) in names.cast::<PyTuple>()?.iter().enumerate() {
            by_name.set_item(name, at(count + n))?;
        }
    }
    let acquire = py.get_type::<T>().getattr("acquire")?;
    acquire.call(by_place, Some(&by_name))
}

unsafe extern "C" fn release<T: Held>(
    slf: *mut ffi::PyObject,
    _none: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a method of `T`.
    done(unsafe { instance::<T>(slf) })
}

unsafe extern "C" fn enter<T: Held>(
    slf: *mut ffi::PyObject,
    _none: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a method of `T`.
    let this = unsafe { instance::<T>(slf) };
    if this.acquire_at_once() {
        return truth(true);
    }
    attached(|py| {
        let acquired = this.acquire_slowly(py, true)?;
        Ok(PyBool::new(py, acquired).to_owned().into_any())
    })
}

unsafe extern "C" fn exit<T: Held>(
    slf: *mut ffi::PyObject,
    _arguments: *mut *mut ffi::PyObject,
    _count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a method of `T`.
    done(unsafe { instance::<T>(slf) })
}

/// Releases a lock, in a method.
#[inline(always)]
fn done<T: Held>(lock: &T) -> *mut ffi::PyObject {
    if lock.release_at_once() {
        return none();
    }
    attached(|py| {
        lock.release_slowly()?;
        Ok(py.None().into_bound(py))
    })
}

/// `True` or `False`, which the caller owns.
#[inline(always)]
fn truth(value: bool) -> *mut ffi::PyObject {
    // SAFETY: the interpreter is held.
    unsafe { ffi::PyBool_FromLong(value.into()) }
}
