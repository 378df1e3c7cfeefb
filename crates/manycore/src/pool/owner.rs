//! The owner's side of a [`Pool`](crate::Pool), below its types: hands out tasks and collects answers; how it
//! looks after the workers is in `tending.rs`. Whoever waits for an answer does it for all; the pool has a thread for that only
//! while tasks are awaited (`collector.rs`).
//!
//! Locks are taken in the order staff, state, job. No code of the user runs under any of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use manycore_ipc::ring::Outgoing;
use manycore_ipc::wait::Patience;
use manycore_os::{Deadline, incarnation};

use super::Crew;
use super::collector::Collector;
use super::job::{Answer, Job, Wish};
use super::staff::Staff;
use super::state::{Errand, Kept, Open, State};
use super::worker::{kind, put_place};
use crate::codec::Encoded;
use crate::error::{PoolError, SendError, TaskError};
use crate::{family, transport};

/// Bytes of arguments that are handed out ahead of their answers by a caller that can wait.
const MOST_BYTES: usize = 64 << 20;

/// Shared by the pool and its tasks.
pub(super) struct Owner {
    pub(super) crew: Crew,
    state: Mutex<State>,
    pub(super) staff: Mutex<Staff>,
    pub(super) collector: Collector,
    /// Threads that wait for answers.
    waiting: AtomicUsize,
    /// Nanoseconds that the task may run that may run for the shortest time, of those that were handed out since
    /// none was open that may run only for so long.
    pub(super) shortest: AtomicU64,
    /// Which process made the pool. A forked copy of it has the pool's memory, but not its workers.
    process: u64,
}

