//! How the owner of a [`Pool`](crate::Pool) looks after its workers: ends those whose tasks run for too long, buries
//! those that have ended, starts others.

use std::sync::TryLockError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use manycore_os::Deadline;
use manycore_os::clock::coarse_now_ns;

use super::owner::Owner;
use super::staff::{Ended, LOOK_AFTER, Staff};
use crate::error::TaskError;

/// By how much a task may seem to have run longer than it has: the clock that a worker looks at when it begins
/// one goes in steps of up to ten milliseconds.
const CLOCK_STEP: Duration = Duration::from_millis(10);

/// How long a worker that was stopped by a signal, while it has no task, may keep tasks waiting that have no time-out.
const STOPPED: Duration = Duration::from_secs(10);

impl Owner {
    /// Ends the workers of tasks that have run for too long, buries workers that have ended, and starts others,
    /// if it is time for that and no other thread does it. Returns when it will be time again.
    pub(super) fn look_after_when_due(&self) -> Deadline {
        let mut staff = match self.staff.try_lock() {
            Ok(staff) => staff,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Deadline::after(LOOK_AFTER),
        };
        if !self.is_ours() {
            return Deadline::after(LOOK_AFTER);
        }
        if self.is_timed() && staff.needs_check() {
            self.end_overdue(&mut staff);
        }
        let needs_look = staff.needs_look(&self.crew);
        if needs_look {
            self.look_after(&mut staff);
        }
        let next_turn = staff.next_turn(self.is_timed());
        drop(staff);
        if needs_look {
            self.run_errands();
        }
        next_turn
    }

    /// Whether there may be tasks that may run only for so long.
    fn is_timed(&self) -> bool {
        self.shortest.load(Relaxed) != u64::MAX // see `open_task`
    }

    fn look_after(&self, staff: &mut Staff) {
        self.end_stopped(staff);
        // Later, while a worker that was stopped has what a burial needs: it is ended by then, if others wait for it.
        for ended in staff.take_ended(|| self.crew.settle().unwrap_or(true)) {
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

    /// Ends the workers whose tasks have run for too long.
    fn end_overdue(&self, staff: &mut Staff) {
        let now = coarse_now_ns();
        let mut state = self.state();
        if state.timed == 0 {
            self.shortest.store(u64::MAX, Relaxed); // see `open_task`
            return;
        }
        let shortest = Duration::from_nanos(self.shortest.load(Relaxed));
        let mut next = LOOK_AFTER.min(shortest.saturating_add(CLOCK_STEP));
        for row in 0..self.crew.rows() {
            let Some((tag, began)) = self.crew.running(row) else {
                continue;
            };
            let Some(limit) = state.limit_of(tag) else {
                continue;
            };
            let lasted = Duration::from_nanos(now.saturating_sub(began));
            let left = limit.saturating_add(CLOCK_STEP).saturating_sub(lasted);
            if !left.is_zero() {
                next = next.min(left);
            } else if self.crew.doom(row, began) {
                staff.end_overdue(row, lasted);
            }
        }
        staff.check_again(Deadline::after(next));
    }

    /// Ends workers that were stopped by a signal between two tasks, once others have waited for too long: such a
    /// worker may have taken a task, or hold what others need to take one.
    fn end_stopped(&self, staff: &mut Staff) {
        let stopped = staff.find_stopped();
        if stopped.is_empty() {
            return;
        }
        let rows = 0..self.crew.rows();
        let running: Vec<u64> = rows
            .filter_map(|row| self.crew.running(row))
            .map(|(tag, _)| tag)
            .collect();
        let mut state = self.state();
        let Some(patience) = state.patience(&running) else {
            return;
        };
        for (row, lasted) in stopped {
            let has_task = matches!(self.crew.running(row), Some((tag, _)) if state.is_open(tag));
            if !has_task && lasted >= patience.min(STOPPED) {
                staff.end_stopped(row);
            }
        }
    }

    /// Fails the task that a worker had when it ended, if it had one.
    fn bury(&self, ended: Ended) {
        let last_taken = self.crew.last_taken(ended.row);
        let running = self.crew.running(ended.row);
        let lasted = ended.lasted.or_else(|| {
            let (_, began) = running?;
            Some(Duration::from_nanos(coarse_now_ns().saturating_sub(began)))
        });
        self.crew.clear_row(ended.row);
        self.receive_all(); // it may have answered
        match last_taken {
            Ok(Some(tag)) => self.state().bury(tag, ended.end, lasted),
            Ok(None) => {}
            Err(error) => self.state().fail_all(&TaskError::Heap(error)), // any may have been its task
        }
        self.tell_others();
    }
}
