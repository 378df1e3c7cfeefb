//! Monotonic time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds on the monotonic clock; the same clock for every process of the machine.
#[must_use]
pub fn now_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// The same clock, some milliseconds behind at most, for a fifth of the price.
#[must_use]
pub fn coarse_now_ns() -> u64 {
    nanoseconds(ClockId::MonotonicCoarse)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let t = clock_gettime(clock);
    // The monotonic clock starts at boot and never goes below zero.
    (t.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(t.tv_nsec as u64)
}

/// A moment after which an operation gives up. Timeouts become deadlines at the public edge, so that
/// an operation of several steps does not start counting anew at each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// Waits for as long as it takes.
    pub const NEVER: Self = Self(u64::MAX);
    /// Has passed already: try once, never sleep.
    pub const PASSED: Self = Self(0);

    /// The moment `timeout` from now.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        let ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        if ns == 0 {
            Self::PASSED
        } else {
            Self(now_ns().saturating_add(ns))
        }
    }

    /// Whether the moment has come.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self != Self::NEVER && (self == Self::PASSED || now_ns() >= self.0)
    }

    /// What is left until then, at most `slice`; zero once it has passed.
    #[must_use]
    pub fn remaining_within(self, slice: Duration) -> Duration {
        match self {
            Self::NEVER => slice,
            Self::PASSED => Duration::ZERO,
            Self(at) => Duration::from_nanos(at.saturating_sub(now_ns())).min(slice),
        }
    }

    /// The earlier of two moments.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_counts_down_to_zero_and_stays_there() {
        assert!(Deadline::PASSED.has_passed());
        assert!(!Deadline::NEVER.has_passed());
        let soon = Deadline::after(Duration::from_nanos(1));
        while !soon.has_passed() {}
        assert_eq!(
            soon.remaining_within(Duration::from_secs(1)),
            Duration::ZERO
        );
    }

    #[test]
    fn the_coarse_clock_is_behind_by_little() {
        let coarse = coarse_now_ns();
        let now = now_ns();
        assert!(coarse <= now);
        assert!(coarse > 0);
    }

    #[test]
    fn a_slice_bounds_what_is_left() {
        let slice = Duration::from_millis(50);
        assert_eq!(Deadline::NEVER.remaining_within(slice), slice);
        assert_eq!(
            Deadline::after(Duration::from_secs(9)).remaining_within(slice),
            slice
        );
    }
}
