//! The worker processes of a pool: started, watched, ended.

use std::time::{Duration, Instant};

use manycore_os::Deadline;
use manycore_os::process::{self, Exit};

use super::Crew;
use super::run::Run;
use super::worker::{self, Seating};
use crate::call;
use crate::codec;
use crate::error::{JoinError, SpawnError, TaskError};
use crate::launch::{self, Launched, kind};

/// Between two looks at whether all workers live.
pub(super) const LOOK_AFTER: Duration = Duration::from_millis(50);

/// The same while a worker that was killed has not ended.
const LOOK_FOR_KILLED: Duration = Duration::from_millis(2);

/// Between two looks at whether workers were stopped by a signal: who is at both was.
const LOOK_FOR_STOPPED: Duration = Duration::from_secs(1);

/// How long a worker that has nothing to do may take to leave before it is killed.
const LEAVE: Duration = Duration::from_secs(1);

/// The workers, by row. A row without one has lost it.
pub(super) struct Staff {
    workers: Vec<Option<Worker>>,
    /// Workers in a row that ended without being able to work, and why the last of them did.
    false_starts: usize,
    why: String,
    next_look: Deadline,
    /// When the next task may have run for too long, as far as that was known at the last look.
    next_check: Deadline,
    next_look_for_stopped: Deadline,
    is_dismissed: bool,
}

struct Worker {
    launched: Launched,
    /// Since when it is known to be stopped by a signal.
    stopped: Option<Instant>,
    /// It was killed for a task that had run for so long.
    overdue: Option<Duration>,
}

/// A worker that has ended.
pub(super) struct Ended {
    /// The row that it had.
    pub(super) row: usize,
    /// How.
    pub(super) end: End,
    /// How long its task had run when it was killed for that.
    pub(super) lasted: Option<Duration>,
}

/// How a worker ended.
pub(super) enum End {
    /// By a signal, or by itself, amid its work.
    Died(Exit),
    /// It was killed because its task had run for too long.
    Overdue,
    /// It could not work, and said why.
    Stopped(String),
}

impl End {
    /// What it means for the worker's task, of which this was a run, and which might run for `limit`.
    pub(super) fn into_error(self, run: Run, limit: Duration) -> TaskError {
        match self {
            Self::Died(Exit::Code(code)) => TaskError::Exited { code, run },
            Self::Died(Exit::Signal(signal)) => TaskError::Killed { signal, run },
            Self::Died(Exit::Unknown) => TaskError::Vanished { run },
            Self::Overdue => TaskError::TimedOut { limit, run },
            Self::Stopped(why) => TaskError::Undelivered { why },
        }
    }
}

impl Staff {
    /// No workers yet, for this many rows.
    pub(super) fn new(rows: usize) -> Self {
        Self {
            workers: (0..rows).map(|_| None).collect(),
            false_starts: 0,
            why: String::new(),
            next_look: Deadline::after(LOOK_AFTER),
            next_check: Deadline::PASSED,
            next_look_for_stopped: Deadline::after(LOOK_FOR_STOPPED),
            is_dismissed: false,
        }
    }

    /// Starts the workers that are missing. Those that were started stay, also when one cannot be.
    pub(super) fn start_missing(&mut self, crew: &Crew) -> Result<(), SpawnError> {
        for (row, worker) in self.workers.iter_mut().enumerate() {
            if worker.is_none() {
                crew.clear_row(row);
                let seat = crew.seat(row).expect("a row for each worker");
                let seating = codec::encode(&Seating::from(seat))?;
                *worker = Some(Worker {
                    launched: launch::launch(worker::entry(), &seating)?,
                    stopped: None,
                    overdue: None,
                });
            }
        }
        Ok(())
    }

    /// Whether it is time to look after the workers; never again once they were dismissed.
    pub(super) fn needs_look(&self, crew: &Crew) -> bool {
        !self.is_dismissed && (self.next_look.has_passed() || crew.seems_dead())
    }

    /// Whether it is time to look which tasks have run for too long.
    pub(super) fn needs_check(&self) -> bool {
        !self.is_dismissed && self.next_check.has_passed()
    }

    /// Nothing runs for too long before that.
    pub(super) fn check_again(&mut self, at: Deadline) {
        self.next_check = at;
    }

    /// When something is to be looked at again; `is_timed` if tasks may run only for so long.
    pub(super) fn next_turn(&self, is_timed: bool) -> Deadline {
        match (self.is_dismissed, is_timed) {
            (true, _) => Deadline::after(LOOK_AFTER),
            (false, true) => self.next_look.earlier(self.next_check),
            (false, false) => self.next_look,
        }
    }

    /// Kills the worker of a row for a task that has run for so long.
    pub(super) fn end_overdue(&mut self, row: usize, lasted: Duration) {
        if let Some(Some(worker)) = self.workers.get_mut(row) {
            worker.overdue = Some(lasted);
            // Fails when it has become another user: then it goes on until its task is done, and leaves.
            let _ = worker.launched.kill();
            self.next_look = self.next_look.earlier(Deadline::after(LOOK_FOR_KILLED));
        }
    }

