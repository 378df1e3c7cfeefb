//! The worker processes of a pool: started, watched, ended.

use std::time::Duration;

use manycore_os::Deadline;
use manycore_os::process::Exit;

use super::Crew;
use super::worker::{self, Seating};
use crate::call;
use crate::codec;
use crate::error::{JoinError, SpawnError, TaskError};
use crate::launch::{self, Launched, kind};

/// Between two looks at whether all workers live.
pub(super) const LOOK_AFTER: Duration = Duration::from_millis(50);

/// How long a worker that has nothing to do may take to leave before it is killed.
const LEAVE: Duration = Duration::from_secs(1);

/// The workers, by row. A row without one has lost it.
pub(super) struct Staff {
    workers: Vec<Option<Launched>>,
    /// Workers in a row that ended without being able to work, and why the last of them did.
    false_starts: usize,
    why: String,
    next_look: Deadline,
    is_dismissed: bool,
}

/// A worker that has ended.
pub(super) struct Ended {
    /// The row that it had.
    pub(super) row: usize,
    /// What that means for its task.
    pub(super) error: TaskError,
}

impl Staff {
    /// No workers yet, for this many rows.
    pub(super) fn new(rows: usize) -> Self {
        Self {
            workers: (0..rows).map(|_| None).collect(),
            false_starts: 0,
            why: String::new(),
            next_look: Deadline::after(LOOK_AFTER),
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
                *worker = Some(launch::launch(worker::entry(), &seating)?);
            }
        }
        Ok(())
    }

    /// Whether it is time to look after the workers; never again once they were dismissed.
    pub(super) fn needs_look(&self, crew: &Crew) -> bool {
        !self.is_dismissed && (self.next_look.has_passed() || crew.seems_dead())
    }

    /// Takes out the workers that have ended.
    pub(super) fn take_ended(&mut self) -> Vec<Ended> {
        self.next_look = Deadline::after(LOOK_AFTER);
        let mut ended = Vec::new();
        for (row, worker) in self.workers.iter_mut().enumerate() {
            let exit = worker
                .as_mut()
                .and_then(|it| it.wait_until(Deadline::PASSED));
            let (Some(exit), Some(launched)) = (exit, worker.take_if(|_| exit.is_some())) else {
                continue;
            };
            let error = match why_it_stopped(&launched, exit) {
                None => {
                    self.false_starts = 0;
                    TaskError::died(exit)
                }
                Some(why) => {
                    self.false_starts += 1;
                    self.why.clone_from(&why);
                    TaskError::Undelivered { why }
                }
            };
            ended.push(Ended { row, error });
        }
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
        self.workers.iter().flatten().map(Launched::pid).collect()
    }

    /// Ends all workers. Idle ones may leave in order, others are killed.
    pub(super) fn end(&mut self, are_idle: bool) {
        self.is_dismissed = true;
        let until = if are_idle {
            Deadline::after(LEAVE)
        } else {
            Deadline::PASSED
        };
        let mut workers: Vec<Launched> = self.workers.iter_mut().filter_map(Option::take).collect();
        workers.retain_mut(|worker| worker.wait_until(until).is_none());
        for worker in &mut workers {
            let _ = worker.kill(); // fails when it has become another user, and dies by its lifeline
        }
        for worker in &mut workers {
            worker.wait_until(Deadline::NEVER);
        }
    }
}

/// Why a worker ended that could not work; `None` for one that was killed or exited amid its work.
fn why_it_stopped(launched: &Launched, exit: Exit) -> Option<String> {
    let left = launched.take_left().ok().flatten()?;
    Some(match (left.kind, exit) {
        (kind::ANSWER, _) => match call::result::<Result<(), String>>(&left.message) {
            Ok(Err(why)) | Err(why) => why,
            Ok(Ok(())) => "a worker left a pool that goes on".to_owned(),
        },
        (kind::CALL, Exit::Code(_)) => JoinError::NeverStarted.to_string(),
        _ => TaskError::died(exit).to_string(),
    })
}
