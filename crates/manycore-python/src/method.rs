//! Methods whose call would take longer than their work: they are the interpreter's own, of one argument or none.
//!
//! A method that the binding makes looks through names of arguments, counts how deep the interpreter is held and
//! stands ready to catch a panic, which together takes longer than an addition does. Here only the usual case is
//! dealt with, an `int` that fits, a lock that is free, a queue with room; all else goes the long way.
//!
//! The interpreter is quick with the methods of an object's very class only, so each class in Python gets its own.
#![allow(unsafe_code)] // the binding makes no such methods

use std::ffi::{CStr, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::PyClass;
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::ffi;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyType;

use crate::guarded::Guarded;
use crate::integer::{HasNumber, Number, Reading, SharedInteger, no_number, summand};
use crate::lock::{PlainLock, RecursiveLock};
use crate::queue::RingQueue;

mod held;
mod passing;

pub use held::Held;
use held::add_holding;
use passing::add_passing;

/// A class whose instances have integers.
pub trait Integral: PyClass<Frozen = True> + Sync + HasNumber {}
impl<T: PyClass<Frozen = True> + Sync + HasNumber> Integral for T {}

const LOAD: &CStr = c"load($self, /)\n--\n\nThe present value.";
const STORE: &CStr = c"store($self, new, /)\n--\n\nSets it to `new`; returns what it was.";
const EXCHANGE: &CStr = c"exchange($self, new, /)\n--\n\nSets it to `new`; returns what it was.";
const ADD: &CStr = c"add($self, number, /)\n--\n\nAdds `number`, wrapping; returns what it was.";
const SUB: &CStr =
    c"sub($self, number, /)\n--\n\nSubtracts `number`, wrapping; returns what it was.";
const GET_LOCK: &CStr = c"get_lock($self, /)\n--\n\nThe lock.";

/// Gives a class, which is derived from one here, methods of its own; returns it.
#[pyfunction]
pub fn quick<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    if class.is_subclass_of::<Guarded>()? {
        // SAFETY: instances of a class that is derived from this one; so below.
        unsafe { add_steps::<Guarded>(class) }?;
        // SAFETY: as above.
        unsafe { add(class, c"get_lock", GET_LOCK, get_lock, ffi::METH_NOARGS) }?;
    } else if class.is_subclass_of::<SharedInteger>()? {
        // SAFETY: as above.
        unsafe { add_steps::<SharedInteger>(class) }?;
    } else if class.is_subclass_of::<RecursiveLock>()? {
        // SAFETY: as above.
        unsafe { add_holding::<RecursiveLock>(class) }?;
    } else if class.is_subclass_of::<PlainLock>()? {
        // SAFETY: as above.
        unsafe { add_holding::<PlainLock>(class) }?;
    } else if class.is_subclass_of::<RingQueue>()? {
        // SAFETY: as above.
        unsafe { add_passing(class) }?;
    } else {
        return Err(PyTypeError::new_err("no class that has quick methods"));
    }
    Ok(class.clone())
}

/// Gives a class that is derived from `Guarded` the attribute `value`; returns it.
#[pyfunction]
pub fn quick_value<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    if !class.is_subclass_of::<Guarded>()? {
        return Err(PyTypeError::new_err("no class of guarded objects"));
    }
    let definition = Box::leak(Box::new(ffi::PyGetSetDef {
        name: c"value".as_ptr(),
        get: Some(value),
        set: Some(set_value),
        doc: c"The value, read and written with the lock held.".as_ptr(),
        closure: std::ptr::null_mut(),
    }));
    // SAFETY: a type object; the definition lasts for ever, and its functions are called with instances of the class.
    let attribute = unsafe { ffi::PyDescr_NewGetSet(class.as_type_ptr(), definition) };
    // SAFETY: a new reference, or null with an exception set.
    let attribute = unsafe { Bound::from_owned_ptr_or_err(class.py(), attribute) }?;
    class.setattr("value", attribute)?;
    Ok(class.clone())
}

