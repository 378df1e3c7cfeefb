//! Python objects that are looked up once.

use pyo3::PyTypeCheck;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The attribute `name` of a module, kept in `cell`.
///
/// Nobody waits for anybody else's look-up, as [`PyOnceLock::import`] does: an import runs Python code, where the
/// collector may run a finalizer that comes here again, on the same thread; and a child forked meanwhile would
/// wait for a thread that it does not have. So it may be looked up twice, with the same outcome.
pub fn imported<'py, T>(
    cell: &'static PyOnceLock<Py<T>>,
    py: Python<'py>,
    module: &str,
    name: &str,
) -> PyResult<&'py Bound<'py, T>>
where
    T: PyTypeCheck,
{
    if cell.get(py).is_none() {
        let found = py.import(module)?.getattr(name)?.cast_into::<T>()?.unbind();
        let _ = cell.set(py, found); // or somebody else did
    }
    let found = cell.get(py).expect("set by now, and never taken out");
    Ok(found.bind(py))
}
