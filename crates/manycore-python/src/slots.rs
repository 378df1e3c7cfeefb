//! What the slots of a class say: the same as its special methods, without looking them up by name.
#![allow(unsafe_code)] // the limited API has no safe call for it

use std::ffi::{c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

/// Whether attributes of a class's instances are found as those of `object`: it has no `__getattribute__` and no
/// `__getattr__` of its own.
pub fn has_plain_attributes(class: &Bound<'_, PyType>) -> bool {
    slot(class, ffi::Py_tp_getattro) == slot(&class.py().get_type::<PyAny>(), ffi::Py_tp_getattro)
}

/// What `class.__new__(class)` returns, or raises, if that is `object.__new__`; `None` if it is another one.
pub fn made_by_object<'py>(class: &Bound<'py, PyType>) -> Option<PyResult<Bound<'py, PyAny>>> {
    let py = class.py();
    let new = slot(class, ffi::Py_tp_new);
    if new.is_null() || new != slot(&py.get_type::<PyAny>(), ffi::Py_tp_new) {
        return None;
    }
    // SAFETY: what is in this slot is such a function.
    let new = unsafe { std::mem::transmute::<*mut c_void, ffi::newfunc>(new) };
    let no_arguments = PyTuple::empty(py);
    // SAFETY: the constructor of this class, which it has inherited, with an empty tuple.
    let made = unsafe {
        new(
            class.as_type_ptr(),
            no_arguments.as_ptr(),
            std::ptr::null_mut(),
        )
    };
    // SAFETY: a new reference, or null with an exception set.
    Some(unsafe { Bound::from_owned_ptr_or_err(py, made) })
}

fn slot(class: &Bound<'_, PyType>, id: c_int) -> *mut c_void {
    // SAFETY: a type object that lives, and the number of a slot that all types have.
    unsafe { ffi::PyType_GetSlot(class.as_type_ptr(), id) }
}
