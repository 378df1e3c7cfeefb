//! Tasks on their way to the workers.

use std::ops::Range;
use std::sync::atomic::Ordering::SeqCst;

use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::Crew;
use super::batch::Batch;
use super::items::{Items, slice};
use super::state::Open;
use crate::errors::{self, Error};
use crate::job::Job;
use crate::message::{Encoded, NATIVE};
use crate::task::{HEAD, Head, Mode};

/// Bytes of a task beyond which it gets no more items: they would save nothing.
const MUCH: usize = 64 << 10;

/// Which items of a map are handed out, and how.
pub(super) struct Part {
    /// The first one.
    pub(super) start: usize,
    /// The first one behind them.
    pub(super) end: usize,
    /// How many items there are in a task at most, where one may have twice as many as the one before; else zero.
    pub(super) most: usize,
    /// Whether an item is a tuple of arguments.
    pub(super) star: bool,
    pub(super) priority: i64,
}

/// What stands before the arguments of a job's tasks.
pub(super) fn head_for(job: &Bound<'_, Job>, head: &[u8], mode: Mode) -> PyResult<[u8; HEAD]> {
    let (mut head, _) = Head::from_bytes(head)?;
    head.seeded = job.get().seed().is_some();
    head.shared = job.get().is_shared();
    Ok(head.to_bytes(mode))
}

/// Encodes a task, whose first item is number `first` of its job.
#[inline]
fn encode(
    job: &Bound<'_, Job>,
    first: usize,
    head: &[u8; HEAD],
    arguments: &Bound<'_, PyAny>,
) -> PyResult<Encoded> {
    let mut encoded = Encoded::new();
    encoded.payload.extend_from_slice(head);
    match job.get().seed() {
        None => encoded.object(arguments)?,
        Some(seed) => {
            let with_seed = (&seed.of_call, first, arguments).into_pyobject(job.py())?;
            encoded.object(with_seed.as_any())?;
        }
    }
    Ok(encoded)
}

impl Crew {
    /// Hands out a call that is a job of its own.
    #[inline]
    pub fn call_at_once(
        &self,
        job: &Bound<'_, Job>,
        mut head: [u8; HEAD],
        arguments: &Bound<'_, PyTuple>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let py = job.py();
        let tag = match keywords {
            None => self.hand_out_or_answer(py, job, 0, 0, &head, arguments, 0),
            Some(keywords) => {
                head = Head::from_bytes(&head)?.0.to_bytes(Mode::CallWithKeywords);
                let both = (arguments, keywords).into_pyobject(py)?;
                self.hand_out_or_answer(py, job, 0, 0, &head, &both, 0)
            }
        }?;
        if let Some(tag) = tag {
            job.get().note_tag(tag);
        }
        Ok(())
    }

    /// Encodes and hands out one task, whose first item is number `first` of its job; returns its tag.
    #[inline]
    #[allow(clippy::too_many_arguments)] // what a task consists of
    pub(super) fn hand_out(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        index: usize,
        first: usize,
        head: &[u8; HEAD],
        arguments: &Bound<'_, PyAny>,
        priority: i64,
    ) -> PyResult<u64> {
        let encoded = encode(job, first, head, arguments)?;
        self.hand_out_encoded(py, job, index, encoded, priority)
    }

    #[inline]
    fn hand_out_encoded(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        index: usize,
        encoded: Encoded,
        priority: i64,
    ) -> PyResult<u64> {
        let len = encoded.len(py);
        let open = Open {
            job: job.clone().unbind(),
            index,
            len,
        };
        let (tag, is_in_turn) = {
            let mut state = self.state(py);
            (state.open(open), state.backlog.lets_pass(&self.engine))
        };
        let tag = tag.ok_or_else(too_many)?;
        let sent = if is_in_turn && priority == 0 {
            self.send(py, encoded, tag)
        } else {
            self.queue_up(py, encoded, tag, priority)
        };
        if let Err(error) = sent {
            let closed = self.state(py).close(tag);
            drop(closed); // not while the state is in use: it may run Python code
            return Err(error);
        }
        Ok(tag)
    }

