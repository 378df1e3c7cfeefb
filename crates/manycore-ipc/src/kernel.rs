//! What the engine asks of the kernel about threads and processes: sleep, wake, mark, and tell who has
//! ended. In the tests of this crate a [`model`](crate::model) may answer in its place.

use std::time::Duration;

pub(crate) use manycore_os::futex::Slept;
use manycore_os::process::{self, Identity};
use manycore_os::{futex, robust};

#[cfg(test)]
use crate::model;
use crate::word::Word32;

/// Sleeps while `word` holds `expected`, for `at_most` at the longest.
#[inline]
pub(crate) fn sleep(word: &Word32, expected: u32, at_most: Duration) -> Slept {
    #[cfg(test)]
    if model::is_active() {
        return model::kernel::sleep(word, expected, at_most);
    }
    futex::wait(word.as_futex(), expected, at_most)
}

/// Sleeps while each of these words holds the value beside it, for `at_most` at the longest.
pub(crate) fn sleep_any(words: &[(&Word32, u32)], at_most: Duration) -> Slept {
    #[cfg(test)]
    if model::is_active() {
        return model::kernel::sleep_any(words, at_most);
    }
    let words: Vec<_> = words
        .iter()
        .map(|&(word, expected)| (word.as_futex(), expected))
        .collect();
    futex::wait_any(&words, at_most)
}

/// Wakes up to `count` threads that sleep on `word`.
#[inline]
pub(crate) fn wake(word: &Word32, count: u32) {
    #[cfg(test)]
    if model::is_active() {
        return model::kernel::wake(word, count);
    }
    futex::wake(word.as_futex(), count);
}

/// Whether the kernel says that no thread with this id runs; `false` also where it does not tell.
pub(crate) fn thread_has_ended(tid: u32) -> bool {
    #[cfg(test)]
    if model::is_active() {
        return model::kernel::thread_has_ended(tid);
    }
    robust::thread_has_ended(tid)
}

/// Whether the kernel says that this process has ended; `false` also where it does not tell.
pub(crate) fn has_ended(id: Identity) -> bool {
    #[cfg(test)]
    if model::is_active() {
        return model::kernel::has_ended(id.pid);
    }
    process::has_ended(id)
}

/// This thread, as the owner of an engine lock: see [`robust::Holder`].
#[derive(Clone, Copy)]
pub(crate) struct Holder(robust::Holder);

impl Holder {
    /// The calling thread.
    #[inline]
    pub(crate) fn current() -> Self {
        Self(robust::Holder::current())
    }

    /// The thread id to store in the word.
    #[inline]
    pub(crate) fn tid(self) -> u32 {
        #[cfg(test)]
        if model::is_active() {
            return model::kernel::tid();
        }
        self.0.tid()
    }

    /// From here to [`Holder::retract`], the death of this thread marks `word` or passes on its wake-up.
    #[inline]
    pub(crate) fn announce(self, word: &Word32) {
        #[cfg(test)]
        if model::is_active() {
            return model::kernel::announce(word);
        }
        self.0.announce(word.as_futex());
    }

    /// Ends what [`Holder::announce`] began.
    #[inline]
    pub(crate) fn retract(self) {
        #[cfg(test)]
        if model::is_active() {
            return model::kernel::retract();
        }
        self.0.retract();
    }
}
