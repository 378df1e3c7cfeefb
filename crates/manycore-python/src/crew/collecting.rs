//! Answers on their way to who waits for them.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use manycore::pool::seat::LEAVE;
use manycore_ipc::ring::Message;
use manycore_ipc::wait::GaveUp;
use pyo3::prelude::*;

use super::Crew;
use super::state::{Open, State};
use crate::calling;
use crate::errors::{Error, interrupted, note_place};
use crate::job::Job;
use crate::message;
use crate::queue::with_message;
use crate::task::{ERROR, TIMED};
use crate::wait::{deadline, detached};

/// While it is there, a task may be closed and not delivered.
pub(super) struct Between<'a, 'py>(&'a Crew, Python<'py>);

impl Drop for Between<'_, '_> {
    fn drop(&mut self) {
        if self.0.between.fetch_sub(1, SeqCst) == 1 {
            self.0.end_if_due(&self.0.state(self.1));
        }
    }
}

/// How many items those tasks have that are left of one, of which so many were done in one turn: about half a turn's.
fn size_after(done: usize) -> usize {
    (done / 2).max(1)
}

impl Crew {
    /// Receives one answer and closes its task, both under one lock: whoever buries a worker meanwhile
    /// finds the task either open with its answer still to come, or answered.
    pub(super) fn receive(
        &self,
        py: Python<'_>,
        message: &mut Message,
    ) -> Result<Option<Option<Open>>, Error> {
        let state = &mut *self.state(py);
        if !self.engine.try_receive(&mut state.cursor, message)? {
            return Ok(None);
        }
        if !message.blocks.is_empty() {
            state.cursor += 1; // large ones from all rows in turn: many that came too early take much memory
        }
        let open = state.close(message.header.tag);
        if open.is_some() {
            let is_error = message.header.kind & ERROR != 0;
            state.answered[usize::from(is_error)] += 1;
        }
        Ok(Some(open))
    }

    /// Delivers the answers that are there, up to so many bytes; how many were received, and what went wrong then.
    pub(super) fn receive_and_deliver(&self, py: Python<'_>, most: usize) -> (usize, PyResult<()>) {
        let (mut count, mut bytes) = (0, 0);
        while bytes < most {
            let received = with_message(|message| match self.receive(py, message)? {
                Some(open) => {
                    count += 1;
                    bytes += message::len(message);
                    self.deliver(py, message, open).map(|()| true)
                }
                None => Ok::<_, PyErr>(false),
            });
            match received {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return (count, Err(error)),
            }
        }
        (count, Ok(()))
    }

    /// Has the workers leave if that was asked and nothing more is to be handed out.
    pub(super) fn end_if_due(&self, state: &State) {
        let is_due = state.is_ending
            && state.backlog.is_empty()
            && state.repeatable == 0
            && self.rests.load(SeqCst) == 0;
        if is_due && self.is_ours() && self.between.load(SeqCst) == 0 {
            self.engine.dismiss();
        }
    }

    /// Wakes the threads that wait: something was delivered.
    pub(super) fn tell_others(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.engine.ring();
        }
    }

    /// Counts a thread that has closed a task and is about to tell whose it was. Until then the task
    /// may be handed out again, so that it is not over yet for those who wait for the end of all.
    pub(super) fn between<'py>(&self, py: Python<'py>) -> Between<'_, 'py> {
        self.between.fetch_add(1, SeqCst); // before the task is closed: `open` sees one or the other
        Between(self, py)
    }

    /// Nanoseconds that the task of an answer took.
    #[cold]
    pub(super) fn took(&self, message: &Message) -> PyResult<u64> {
        let front = message::front(self.engine.family(), message)?;
        Ok(u64::from_ne_bytes(front))
    }

    /// Tells of a task that took long, while its arguments are known.
    #[cold]
    pub(super) fn tell_listener(
        &self,
        py: Python<'_>,
        took: u64,
        job: &Py<Job>,
        index: usize,
    ) -> PyResult<()> {
        match self.listener.get() {
            Some(listener) if took >= self.long.load(Relaxed) => {
                let long = calling::call(listener.bind(py), (took, job, index))?.extract()?;
                self.long.store(long, Relaxed); // whoever sees it late tells of a task in vain
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Keeps what a worker says that cannot begin.
    pub(super) fn note_false_start(&self, error: PyResult<Bound<'_, PyAny>>) {
        let error = error.ok().map(Bound::unbind);
        let mut kept = self
            .false_start
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *kept, error);
        drop(kept);
        drop(before); // not under the lock: it may run Python code
    }

    /// Delivers one received answer; a stale one is dropped.
    pub(super) fn deliver(
        &self,
        py: Python<'_>,
        message: &Message,
        open: Option<Open>,
    ) -> PyResult<()> {
        let is_timed = message.header.kind & TIMED != 0;
        let took = if is_timed { self.took(message)? } else { 0 };
        let skip = if is_timed { size_of::<u64>() } else { 0 };
        let value = message::decode(py, self.engine.family(), message, skip);
        let Some(Open { job, index, .. }) = open else {
            if message.header.tag == LEAVE {
                self.note_false_start(value);
            }
            return Ok(());
        };
        if is_timed {
            self.tell_listener(py, took, &job, index)?;
        }
        let succeeded = message.header.kind & ERROR == 0;
        let mut rest = Ok(());
        let is_answered = match value {
            Ok(value) => {
                if succeeded && job.get().is_shared() {
                    let done = value.len()?;
                    rest = self.leave_rest(job.bind(py), index, done, size_after(done));
                }
                let len = message::len(message);
                Job::deliver_sized(job.bind(py), index, succeeded, value, len)?
            }
            Err(error) => {
                let value = error.into_value(py).into_bound(py).into_any();
                note_place(job.bind(py), index, &value, "undecodable_answer");
                job.get().note_undecodable(&value)?;
                Job::deliver(job.bind(py), index, false, value)?
            }
        };
        if !is_answered {
            self.state(py).answered[usize::from(!succeeded)] -= 1; // it will come again
        }
        rest
    }

    /// Sleeps until there is something to do; see `Crew.wait`.
    pub(super) fn wait_for(
        &self,
        py: Python<'_>,
        job: Option<&Job>,
        seen: usize,
        want: u64,
        timeout: f64,
        rung: Option<usize>,
    ) -> PyResult<()> {
        let open = self.state(py).ledger.len() as u64;
        let want = self.want_with_backlog(want);
        self.waiting.fetch_add(1, SeqCst);
        let rung = rung.unwrap_or_else(|| self.rung.load(SeqCst));
        job.inspect(|job| job.note_waiting());
        let (result, raised) = detached(py, deadline(true, Some(timeout)), |patience| {
            self.engine.wait(want, open, patience, || {
                self.rung.load(SeqCst) != rung // pairs with the step in `ring`, before the bell
                    || job.is_some_and(|job| job.is_done() || job.delivered_so_far() > seen)
                    || self.is_hungry()
            })
        });
        job.inspect(|job| job.note_waited());
        self.waiting.fetch_sub(1, SeqCst);
        match result {
            Err(GaveUp::Interrupted) => Err(interrupted(raised)),
            Ok(()) | Err(GaveUp::TimedOut) => Ok(()),
        }
    }
}