    /// The rows of workers that were found stopped by a signal before, and are so still, and for how long that is
    /// known, at most; looks once in a second.
    pub(super) fn find_stopped(&mut self) -> Vec<(usize, Duration)> {
        if !self.next_look_for_stopped.has_passed() {
            return Vec::new();
        }
        self.next_look_for_stopped = Deadline::after(LOOK_FOR_STOPPED);
        let mut found = Vec::new();
        for (row, worker) in self.workers.iter_mut().enumerate() {
            let Some(worker) = worker else { continue };
            if process::state(worker.launched.pid()) != Some('T') {
                worker.stopped = None;
            } else if let Some(since) = worker.stopped {
                found.push((row, since.elapsed()));
            } else {
                worker.stopped = Some(Instant::now());
            }
        }
        found
    }

    /// Kills the worker of a row that was stopped before it began with a task.
    pub(super) fn end_stopped(&mut self, row: usize) {
        if let Some(Some(worker)) = self.workers.get_mut(row) {
            let _ = worker.launched.kill(); // fails as in `end_overdue`
        }
    }

    /// Takes out the workers that have ended, if they may be buried.
    pub(super) fn take_ended(&mut self, may_bury: impl FnOnce() -> bool) -> Vec<Ended> {
        let mut ended = Vec::new();
        let has_ended = |it: &mut Worker| it.launched.wait_until(Deadline::PASSED).is_some();
        if self.workers.iter_mut().flatten().any(has_ended) && !may_bury() {
            self.next_look = Deadline::after(LOOK_AFTER);
            return ended;
        }
        for (row, place) in self.workers.iter_mut().enumerate() {
            let exit = place
                .as_mut()
                .and_then(|it| it.launched.wait_until(Deadline::PASSED));
            let (Some(exit), Some(worker)) = (exit, place.take_if(|_| exit.is_some())) else {
                continue;
            };
            let end = end_of(&worker, exit);
            match &end {
                End::Stopped(why) => {
                    self.false_starts += 1;
                    self.why.clone_from(why);
                }
                End::Died(_) | End::Overdue => self.false_starts = 0,
            }
            let lasted = worker.overdue;
            ended.push(Ended { row, end, lasted });
        }
        let is_killed = |worker: &Worker| worker.overdue.is_some();
        let awaits_end = self.workers.iter().flatten().any(is_killed);
        let pause = if awaits_end {
            LOOK_FOR_KILLED
        } else {
            LOOK_AFTER
        };
        self.next_look = Deadline::after(pause);
        ended
    }

    /// Whether workers end as soon as they have begun, again and again, and why the last one did.
    /// Starts counting anew.
    pub(super) fn gives_up(&mut self) -> Option<String> {
        let gives_up = self.false_starts > 2 * self.workers.len() + 2;
        gives_up.then(|| {
            self.false_starts = 0;
            std::mem::take(&mut self.why)
        })
    }

    /// Whether there is no worker at all.
    pub(super) fn is_empty(&self) -> bool {
        self.workers.iter().all(Option::is_none)
    }

    /// The process ids of the workers.
    pub(super) fn ids(&self) -> Vec<u32> {
        let workers = self.workers.iter().flatten();
        workers.map(|worker| worker.launched.pid()).collect()
    }

    /// Ends all workers. Idle ones may leave in order, others are killed.
    pub(super) fn end(&mut self, are_idle: bool) {
        self.is_dismissed = true;
        let until = if are_idle {
            Deadline::after(LEAVE)
        } else {
            Deadline::PASSED
        };
        let workers = self.workers.iter_mut().filter_map(Option::take);
        let mut workers: Vec<Launched> = workers.map(|worker| worker.launched).collect();
        workers.retain_mut(|worker| worker.wait_until(until).is_none());
        for worker in &mut workers {
            let _ = worker.kill(); // fails when it has become another user, and dies by its lifeline
        }
        for worker in &mut workers {
            worker.wait_until(Deadline::NEVER);
        }
    }
}

fn end_of(worker: &Worker, exit: Exit) -> End {
    match (worker.overdue, exit) {
        (Some(_), Exit::Signal(KILL)) => End::Overdue,
        (Some(_), Exit::Code(0)) => End::Died(exit), // its task was done in time, and it left as it was to
        _ => why_it_stopped(&worker.launched, exit).map_or(End::Died(exit), End::Stopped),
    }
}

/// The number of `SIGKILL`.
const KILL: i32 = 9;

/// Why a worker ended that could not work; `None` for one that was killed or exited amid its work.
fn why_it_stopped(launched: &Launched, exit: Exit) -> Option<String> {
    let left = launched.take_left().ok().flatten()?;
    Some(match (left.kind, exit) {
        (kind::ANSWER, _) => match call::result::<Result<(), String>>(&left.message) {
            Ok(Err(why)) | Err(why) => why,
            Ok(Ok(())) => "a worker left a pool that goes on".to_owned(),
        },
        (kind::CALL, Exit::Code(_)) => JoinError::NeverStarted.to_string(),
        (_, Exit::Code(code)) => {
            format!("a worker exited with status {code} before its first task")
        }
        (_, Exit::Signal(signal)) => {
            format!("a worker was killed by signal {signal} before its first task")
        }
        (_, Exit::Unknown) => "a worker ended before its first task".to_owned(),
    })
}
