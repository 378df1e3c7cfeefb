//! What single calls return: the parts that a program with a hundred thousand of them spends its time in.
//!
//! The classes that users see are derived from these in Python, which has all that is done more rarely.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::calling;
use crate::job::Job;

/// The base of `ApplyResult`.
#[pyclass(frozen, subclass, extends = Job, module = "manycore._engine")]
pub struct Call;

#[pymethods]
impl Call {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(
        _arguments: &Bound<'_, PyTuple>,
        _keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Job::blank()).add_subclass(Self)
    }

    /// The result; waits for it. In asyncio it can be awaited instead.
    ///
    /// Raises:
    ///     TimeoutError: When `timeout` seconds were not enough.
    ///     Exception: What the call raised.
    #[pyo3(signature = (timeout=None))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match slf.as_super().get().returned(slf.py()) {
            Some(value) => Ok(value.into_bound(slf.py())),
            None => calling::call_method(slf, intern!(slf.py(), "_get"), (timeout,)),
        }
    }
}

/// The base of executors' futures.
#[pyclass(frozen, subclass, extends = Job, module = "manycore._engine")]
pub struct Promise;

#[pymethods]
impl Promise {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(
        _arguments: &Bound<'_, PyTuple>,
        _keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Job::blank()).add_subclass(Self)
    }

    /// What the call returned; waits for it.
    ///
    /// Raises:
    ///     TimeoutError: When `timeout` seconds were not enough.
    ///     CancelledError: When the call was cancelled.
    ///     BrokenProcessPool: When the worker that ran the call ended, or workers cannot start.
    ///     Exception: What the call raised.
    #[pyo3(signature = (timeout=None))]
    fn result<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match slf.as_super().get().returned(slf.py()) {
            Some(value) => Ok(value.into_bound(slf.py())),
            None => calling::call_method(slf, intern!(slf.py(), "_wait_for_result"), (timeout,)),
        }
    }
}
