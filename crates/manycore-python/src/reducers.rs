//! The reducers that the program has registered.
//!
//! There are two dicts of them, `copyreg`'s and the one of the standard library's `ForkingPickler`, and programs
//! change both at any time. A pickler has all in one dict, and a copy to tell whether they still are what they were.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use crate::imported::imported;

/// What was registered at some time. Keeps the objects, so that none with the same address can take their place.
pub struct Reducers {
    general: Entries,
    extra: Entries,
}

type Entries = Vec<(Py<PyAny>, Py<PyAny>)>;

impl Reducers {
    /// What is registered now.
    pub fn now(py: Python<'_>) -> PyResult<Self> {
        Ok(Self {
            general: entries(general(py)?),
            extra: entries(&extra(py)?),
        })
    }

    /// Whether the same is registered now.
    pub fn are_current(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(is_same(&self.general, general(py)?) && is_same(&self.extra, &extra(py)?))
    }

    /// All of them, and what manycore adds: the program's own come first.
    pub fn merged<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        static REDUCE_VIEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static VIEW: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let view = imported(&VIEW, py, "builtins", "memoryview")?;
        let reduce_view = imported(&REDUCE_VIEW, py, "manycore._pickling", "reduce_view")?;
        let merged = PyDict::new(py);
        merged.set_item(view, reduce_view)?;
        for (class, reduce) in self.general.iter().chain(&self.extra) {
            merged.set_item(class, reduce)?;
        }
        Ok(merged)
    }
}

fn entries(dict: &Bound<'_, PyDict>) -> Entries {
    dict.iter()
        .map(|(class, reduce)| (class.unbind(), reduce.unbind()))
        .collect()
}

fn is_same(entries: &Entries, dict: &Bound<'_, PyDict>) -> bool {
    dict.len() == entries.len()
        && dict
            .iter()
            .zip(entries)
            .all(|((class, reduce), known)| class.is(&known.0) && reduce.is(&known.1))
}

/// Those of `copyreg`: the dict itself, which picklers of the standard library keep, too.
fn general(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    static GENERAL: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    imported(&GENERAL, py, "copyreg", "dispatch_table")
}

/// Those of `ForkingPickler`.
fn extra(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    static PICKLER: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let pickler = imported(&PICKLER, py, "multiprocessing.reduction", "ForkingPickler")?;
    let extra = pickler.getattr(intern!(py, "_extra_reducers"))?;
    Ok(extra.cast_into::<PyDict>()?)
}

/// Whether the program has registered a way of its own to pickle objects of a type.
pub fn has_one(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    Ok(general(py)?.contains(class)? || extra(py)?.contains(class)?)
}
