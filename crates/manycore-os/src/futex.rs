//! Sleeping and waking on a 32-bit word that processes share.
//!
//! Every sleep here is bounded: a wake-up given to a process that is being killed is lost, so no
//! caller may rely on being woken, only on being woken soon in the usual case.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec, Wait, WaitFlags, WaitPtr, WaitvFlags};
use rustix::time::ClockId;

use crate::clock::now_ns;
use crate::feature::FUTEX_WAITV;

/// The most words that the kernel waits for at a time.
const MOST_WORDS: usize = 128;
/// How long one of several words is slept at where the kernel waits for one at a time only: a wake-up at
/// another is noticed after this long for each.
const NAP: Duration = Duration::from_millis(1);

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

/// Sleeps while each of these words holds the value beside it, for `at_most` at the longest.
pub fn wait_any(words: &[(&AtomicU32, u32)], at_most: Duration) -> Slept {
    if let [(word, expected)] = *words {
        return wait(word, expected, at_most);
    }
    if words.len() <= MOST_WORDS && FUTEX_WAITV.is_present() {
        match wait_for_all_at_once(words, at_most) {
            Err(Errno::INTR) => return Slept::Interrupted,
            Err(Errno::TIMEDOUT) => return Slept::TimedOut,
            Err(error) if FUTEX_WAITV.note(error) => {}
            Ok(_) | Err(_) => return Slept::Woken,
        }
    }
    wait_in_turn(words, at_most)
}

fn wait_for_all_at_once(words: &[(&AtomicU32, u32)], at_most: Duration) -> Result<usize, Errno> {
    let waits: Vec<Wait> = words
        .iter()
        .map(|&(word, expected)| {
            let mut wait = Wait::new();
            wait.val = u64::from(expected);
            wait.uaddr = WaitPtr::new(word.as_ptr().cast());
            wait.flags = WaitFlags::SIZE_U32;
            wait
        })
        .collect();
    let until = Duration::from_nanos(now_ns()).saturating_add(at_most); // a moment, unlike for one word
    futex::waitv(
        &waits,
        WaitvFlags::empty(),
        Some(&timespec(until)),
        ClockId::Monotonic,
    )
}

/// Goes round the words.
fn wait_in_turn(words: &[(&AtomicU32, u32)], at_most: Duration) -> Slept {
    let begun = now_ns();
    loop {
        for &(word, expected) in words {
            let passed = Duration::from_nanos(now_ns().saturating_sub(begun));
            let Some(left) = at_most.checked_sub(passed).filter(|left| !left.is_zero()) else {
                return Slept::TimedOut;
            };
            match wait(word, expected, left.min(NAP)) {
                Slept::TimedOut => {}
                other => return other,
            }
        }
        if words.is_empty() {
            std::thread::sleep(at_most);
            return Slept::TimedOut;
        }
    }
}

/// Wakes up to `count` threads that sleep on `word`, in any process; how many there were.
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    futex::wake(word, Flags::empty(), count.min(i32::MAX as u32)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a sleep ends once no signal ends it: other tests of this process get some.
    fn at_last(mut sleep: impl FnMut() -> Slept) -> Slept {
        loop {
            let slept = sleep();
            if slept != Slept::Interrupted {
                return slept;
            }
        }
    }

    #[test]
    fn a_changed_word_is_not_waited_for() {
        let word = AtomicU32::new(1);
        assert_eq!(
            at_last(|| wait(&word, 0, Duration::from_secs(60))),
            Slept::Woken
        );
    }

    #[test]
    fn a_sleep_ends_by_itself() {
        let word = AtomicU32::new(0);
        assert_eq!(
            at_last(|| wait(&word, 0, Duration::from_millis(1))),
            Slept::TimedOut
        );
        assert_eq!(wake(&word, u32::MAX), 0);
    }

    #[test]
    fn of_several_words_any_ends_the_sleep() {
        let words = [0, 1, 2].map(AtomicU32::new);
        let with = |expected: [u32; 3]| {
            let pairs: Vec<_> = words.iter().zip(expected).collect();
            let moment = Duration::from_millis(5);
            [
                at_last(|| wait_any(&pairs, moment)),
                at_last(|| wait_in_turn(&pairs, moment)),
            ]
        };
        assert_eq!(with([0, 1, 2]), [Slept::TimedOut; 2]);
        for changed in 0..3 {
            let mut expected = [0, 1, 2];
            expected[changed] += 1;
            assert_eq!(with(expected), [Slept::Woken; 2]);
        }
    }

    #[test]
    fn who_sleeps_at_several_words_is_woken_at_any() {
        let words = [0, 1].map(AtomicU32::new);
        for at in 0..2 {
            std::thread::scope(|scope| {
                let sleeper = scope.spawn(|| {
                    let pairs = [(&words[0], 0), (&words[1], 1)];
                    while wait_any(&pairs, Duration::from_secs(60)) != Slept::Woken {}
                });
                while !sleeper.is_finished() {
                    wake(&words[at], 1);
                    std::thread::yield_now();
                }
            });
        }
    }

    #[test]
    fn more_words_than_the_kernel_takes_are_slept_at_in_turn() {
        let words: Vec<_> = (0..200).map(AtomicU32::new).collect();
        let mut pairs: Vec<_> = words.iter().zip(0..200).collect();
        let soon = Duration::from_millis(3);
        assert_eq!(at_last(|| wait_any(&pairs, soon)), Slept::TimedOut);
        pairs[150].1 = 0;
        assert_eq!(
            at_last(|| wait_any(&pairs, Duration::from_secs(60))),
            Slept::Woken
        );
        assert_eq!(at_last(|| wait_any(&[], soon)), Slept::TimedOut);
    }
}
