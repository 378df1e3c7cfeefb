//! What the owner of a pool knows of its tasks.

use std::cmp::Ordering;

use manycore::pool::{Backlog, Ledger};
use pyo3::prelude::*;

use crate::job::Job;

/// A task without an answer.
pub(super) struct Open {
    pub(super) job: Py<Job>,
    pub(super) index: usize,
    /// Bytes of its message.
    pub(super) len: usize,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) ledger: Ledger<Open>,
    pub(super) cursor: usize,
    pub(super) backlog: Backlog,
    /// Whether the workers are to leave once no task waits here, or may be handed out again.
    pub(super) is_ending: bool,
    /// Open tasks that may be handed out again.
    pub(super) repeatable: usize,
    /// Open tasks that may run only so long.
    pub(super) timed: usize,
    /// The shortest time-out of these in nanoseconds, and how many have it: if none has, another is the shortest by now.
    shortest: (u64, usize),
    /// Answers that were results, and that were errors.
    pub(super) answered: [u64; 2],
}

/// No time-out at all, in the place of the shortest.
const NONE: (u64, usize) = (u64::MAX, 0);

/// The shortest time-out, and how many have it, with one more.
fn shorter((shortest, count): (u64, usize), timeout: u64) -> (u64, usize) {
    match timeout.cmp(&shortest) {
        Ordering::Less => (timeout, 1),
        Ordering::Equal => (shortest, count + 1),
        Ordering::Greater => (shortest, count),
    }
}

impl State {
    pub(super) fn open(&mut self, open: Open) -> Option<u64> {
        let (len, job) = (open.len, open.job.get());
        let (timeout, is_repeatable) = (job.timeout(), job.is_repeatable());
        let is_of_many = job.flow().is_some();
        let tag = self.ledger.open(open)?;
        if let Some(timeout) = timeout {
            let before = if self.timed == 0 { NONE } else { self.shortest };
            self.shortest = shorter(before, timeout);
            self.timed += 1;
        }
        self.repeatable += usize::from(is_repeatable);
        if is_of_many && let Some(open) = self.ledger.get(tag) {
            open.job.get().note_open(len);
        }
        Some(tag)
    }

    pub(super) fn close(&mut self, tag: u64) -> Option<Open> {
        let open = self.ledger.close(tag)?;
        let job = open.job.get();
        job.note_closed(open.len);
        if let Some(timeout) = job.timeout() {
            self.timed -= 1;
            self.shortest.1 -= usize::from(timeout == self.shortest.0 && self.shortest.1 > 0);
        }
        self.repeatable -= usize::from(job.is_repeatable());
        Some(open)
    }

    /// The shortest time-out of the open tasks, in nanoseconds, if any has one.
    pub(super) fn shortest(&mut self) -> Option<u64> {
        if self.timed == 0 {
            return None;
        }
        if self.shortest.1 == 0 {
            let timeouts = self
                .ledger
                .iter()
                .filter_map(|open| open.job.get().timeout());
            self.shortest = timeouts.fold(NONE, shorter);
        }
        Some(self.shortest.0)
    }

    /// Closes every task.
    pub(super) fn drain(&mut self) -> Vec<Open> {
        self.timed = 0;
        self.repeatable = 0;
        let open = self.ledger.drain();
        for it in &open {
            it.job.get().note_closed(it.len);
        }
        open
    }
}
