//! How the engine's errors look in Python.
//!
//! The exception classes themselves are Python's (`manycore.errors`): each is a subclass of what the
//! standard library would raise.

use manycore_ipc::map::MapError;
use manycore_ipc::ring::watch::WatchError;
use manycore_ipc::ring::{GetError, PutError};
use manycore_ipc::{AllocError, Corrupted, FamilyError, HandleError};
use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::calling;
use crate::imported::imported;
use crate::job::Job;

/// An error of the engine, on its way to Python.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A handle that leads nowhere, or no room.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// The family cannot be founded or joined.
    #[error(transparent)]
    Family(#[from] FamilyError),
    /// Shared memory was scribbled on.
    #[error(transparent)]
    Corrupted(#[from] Corrupted),
    /// The heap is full.
    #[error(transparent)]
    Alloc(#[from] AllocError),
    /// The system refused.
    #[error(transparent)]
    Os(#[from] std::io::Error),
    /// Python raised.
    #[error(transparent)]
    Python(#[from] PyErr),
}

fn raise(cell: &'static PyOnceLock<Py<PyType>>, module: &str, name: &str, text: String) -> PyErr {
    Python::attach(|py| match imported(cell, py, module, name) {
        Ok(class) if text.is_empty() => PyErr::from_type(class.clone(), ()),
        Ok(class) => PyErr::from_type(class.clone(), (text,)),
        Err(error) => error,
    })
}

const ERRORS: &str = "manycore.errors";

/// `concurrent.futures.CancelledError`, of a task that never ran.
#[cold]
pub fn withdrawn(py: Python<'_>) -> PyErr {
    let error = py
        .import("manycore._withdrawn")
        .and_then(|module| module.call_method0("withdrawn"));
    error.map_or_else(|error| error, PyErr::from_value)
}

/// `queue.Empty`.
pub fn empty() -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(&CLASS, "queue", "Empty", String::new())
}

/// `queue.Full`.
pub fn full() -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(&CLASS, "queue", "Full", String::new())
}

/// Whether an error is `manycore.ShutDown`.
pub fn is_shut_down(py: Python<'_>, error: &PyErr) -> bool {
    error.get_type(py).is(shut_down().get_type(py))
}

/// Whether an error is `queue.Empty`.
pub fn is_empty(py: Python<'_>, error: &PyErr) -> bool {
    error.get_type(py).is(empty().get_type(py))
}

/// `manycore.ShutDown`.
pub fn shut_down() -> PyErr {
    shut_down_by("")
}

/// `manycore.ShutDown`, of a pool.
#[cold]
pub fn pool_is_over() -> PyErr {
    shut_down_by("the pool was terminated before this task was handed out")
}

fn shut_down_by(text: &str) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(&CLASS, ERRORS, "ShutDown", text.to_owned())
}

/// `manycore.Corrupted`.
pub fn corrupted(what: &str) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(&CLASS, ERRORS, "Corrupted", what.to_owned())
}

fn handle_error(text: String) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(&CLASS, ERRORS, "HandleError", text)
}

fn heap_full(text: String) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(&CLASS, ERRORS, "HeapFull", text)
}

/// `OSError`, or the class of it that stands for the number, with the number.
fn os_error(error: std::io::Error) -> PyErr {
    let Some(number) = error.raw_os_error() else {
        return PyOSError::new_err(error.to_string());
    };
    Python::attach(|py| {
        let text = py
            .import("os")
            .and_then(|os| os.call_method1("strerror", (number,))?.extract::<String>());
        PyOSError::new_err((number, text.unwrap_or_default()))
    })
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Python(error) => error,
            Error::Handle(HandleError::Alloc(
                AllocError::HeapFull { .. }
                | AllocError::TooManyWait { .. }
                | AllocError::NoDescriptor,
            ))
            | Error::Alloc(
                AllocError::HeapFull { .. }
                | AllocError::TooManyWait { .. }
                | AllocError::NoDescriptor,
            ) => heap_full(text),
            Error::Corrupted(_)
            | Error::Alloc(_)
            | Error::Handle(HandleError::Corrupted(_) | HandleError::Alloc(_)) => corrupted(&text),
            Error::Handle(_) | Error::Family(FamilyError::Handle(_)) => handle_error(text),
            Error::Family(FamilyError::Os(error)) | Error::Os(error) => os_error(error),
            Error::Family(_) => PyRuntimeError::new_err(text),
        }
    }
}

/// Warns that the caller got a lock whose holder was killed.
pub fn warn_owner_died(py: Python<'_>, pid: u32, lock: &str) -> PyResult<()> {
    py.import(ERRORS)?
        .call_method1("warn_owner_died", (pid, lock))
        .map(drop)
}

/// What a lock raises whose holder was killed, until it is repaired.
pub fn owner_died(py: Python<'_>, pid: u32, lock: &str) -> PyErr {
    let refused = py.import(ERRORS).and_then(|errors| {
        errors
            .getattr("LockOwnerDied")?
            .call_method1("refused", (pid, lock))
    });
    refused.map_or_else(|error| error, PyErr::from_value)
}

/// What ends a wait that was interrupted: what the signal handlers raised, or `KeyboardInterrupt`.
pub fn interrupted(raised: Option<PyErr>) -> PyErr {
    raised.unwrap_or_else(|| PyKeyboardInterrupt::new_err(()))
}

/// What `get` raises. `raised` is what the signal handlers raised, if they did.
pub fn from_get(error: GetError, raised: Option<PyErr>) -> PyErr {
    match error {
        GetError::Empty => empty(),
        GetError::Interrupted => interrupted(raised),
        GetError::Corrupted(error) => Error::from(error).into(),
        GetError::Closed | GetError::Ended => shut_down(),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

/// What `put` raises.
pub fn from_put(error: PutError, raised: Option<PyErr>) -> PyErr {
    match error {
        PutError::Full => full(),
        PutError::Interrupted => interrupted(raised),
        PutError::Closed => shut_down(),
        PutError::Untold(number) => PyOSError::new_err((number, error.to_string())),
        PutError::Alloc(error) => Error::from(error).into(),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

/// What a map raises.
pub fn from_map(error: MapError, raised: Option<PyErr>) -> PyErr {
    match error {
        MapError::Interrupted => interrupted(raised),
        MapError::KeyTooLong(_) => PyValueError::new_err(error.to_string()),
        MapError::Alloc(error) => Error::from(error).into(),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

/// What polling raises.
pub fn from_watch(error: WatchError) -> PyErr {
    match error {
        WatchError::Os(error) => os_error(error),
        WatchError::Ring(error) => from_put(error, None),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

/// As [`call_showing_errors`], but Ctrl-C, which may come while it runs, goes to who waits for answers.
pub fn call_unless_interrupted(function: &Bound<'_, PyAny>) -> PyResult<()> {
    match calling::call(function, ()) {
        Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(function.py()) => Err(error),
        Err(error) => {
            calling::show(error, function);
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// Calls a function; what it raises is shown, since nobody could handle it.
#[pyfunction]
pub fn call_showing_errors(function: &Bound<'_, PyAny>) {
    if let Err(error) = calling::call(function, ()) {
        calling::show(error, function);
    }
}

/// Has an error that was raised in this process say with which task that was.
#[cold]
pub fn note_place(job: &Bound<'_, Job>, task: usize, error: &Bound<'_, PyAny>, place: &str) {
    let py = job.py();
    let noted = py
        .import("manycore._descriptions")
        .and_then(|module| module.getattr("note"))
        .and_then(|note| calling::call(&note, (error, place, job, task)));
    drop(noted); // some errors take none
}
