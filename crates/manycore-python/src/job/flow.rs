//! What a job of several tasks has handed out, and how much of it has no answer.

use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use pyo3::prelude::*;

use super::Job;
use super::calls::Source;
use super::plan::{Flow, Places, Results};

impl Job {
    /// Adds a task to a stream; its number.
    pub fn begin_task(&self) -> usize {
        self.left.fetch_add(1, Release);
        self.is_done.store(false, Release);
        self.flow()
            .map_or(0, |flow| flow.sent.fetch_add(1, Relaxed)) // all who count hold the interpreter
    }

    /// A stream is not done from now on, whatever has answers: another thread will hand out more.
    pub(super) fn hold(&self) {
        let Some(flow) = self.flow() else { return };
        if !flow.is_held.swap(true, Relaxed) {
            // all who count hold the interpreter
            self.left.fetch_add(1, Release);
            self.is_done.store(false, Release);
        }
    }

    /// How many tasks were handed out and have no answer.
    pub fn open_tasks(&self) -> usize {
        match self.flow() {
            Some(flow) => flow.open.load(Relaxed), // all who count hold the interpreter
            None => self.left.load(Acquire),
        }
    }

    /// Bytes of the messages of its tasks that have no answer.
    pub fn open_bytes(&self) -> usize {
        self.flow().map_or(0, |flow| flow.open_bytes.load(Relaxed)) // a bound, and no other memory follows from it
    }

    /// Notes that a task was handed out whose message has so many bytes.
    #[inline]
    pub fn note_open(&self, len: usize) {
        if let Some(flow) = self.flow() {
            flow.open.fetch_add(1, Relaxed); // as in `open_tasks`
            flow.open_bytes.fetch_add(len, Relaxed); // as in `open_bytes`
        }
    }

    /// Notes that such a task has its answer.
    #[inline]
    pub fn note_closed(&self, len: usize) {
        if let Some(flow) = self.flow() {
            flow.open.fetch_sub(1, Relaxed); // as in `open_tasks`
            flow.open_bytes.fetch_sub(len, Relaxed); // as in `open_bytes`
        }
    }

    /// Of a job of several tasks.
    #[inline]
    pub fn flow(&self) -> Option<&Flow> {
        let plan = self.plan();
        match plan.results {
            Results::Stream(_) | Results::List(_) => Some(&plan.terms.as_deref()?.flow),
            Results::One => None,
        }
    }

    /// Of a map: whether its tasks are lists of items.
    pub fn has_lists(&self) -> bool {
        self.places().is_some_and(|places| places.are_lists)
    }

    /// Of a map: whether a worker may leave the rest of a task to others.
    pub fn is_shared(&self) -> bool {
        self.places().is_some_and(|places| places.are_shared)
    }

    /// Of a map: the first item behind the task that begins with this one.
    pub fn end_of(&self, py: Python<'_>, first: usize) -> usize {
        self.places()
            .map_or(first + 1, |places| places.cuts.lock(py).end_of(first))
    }

    /// Of a map: has the items from `start` to `end` be tasks of `size` items.
    pub fn cut(&self, py: Python<'_>, start: usize, end: usize, size: usize) {
        if let Some(places) = self.places() {
            places.cuts.lock(py).cut(start, end, size);
        }
    }

    /// Of a map: cuts off what is left of a task when so many of its items are done, in tasks of `size` items. `None` if
    /// there is nothing left, or nobody wants it: then the task's answer stands for all of it.
    pub fn cut_rest(
        &self,
        py: Python<'_>,
        task: usize,
        done: usize,
        size: usize,
    ) -> Option<Range<usize>> {
        let rest = task.saturating_add(done)..self.end_of(py, task);
        if !self.has_lists() || done == 0 || rest.is_empty() || self.is_unwanted() {
            return None;
        }
        self.cut(py, rest.start, rest.end, size);
        Some(rest)
    }

    /// Of a map: notes what was cut off, for the thread that waits for it.
    pub fn note_rest(&self, py: Python<'_>, rest: Range<usize>) {
        if let Some(places) = self.places() {
            places.rests.lock(py).push(rest);
        }
    }

    /// Of a map: takes something that was cut off.
    pub fn take_rest(&self, py: Python<'_>) -> Option<Range<usize>> {
        self.places()?.rests.lock(py).pop()
    }

    /// Of a map whose tasks are lists: remembers of what, so that what is left of one can be handed out.
    pub fn note_source(&self, py: Python<'_>, source: Source) {
        if self.has_lists() {
            let before = self.calls(py).others_mut().source.replace(source);
            drop(before); // not while they are in use: it may run Python code
        }
    }

    /// Of a map whose tasks are lists: of what, until it is done.
    pub fn source(&self, py: Python<'_>) -> Option<Source> {
        let calls = self.calls(py);
        Some(calls.others()?.source.as_ref()?.clone_ref(py))
    }

    fn places(&self) -> Option<&Places> {
        match &self.plan().results {
            Results::List(places) => Some(places),
            Results::One | Results::Stream(_) => None,
        }
    }
}
