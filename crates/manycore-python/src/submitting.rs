//! Single calls of pools and executors: the usual ones in as few steps as can be.
//!
//! The classes that users see are derived from these in Python, which does all that is not usual.

use std::sync::OnceLock;

use pyo3::PyClass;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::calling;
use crate::crew::Crew;
use crate::job::Job;
use crate::result::{Call, Promise};
use crate::tracking::Maker;

/// What a usual call needs.
struct Shortcut<T> {
    crew: Py<Crew>,
    results: Maker<T>,
}

impl<T: PyClass<Frozen = True, BaseType = Job>> Shortcut<T> {
    /// Hands out a call, if this is a usual time and a usual function; else `None`, and nothing is done.
    #[inline]
    fn submit<'py>(
        &self,
        pool: &Bound<'py, PyAny>,
        function: &Bound<'py, PyAny>,
        arguments: &Bound<'py, PyTuple>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Option<Bound<'py, T>>> {
        let py = pool.py();
        let crew = self.crew.get();
        if !crew.is_at_ease() {
            return Ok(None);
        }
        let Some((head, bytes)) = crew.head_of(function) else {
            return Ok(None);
        };
        let result = self.results.make(py)?;
        let job = result.as_super();
        job.get().begin_single(
            py,
            pool.clone().unbind(),
            function.clone().unbind(),
            arguments.clone().unbind(),
            keywords.map(|it| it.clone().unbind()),
            head,
        )?;
        crew.call_at_once(job, bytes, arguments, keywords)?;
        Ok(Some(result))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.crew)?;
        visit.call(self.results.class())
    }
}

/// What was given for an argument, if it was: also `None`.
#[derive(Default)]
struct Given<'py>(Option<Bound<'py, PyAny>>);

impl<'py> FromPyObject<'_, 'py> for Given<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(Some(object.to_owned())))
    }
}

/// The base of a pool's calls.
#[pyclass(frozen, subclass, module = "manycore._engine")]
pub struct PoolCalls(OnceLock<Shortcut<Call>>);

#[pymethods]
impl PoolCalls {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self(OnceLock::new())
    }

    /// From now on usual calls are handed to this crew at once. `results` is the class of what they return.
    fn _take_shortcut(&self, crew: Py<Crew>, results: &Bound<'_, PyType>) -> PyResult<()> {
        set(&self.0, crew, results)
    }

    /// Has a worker run `func(*args, **kwds)`; returns an `ApplyResult` at once.
    #[pyo3(
        signature = (func, args=Given(None), kwds=None, callback=None, error_callback=None, **options),
        text_signature = "($self, func, args=(), kwds={}, callback=None, error_callback=None, **options)"
    )]
    fn apply_async<'py>(
        slf: &Bound<'py, Self>,
        func: &Bound<'py, PyAny>,
        args: Given<'py>,
        kwds: Option<&Bound<'py, PyAny>>,
        callback: Option<&Bound<'py, PyAny>>,
        error_callback: Option<&Bound<'py, PyAny>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let args = args
            .0
            .unwrap_or_else(|| PyTuple::empty(slf.py()).into_any());
        let is_usual = kwds.is_none() && callback.is_none() && error_callback.is_none();
        if is_usual
            && options.is_none()
            && let Some(shortcut) = slf.get().0.get()
            && let Ok(arguments) = args.cast_exact::<PyTuple>()
            && let Some(result) = shortcut.submit(slf, func, arguments, None)?
        {
            return Ok(result.into_any());
        }
        let all = (func, args, kwds, callback, error_callback);
        let later = slf.getattr(intern!(slf.py(), "_apply_async"))?;
        calling::call_with(&later, all, options)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.get().map_or(Ok(()), |it| it.traverse(&visit))
    }
}

/// The base of executors.
#[pyclass(frozen, subclass, module = "manycore._engine")]
pub struct ExecutorCalls(OnceLock<(Shortcut<Promise>, Py<PyAny>)>);

#[pymethods]
impl ExecutorCalls {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self(OnceLock::new())
    }

    /// From now on usual calls are handed to this crew, of this pool, at once. `results` is the class of what they
    /// return.
    fn _take_shortcut(
        &self,
        crew: Py<Crew>,
        pool: Py<PyAny>,
        results: &Bound<'_, PyType>,
    ) -> PyResult<()> {
        let results = Maker::of(results)?;
        let _ = self.0.set((Shortcut { crew, results }, pool)); // another thread may have been sooner
        Ok(())
    }

    /// Has a worker run `fn(*args, **kwargs)`; returns a future at once.
    ///
    /// What cannot be pickled is the future's exception.
    ///
    /// Raises:
    ///     RuntimeError: After `shutdown`.
    ///     BrokenProcessPool: When workers cannot start.
    #[pyo3(
        signature = (r#fn, /, *args, **kwargs),
        text_signature = "($self, fn, /, *args, **kwargs)"
    )]
    fn submit<'py>(
        slf: &Bound<'py, Self>,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some((shortcut, pool)) = slf.get().0.get()
            && let Some(result) = shortcut.submit(pool.bind(slf.py()), r#fn, args, kwargs)?
        {
            return Ok(result.into_any());
        }
        let kwargs = kwargs.cloned().unwrap_or_else(|| PyDict::new(slf.py()));
        calling::call_method(slf, intern!(slf.py(), "_submit"), (r#fn, args, kwargs))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some((shortcut, pool)) = self.0.get() else {
            return Ok(());
        };
        shortcut.traverse(&visit)?;
        visit.call(pool)
    }
}

fn set<T: PyClass<Frozen = True>>(
    place: &OnceLock<Shortcut<T>>,
    crew: Py<Crew>,
    results: &Bound<'_, PyType>,
) -> PyResult<()> {
    let results = Maker::of(results)?;
    place
        .set(Shortcut { crew, results })
        .map_err(|_| PyRuntimeError::new_err("the calls of a pool have one crew"))
}
