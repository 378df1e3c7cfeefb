//! Going through keys, values or items.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use manycore_ipc::map::{Cursor, Entry};
use pyo3::prelude::*;

use super::class::{SharedMap, act};
use super::key;

/// What of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Keys,
    Values,
    Items,
}

/// The entries of a map, some at a time. What is there all the time is met once, also by several threads together.
#[pyclass(frozen, module = "manycore._engine")]
pub struct MapIterator {
    map: Py<SharedMap>,
    what: What,
    /// Locked for a moment with the interpreter held: so nobody waits for it, and a fork finds it free.
    progress: Mutex<Progress>,
}

/// How far a walk is.
#[derive(Default)]
struct Progress {
    /// Behind the entries that were found.
    cursor: Cursor,
    /// What was found and not handed out.
    entries: VecDeque<Entry>,
    is_over: bool,
}

impl MapIterator {
    pub(super) fn new(map: &Bound<'_, SharedMap>, what: What) -> Self {
        Self {
            map: map.clone().unbind(),
            what,
            progress: Mutex::default(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next entry.
    fn advance(&self, py: Python<'_>) -> PyResult<Option<Entry>> {
        loop {
            let before = {
                let mut progress = self.progress();
                let next = progress.entries.pop_front();
                if next.is_some() || progress.is_over {
                    return Ok(next);
                }
                progress.cursor
            };
            // Other threads may come by meanwhile, and find the same.
            let map = self.map.get().map()?;
            let has_values = self.what != What::Keys;
            let (mut cursor, mut found) = (before, Vec::new());
            let goes_on = act(py, |it| map.scan(&mut cursor, has_values, &mut found, it))?;
            let mut progress = self.progress();
            if progress.cursor == before {
                progress.cursor = cursor;
                progress.is_over = !goes_on;
                progress.entries.extend(found);
            }
        }
    }
}

/// The value of an entry; `None` if it is gone meanwhile.
fn value_of<'py>(
    py: Python<'py>,
    map: &SharedMap,
    entry: &Entry,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match &entry.value {
        Some(value) => map.decode(py, value).map(Some),
        None => Ok(map.fetch(py, &entry.key)?.map(|(value, _)| value)),
    }
}

#[pymethods]
impl MapIterator {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        loop {
            let Some(entry) = self.advance(py)? else {
                return Ok(None);
            };
            if self.what == What::Keys {
                return key::decode(py, &entry.key).map(Some);
            }
            let Some(value) = value_of(py, self.map.get(), &entry)? else {
                continue;
            };
            if self.what == What::Values {
                return Ok(Some(value));
            }
            let pair = (key::decode(py, &entry.key)?, value);
            return Ok(Some(pair.into_pyobject(py)?.into_any()));
        }
    }
}
