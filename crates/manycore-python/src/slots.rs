//! What the slots of a class say: the same as its special methods, without looking them up by name.
#![allow(unsafe_code)] // the limited API has no safe call for it

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

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
    let (py, id) = (class.py(), ffi::Py_tp_new);
    if slot(class, id) != slot(&py.get_type::<PyAny>(), id) {
        return None;
    }
    let new = constructor(class)?;
    // SAFETY: the class's own, which it has inherited.
    Some(unsafe { construct(new, class, &PyTuple::empty(py)) })
}

/// What makes instances of a class, and of those that are derived from it.
pub fn constructor(class: &Bound<'_, PyType>) -> Option<ffi::newfunc> {
    let new = slot(class, ffi::Py_tp_new);
    // SAFETY: what is in this slot is such a function.
    (!new.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, ffi::newfunc>(new) })
}

/// Makes an instance without arguments, which are given for not being made each time.
///
/// # Safety
/// The constructor is that of the class, or of one that it is derived from.
#[inline]
pub unsafe fn construct<'py>(
    new: ffi::newfunc,
    class: &Bound<'py, PyType>,
    no_arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the caller's promise; a class and an empty tuple that live.
    let made = unsafe { new(class.as_type_ptr(), no_arguments.as_ptr(), null_mut()) };
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(class.py(), made) }
}

fn slot(class: &Bound<'_, PyType>, id: c_int) -> *mut c_void {
    // SAFETY: a type object that lives, and the number of a slot that all types have.
    unsafe { ffi::PyType_GetSlot(class.as_type_ptr(), id) }
}