impl Owner {
    /// Makes a pool and starts its workers.
    pub(super) fn new(workers: usize) -> Result<Self, PoolError> {
        if workers == 0 {
            return Err(PoolError::NoWorkers);
        }
        let owner = Self {
            crew: Crew::new(family::family()?, workers, workers)?,
            state: Mutex::default(),
            staff: Mutex::new(Staff::new(workers)),
            collector: Collector::default(),
            waiting: AtomicUsize::new(0),
            shortest: AtomicU64::new(u64::MAX),
            process: incarnation::id(),
        };
        let started = owner.staff().start_missing(&owner.crew);
        match started {
            Ok(()) => Ok(owner),
            Err(error) => {
                owner.end();
                Err(error.into())
            }
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn staff(&self) -> MutexGuard<'_, Staff> {
        self.staff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many workers there are when none is being replaced.
    pub(super) fn workers(&self) -> usize {
        self.crew.rows()
    }

    /// The process ids of the workers.
    pub(super) fn worker_ids(&self) -> Vec<u32> {
        self.staff().ids()
    }

    /// How many tasks have no answer.
    pub(super) fn open(&self) -> usize {
        self.state().ledger.len()
    }

    /// Whether the arguments of all open tasks leave room for more.
    pub(super) fn has_room(&self) -> bool {
        !self.is_ours() || self.state().bytes < MOST_BYTES
    }

    /// Whether this process made the pool. In another, any of the locks here may be taken by a thread that is not
    /// there.
    pub(super) fn is_ours(&self) -> bool {
        self.process == incarnation::id()
    }

    /// Hands out a task. What prevents that is the answer to the task.
    pub(super) fn hand_out(&self, job: &Arc<Job>, index: usize, mut arguments: Encoded) {
        let Some(place) = job.target.place else {
            return job.refuse(index, TaskError::NotInProgram);
        };
        if !self.is_ours() {
            return job.refuse(index, TaskError::OtherProcess);
        }
        put_place(&mut arguments.bytes, place);
        let bytes = arguments.bytes.len();
        let may_come_again = job.terms.retries > 0;
        let kept = may_come_again.then(|| Box::new(Kept::new(std::mem::take(&mut arguments))));
        let kept_arguments = kept.as_ref().map(|kept| Arc::clone(&kept.arguments));
        let open = Open {
            job: Arc::clone(job),
            index,
            bytes,
            kept,
        };
        let Some(tag) = self.open_task(open) else {
            return job.refuse(index, TaskError::TooMany);
        };
        self.send_task(tag, kept_arguments.as_deref().unwrap_or(&arguments));
    }

    fn open_task(&self, open: Open) -> Option<u64> {
        let mut state = self.state();
        if let Some(limit) = open.job.terms.timeout {
            if state.timed == 0 {
                self.shortest.store(u64::MAX, Relaxed); // a hint for when to look, changed under the lock alone
            }
            let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
            self.shortest.fetch_min(limit, Relaxed);
        }
        state.open(open)
    }

    fn send_task(&self, tag: u64, arguments: &Encoded) {
        if let Err(error) = self.send(tag, arguments) {
            self.state().refuse(tag, error.into());
            self.tell_others();
            self.run_errands();
        }
    }

    fn send(&self, tag: u64, arguments: &Encoded) -> Result<(), SendError> {
        let mut go_on = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
        let message = Outgoing {
            kind: kind::TASK,
            tag,
            handles: &arguments.handles(),
            ..Outgoing::default()
        };
        let (family, tasks) = (self.crew.family(), self.crew.tasks()?);
        Ok(transport::send_through(
            family,
            &tasks,
            message,
            &arguments.bytes,
            &mut patience,
        )?)
    }

    /// Does what changes of the state have left to be done without a lock.
    pub(super) fn run_errands(&self) {
        let errands = std::mem::take(&mut self.state().errands);
        let mut wakers = Vec::new();
        for errand in errands {
            match errand {
                Errand::Wake(waker) => wakers.push(waker),
                Errand::Send(tag, arguments) => {
                    if self.state().ledger.get(tag).is_some() {
                        self.send_task(tag, &arguments);
                    }
                }
            }
        }
        for waker in wakers {
            self.collector.end_one();
            // One that panics says so, and others are to be woken all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }

    /// Delivers all answers that are there; returns whether there were any.
    pub(super) fn collect(&self) -> bool {
        let any = self.receive_all();
        if any {
            self.run_errands();
        }
        any
    }

    /// As [`Owner::collect`], but leaves the errands.
    pub(super) fn receive_all(&self) -> bool {
        let mut state = self.state();
        if !self.is_ours() {
            let any = !state.ledger.is_empty();
            state.fail_all(&TaskError::OtherProcess); // in this process's copy of the ledger
            return any;
        }
        let mut any = false;
        loop {
            match state.receive(&self.crew) {
                Ok(true) => any = true,
                Ok(false) => break,
                Err(error) => {
                    // What is behind it cannot be found any more, so nothing may wait for it.
                    state.fail_all(&TaskError::Heap(error.into()));
                    any = true;
                    break;
                }
            }
        }
        drop(state);
        if any {
            self.tell_others();
        }
        any
    }

    /// Wakes every thread that waits for answers.
    pub(super) fn ring(&self) {
        self.crew.ring();
    }

    /// Wakes the threads that wait: something was delivered.
    pub(super) fn tell_others(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.ring();
        }
    }

    /// Sleeps until `want` answers are there, or `done` says so, or it is time to look after the
    /// workers again, which it does first.
    pub(super) fn pause(&self, want: usize, until: Deadline, done: impl FnMut() -> bool) {
        let next_turn = self.look_after_when_due();
        let open = self.open() as u64;
        // SeqCst, before `done` is asked: see `Job::deliver`.
        let others = self.waiting.fetch_add(1, SeqCst);
        // Who waits for a crowd must not let others wait.
        let want = if others == 0 { want.max(1) } else { 1 };
        let mut go_on = || true;
        let mut patience = Patience::new(until.earlier(next_turn), &mut go_on);
        let _ = self.crew.wait(want as u64, open, &mut patience, done); // the caller looks anyway
        if self.waiting.fetch_sub(1, SeqCst) > 1 && self.crew.pending() > 0 {
            self.crew.ring(); // this thread may have had a wake-up that another one needs
        }
    }

    /// The answer to a job's only task, if it is there; else the waker will be woken when it is.
    pub(super) fn poll(self: &Arc<Self>, job: &Job, waker: &Waker) -> Poll<Answer> {
        if job.delivered() == 0 {
            self.collect();
        }
        if let Some((_, answer)) = job.take_one() {
            return Poll::Ready(answer);
        }
        let own = waker.clone(); // its code runs before anything is counted for it
        let is_collected = self.collector.begin(self);
        match job.take_or_wake(own) {
            Wish::New if is_collected => Poll::Pending,
            Wish::New => {
                self.look_after_when_due();
                waker.wake_by_ref(); // there is no thread to wait for it: it asks again
                Poll::Pending
            }
            Wish::Changed(before) => {
                self.collector.end_one();
                drop(before);
                Poll::Pending
            }
            Wish::Answered(answer) => {
                self.collector.end_one();
                Poll::Ready(answer)
            }
        }
    }

    /// Wakes nobody for a job any more.
    pub(super) fn forget_waker(&self, job: &Job) {
        if job.forget_waker().is_some() {
            self.collector.end_one();
        }
    }

    pub(super) fn fail_all(&self, error: &TaskError) {
        self.state().fail_all(error);
        self.tell_others();
        let _ = self.crew.drop_tasks(); // what stays is freed with the ring
    }

    /// Waits until every task has its answer.
    pub(super) fn wait_for_all(&self) {
        loop {
            if !self.is_ours() {
                return;
            }
            let open = self.open();
            if open == 0 {
                return;
            }
            if !self.collect() {
                self.pause(open, Deadline::NEVER, || self.open() == 0);
            }
        }
    }

    /// Ends the workers. Tasks without an answer fail.
    pub(super) fn end(&self) {
        if !self.is_ours() {
            return;
        }
        let mut staff = self.staff();
        self.receive_all();
        let are_idle = self.open() == 0;
        self.crew.dismiss();
        staff.end(are_idle);
        self.receive_all();
        self.fail_all(&TaskError::Dropped);
        drop(staff);
        self.run_errands();
        self.collector.end(self);
    }
}
