//! Tasks that wait at the owner: withdrawn, or handed out by priority.

use std::sync::atomic::Ordering::SeqCst;

use manycore::pool::backlog::NotFed;
use pyo3::prelude::*;

use super::Crew;
use super::state::{Open, State};
use crate::errors::{self, Error};
use crate::gil_cell::Use;
use crate::job::Job;
use crate::message::Encoded;

/// Tasks for each worker that the ring is given from the backlog: enough for them to be busy until the
/// owner comes back, and few to take back.
const EACH: u64 = 16;

impl Crew {
    /// How many tasks the ring is given. There are two rows for each worker.
    fn most_fed(&self) -> u64 {
        (self.engine.rows() as u64 / 2).max(1) * EACH
    }

    /// Whether the workers will soon have no task, though there are some.
    pub(super) fn is_hungry(&self) -> bool {
        self.has_backlog.load(SeqCst) && self.engine.queued() < self.most_fed() / 2
    }

    /// For how many answers to wait: for fewer, if the workers are to be fed meanwhile.
    pub(super) fn want_with_backlog(&self, want: u64) -> u64 {
        if self.has_backlog.load(SeqCst) {
            want.min(self.most_fed() / 2)
        } else {
            want
        }
    }

    /// Puts a task into the backlog.
    #[cold]
    pub(super) fn queue_up(
        &self,
        py: Python<'_>,
        encoded: Encoded,
        tag: u64,
        priority: i64,
    ) -> PyResult<()> {
        let ready = encoded.ready(py, self.engine.family())?;
        {
            let mut state = self.state(py);
            if state.backlog.is_empty() || state.backlog.overtakes(priority) {
                let taken = state.backlog.withdraw(&self.engine);
                self.note_backlog(&state);
                taken.map_err(Error::from)?;
            }
            state.backlog.insert(ready.into_waiting(tag), priority);
            self.note_backlog(&state);
        }
        self.feed(py)
    }

    fn note_backlog(&self, state: &Use<'_, State>) {
        self.has_backlog.store(!state.backlog.is_empty(), SeqCst); // a hint for who does not lock
    }

    /// Feeds until the ring has enough; or a task that could not be put, and why.
    pub(super) fn feed_once(&self, py: Python<'_>) -> Option<(Open, PyErr)> {
        let mut state = self.state(py);
        let state = &mut state;
        let fed = state.backlog.feed(&self.engine, self.most_fed());
        self.note_backlog(state);
        self.end_if_due(state);
        let NotFed { tag, error } = fed.err()?;
        let open = state.close(tag)?;
        Some((open, errors::from_put(error, None)))
    }

    /// Takes these tasks back, those that no worker has, but for the first `spare` of all, and answers them with
    /// `error`.
    pub(super) fn withdraw_tasks(
        &self,
        py: Python<'_>,
        tags: &[u64],
        spare: usize,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<usize> {
        let withdrawn = self.close_withdrawn(py, tags, spare)?;
        for open in &withdrawn {
            open.job.get().note_withdrawn();
            Job::deliver(open.job.bind(py), open.index, false, error.clone())?;
        }
        Ok(withdrawn.len())
    }

    fn close_withdrawn(&self, py: Python<'_>, tags: &[u64], spare: usize) -> PyResult<Vec<Open>> {
        let mut state = self.state(py);
        let called = self.call_back(&mut state, tags);
        self.note_backlog(&state);
        called?;
        let mut withdrawn = Vec::new();
        let spared: Vec<u64> = state.backlog.tags().take(spare).collect();
        for &tag in tags.iter().filter(|tag| !spared.contains(tag)) {
            if let Some(task) = state.backlog.remove(tag) {
                task.discard(&self.engine);
                withdrawn.extend(state.close(tag));
            }
        }
        self.note_backlog(&state);
        Ok(withdrawn)
    }

    /// Empties the ring into the backlog if one of these tasks may be in it. Not once the crew was
    /// dismissed: a ring that is closed takes nothing back.
    fn call_back(&self, state: &mut Use<'_, State>, tags: &[u64]) -> PyResult<()> {
        let ring = self.engine.tasks().map_err(Error::from)?;
        let state = &mut **state;
        let may_be_in_ring = tags.iter().any(|&tag| {
            state.ledger.get(tag).is_some()
                && !state.backlog.has(tag)
                && !self.engine.has_taken(tag)
        });
        if !may_be_in_ring || ring.is_closed() {
            return Ok(());
        }
        let taken = state.backlog.withdraw(&self.engine);
        taken.map_err(|error| Error::from(error).into())
    }
}
