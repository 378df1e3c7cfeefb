//! Whose a crew is.
//!
//! A fork copies the owner's side of a pool. The copy names the same rings: who handed out through it, or collected,
//! would take places in the owner's ledger and answers from the owner. So it does neither: calls are refused, and what
//! was open when the copy was made is answered by an error. Nothing of it is freed here, since it is the owner's.

use std::sync::atomic::Ordering::SeqCst;

use manycore_os::incarnation;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::Crew;
use super::state::Open;
use crate::job::Job;

fn not_ours() -> PyErr {
    PyRuntimeError::new_err(
        "this pool was made by another process, whose workers answer only to that one: \
         a forked process makes a pool of its own",
    )
}

impl Crew {
    /// Whether this process made it.
    #[inline]
    pub fn is_ours(&self) -> bool {
        self.process == incarnation::id()
    }

    /// Refuses what only the process does that made it.
    #[inline]
    pub(super) fn check_ours(&self) -> PyResult<()> {
        if self.is_ours() {
            Ok(())
        } else {
            Err(not_ours())
        }
    }

    /// In a copy: answers everything with an error; how many tasks these were.
    #[cold]
    pub(super) fn fail_all(&self, py: Python<'_>) -> PyResult<usize> {
        let open = self.drain_copy(py);
        for Open { job, index, .. } in &open {
            let error = not_ours().into_value(py).into_bound(py).into_any();
            Job::deliver(job.bind(py), *index, false, error)?;
        }
        Ok(open.len())
    }

    /// In a copy: what was open when it was made.
    #[cold]
    pub(super) fn drain_copy(&self, py: Python<'_>) -> Vec<Open> {
        let mut state = self.state(py);
        std::mem::forget(std::mem::take(&mut state.backlog)); // its messages are the owner's
        self.has_backlog.store(false, SeqCst);
        state.drain()
    }
}
