//! Which tasks of a [`Pool`](crate::Pool) have no answer yet, and what is known about them.
//!
//! All of it is behind one lock, under which no code of the user runs and nothing is sent: what there is to
//! do without the lock is left as an [`Errand`].

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use manycore_ipc::ring::Message;
use manycore_ipc::{Corrupted, Family};

use super::job::{Answer, Job};
use super::run::Run;
use super::staff::End;
use super::worker::kind;
use super::{Crew, Ledger};
use crate::codec::{self, Encoded};
use crate::error::TaskError;
use crate::panic::Panic;
use crate::transport;

/// A task without an answer.
pub(super) struct Open {
    pub(super) job: Arc<Job>,
    pub(super) index: usize,
    /// Bytes of its arguments.
    pub(super) bytes: usize,
    /// Of a task that may be handed out again.
    pub(super) kept: Option<Box<Kept>>,
}

/// What is needed to hand out a task again.
pub(super) struct Kept {
    /// Its arguments; what is in them lives as long.
    pub(super) arguments: Arc<Encoded>,
    /// How often it was handed out.
    attempts: u32,
}

impl Kept {
    pub(super) fn new(arguments: Encoded) -> Self {
        Self {
            arguments: Arc::new(arguments),
            attempts: 1,
        }
    }
}

/// What is to be done without the lock.
pub(super) enum Errand {
    /// Wakes who waits for an answer that is there now.
    Wake(Waker),
    /// Hands out a task again, by its new tag.
    Send(u64, Arc<Encoded>),
}

/// What the lock guards.
#[derive(Default)]
pub(super) struct State {
    pub(super) ledger: Ledger<Open>,
    /// Bytes of the arguments of all open tasks.
    pub(super) bytes: usize,
    /// Open tasks that may run only for so long.
    pub(super) timed: usize,
    pub(super) errands: Vec<Errand>,
    cursor: usize,
    message: Message,
}

impl State {
    pub(super) fn open(&mut self, open: Open) -> Option<u64> {
        let (bytes, is_timed) = (open.bytes, open.job.terms.timeout.is_some());
        let tag = self.ledger.open(open)?;
        self.bytes += bytes;
        self.timed += usize::from(is_timed);
        Some(tag)
    }

    /// Whether a task has no answer yet.
    pub(super) fn is_open(&mut self, tag: u64) -> bool {
        self.ledger.get(tag).is_some()
    }

    /// The shortest time-out of the tasks that no worker runs, the longest duration if none has one; `None` where
    /// there is no such task.
    pub(super) fn patience(&mut self, running: &[u64]) -> Option<Duration> {
        let mut waiting = self.ledger.tags(|_| true);
        waiting.retain(|tag| !running.contains(tag));
        let patience = waiting.into_iter().filter_map(|tag| {
            let terms = &self.ledger.get(tag)?.job.terms;
            Some(terms.timeout.unwrap_or(Duration::MAX))
        });
        patience.min()
    }

    /// How long a task may run, if it is open and may run only for so long.
    pub(super) fn limit_of(&mut self, tag: u64) -> Option<Duration> {
        self.ledger.get(tag)?.job.terms.timeout
    }

    /// Answers a task, unless it was answered already.
    fn answer(&mut self, tag: u64, answer: Answer) {
        if let Some(open) = self.ledger.close(tag) {
            self.bytes -= open.bytes;
            self.timed -= usize::from(open.job.terms.timeout.is_some());
            self.deliver(&open, answer);
        }
    }

    fn deliver(&mut self, open: &Open, answer: Answer) {
        let waker = open.job.deliver(open.index, answer);
        self.errands.extend(waker.map(Errand::Wake));
    }

    /// An attempt at a task has failed: it is handed out again, or that is its answer.
    pub(super) fn fail(&mut self, tag: u64, error: TaskError) {
        match self.next_attempt(tag, &error) {
            Some(errand) => self.errands.push(errand),
            None => self.answer(tag, Answer::Failed(error)),
        }
    }

    /// A task cannot be handed out.
    pub(super) fn refuse(&mut self, tag: u64, error: TaskError) {
        self.answer(tag, Answer::Failed(error));
    }

    fn next_attempt(&mut self, tag: u64, error: &TaskError) -> Option<Errand> {
        let Open { job, kept, .. } = self.ledger.get(tag)?;
        let kept = kept.as_mut()?;
        if kept.attempts > job.terms.retries || !job.terms.forgive(error) {
            return None;
        }
        kept.attempts += 1;
        let arguments = Arc::clone(&kept.arguments);
        Some(Errand::Send(self.ledger.reopen(tag)?, arguments))
    }

    /// The worker that had taken this task has ended, so long after it began with it.
    pub(super) fn bury(&mut self, tag: u64, end: End, lasted: Option<Duration>) {
        let Some(open) = self.ledger.get(tag) else {
            return; // it was answered
        };
        let run = Run {
            function: open.job.target.function,
            lasted,
            attempts: open.kept.as_ref().map_or(1, |kept| kept.attempts),
        };
        let limit = open.job.terms.timeout.unwrap_or_default();
        self.fail(tag, end.into_error(run, limit));
    }

    pub(super) fn fail_all(&mut self, error: &TaskError) {
        (self.bytes, self.timed) = (0, 0);
        for open in self.ledger.drain() {
            self.deliver(&open, Answer::Failed(error.clone()));
        }
    }

    /// Receives and delivers one answer; false when there is none.
    pub(super) fn receive(&mut self, crew: &Crew) -> Result<bool, Corrupted> {
        if !crew.try_receive(&mut self.cursor, &mut self.message)? {
            return Ok(false);
        }
        // Also one that comes too late, or its blocks would stay.
        let answer = unpacked(crew.family(), &mut self.message);
        let tag = self.message.header.tag;
        match answer {
            Answer::Failed(error) => self.fail(tag, error),
            arrived => self.answer(tag, arrived),
        }
        Ok(true)
    }
}

fn unpacked(family: &'static Family, message: &mut Message) -> Answer {
    let unpacked = transport::unpack(family, message);
    let bytes = std::mem::take(&mut message.payload);
    match unpacked {
        Ok(holds) if message.header.kind == kind::ANSWER => {
            Answer::Arrived(Encoded { bytes, holds })
        }
        Ok(_) => Answer::Failed(panicked(&bytes)),
        Err(error) => Answer::Failed(TaskError::Heap(error)),
    }
}

fn panicked(bytes: &[u8]) -> TaskError {
    match codec::decode(bytes) {
        Ok(Panic { message, location }) => TaskError::Panicked { message, location },
        Err(error) => TaskError::Undelivered {
            why: error.to_string(),
        },
    }
}
