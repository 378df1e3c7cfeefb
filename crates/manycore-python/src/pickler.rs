//! The C pickler, driven from here: one for each thread, used again for every message.
//!
//! A pickler is out of its place while it works, so that a reducer, a finalizer or a signal handler which puts
//! something into a queue meanwhile gets one of its own. It comes back only when all went well: one that is in the
//! middle of an object is thrown away.

use std::cell::Cell;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::calling;
use crate::imported::imported;
use crate::pieces::{Pickled, Pieces};
use crate::reducers::Reducers;

thread_local! {
    /// The pickler of this thread, unless it works.
    static IDLE: Cell<Option<Box<Pickler>>> = const { Cell::new(None) };
}

/// A pickler of the standard library's and what it writes to.
struct Pickler {
    dump: Py<PyAny>,
    clear_memo: Py<PyAny>,
    pieces: Py<Pieces>,
}

impl Pickler {
    fn new(py: Python<'_>) -> PyResult<Box<Self>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = imported(&CLASS, py, "pickle", "Pickler")?;
        let pieces = Bound::new(py, Pieces::default())?;
        let options = PyDict::new(py);
        options.set_item("buffer_callback", &pieces)?;
        let pickler = class.call((&pieces, 5), Some(&options))?;
        pickler.setattr("dispatch_table", Reducers)?;
        Ok(Box::new(Self {
            dump: pickler.getattr("dump")?.unbind(),
            clear_memo: pickler.getattr("clear_memo")?.unbind(),
            pieces: pieces.unbind(),
        }))
    }

    /// The one of this thread, or a new one.
    fn take(py: Python<'_>) -> PyResult<Box<Self>> {
        IDLE.take().map_or_else(|| Self::new(py), Ok)
    }
}

/// Pickles an object.
///
/// # Errors
/// What the object's own code raises, or the pickler.
pub fn pickle(object: &Bound<'_, PyAny>) -> PyResult<Pickled> {
    let py = object.py();
    let pickler = Pickler::take(py)?;
    calling::call(pickler.dump.bind(py), (object,))?;
    let pickled = pickler.pieces.borrow_mut(py).take();
    pickler.clear_memo.call0(py)?;
    drop(IDLE.replace(Some(pickler))); // there is one if something was put meanwhile
    Ok(pickled)
}
