//! One thing at a time, whatever the handlers of signals raise.

use pyo3::intern;
use pyo3::prelude::*;

use crate::calling;

/// Calls a function while this thread has a `threading.RLock`; whether it did, and what that returned. Not if the thread
/// has it already, nor, unless `blocking`, if another one has. In Python code the handler of a signal might raise between
/// acquiring the lock and whatever would release it.
#[pyfunction]
#[pyo3(signature = (lock, function, blocking=true))]
pub fn run_alone<'py>(
    lock: &Bound<'py, PyAny>,
    function: &Bound<'py, PyAny>,
    blocking: bool,
) -> PyResult<(bool, Bound<'py, PyAny>)> {
    let py = lock.py();
    let nothing = py.None().into_bound(py);
    let is_mine = lock.call_method0(intern!(py, "_is_owned"))?;
    if is_mine.is_truthy()? {
        return Ok((false, nothing));
    }
    let acquired = calling::call_method(lock, intern!(py, "acquire"), (blocking,))?;
    if !acquired.is_truthy()? {
        return Ok((false, nothing));
    }
    let returned = calling::call(function, ());
    calling::call_method(lock, intern!(py, "release"), ())?;
    returned.map(|it| (true, it))
}