/// Adds the operations of integers to a class.
///
/// # Safety
/// The class is `T`, or derived from it; so below.
unsafe fn add_steps<T: Integral>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let steps = [
        (
            c"load",
            LOAD,
            load::<T> as ffi::PyCFunction,
            ffi::METH_NOARGS,
        ),
        (c"store", STORE, exchange::<T>, ffi::METH_O),
        (c"exchange", EXCHANGE, exchange::<T>, ffi::METH_O),
        (c"add", ADD, fetch_add::<T>, ffi::METH_O),
        (c"sub", SUB, fetch_sub::<T>, ffi::METH_O),
    ];
    for (name, doc, function, flags) in steps {
        // SAFETY: the caller's promise.
        unsafe { add(class, name, doc, function, flags) }?;
    }
    Ok(())
}

/// Adds a method to a class.
///
/// # Safety
/// The function may be called as the flags say, with an instance of the class.
unsafe fn add(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    doc: &'static CStr,
    function: ffi::PyCFunction,
    flags: c_int,
) -> PyResult<()> {
    let function = ffi::PyMethodDefPointer {
        PyCFunction: function,
    };
    // SAFETY: the caller's promise.
    unsafe { add_pointer(class, name, doc, function, flags) }
}

/// The same, of a function of any kind.
///
/// # Safety
/// As for [`add`].
unsafe fn add_pointer(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    doc: &'static CStr,
    function: ffi::PyMethodDefPointer,
    flags: c_int,
) -> PyResult<()> {
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: function,
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    }));
    // SAFETY: a type object; the definition, its name and its text last for ever, and the function may be called so.
    let method = unsafe { ffi::PyDescr_NewMethod(class.as_type_ptr(), definition) };
    // SAFETY: a new reference, or null with an exception set.
    let method = unsafe { Bound::from_owned_ptr_or_err(class.py(), method) }?;
    class.setattr(name.to_string_lossy(), method)
}

/// What a method is called on.
///
/// # Safety
/// For a method of the class `T`, or one derived from it, called by the interpreter with `slf`, until it returns.
unsafe fn instance<'a, T: PyClass<Frozen = True> + Sync>(slf: *mut ffi::PyObject) -> &'a T {
    // SAFETY: the interpreter calls methods attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: an object that the caller keeps during the call.
    let slf = unsafe { Borrowed::from_ptr(py, slf) };
    // SAFETY: a method's descriptor checks that this is an instance of its class.
    let slf = unsafe { slf.cast_unchecked::<T>() };
    slf.get()
}

unsafe extern "C" fn load<T: Integral>(
    slf: *mut ffi::PyObject,
    _none: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a method of `T`.
    let this = unsafe { instance::<T>(slf) };
    let Some(number) = this.number() else {
        return attached(|_| Err(no_number()));
    };
    result(number, number.load())
}

unsafe extern "C" fn exchange<T: Integral>(
    slf: *mut ffi::PyObject,
    new: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a method of `T`.
    unsafe { change::<T>(slf, new, Number::exchange, Number::bits) }
}

unsafe extern "C" fn fetch_add<T: Integral>(
    slf: *mut ffi::PyObject,
    number: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a method of `T`.
    unsafe { change::<T>(slf, number, Number::fetch_add, |_, number| summand(number)) }
}

unsafe extern "C" fn fetch_sub<T: Integral>(
    slf: *mut ffi::PyObject,
    number: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a method of `T`.
    unsafe { change::<T>(slf, number, Number::fetch_sub, |_, number| summand(number)) }
}

