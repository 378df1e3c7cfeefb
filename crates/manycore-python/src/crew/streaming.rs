//! Tasks that are made of what an iterator gives, a few at a time.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList};

use super::Crew;
use super::handing_out::head_for;
use crate::calling;
use crate::job::Job;
use crate::task::Mode;

/// What the tasks of a stream are like.
pub(super) struct Kind {
    /// Items of a task, one or more.
    pub(super) chunk: usize,
    /// Whether an item is a tuple of arguments.
    pub(super) star: bool,
    pub(super) priority: i64,
}

/// Whether an iterator has ended, and the error that it has ended with.
type End = (bool, Option<Py<PyAny>>);

impl Crew {
    /// Hands out what an iterator gives; see `Crew.stream`. All in one go, since a worker that finds no further
    /// task goes to sleep, and waking it takes longer than many a task. But once the job is unwanted, no more.
    pub(super) fn hand_out_from(
        &self,
        py: Python<'_>,
        (job, head): (&Bound<'_, Job>, &[u8]),
        source: &Bound<'_, PyAny>,
        open: &Bound<'_, PyDict>,
        (most, most_bytes): (usize, usize),
        kind: &Kind,
    ) -> PyResult<End> {
        let source = source.cast::<PyIterator>()?;
        for _ in 0..most {
            if job.get().open_bytes() >= most_bytes || job.get().is_unwanted() {
                break;
            }
            let items = match next_items(source, kind.chunk) {
                Ok(Some(items)) => items,
                Ok(None) => return Ok((true, None)),
                Err(error) if error.is_instance_of::<PyException>(py) => {
                    return Ok((true, Some(error.into_value(py).into_any())));
                }
                Err(error) => return Err(error), // not the iterator's, but its caller's
            };
            if job.get().is_unwanted() {
                break; // while it was asked for them
            }
            let index = job.get().begin_task();
            let handed_out = open
                .set_item(index, &items) // before a worker can have it, and end
                .and_then(|()| self.hand_out_of_stream(py, (job, head), index, &items, kind));
            if let Err(error) = handed_out {
                job.get().take_back_task(py)?;
                open.del_item(index)?;
                return Err(error);
            }
        }
        Ok((false, None))
    }

    /// Hands out one task.
    pub(super) fn hand_out_of_stream(
        &self,
        py: Python<'_>,
        (job, head): (&Bound<'_, Job>, &[u8]),
        index: usize,
        items: &Bound<'_, PyAny>,
        kind: &Kind,
    ) -> PyResult<()> {
        let head = head_for(job, head, Mode::of_items(kind.star, kind.chunk > 1))?;
        let first = job.get().seed().map_or(0, |seed| index * seed.items);
        self.hand_out_or_answer(py, job, index, first, &head, items, kind.priority)
            .map(drop)
    }
}

/// Takes the items of the next task. What was taken of a chunk is dropped if the iterator raises, as the standard
/// library does.
fn next_items<'py>(
    source: &Bound<'py, PyIterator>,
    chunk: usize,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if chunk == 1 {
        return calling::next(source).transpose();
    }
    let items = PyList::empty(source.py());
    for item in std::iter::from_fn(|| calling::next(source)).take(chunk) {
        items.append(item?)?;
    }
    Ok((!items.is_empty()).then(|| items.into_any()))
}
