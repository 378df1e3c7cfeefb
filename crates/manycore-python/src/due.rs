//! What the program is to be called with, one after the other, by one thread: a pool's keeper.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, ThreadId};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::calling;
use crate::crew::Crew;
use crate::errors::call_showing_errors;
use crate::gil_cell::GilCell;

/// The functions that wait to be called by the one thread that calls the program back.
///
/// What adds one runs no Python code where there is such a thread: a signal would be handled in the midst of it,
/// and the function be lost with what its handler raises.
#[pyclass(frozen, module = "manycore._engine")]
pub struct Due {
    crew: Py<Crew>,
    queue: GilCell<VecDeque<Py<PyAny>>>,
    /// The thread, while there is one.
    caller: GilCell<Option<ThreadId>>,
    /// What has a thread started.
    start: OnceLock<Py<PyAny>>,
    added: AtomicU64,
    called: AtomicU64,
}

#[pymethods]
impl Due {
    /// For the crew of a pool, which is rung when a function is added.
    #[new]
    fn new(crew: Py<Crew>) -> Self {
        Self {
            crew,
            queue: GilCell::default(),
            caller: GilCell::default(),
            start: OnceLock::new(),
            added: AtomicU64::new(0),
            called: AtomicU64::new(0),
        }
    }

    /// Calls `start()` when a function was added and there is no thread. To be called once.
    fn when_alone(&self, start: Py<PyAny>) {
        let _ = self.start.set(start); // the first one stays
    }

    /// Adds a function. In a forked copy it is called at once, and what was inherited is not.
    pub fn add(&self, py: Python<'_>, function: Py<PyAny>) -> PyResult<()> {
        let crew = self.crew.get();
        if !crew.is_ours() {
            let inherited = std::mem::take(&mut *self.queue.lock(py));
            drop(inherited); // not while it is in use: it may run Python code
            call_showing_errors(function.bind(py));
            return Ok(());
        }
        self.queue.lock(py).push_back(function);
        self.added.fetch_add(1, Relaxed); // who counts holds the interpreter
        if self.is_here(py) {
            return Ok(()); // it looks before it sleeps
        }
        crew.ring();
        match self.start.get() {
            Some(start) if !crew.is_kept() => calling::call(start.bind(py), ()).map(drop),
            _ => Ok(()),
        }
    }

    /// Takes the next function out, if there is one. Once it has returned, `note_called` is to be called.
    fn next(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.queue.lock(py).pop_front()
    }

    /// Notes that a function has returned.
    fn note_called(&self) {
        self.called.fetch_add(1, Relaxed); // as for `added`
    }

    /// How many functions have been added.
    #[getter]
    fn added(&self) -> u64 {
        self.added.load(Relaxed) // as in `add`
    }

    /// How many of them have been called, and have returned.
    #[getter]
    fn called(&self) -> u64 {
        self.called.load(Relaxed) // as in `add`
    }

    /// Whether functions wait.
    fn __bool__(&self, py: Python<'_>) -> bool {
        !self.queue.lock(py).is_empty()
    }

    /// Whether this is the thread that calls them.
    #[getter]
    fn is_here(&self, py: Python<'_>) -> bool {
        *self.caller.lock(py) == Some(thread::current().id())
    }

    /// Notes that a thread is about to be started; false where there is one.
    fn begin(&self) -> bool {
        self.crew.get().begin_keeping()
    }

    /// By the thread that was started: whether it is the one that calls.
    fn settle(&self, py: Python<'_>) -> bool {
        let mut caller = self.caller.lock(py);
        if caller.is_some() {
            return false; // it comes late: who has started it was interrupted, and another was started
        }
        *caller = Some(thread::current().id());
        self.crew.get().begin_keeping();
        true
    }

    /// By that thread: it is no more.
    fn leave(&self, py: Python<'_>) {
        *self.caller.lock(py) = None;
        self.crew.get().end_keeping();
    }

    /// Notes that no thread was started.
    fn give_up(&self, py: Python<'_>) {
        if self.caller.lock(py).is_none() {
            self.crew.get().end_keeping();
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.crew)?;
        if let Some(start) = self.start.get() {
            visit.call(start)?;
        }
        if let Some(queue) = self.queue.seen_by(&visit) {
            for function in queue.iter() {
                visit.call(function)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let taken = Python::attach(|py| std::mem::take(&mut *self.queue.lock(py)));
        drop(taken); // when it is not in use: it may run Python code
    }
}
