//! Sleeping and waking on a 32-bit word that processes share.
//!
//! Every sleep here is bounded: a wake-up given to a process that is being killed is lost, so no
//! caller may rely on being woken, only on being woken soon in the usual case.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};

/// Why a sleep ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slept {
    /// Somebody woke this thread, or the word did not have the expected value any more.
    Woken,
    /// A signal arrived: let the program answer it, then look again.
    Interrupted,
    /// The time was up.
    TimedOut,
}

fn timespec(d: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(d.subsec_nanos()),
    }
}

/// Sleeps while `word` holds `expected`, for `at_most` at the longest.
pub fn wait(word: &AtomicU32, expected: u32, at_most: Duration) -> Slept {
    match futex::wait(word, Flags::empty(), expected, Some(&timespec(at_most))) {
        Err(Errno::INTR) => Slept::Interrupted,
        Err(Errno::TIMEDOUT) => Slept::TimedOut,
        Ok(()) | Err(_) => Slept::Woken,
    }
}

/// Wakes up to `count` threads that sleep on `word`, in any process; how many there were.
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    futex::wake(word, Flags::empty(), count.min(i32::MAX as u32)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_word_is_not_waited_for() {
        let word = AtomicU32::new(1);
        assert_eq!(wait(&word, 0, Duration::from_secs(60)), Slept::Woken);
    }

    #[test]
    fn a_sleep_ends_by_itself() {
        let word = AtomicU32::new(0);
        assert_eq!(wait(&word, 0, Duration::from_millis(1)), Slept::TimedOut);
        assert_eq!(wake(&word, u32::MAX), 0);
    }
}