    #[inline]
    pub(super) fn send(&self, py: Python<'_>, encoded: Encoded, tag: u64) -> PyResult<()> {
        let ring = self.engine.tasks().map_err(Error::from)?;
        encoded.put(py, self.engine.family(), &ring, tag, 0)
    }

    /// Hands out one task, and returns its tag; what is wrong with its arguments is the answer to that task.
    #[inline]
    #[allow(clippy::too_many_arguments)] // what a task consists of
    pub(super) fn hand_out_or_answer(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        index: usize,
        first: usize,
        head: &[u8; HEAD],
        arguments: &Bound<'_, PyAny>,
        priority: i64,
    ) -> PyResult<Option<u64>> {
        let handed_out = self.hand_out(py, job, index, first, head, arguments, priority);
        or_answer(job, index, handed_out)
    }

    /// Hands out tasks of items, as these are cut, while fewer than `most_open` are open; returns the first item
    /// that was not handed out.
    pub(super) fn hand_out_part(
        &self,
        py: Python<'_>,
        (job, head): (&Bound<'_, Job>, &[u8]),
        items: &Bound<'_, PyAny>,
        most_open: usize,
        part: &Part,
    ) -> PyResult<usize> {
        let this = job.get();
        let are_lists = this.has_lists();
        let head = head_for(job, head, Mode::of_items(part.star, are_lists))?;
        let room = most_open.saturating_sub(self.state(py).ledger.len());
        let is_usual = part.priority == 0 && this.seed().is_none();
        let mut batch = Batch::default();
        let mut one_by_one = Items::before(part.end.min(part.start.saturating_add(room)), items);
        let mut first = part.start;
        for _ in 0..room {
            if first >= part.end {
                break;
            }
            let end = this.end_of(py, first).min(part.end);
            let arguments = if are_lists {
                slice(items, first, end)?.into_any()
            } else {
                one_by_one.one(first)?
            };
            let encoded = encode(job, first, &head, &arguments);
            let len = encoded.as_ref().map_or(0, |encoded| encoded.len(py));
            if is_usual {
                self.add_to_batch(py, job, &mut batch, first, encoded)?;
            } else {
                let handed_out =
                    encoded.and_then(|it| self.hand_out_encoded(py, job, first, it, part.priority));
                or_answer(job, first, handed_out)?;
            }
            if part.most > 0 && end < part.end {
                let size = end - first;
                let fits = MUCH / (len / size).max(1);
                let next = (2 * size).min(part.most).min(fits.max(1));
                if next != size {
                    this.cut(py, end, part.end, next);
                }
            }
            first = end;
        }
        self.hand_out_batch(py, job, &mut batch)?;
        Ok(first)
    }

    /// Has what is left of a task handed out when so many of its items are done, in tasks of `size`: by the thread that
    /// waits for its map, where there is one, since pickling items runs code of the program.
    pub(super) fn leave_rest(
        &self,
        job: &Bound<'_, Job>,
        task: usize,
        done: usize,
        size: usize,
    ) -> PyResult<()> {
        let this = job.get();
        let Some(rest) = this.cut_rest(job.py(), task, done, size) else {
            return Ok(());
        };
        if this.is_shared() {
            self.rests.fetch_add(1, SeqCst); // before the task is closed for good: see `between`
            this.note_rest(job.py(), rest);
            return Ok(());
        }
        self.hand_out_rest(job, rest)
    }

    /// Hands out what was left of tasks of a map, for which this thread waits.
    pub(super) fn hand_out_rests(&self, job: &Bound<'_, Job>) -> PyResult<()> {
        while let Some(rest) = job.get().take_rest(job.py()) {
            let handed_out = self.hand_out_rest(job, rest);
            self.rests.fetch_sub(1, SeqCst);
            handed_out?;
        }
        Ok(())
    }

    /// Hands out items of a map that are cut already. If that is interrupted, those that were not handed out are
    /// answered by that.
    fn hand_out_rest(&self, job: &Bound<'_, Job>, items: Range<usize>) -> PyResult<()> {
        let (py, this) = (job.py(), job.get());
        let Some(source) = this.source(py) else {
            return Ok(()); // it is done
        };
        let head = head_for(job, &source.head, Mode::of_items(source.star, true))?;
        let mut outcome = Ok(());
        let mut first = items.start;
        while first < items.end {
            let next = this.end_of(py, first);
            if outcome.is_ok() {
                let handed_out = slice(source.items.bind(py), first, next).and_then(|list| {
                    self.hand_out_or_answer(py, job, first, first, &head, &list, source.priority)
                });
                outcome = handed_out.map(drop);
            }
            if let Err(error) = &outcome {
                let error = error.value(py).as_any().clone();
                Job::deliver(job, first, false, error)?;
            }
            first = next;
        }
        outcome
    }

    /// Has a task handed out with others if it is short and encoded natively: while others are pickled, which may take any
    /// time, the workers could have begun with it.
    #[inline]
    fn add_to_batch(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        batch: &mut Batch,
        index: usize,
        encoded: PyResult<Encoded>,
    ) -> PyResult<()> {
        if let Ok(encoded) = &encoded
            && encoded.kind == NATIVE
            && let Some(plain) = encoded.plain()
        {
            batch.add(index, &plain);
            if batch.is_full() {
                self.hand_out_batch(py, job, batch)?;
            }
            return Ok(());
        }
        self.hand_out_batch(py, job, batch)?; // in their order
        let handed_out = encoded.and_then(|it| self.hand_out_encoded(py, job, index, it, 0));
        or_answer(job, index, handed_out).map(drop)
    }

    /// Hands out what was encoded, and empties the batch.
    fn hand_out_batch(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        batch: &mut Batch,
    ) -> PyResult<()> {
        {
            let mut state = self.state(py);
            if state.backlog.lets_pass(&self.engine) {
                for task in &mut batch.tasks {
                    task.tag = state.open(Open {
                        job: job.clone().unbind(),
                        index: task.index,
                        len: task.bytes.len(),
                    });
                }
            }
        }
        let ring = self.engine.tasks(); // an error is said where the next one is sent
        let put = ring.map_or(0, |ring| ring.put_each_at_once(batch.messages()));
        // What stands in the way of the next one may be waited for, or is an error.
        for (n, task) in batch.tasks.iter().enumerate().skip(put) {
            let encoded = Encoded::of(task.kind, batch.payload(task));
            let handed_out = match task.tag {
                Some(tag) => self.send(py, encoded, tag).map(|()| tag),
                None => self.hand_out_encoded(py, job, task.index, encoded, 0),
            };
            if let Err(error) = &handed_out {
                let is_answer = error.is_instance_of::<PyException>(py);
                let end = if is_answer { n + 1 } else { batch.tasks.len() }; // after an interruption no more are sent
                for tag in batch.tasks[n..end].iter().filter_map(|task| task.tag) {
                    let closed = self.state(py).close(tag);
                    drop(closed); // not while the state is in use: it may run Python code
                }
            }
            or_answer(job, task.index, handed_out)?;
        }
        batch.clear();
        Ok(())
    }
}

#[cold]
fn too_many() -> PyErr {
    PyRuntimeError::new_err("too many tasks are open in this pool")
}

/// The tag of a task that was handed out; what was wrong with its arguments is the answer to it.
#[inline]
fn or_answer(
    job: &Bound<'_, Job>,
    index: usize,
    handed_out: PyResult<u64>,
) -> PyResult<Option<u64>> {
    let py = job.py();
    match handed_out {
        Ok(tag) => Ok(Some(tag)),
        Err(error) if error.is_instance_of::<PyException>(py) => {
            let is_over = errors::is_shut_down(py, &error);
            let error = if is_over {
                errors::pool_is_over()
            } else {
                error
            };
            let value = error.into_value(py).into_bound(py).into_any();
            if !is_over {
                errors::note_place(job, index, &value, "not_handed_out");
            }
            Job::deliver(job, index, false, value).map(|_| None)
        }
        Err(error) => Err(error),
    }
}
