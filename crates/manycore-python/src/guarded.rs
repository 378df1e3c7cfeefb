//! The class behind `Synchronized`: a shared object and the lock that guards it.

use std::sync::OnceLock;

use pyo3::PyTraverseError;
use pyo3::PyVisit;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::buffer::Memory;
use crate::integer::{HasNumber, Number, no_number, summand};
use crate::lock::{PlainLock, RecursiveLock};
use crate::method::Held;

/// A lock, and how to acquire it.
enum Guard {
    Plain(Py<PlainLock>),
    Recursive(Py<RecursiveLock>),
    /// One of the program's own.
    Other(Py<PyAny>),
}

impl Guard {
    /// A lock of ours is acquired and released without a look-up, unless its class does that in its own way.
    fn of(lock: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = lock.py();
        if let Ok(plain) = lock.cast::<PlainLock>() {
            if is_as_in(lock, &py.get_type::<PlainLock>())? {
                return Ok(Self::Plain(plain.clone().unbind()));
            }
        } else if let Ok(recursive) = lock.cast::<RecursiveLock>() {
            if is_as_in(lock, &py.get_type::<RecursiveLock>())? {
                return Ok(Self::Recursive(recursive.clone().unbind()));
            }
        }
        Ok(Self::Other(lock.clone().unbind()))
    }

    fn acquire(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Plain(lock) => lock.get().acquire(py, true, None).map(drop),
            Self::Recursive(lock) => lock.get().acquire(py, true, None).map(drop),
            Self::Other(lock) => lock.call_method0(py, intern!(py, "acquire")).map(drop),
        }
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Plain(lock) => lock.get().release(),
            Self::Recursive(lock) => lock.get().release(),
            Self::Other(lock) => lock.call_method0(py, intern!(py, "release")).map(drop),
        }
    }

    /// Runs `work` with the lock held.
    fn during<R>(&self, py: Python<'_>, work: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        if let Self::Recursive(lock) = self {
            if lock.get().is_mine() {
                return work(); // as within `with v.get_lock()`
            }
        }
        self.acquire(py)?;
        let result = work();
        self.release(py)?;
        result
    }

    fn recursive(&self) -> Option<&RecursiveLock> {
        match self {
            Self::Recursive(lock) => Some(lock.get()),
            _ => None,
        }
    }

    fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Plain(lock) => lock.as_any(),
            Self::Recursive(lock) => lock.as_any(),
            Self::Other(lock) => lock,
        }
    }
}

/// Whether a lock's class acquires and releases as one of ours does.
fn is_as_in(lock: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<bool> {
    let own = lock.get_type();
    for name in ["acquire", "release"] {
        if !own.getattr(name)?.is(class.getattr(name)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a guarded object consists of.
struct Parts {
    object: Py<PyAny>,
    guard: Guard,
    number: Option<Number>, // lies in the object's memory
    /// Whether the attribute `value` is that number, and nothing else.
    is_value: bool,
}

/// A shared object and the lock that guards it. An integer can be changed without the lock, too, in one step.
#[pyclass(subclass, frozen, module = "manycore._engine")]
pub struct Guarded {
    parts: OnceLock<Parts>,
}

impl Guarded {
    #[inline]
    fn parts(&self) -> PyResult<&Parts> {
        self.parts.get().ok_or_else(|| {
            PyRuntimeError::new_err("a class derived from this one did not call its `__init__`")
        })
    }

    /// The lock.
    #[inline]
    pub fn lock(&self) -> PyResult<&Py<PyAny>> {
        Ok(self.parts()?.guard.object())
    }
}

impl Guarded {
    /// Reads or writes the number that is the attribute `value`, with the lock held; `None`, and nothing was done, when
    /// there is none or the lock cannot be had at once.
    #[inline]
    pub fn with_number<R>(&self, work: impl FnOnce(Number) -> R) -> Option<(Number, R)> {
        let parts = self.parts.get().filter(|parts| parts.is_value)?;
        let (number, lock) = (parts.number?, parts.guard.recursive()?);
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
            .guard
            .during(py, || parts.object.bind(py).getattr(name))
    }

    fn set_attribute(&self, name: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, parts) = (name.py(), self.parts()?);
        parts
            .guard
            .during(py, || parts.object.bind(py).setattr(name, value))
    }
}

impl HasNumber for Guarded {
    #[inline]
    fn number(&self) -> Option<Number> {
        self.parts.get()?.number
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
            guard: Guard::of(lock)?,
            number,
            is_value,
        };
        let set = self.parts.set(parts);
        set.map_err(|_| PyRuntimeError::new_err("`__init__` was called twice"))
    }

    /// The object, without its lock.
    fn get_obj(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.parts()?.object.clone_ref(py))
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.lock()?.bind(py).call_method0(intern!(py, "__enter__"))
    }

    #[pyo3(signature = (*args))]
    fn __exit__<'py>(&self, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        self.lock()?
            .bind(py)
            .call_method1(intern!(py, "__exit__"), args)
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
        let Some(parts) = self.parts.get() else {
            return Ok(());
        };
        visit.call(&parts.object)?;
        visit.call(parts.guard.object())
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
