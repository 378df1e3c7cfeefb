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
        // Where a worker was stopped while it takes a task, what the ring has stays before it.
        let mut may_take_back = true;
        loop {
            let mut state = self.state(py);
            let is_first = state.backlog.is_empty() || state.backlog.overtakes(priority);
            if is_first && may_take_back {
                let taken = state.backlog.try_withdraw(&self.engine);
                self.note_backlog(&state);
                if !taken.map_err(Error::from)? {
                    drop(state); // nobody waits with it
                    may_take_back = self.settle_now(py)?;
                    continue;
                }
            }
            state.backlog.insert(ready.into_waiting(tag), priority);
            self.note_backlog(&state);
            break;
        }
        self.feed(py)
    }

    /// Waits for a moment, without the interpreter, until no worker is about to take a task; whether that came.
    pub(super) fn settle_now(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(py.detach(|| self.engine.settle()).map_err(Error::from)?)
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
    /// `error`. `None`, and it is to be tried again, while a worker is about to take one, for longer than a moment.
    pub(super) fn withdraw_tasks(
        &self,
        py: Python<'_>,
        tags: &[u64],
        spare: usize,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<Option<usize>> {
        let withdrawn = loop {
            match self.close_withdrawn(py, tags, spare)? {
                Some(withdrawn) => break withdrawn,
                None if self.settle_now(py)? => {}
                None => return Ok(None),
            }
        };
        for open in &withdrawn {
            open.job.get().note_withdrawn();
            Job::deliver(open.job.bind(py), open.index, false, error.clone())?;
        }
        Ok(Some(withdrawn.len()))
    }

    /// Withdraws at once, without answers; or not at all, while a worker is about to take a task.
    fn close_withdrawn(
        &self,
        py: Python<'_>,
        tags: &[u64],
        spare: usize,
    ) -> PyResult<Option<Vec<Open>>> {
        let mut state = self.state(py);
        let called = self.call_back(&mut state, tags);
        self.note_backlog(&state);
        if !called? {
            return Ok(None);
        }
        let mut withdrawn = Vec::new();
        let spared: Vec<u64> = state.backlog.tags().take(spare).collect();
        for &tag in tags.iter().filter(|tag| !spared.contains(tag)) {
            if let Some(task) = state.backlog.remove(tag) {
                task.discard(&self.engine);
                withdrawn.extend(state.close(tag));
            }
        }
        self.note_backlog(&state);
        Ok(Some(withdrawn))
    }

    /// Empties the ring into the backlog if one of these tasks may be in it; `false` while a worker is about to take one.
    /// Not once the crew was dismissed: a ring that is closed takes nothing back.
    fn call_back(&self, state: &mut Use<'_, State>, tags: &[u64]) -> PyResult<bool> {
        let ring = self.engine.tasks().map_err(Error::from)?;
        let state = &mut **state;
        let may_be_in_ring = tags.iter().any(|&tag| {
            state.ledger.get(tag).is_some()
                && !state.backlog.has(tag)
                && !self.engine.has_begun(tag) // one that is only about to be taken may stay there
        });
        if !may_be_in_ring || ring.is_closed() {
            return Ok(true);
        }
        let taken = state.backlog.try_withdraw(&self.engine);
        taken.map_err(|error| Error::from(error).into())
    }
}
