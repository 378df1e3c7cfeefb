//! The owner's side of a [`Pool`](crate::Pool), below its types: hands out tasks, collects answers,
//! looks after the workers. There is no thread for that: whoever waits for an answer does it for all.
//!
//! Locks are taken in the order staff, state, job. No code of the user runs under any of them.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use manycore_ipc::ring::{Message, Outgoing};
use manycore_ipc::wait::Patience;
use manycore_ipc::{Corrupted, Family};
use manycore_os::Deadline;

use super::job::{Answer, Job};
use super::staff::{Ended, LOOK_AFTER, Staff};
use super::worker::{kind, put_place};
use super::{Crew, Ledger};
use crate::codec::{self, Encoded};
use crate::error::{PoolError, SendError, TaskError};
use crate::panic::Panic;
use crate::{family, transport};

/// Bytes of arguments that are handed out ahead of their answers by a caller that can wait.
const MOST_BYTES: usize = 64 << 20;

/// Shared by the pool and its tasks.
pub(super) struct Owner {
    crew: Crew,
    state: Mutex<State>,
    staff: Mutex<Staff>,
    /// Threads that wait for answers.
    waiting: AtomicUsize,
    /// The process that made the pool. A forked copy of it has the pool's memory, but not its workers.
    process: u32,
}

/// A task without an answer.
struct Open {
    job: Arc<Job>,
    index: usize,
    bytes: usize,
}

struct State {
    ledger: Ledger<Open>,
    /// Bytes of the arguments of all open tasks.
    bytes: usize,
    cursor: usize,
    message: Message,
}

impl Owner {
    /// Makes a pool and starts its workers.
    pub(super) fn new(workers: usize) -> Result<Self, PoolError> {
        if workers == 0 {
            return Err(PoolError::NoWorkers);
        }
        let owner = Self {
            crew: Crew::new(family::family()?, workers, workers)?,
            state: Mutex::new(State {
                ledger: Ledger::default(),
                bytes: 0,
                cursor: 0,
                message: Message::default(),
            }),
            staff: Mutex::new(Staff::new(workers)),
            waiting: AtomicUsize::new(0),
            process: std::process::id(),
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

    fn state(&self) -> MutexGuard<'_, State> {
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
        self.state().bytes < MOST_BYTES
    }

    /// Hands out a task to the entry at this place. What prevents that is the answer to the task.
    pub(super) fn hand_out(
        &self,
        job: &Arc<Job>,
        index: usize,
        place: Option<u64>,
        mut arguments: Encoded,
    ) {
        let Some(place) = place else {
            return job.deliver(index, Answer::Failed(TaskError::NotInProgram));
        };
        put_place(&mut arguments.bytes, place);
        let open = Open {
            job: Arc::clone(job),
            index,
            bytes: arguments.bytes.len(),
        };
        let Some(tag) = self.state().open(open) else {
            return job.deliver(index, Answer::Failed(TaskError::TooMany));
        };
        if let Err(error) = self.send(tag, &arguments) {
            self.state().fail(tag, error.into());
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

    /// Delivers all answers that are there; returns whether there were any.
    pub(super) fn collect(&self) -> bool {
        let mut state = self.state();
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

    /// Wakes the threads that wait: something was delivered.
    fn tell_others(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.crew.ring();
        }
    }

    /// Sleeps until `want` answers are there, or `done` says so, or it is time to look after the
    /// workers again, which it does first.
    pub(super) fn pause(&self, want: usize, until: Deadline, done: impl FnMut() -> bool) {
        self.look_after_when_due();
        let open = self.open() as u64;
        // SeqCst, before `done` is asked: see `Job::deliver`.
        let others = self.waiting.fetch_add(1, SeqCst);
        // Who waits for a crowd must not let others wait.
        let want = if others == 0 { want.max(1) } else { 1 };
        let until = until.earlier(Deadline::after(LOOK_AFTER));
        let mut go_on = || true;
        let mut patience = Patience::new(until, &mut go_on);
        let _ = self.crew.wait(want as u64, open, &mut patience, done); // the caller looks anyway
        if self.waiting.fetch_sub(1, SeqCst) > 1 && self.crew.pending() > 0 {
            self.crew.ring(); // this thread may have had a wake-up that another one needs
        }
    }

    /// Buries workers that have ended, and starts others, if it is time for that and no other thread
    /// does it.
    pub(super) fn look_after_when_due(&self) {
        let mut staff = match self.staff.try_lock() {
            Ok(staff) => staff,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if !staff.needs_look(&self.crew) {
            return;
        }
        for ended in staff.take_ended() {
            self.bury(ended);
        }
        if let Some(why) = staff.gives_up() {
            self.fail_all(&TaskError::NoWorkers { why });
        }
        if let Err(error) = staff.start_missing(&self.crew) {
            if staff.is_empty() {
                let why = error.to_string();
                self.fail_all(&TaskError::NoWorkers { why });
            }
        }
    }

    /// Fails the task that a worker had when it ended, if it had one.
    fn bury(&self, ended: Ended) {
        let last_taken = self.crew.last_taken(ended.row);
        self.crew.clear_row(ended.row);
        self.collect(); // it may have answered
        match last_taken {
            Ok(Some(tag)) => self.state().fail(tag, ended.error),
            Ok(None) => {}
            Err(error) => self.state().fail_all(&TaskError::Heap(error)), // any may have been its task
        }
        self.tell_others();
    }

    fn fail_all(&self, error: &TaskError) {
        self.state().fail_all(error);
        self.tell_others();
        let _ = self.crew.drop_tasks(); // what stays is freed with the ring
    }

    /// Waits until every task has its answer.
    pub(super) fn wait_for_all(&self) {
        loop {
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
        if self.process != std::process::id() {
            return;
        }
        let mut staff = self.staff();
        self.collect();
        let are_idle = self.open() == 0;
        self.crew.dismiss();
        staff.end(are_idle);
        self.collect();
        self.fail_all(&TaskError::Dropped);
    }
}

impl State {
    fn open(&mut self, open: Open) -> Option<u64> {
        let bytes = open.bytes;
        let tag = self.ledger.open(open)?;
        self.bytes += bytes;
        Some(tag)
    }

    /// Answers a task, unless it was answered already.
    fn answer(&mut self, tag: u64, answer: Answer) {
        if let Some(open) = self.ledger.close(tag) {
            self.bytes -= open.bytes;
            open.job.deliver(open.index, answer);
        }
    }

    fn fail(&mut self, tag: u64, error: TaskError) {
        self.answer(tag, Answer::Failed(error));
    }

    fn fail_all(&mut self, error: &TaskError) {
        self.bytes = 0;
        for open in self.ledger.drain() {
            open.job.deliver(open.index, Answer::Failed(error.clone()));
        }
    }

    /// Receives and delivers one answer; false when there is none.
    fn receive(&mut self, crew: &Crew) -> Result<bool, Corrupted> {
        if !crew.try_receive(&mut self.cursor, &mut self.message)? {
            return Ok(false);
        }
        // Also one that comes too late, or its blocks would stay.
        let answer = unpacked(crew.family(), &mut self.message);
        self.answer(self.message.header.tag, answer);
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
