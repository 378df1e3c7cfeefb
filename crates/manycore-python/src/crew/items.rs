//! The items of a map.

use pyo3::prelude::*;
use pyo3::types::{PyList, PySequence};

/// How many numbers of a range are made at a time.
const AT_ONCE: usize = 256;

/// The items of a map, as they are handed out: those of a list, or the numbers of a range, which are made for it.
pub(super) struct Items<'a, 'py> {
    all: &'a Bound<'py, PyAny>,
    /// The list, or some of the numbers.
    here: Bound<'py, PyList>,
    /// Which these are.
    first: usize,
    end: usize,
    /// The first that is not asked for.
    limit: usize,
}

impl<'a, 'py> Items<'a, 'py> {
    /// Those before number `limit`.
    pub(super) fn before(limit: usize, all: &'a Bound<'py, PyAny>) -> Self {
        let here = match all.cast_exact::<PyList>() {
            Ok(list) => list.clone(),
            Err(_) => PyList::empty(all.py()),
        };
        let end = here.len();
        Self {
            all,
            here,
            first: 0,
            end,
            limit,
        }
    }

    /// One of them.
    #[inline]
    pub(super) fn one(&mut self, number: usize) -> PyResult<Bound<'py, PyAny>> {
        if number < self.first || number >= self.end {
            let end = self.limit.min(number.saturating_add(AT_ONCE));
            self.here = slice(self.all, number, end)?;
            self.first = number;
            self.end = number + self.here.len();
        }
        self.here.get_item(number - self.first)
    }
}

/// Some of the items of a map, as a list.
pub(super) fn slice<'py>(
    items: &Bound<'py, PyAny>,
    first: usize,
    end: usize,
) -> PyResult<Bound<'py, PyList>> {
    match items.cast_exact::<PyList>() {
        Ok(list) => Ok(list.get_slice(first, end)),
        Err(_) => items.cast::<PySequence>()?.get_slice(first, end)?.to_list(),
    }
}
