//! What the workers of a pool do, and what becomes of the tasks of those that end.

use manycore_os::clock::now_ns;
use pyo3::prelude::*;

use super::Crew;
use super::state::Open;
use crate::calling;
use crate::errors::Error;
use crate::job::Job;

impl Crew {
    /// The open task that the worker of a row runs: its tag, job and number, and for how many seconds.
    pub(super) fn find_running(
        &self,
        py: Python<'_>,
        row: usize,
    ) -> Option<(u64, Py<Job>, usize, f64)> {
        let (tag, began) = self.engine.running(row)?;
        let mut state = self.state(py);
        let open = state.ledger.get(tag)?;
        let seconds = now_ns().saturating_sub(began) as f64 / 1e9;
        Some((tag, open.job.clone_ref(py), open.index, seconds))
    }

    /// The tag of the open task of a job that the worker of a row has; see `Crew.holding`.
    pub(super) fn find_held(&self, job: &Bound<'_, Job>, row: usize) -> Option<u64> {
        let tag = self.engine.holding(row)?;
        let mut state = self.state(job.py());
        let open = state.ledger.get(tag)?;
        open.job.is(job).then_some(tag)
    }

    /// The tasks that have run for longer than they may; see `Crew.overdue`.
    pub(super) fn find_overdue(&self, py: Python<'_>) -> (Vec<(usize, u64, f64)>, Option<f64>) {
        let mut state = self.state(py);
        let Some(shortest) = state.shortest() else {
            return (Vec::new(), None);
        };
        let now = now_ns();
        // A worker may begin with the shortest of them right now.
        let (mut overdue, mut soonest) = (Vec::new(), shortest as f64 / 1e9);
        for row in 0..self.engine.rows() {
            let Some((tag, began)) = self.engine.running(row) else {
                continue;
            };
            let Some(timeout) = state.ledger.get(tag).and_then(|it| it.job.get().timeout()) else {
                continue;
            };
            let beyond = (now.saturating_sub(began) as f64 - timeout as f64) / 1e9;
            if beyond >= 0.0 {
                overdue.push((row, tag, beyond));
            } else {
                soonest = soonest.min(-beyond);
            }
        }
        (overdue, Some(soonest))
    }

    /// For how long tasks that no worker runs may wait; see `Crew.patience`.
    pub(super) fn least_patience(&self, py: Python<'_>) -> Option<f64> {
        let rows = 0..self.engine.rows();
        let running: Vec<u64> = rows
            .filter_map(|row| self.engine.running(row))
            .map(|(tag, _)| tag)
            .collect();
        let mut state = self.state(py);
        let mut waiting = state.ledger.tags(|_| true);
        waiting.retain(|tag| !running.contains(tag));
        let patience = waiting.into_iter().filter_map(|tag| {
            let timeout = state.ledger.get(tag)?.job.get().timeout();
            Some(timeout.map_or(f64::INFINITY, |it| it as f64 / 1e9))
        });
        patience.reduce(f64::min)
    }

    /// What follows the end of a worker; see `Crew.bury`.
    pub(super) fn bury_worker(
        &self,
        py: Python<'_>,
        row: usize,
        tell: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let tag = py.detach(|| self.engine.last_taken(row)); // others may be what this waits for
        let tag = tag.map_err(Error::from)?;
        let item = self.engine.item(row);
        let began = self.engine.running(row).map(|(_, began)| began);
        let _between = self.between(py);
        let collected = self.collect(py, usize::MAX);
        let closed = tag.and_then(|tag| {
            let state = &mut *self.state(py);
            let closed = state.close(tag);
            state.answered[1] += u64::from(closed.is_some());
            closed
        });
        self.engine.clear_row(row);
        if let Some(Open { job, index, .. }) = closed {
            let seconds = began.map(|began| now_ns().saturating_sub(began) as f64 / 1e9);
            let error = calling::call(tell, (tag, &job, index, seconds, item))
                .unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any());
            let job = job.bind(py);
            let done = usize::try_from(item).unwrap_or(usize::MAX);
            let rest = self.leave_rest(job, index, done.saturating_add(1), usize::MAX);
            if !Job::deliver(job, index, false, error)? {
                self.state(py).answered[1] -= 1; // it is tried again
            }
            self.tell_others();
            rest?;
        }
        collected.map(drop)
    }
}
