//! What the engine asks of a job, and notes about it.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use pyo3::prelude::*;
use pyo3::types::PyList;

use super::calls::Calls;
use super::{Job, Seed};

impl Job {
    /// Whether every task has been answered.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.is_done.load(Acquire) // pairs with the Release in `settle`
    }

    /// What the one task returned, if it has, and not failed.
    #[inline]
    pub fn returned(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        if !self.is_done() {
            return None;
        }
        self.outcome(py).value.as_ref().map(|it| it.clone_ref(py))
    }

    /// Notes that a thread, which holds the interpreter, is about to wait for it.
    pub fn note_waiting(&self) {
        self.waiting.fetch_add(1, Relaxed); // whoever completes it holds the interpreter, too
    }

    /// Notes that it waits no more.
    pub fn note_waited(&self) {
        self.waiting.fetch_sub(1, Relaxed); // as above
    }

    /// How many tasks have been answered.
    pub fn delivered_so_far(&self) -> usize {
        self.delivered.load(Acquire)
    }

    /// What the seeds of its tasks are made of.
    #[inline]
    pub fn seed(&self) -> Option<&Seed> {
        self.terms()?.seed.as_ref()
    }

    /// Whether tasks of it may be handed out again.
    pub fn is_repeatable(&self) -> bool {
        self.terms().is_some_and(|terms| terms.is_repeatable)
    }

    /// Nanoseconds that each task may run.
    pub fn timeout(&self) -> Option<u64> {
        self.terms()?.timeout
    }

    /// What is to be called, without the lock: Python code runs in it.
    pub(super) fn call(
        &self,
        py: Python<'_>,
        which: impl FnOnce(&Calls) -> Option<&Py<PyAny>>,
    ) -> Option<Py<PyAny>> {
        which(&self.calls(py)).map(|it| it.clone_ref(py))
    }

    /// Notes the tag of the one task that this job is.
    pub fn note_tag(&self, tag: u64) {
        self.tag.store(tag, Relaxed); // read by threads that were given the job after that
    }

    /// The tag of the one task that this job is, if it is one and was handed out.
    pub fn tag(&self) -> Option<u64> {
        let tag = self.tag.load(Relaxed);
        (tag != 0).then_some(tag)
    }

    /// Notes that an answer could not be decoded.
    pub fn note_undecodable(&self, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = error.py();
        let new = PyList::empty(py).unbind(); // which may run the collector
        let mut outcome = self.outcome(py);
        let undecodable = outcome.undecodable.get_or_insert(new).clone_ref(py);
        drop(outcome);
        undecodable.bind(py).append(error)
    }

    /// Notes that tasks of it will not be run, nor what is left of others whose workers die.
    pub fn note_withdrawn(&self) {
        self.is_withdrawn.store(true, Release);
        self.note_unwanted();
    }

    /// Whether nobody wants its tasks any more.
    pub fn is_unwanted(&self) -> bool {
        self.is_unwanted.load(Acquire)
    }

    /// Notes that nobody wants its tasks any more.
    pub fn note_unwanted(&self) {
        self.is_unwanted.store(true, Release); // seen by whoever learns later that a task has failed
    }
}
