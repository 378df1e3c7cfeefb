//! Objects that Python's collector walks only while there is a reason to, as the interpreter's own tuples; and
//! instances of classes in Python that are made here.
//!
//! A program may hold a hundred thousand results that were not fetched yet. To walk them again and again takes
//! longer than all else that is done for them, and nothing that they refer to leads back to them.
#![allow(unsafe_code)] // the binding neither stops the collector's walking nor makes such instances

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::{PyString, PyTuple, PyType};

use crate::slots;

/// Makes instances of a class in Python that is derived from one here, `T`: without its `__init__`.
pub struct Maker<T> {
    make: ffi::newfunc,
    class: Py<PyType>,
    no_arguments: Py<PyTuple>,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T: PyClass<Frozen = True>> Maker<T> {
    /// What makes instances of a class.
    ///
    /// # Errors
    /// When it is not derived from `T`.
    pub fn of(class: &Bound<'_, PyType>) -> PyResult<Self> {
        let py = class.py();
        if !class.is_subclass_of::<T>()? {
            return Err(pyo3::exceptions::PyTypeError::new_err(
                "no class of results",
            ));
        }
        let make = slots::constructor(&py.get_type::<T>());
        Ok(Self {
            make: make.expect("the class has a constructor"),
            class: class.clone().unbind(),
            no_arguments: PyTuple::empty(py).unbind(),
            of: std::marker::PhantomData,
        })
    }

    /// A new instance. The collector does not walk it until [`track`] is called.
    #[inline]
    pub fn make<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, T>> {
        let (class, no_arguments) = (self.class.bind(py), self.no_arguments.bind(py));
        // SAFETY: the constructor of `T`, and a class that is derived from `T`.
        let made = unsafe { slots::construct(self.make, class, no_arguments) }?;
        // SAFETY: an object that lives; one that is not walked stays so.
        unsafe { ffi::PyObject_GC_UnTrack(made.as_ptr().cast()) };
        // SAFETY: an instance of a class that is derived from `T`.
        Ok(unsafe { made.cast_into_unchecked() })
    }

    /// The class.
    pub fn class(&self) -> &Py<PyType> {
        &self.class
    }
}

/// Whether the collector walks an object.
#[inline]
pub fn is_tracked(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: an object that lives, with the interpreter attached.
    unsafe { ffi::PyObject_GC_IsTracked(object.as_ptr()) == 1 }
}

/// Has the collector walk an object that can refer to others.
#[inline]
pub fn track<T: PyClass>(object: &Bound<'_, T>) {
    if !is_tracked(object.as_any()) {
        // SAFETY: a whole object of a class that the collector can walk, which it does not do so far; both are
        // true until this returns, since the interpreter is held.
        unsafe { ffi::PyObject_GC_Track(object.as_ptr().cast()) };
    }
}

/// Shows an object that `owner` refers to, to the collector as it walks the owner.
///
/// One that the collector does not walk, and nobody else has, is walked as a part of its owner.
pub fn visit<T: PyClass<Frozen = True> + Sync>(
    object: &Py<T>,
    visit: &PyVisit<'_>,
    walk: impl FnOnce(&T) -> Result<(), PyTraverseError>,
) -> Result<(), PyTraverseError> {
    // SAFETY: an object that lives; the collector's thread holds the interpreter.
    let is_tracked = unsafe { ffi::PyObject_GC_IsTracked(object.as_ptr()) == 1 };
    // SAFETY: as above.
    let is_shared = unsafe { ffi::Py_REFCNT(object.as_ptr()) != 1 };
    if is_tracked {
        return visit.call(object);
    }
    if is_shared {
        Ok(())
    } else {
        walk(object.get())
    }
}

/// Sets or deletes an attribute as `object` does.
pub fn set_plainly<T: PyClass>(
    object: &Bound<'_, T>,
    name: &Bound<'_, PyString>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let value = value.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: objects that live; null for the value deletes.
    let rc = unsafe { ffi::PyObject_GenericSetAttr(object.as_ptr(), name.as_ptr(), value) };
    if rc == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(object.py()))
    }
}