/// Changes an integer by the bits of an argument; `convert` knows the bits of any argument.
///
/// # Safety
/// As for [`instance`]; `argument` is an object that the caller keeps during the call.
#[inline(always)]
unsafe fn change<T: Integral>(
    slf: *mut ffi::PyObject,
    argument: *mut ffi::PyObject,
    operate: impl FnOnce(Number, u64) -> u64,
    convert: impl FnOnce(Number, &Bound<'_, PyAny>) -> PyResult<u64>,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's promise.
    let this = unsafe { instance::<T>(slf) };
    let Some(number) = this.number() else {
        return attached(|_| Err(no_number()));
    };
    // SAFETY: an object.
    let usual = unsafe { usual_bits(number, argument) };
    if let Some(bits) = usual {
        return result(number, operate(number, bits));
    }
    attached(|py| {
        // SAFETY: an object that the caller keeps during the call.
        let argument = unsafe { Borrowed::from_ptr(py, argument) };
        let bits = convert(number, &argument)?;
        number.object(py, operate(number, bits))
    })
}

/// The bits of an `int` of at most 64 bits that goes into anything but a flag.
///
/// # Safety
/// The interpreter is held, and it is an object.
#[inline(always)]
unsafe fn usual_bits(number: Number, argument: *mut ffi::PyObject) -> Option<u64> {
    // SAFETY: the caller's promise.
    let is_int = unsafe { ffi::PyLong_CheckExact(argument) } == 1;
    if !is_int || number.reading == Reading::Flag {
        return None;
    }
    let mut is_over = 0;
    // SAFETY: an `int`, and a place for the answer whether it is too long.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(argument, &raw mut is_over) };
    (is_over == 0).then_some(value.cast_unsigned())
}

/// An integer of a result's bits, which the caller owns.
#[inline(always)]
fn result(number: Number, bits: u64) -> *mut ffi::PyObject {
    match number.reading {
        // SAFETY: the interpreter is held; so below.
        Reading::Signed => unsafe { ffi::PyLong_FromLongLong(number.signed(bits)) },
        // SAFETY: as above.
        Reading::Unsigned => unsafe { ffi::PyLong_FromUnsignedLongLong(bits) },
        // SAFETY: as above.
        Reading::Flag => unsafe { ffi::PyBool_FromLong((bits != 0).into()) },
    }
}

/// `None`, which the caller owns.
#[inline(always)]
fn none() -> *mut ffi::PyObject {
    // SAFETY: there is one `None`, which lasts for ever.
    let none = unsafe { ffi::Py_None() };
    // SAFETY: as above; the caller owns this reference.
    unsafe { ffi::Py_IncRef(none) };
    none
}

/// The long way: what may raise, or run Python code.
#[cold]
fn attached(
    work: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>>,
) -> *mut ffi::PyObject {
    Python::attach(|py| match caught(|| work(py)) {
        Ok(object) => object.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    })
}

/// What `work` returns; a panic is an exception, as the binding makes one of it.
fn caught<R>(work: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = (panic.downcast_ref::<String>().map(String::as_str))
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(PanicException::new_err(String::from(
            text.unwrap_or("a panic in Rust code"),
        )))
    })
}

/// The same for what returns nothing.
#[cold]
fn status(work: impl FnOnce(Python<'_>) -> PyResult<()>) -> c_int {
    Python::attach(|py| match caught(|| work(py)) {
        Ok(()) => 0,
        Err(error) => {
            error.restore(py);
            -1
        }
    })
}

unsafe extern "C" fn get_lock(
    slf: *mut ffi::PyObject,
    _none: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter as a method of `Guarded`.
    let this = unsafe { instance::<Guarded>(slf) };
    let lock = match this.lock() {
        Ok(lock) => lock.as_ptr(),
        Err(error) => return attached(|_| Err(error)),
    };
    // SAFETY: an object that the guarded one keeps; the caller owns this reference.
    unsafe { ffi::Py_IncRef(lock) };
    lock
}

unsafe extern "C" fn value(slf: *mut ffi::PyObject, _closure: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter for an attribute of a class that is derived from `Guarded`.
    let this = unsafe { instance::<Guarded>(slf) };
    match this.with_number(Number::load) {
        Some((number, bits)) => result(number, bits),
        None => attached(|py| this.value(py)),
    }
}

unsafe extern "C" fn set_value(
    slf: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    _closure: *mut c_void,
) -> c_int {
    // SAFETY: as in `value`.
    let this = unsafe { instance::<Guarded>(slf) };
    if value.is_null() {
        return status(|_| Err(PyAttributeError::new_err("`value` cannot be deleted")));
    }
    // SAFETY: an object.
    let usual = this
        .number()
        .and_then(|number| unsafe { usual_bits(number, value) });
    let done = usual.and_then(|bits| this.with_number(|number| number.put(bits)));
    if done.is_some() {
        return 0;
    }
    status(|py| {
        // SAFETY: an object that the caller keeps during the call.
        let value = unsafe { Borrowed::from_ptr(py, value) };
        this.set_value(&value)
    })
}
