//! Going through keys, values or items.

use std::collections::VecDeque;

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

/// The entries of a map, some at a time. What is there all the time is met once.
#[pyclass(module = "manycore._engine")]
pub struct MapIterator {
    map: Py<SharedMap>,
    what: What,
    cursor: Cursor,
    entries: VecDeque<Entry>,
    is_over: bool,
}

impl MapIterator {
    pub(super) fn new(map: &Bound<'_, SharedMap>, what: What) -> Self {
        Self {
            map: map.clone().unbind(),
            what,
            cursor: Cursor::default(),
            entries: VecDeque::new(),
            is_over: false,
        }
    }

    /// The next entry.
    fn advance(&mut self, py: Python<'_>) -> PyResult<Option<Entry>> {
        while self.entries.is_empty() && !self.is_over {
            let map = self.map.get().map()?;
            let has_values = self.what != What::Keys;
            let (cursor, mut found) = (&mut self.cursor, Vec::new());
            let goes_on = act(py, |it| map.scan(cursor, has_values, &mut found, it))?;
            self.is_over = !goes_on;
            self.entries.extend(found);
        }
        Ok(self.entries.pop_front())
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

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        loop {
            // Borrowed for a moment only: what decodes may run Python code, also one that goes on with this.
            let Some(entry) = slf.borrow_mut().advance(py)? else {
                return Ok(None);
            };
            let (map, what) = {
                let this = slf.borrow();
                (this.map.clone_ref(py), this.what)
            };
            if what == What::Keys {
                return key::decode(py, &entry.key).map(Some);
            }
            let Some(value) = value_of(py, map.get(), &entry)? else {
                continue;
            };
            if what == What::Values {
                return Ok(Some(value));
            }
            let pair = (key::decode(py, &entry.key)?, value);
            return Ok(Some(pair.into_pyobject(py)?.into_any()));
        }
    }
}
