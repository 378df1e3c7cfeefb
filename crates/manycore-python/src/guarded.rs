//! The class behind `Synchronized`: a shared object and the lock that guards it.

use std::sync::OnceLock;

use pyo3::PyTraverseError;
use pyo3::PyVisit;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::any_lock::AnyLock;
use crate::buffer::Memory;
use crate::calling::call_method;
use crate::integer::{HasNumber, Number, no_number, summand};
use crate::method::Held;

/// What a guarded object consists of.
struct Parts {
    object: Py<PyAny>,
    lock: AnyLock,
    number: Option<Number>, // lies in the object's memory
    /// Whether the attribute `value` is that number, and nothing else.
    is_value: bool,
    /// What it consists of since `__init__` was called again.
    later: OnceLock<Box<Parts>>,
}

/// A shared object and the lock that guards it. An integer can be changed without the lock, too, in one step.
#[pyclass(subclass, frozen, module = "manycore._engine")]
pub struct Guarded {
    parts: OnceLock<Parts>,
}

impl Guarded {
    /// What it consists of, once `__init__` was called. What it did before stays, for whoever is just using that.
    #[inline]
    fn present(&self) -> Option<&Parts> {
        let mut parts = self.parts.get()?;
        while let Some(later) = parts.later.get() {
            parts = later;
        }
        Some(parts)
    }

    #[inline]
    fn parts(&self) -> PyResult<&Parts> {
        self.present().ok_or_else(|| {
            PyRuntimeError::new_err("a class derived from this one did not call its `__init__`")
        })
    }

    /// The lock.
    #[inline]
    pub fn lock(&self) -> PyResult<&Py<PyAny>> {
        Ok(self.parts()?.lock.object())
    }
}

impl Guarded {
    /// Reads or writes the number that is the attribute `value`, with the lock held; `None`, and nothing was done, when
    /// there is none or the lock cannot be had at once.
    #[inline]
    pub fn with_number<R>(&self, work: impl FnOnce(Number) -> R) -> Option<(Number, R)> {
        let parts = self.present().filter(|parts| parts.is_value)?;
        let (number, lock) = (parts.number?, parts.lock.recursive()?);
        if lock.is_mine() {
            return Some((number, work(number)));
        }
        if !lock.acquire_at_once() {
            return None;
        }
        let done = work(number);
        lock.release_at_once();
        Some((number, done))
    }

    /// The attribute `value` of the object.
    pub fn value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.attribute(intern!(py, "value"))
    }

    /// Sets the attribute `value` of the object.
    pub fn set_value(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_attribute(intern!(value.py(), "value"), value)
    }

    fn attribute<'py>(&self, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        let (py, parts) = (name.py(), self.parts()?);
        parts
            .lock
            .during(py, || parts.object.bind(py).getattr(name))
    }

    fn set_attribute(&self, name: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, parts) = (name.py(), self.parts()?);
        parts
            .lock
            .during(py, || parts.object.bind(py).setattr(name, value))
    }
}

impl HasNumber for Guarded {
    #[inline]
    fn number(&self) -> Option<Number> {
        self.present()?.number
    }
}

#[pymethods]
impl Guarded {
    /// Takes any arguments, which are for `__init__`.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            parts: OnceLock::new(),
        }
    }

    /// Says what is guarded, by which lock, where the integer lies if it is one, and whether the attribute `value` is
    /// that integer.
    #[pyo3(signature = (obj, lock, place=None, is_value=false))]
    fn _guard(
        &self,
        obj: Py<PyAny>,
        lock: &Bound<'_, PyAny>,
        place: Option<(Bound<'_, Memory>, usize, usize, char)>,
        is_value: bool,
    ) -> PyResult<()> {
        let number = place
            .map(|(memory, at, size, letter)| Number::new(memory.get(), at, size, letter))
            .transpose()?;
        let parts = Parts {
            object: obj,
            lock: AnyLock::of(lock)?,
            number,
            is_value,
            later: OnceLock::new(),
        };
        if let Err(parts) = self.parts.set(parts) {
            let set = self.parts()?.later.set(Box::new(parts));
            debug_assert!(set.is_ok(), "the last one, with the interpreter held");
        }
        Ok(())
    }

    /// The object, without its lock.
    fn get_obj(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.parts()?.object.clone_ref(py))
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        call_method(self.lock()?.bind(py), intern!(py, "__enter__"), ())
    }

    #[pyo3(signature = (*args))]
    fn __exit__<'py>(&self, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        call_method(self.lock()?.bind(py), intern!(py, "__exit__"), args)
    }

    /// Sets it to `new` if it is `expected`; returns what it was, which is `expected` if it was set.
    #[pyo3(signature = (expected, new, /))]
    fn compare_exchange<'py>(
        &self,
        expected: &Bound<'py, PyAny>,
        new: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let number = self.number().ok_or_else(no_number)?;
        number.compare_exchange(expected, new)
    }

    fn __iadd__(&self, number: &Bound<'_, PyAny>) -> PyResult<()> {
        let own = self.number().ok_or_else(no_number)?;
        own.fetch_add(summand(number)?);
        Ok(())
    }

    fn __isub__(&self, number: &Bound<'_, PyAny>) -> PyResult<()> {
        let own = self.number().ok_or_else(no_number)?;
        own.fetch_sub(summand(number)?);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut next = self.parts.get();
        while let Some(parts) = next {
            visit.call(&parts.object)?;
            visit.call(parts.lock.object())?;
            next = parts.later.get().map(Box::as_ref);
        }
        Ok(())
    }
}

/// An attribute of a guarded object, which is read and written with the lock held.
#[pyclass(frozen, module = "manycore._engine")]
pub struct GuardedField {
    name: Py<PyString>,
}

#[pymethods]
impl GuardedField {
    /// The attribute `name`.
    #[new]
    fn new(name: Bound<'_, PyString>) -> Self {
        Self {
            name: name.unbind(),
        }
    }

    fn __get__<'py>(
        slf: Bound<'py, Self>,
        instance: &Bound<'py, PyAny>,
        _owner: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if instance.is_none() {
            return Ok(slf.into_any());
        }
        let guarded = instance.cast::<Guarded>()?.get();
        guarded.attribute(slf.get().name.bind(instance.py()))
    }

    fn __set__<'py>(
        slf: Bound<'py, Self>,
        instance: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let guarded = instance.cast::<Guarded>()?.get();
        guarded.set_attribute(slf.get().name.bind(instance.py()), value)
    }

    fn __delete__(&self, _instance: &Bound<'_, PyAny>) -> PyResult<()> {
        let name = &self.name;
        Err(PyAttributeError::new_err(format!(
            "attribute '{name}' cannot be deleted"
        )))
    }
}
