//! Since when somebody waits for something: a note for whoever looks from outside.
//!
//! Nobody reads the clock to take a lock that is free. Who finds it held notes, before it sleeps, the moment and what
//! it has seen, unless that is noted already; so whatever was seen has lasted at least since then. A note about
//! something else is as good as none.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use manycore_os::clock;

use crate::word::Word64;

const HUNDREDTH: u64 = 10_000_000;
const ABOUT: u32 = 32;

/// `about:32 | hundredths of a second:32`; zero for none. Nothing else depends on it: all is `Relaxed`.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Since(Word64);

impl Since {
    /// Notes that somebody begins to wait, if nobody has since this was so.
    pub(super) fn note(&self, about: u32) {
        if is_wanted() && about_of(self.0.load(Relaxed)) != Some(about) {
            let note = u64::from(about) << ABOUT | u64::from(now());
            self.0.store(note, Relaxed);
        }
    }

    /// Forgets what was noted.
    pub(super) fn forget(&self) {
        if is_wanted() {
            self.0.store(0, Relaxed);
        }
    }

    /// Forgets what was noted if it is about this.
    pub(super) fn forget_about(&self, about: u32) {
        if !is_wanted() {
            return;
        }
        let note = self.0.load(Relaxed);
        if about_of(note) == Some(about) {
            let _ = self.0.compare_exchange(note, 0, Relaxed, Relaxed); // else it is about something newer
        }
    }

    /// For how long this has been so, at least.
    pub(super) fn lasts(&self, about: u32) -> Option<Duration> {
        let note = self.0.load(Relaxed);
        let hundredths = now().wrapping_sub(note as u32);
        // What seems to come is of a clock that has gone round, after more than a year, or was scribbled.
        let is_past = hundredths <= u32::MAX / 2;
        (about_of(note) == Some(about) && is_past)
            .then(|| Duration::from_millis(u64::from(hundredths) * 10))
    }
}

/// Not in a model: nothing depends on a note, and each would multiply the orders that there are.
fn is_wanted() -> bool {
    #[cfg(test)]
    if crate::model::is_active() {
        return false;
    }
    true
}

fn about_of(note: u64) -> Option<u32> {
    (note != 0).then_some((note >> ABOUT) as u32)
}

fn now() -> u32 {
    ((clock::now_ns() / HUNDREDTH) as u32).max(1) // so that no note is zero
}

#[cfg(test)]
impl Since {
    /// Makes a note older.
    pub(crate) fn age(&self, by: Duration) {
        let note = self.0.load(Relaxed);
        let then = (note as u32).wrapping_sub(by.as_millis() as u32 / 10);
        self.0
            .store(note >> ABOUT << ABOUT | u64::from(then), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_note_about_something_stays_and_is_about_nothing_else() {
        let since = Since::default();
        assert_eq!((since.lasts(0), since.lasts(7)), (None, None));
        since.note(7);
        since.age(Duration::from_secs(5));
        since.note(7);
        assert!(since.lasts(7) >= Some(Duration::from_secs(5)));
        assert_eq!(since.lasts(8), None);
        since.forget_about(8);
        assert!(since.lasts(7).is_some());
        since.note(8);
        assert!(since.lasts(8) < Some(Duration::from_secs(5)));
        since.forget_about(8);
        assert_eq!((since.lasts(7), since.lasts(8)), (None, None));
    }

    #[test]
    fn a_note_from_the_future_says_nothing() {
        let since = Since::default();
        since.note(7);
        since.0.store(since.0.load(Relaxed) + 1000, Relaxed);
        assert_eq!(since.lasts(7), None);
    }
}
