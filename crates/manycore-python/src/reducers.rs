//! The reducers that the program has registered.
//!
//! There are two dicts of them, `copyreg`'s and the one of the standard library's `ForkingPickler`, and programs
//! change what is in both at any time: so both are asked each time.

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use crate::imported::imported;

/// What a pickler looks a class's reducer up in: what the program has registered by now, and what manycore adds.
#[pyclass(frozen, module = "manycore._engine")]
pub struct Reducers;

#[pymethods]
impl Reducers {
    #[new]
    fn new() -> Self {
        Self
    }

    /// The reducer of a class.
    ///
    /// Raises:
    ///     KeyError: When there is none.
    fn __getitem__<'py>(&self, class: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        static REDUCE_VIEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static VIEW: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let py = class.py();
        for registered in [extra(py)?, general(py)?] {
            if let Some(reducer) = registered.get_item(class)? {
                return Ok(reducer); // the program's own come first
            }
        }
        if class.is(imported(&VIEW, py, "builtins", "memoryview")?) {
            let reducer = imported(&REDUCE_VIEW, py, "manycore._pickling", "reduce_view")?;
            return Ok(reducer.clone());
        }
        Err(PyKeyError::new_err(class.clone().unbind()))
    }
}

/// Those of `copyreg`: the dict itself, which picklers of the standard library keep, too.
fn general(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    static GENERAL: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    imported(&GENERAL, py, "copyreg", "dispatch_table")
}

/// Those of `ForkingPickler`: the dict itself, which its class method adds to.
fn extra(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    static EXTRA: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    if let Some(extra) = EXTRA.get(py) {
        return Ok(extra.bind(py));
    }
    let pickler = py
        .import("multiprocessing.reduction")?
        .getattr("ForkingPickler")?;
    let extra = pickler.getattr("_extra_reducers")?;
    let _ = EXTRA.set(py, extra.cast_into::<PyDict>()?.unbind()); // or somebody else did
    Ok(EXTRA.get(py).expect("set by now").bind(py))
}

/// Whether the program has registered a way of its own to pickle objects of a type.
pub fn has_one(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    Ok(general(py)?.contains(class)? || extra(py)?.contains(class)?)
}
