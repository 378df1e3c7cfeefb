//! Tasks that are made of what an iterator gives, a few at a time.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList};

use super::Crew;
use super::handing_out::head_for;
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

/// What a task consists of, if there is anything, and the error that the iterator has ended with after that.
type Items<'py> = (Option<Bound<'py, PyAny>>, Option<Py<PyAny>>);

impl Crew {
    /// Hands out what an iterator gives; see `Crew.stream`. All in one go, since a worker that finds no further
    /// task goes to sleep, and waking it takes longer than many a task.
    pub(super) fn hand_out_from(
        &self,
        py: Python<'_>,
        (job, head): (&Bound<'_, Job>, &[u8]),
        source: &Bound<'_, PyAny>,
        open: &Bound<'_, PyDict>,
        (most, most_bytes): (usize, usize),
        kind: &Kind,
    ) -> PyResult<End> {
        let mut source = source.cast::<PyIterator>()?.clone();
        for _ in 0..most {
            if job.get().open_bytes() >= most_bytes {
                break;
            }
            let (items, error) = next_items(&mut source, kind.chunk)?;
            if let Some(items) = items {
                let index = job.get().begin_task();
                open.set_item(index, &items)?; // before a worker can have it, and end
                self.hand_out_of_stream(py, (job, head), index, &items, kind)?;
            } else if error.is_none() {
                return Ok((true, None));
            }
            if error.is_some() {
                return Ok((true, error));
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

/// Takes the items of the next task.
fn next_items<'py>(source: &mut Bound<'py, PyIterator>, chunk: usize) -> PyResult<Items<'py>> {
    if chunk == 1 {
        return match source.next().transpose() {
            Ok(item) => Ok((item, None)),
            Err(error) => Ok((None, Some(of_iterator(source.py(), error)?))),
        };
    }
    let items = PyList::empty(source.py());
    let mut ended_with = None;
    while items.len() < chunk && ended_with.is_none() {
        match source.next() {
            Some(Ok(item)) => items.append(item)?,
            Some(Err(error)) => ended_with = Some(of_iterator(source.py(), error)?),
            None => break,
        }
    }
    Ok(((!items.is_empty()).then(|| items.into_any()), ended_with))
}

/// What an iterator has raised, if that is its end, and not that of who asked it.
fn of_iterator(py: Python<'_>, error: PyErr) -> PyResult<Py<PyAny>> {
    if error.is_instance_of::<PyException>(py) {
        return Ok(error.into_value(py).into_any());
    }
    Err(error)
}
