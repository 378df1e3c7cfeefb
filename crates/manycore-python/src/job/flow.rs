//! What a stream has handed out, and how much of it has no answer.

use std::sync::atomic::Ordering::Relaxed;

use super::Job;
use super::plan::{Flow, Results};

impl Job {
    /// Adds a task to a stream; its number.
    pub fn begin_task(&self) -> usize {
        self._extend(1);
        self.flow()
            .map_or(0, |flow| flow.sent.fetch_add(1, Relaxed)) // all who count hold the interpreter
    }

    /// Bytes of the messages of a stream's tasks that have no answer.
    pub fn open_bytes(&self) -> usize {
        self.flow().map_or(0, |flow| flow.open_bytes.load(Relaxed)) // a bound, and no other memory follows from it
    }

    /// Notes that a task was handed out whose message has so many bytes.
    #[inline]
    pub fn note_open(&self, len: usize) {
        if let Some(flow) = self.flow() {
            flow.open_bytes.fetch_add(len, Relaxed); // as in `open_bytes`
        }
    }

    /// Notes that such a task has its answer.
    #[inline]
    pub fn note_closed(&self, len: usize) {
        if let Some(flow) = self.flow() {
            flow.open_bytes.fetch_sub(len, Relaxed); // as in `open_bytes`
        }
    }

    /// Of a stream.
    #[inline]
    pub(super) fn flow(&self) -> Option<&Flow> {
        let plan = self.plan();
        match plan.results {
            Results::Stream(_) => Some(&plan.terms.as_deref()?.flow),
            Results::One | Results::List(..) => None,
        }
    }
}
