//! Until when to wait, and what to do in between.

use std::time::Duration;

use manycore_os::Deadline;

use crate::kernel::Slept;

/// The longest sleep while another process is needed: a wake-up that was given to a dying process is
/// made up for after this long. In a virtual machine a sleep costs up to 95 µs of processor time.
pub const SLICE: Duration = Duration::from_millis(75);

/// After so many slices, a second, the holder of an engine lock is stopped or frozen, or it is no holder.
pub(crate) fn stall() -> u32 {
    #[cfg(any(test, feature = "fuzzing"))]
    if crate::scribble::is_running() {
        return 1;
    }
    14
}

/// How long any call waits for its turn at an engine lock.
const TURN: Duration = Duration::from_secs(1);

#[cfg(test)]
thread_local! {
    /// Whether this thread waits for a turn that never comes, as its test knows.
    pub(crate) static WAITS_IN_VAIN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn turn() -> Duration {
    #[cfg(test)]
    if WAITS_IN_VAIN.get() {
        return Duration::from_millis(1);
    }
    TURN
}

/// Why a wait ended without what it waited for.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GaveUp {
    /// The deadline passed.
    TimedOut,
    /// The caller's tick said so, for instance because Ctrl-C was pressed.
    Interrupted,
}

/// How long a caller waits, and its chance to do something now and then.
pub struct Patience<'a> {
    until: Deadline,
    tick: &'a mut dyn FnMut() -> bool,
}

impl<'a> Patience<'a> {
    /// Waits until `until`. `tick` runs after every interrupted or ended sleep slice, without any
    /// lock held; `false` ends the wait.
    pub fn new(until: Deadline, tick: &'a mut dyn FnMut() -> bool) -> Self {
        Self { until, tick }
    }

    /// The same patience for taking an engine lock: a call that shall not wait for a message or for
    /// room still waits for its turn, which is over in a microsecond unless the holder was stopped.
    pub fn for_lock(&mut self) -> Patience<'_> {
        let turn = Deadline::after(turn());
        #[cfg(test)]
        let turn = if crate::model::is_active() {
            Deadline::NEVER // what the clock says must not decide how a run goes on
        } else {
            turn
        };
        let until = if self.until < turn { turn } else { self.until };
        Patience {
            until,
            tick: self.tick,
        }
    }

    /// When the wait ends.
    #[must_use]
    pub fn until(&self) -> Deadline {
        self.until
    }

    /// What is left, at most a slice.
    #[must_use]
    pub fn slice(&self) -> Duration {
        #[cfg(any(test, feature = "fuzzing"))]
        if crate::scribble::is_running() {
            return self.until.remaining_within(Duration::from_micros(1));
        }
        self.until.remaining_within(SLICE)
    }

    /// Whether to go on after a sleep that brought nothing.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&mut self) -> Result<(), GaveUp> {
        if self.until.has_passed() {
            return Err(GaveUp::TimedOut);
        }
        self.tick()
    }

    /// Whether to go on after a sleep that ended like this, if there was one, without what was waited for.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn after(&mut self, slept: Option<Slept>) -> Result<(), GaveUp> {
        match slept {
            None => Ok(()),
            Some(Slept::Interrupted) => self.tick(),
            Some(Slept::TimedOut) => self.check(),
            Some(Slept::Woken) if self.until.has_passed() => Err(GaveUp::TimedOut),
            Some(Slept::Woken) => Ok(()),
        }
    }

    /// Gives the caller its chance without looking at the time.
    ///
    /// # Errors
    /// When the caller wants the wait to end.
    pub fn tick(&mut self) -> Result<(), GaveUp> {
        if (self.tick)() {
            Ok(())
        } else {
            Err(GaveUp::Interrupted)
        }
    }
}
