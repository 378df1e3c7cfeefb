//! Answers, as they come.

use std::sync::atomic::Ordering::{Relaxed, Release};

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::Job;
use super::calls::Calls;
use super::plan::{Places, Results};
use crate::calling;
use crate::errors::call_unless_interrupted;
use crate::gil_cell::Use;
use crate::tracking::{is_tracked, track};

impl Job {
    /// Takes an answer of which no message came; see [`Job::deliver_sized`].
    pub fn deliver(
        slf: &Bound<'_, Self>,
        index: usize,
        succeeded: bool,
        value: Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        Self::deliver_sized(slf, index, succeeded, value, 0)
    }

    /// Takes the answer of task `index`, a message of `len` bytes, unless it has failed and is tried again; whether it
    /// is answered.
    pub fn deliver_sized(
        slf: &Bound<'_, Self>,
        index: usize,
        succeeded: bool,
        value: Bound<'_, PyAny>,
        len: usize,
    ) -> PyResult<bool> {
        let this = slf.get();
        let returns_errors = this.terms().is_some_and(|terms| terms.returns_errors);
        let (succeeded, value) = if succeeded {
            (true, value)
        } else {
            match this.is_tried_again(slf.py(), index, &value) {
                Ok(true) => return Ok(false),
                Ok(false) => (returns_errors, value),
                Err(error) => {
                    let error = error.into_value(slf.py()).into_bound(slf.py());
                    (returns_errors, error.into_any())
                }
            }
        };
        Self::settle(slf, index, succeeded, value, len).map(|()| true)
    }

    /// Whether a task that failed was handed out again.
    #[cold]
    fn is_tried_again(
        &self,
        py: Python<'_>,
        index: usize,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        match self.call(py, |calls| calls.others()?.retry.as_ref()) {
            Some(_) if self.is_unwanted() => Ok(false),
            Some(retry) => calling::call(retry.bind(py), (index, error))?.is_truthy(),
            None => Ok(false),
        }
    }

    /// What is answered with a task: items of a map, else tasks.
    fn weight_of(&self, py: Python<'_>, index: usize) -> usize {
        match self.plan().results {
            Results::List(_) => self.end_of(py, index).saturating_sub(index),
            Results::One | Results::Stream(_) => 1,
        }
    }

    /// Takes the answer of task `index` for good.
    pub(super) fn settle(
        slf: &Bound<'_, Self>,
        index: usize,
        succeeded: bool,
        value: Bound<'_, PyAny>,
        len: usize,
    ) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let stored = Self::store(slf, index, succeeded, value, len);
        // No exchanges: who counts holds the interpreter. Who waits without it only looks.
        this.delivered
            .store(this.delivered_so_far().wrapping_add(1), Release);
        stored.and(this.count_down(py, this.weight_of(py, index)))
    }

    /// So much has no answer any more, or none is waited for: tells who is to know.
    fn count_down(&self, py: Python<'_>, weight: usize) -> PyResult<()> {
        let left = self.left.load(Relaxed).wrapping_sub(weight);
        self.left.store(left, Release);
        let mut told = Ok(());
        if left == 0 {
            let mut calls = self.calls(py);
            told = match calls.take_on_answered() {
                Some((due, on_answered)) => {
                    drop(calls); // before any Python code runs
                    due.get().add(py, on_answered)
                }
                None => self.finish(py, calls),
            };
        }
        if matches!(self.plan().results, Results::Stream(_)) {
            told = told.and(self.tell_news(py));
        }
        told
    }

    /// The last task of a stream, of those that were begun, is none: it could not be handed out.
    pub fn take_back_task(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(flow) = self.flow() {
            flow.sent.fetch_sub(1, Relaxed); // who counts holds the interpreter
        }
        self.count_down(py, 1)
    }

    /// A stream is done when its tasks are, from now on: see `hold`.
    pub(super) fn let_go(&self, py: Python<'_>) -> PyResult<()> {
        let was_held = self
            .flow()
            .is_some_and(|flow| flow.is_held.swap(false, Relaxed)); // who counts holds the interpreter
        if was_held {
            self.count_down(py, 1)?;
        }
        Ok(())
    }

    /// Calls and forgets what is to be called with the next answer.
    fn tell_news(&self, py: Python<'_>) -> PyResult<()> {
        let on_news = self.calls(py).take_on_news();
        on_news.map_or(Ok(()), |it| call_unless_interrupted(it.bind(py)))
    }

    /// It is done: calls and forgets what is to be called then.
    pub(super) fn finish(&self, py: Python<'_>, mut calls: Use<'_, Calls>) -> PyResult<()> {
        self.is_done.store(true, Release); // pairs with the Acquire in `is_done`
        let mut forgotten = std::mem::take(&mut *calls);
        if matches!(self.plan().results, Results::Stream(_)) {
            // It may go on; and the news are told of after this.
            calls.about = forgotten.about.take();
            if let Some(others) = forgotten.others() {
                let kept = calls.others_mut();
                kept.on_news = others.on_news.as_ref().map(|it| it.clone_ref(py));
                kept.retry = others.retry.as_ref().map(|it| it.clone_ref(py));
            }
        }
        drop(calls); // before any Python code runs
        let mut told = Ok(());
        for function in forgotten.others().into_iter().flat_map(|it| &it.on_done) {
            told = told.and(call_unless_interrupted(function.bind(py)));
        }
        told
    }

    fn store(
        slf: &Bound<'_, Self>,
        index: usize,
        succeeded: bool,
        value: Bound<'_, PyAny>,
        len: usize,
    ) -> PyResult<()> {
        let results = &slf.get().plan().results;
        if let Results::Stream(results) = results {
            let answer = (index, succeeded, value, len).into_pyobject(slf.py())?;
            return results
                .bind(slf.py())
                .append(answer.cast_into::<PyTuple>()?);
        }
        if !succeeded {
            track(slf); // the traceback of an error that was raised may lead back to here
            let mut outcome = slf.get().outcome(slf.py());
            if outcome.error.is_none() {
                outcome.error = Some(value.unbind());
            }
            return Ok(());
        }
        match results {
            Results::List(places) => {
                if slf.get().outcome(slf.py()).error.is_some() {
                    return Ok(()); // nobody will see the results
                }
                fill(places, index, &value)
            }
            Results::One | Results::Stream(_) => {
                if is_tracked(&value) {
                    track(slf); // the program may make it lead back to here
                }
                let before = slf.get().outcome(slf.py()).value.replace(value.unbind());
                drop(before); // not while it is in use: it may run Python code
                Ok(())
            }
        }
    }
}

/// Puts the results of a task where they belong.
fn fill(places: &Places, first: usize, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let results = places.results.bind(value.py());
    if !places.are_lists {
        return results.set_item(first, value);
    }
    for (offset, item) in value.try_iter()?.enumerate() {
        results.set_item(first + offset, item?)?;
    }
    Ok(())
}
