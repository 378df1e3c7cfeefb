//! Kernel features that may be missing: newer than Linux 5.10, or refused by sandboxes.
//!
//! A feature is *absent* when its first use ends in `EPERM` (a seccomp profile), `ENOSYS` (an older
//! kernel), `EINVAL` (an older flag set) or `ENOTTY` (an older request); that answer is remembered. `MANYCORE_DENY=a,b` (or `all`)
//! makes features absent from the start, which is how their fallbacks are tested.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use rustix::io::Errno;

/// A feature that has a fallback.
pub struct Feature {
    name: &'static str,
    /// Not a `OnceLock`: a fork while another thread initialises one would leave it locked in the child.
    state: AtomicU8,
}

const UNASKED: u8 = 0;
const PRESENT: u8 = 1;
const ABSENT: u8 = 2;

/// `madvise(MADV_POPULATE_WRITE)`, Linux 5.14.
pub static POPULATE_WRITE: Feature = Feature::new("populate_write");
/// `madvise(MADV_WIPEONFORK)`, Linux 4.14, missing in some user-space kernels.
pub static WIPE_ON_FORK: Feature = Feature::new("wipe_on_fork");
/// `pidfd_open`, Linux 5.3, refused by some sandboxes.
pub static PIDFD: Feature = Feature::new("pidfd");
/// `PIDFD_GET_INFO`, Linux 6.13; it tells how a process ended since Linux 6.15.
pub static PIDFD_INFO: Feature = Feature::new("pidfd_info");
/// The robust-futex interface, Linux 2.6.17, refused by some sandboxes and missing in some user-space
/// kernels.
pub static ROBUST_LIST: Feature = Feature::new("robust_list");
/// `MFD_NOEXEC_SEAL`, Linux 6.3.
pub static NOEXEC_SEAL: Feature = Feature::new("noexec_seal");
/// `futex_waitv`, Linux 5.16.
pub static FUTEX_WAITV: Feature = Feature::new("futex_waitv");
/// `/proc/thread-self/children`, left out of some kernels.
pub static CHILDREN: Feature = Feature::new("children");

/// Every feature's name, for tests that deny one after the other.
#[must_use]
pub fn names() -> [&'static str; 8] {
    [
        &POPULATE_WRITE,
        &WIPE_ON_FORK,
        &PIDFD,
        &PIDFD_INFO,
        &ROBUST_LIST,
        &NOEXEC_SEAL,
        &FUTEX_WAITV,
        &CHILDREN,
    ]
    .map(|feature| feature.name)
}

impl Feature {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            state: AtomicU8::new(UNASKED),
        }
    }

    /// Whether the feature may be tried.
    pub fn is_present(&self) -> bool {
        // Relaxed: every thread that asks finds the same, and being late costs one refused call.
        match self.state.load(Relaxed) {
            UNASKED => self.ask(),
            state => state == PRESENT,
        }
    }

    #[cold]
    fn ask(&self) -> bool {
        let state = if denied(self.name) { ABSENT } else { PRESENT };
        // A refusal that another thread has noted meanwhile stays.
        match self
            .state
            .compare_exchange(UNASKED, state, Relaxed, Relaxed)
        {
            Ok(_) => state == PRESENT,
            Err(found) => found == PRESENT,
        }
    }

    /// Remembers a refusal; returns whether `error` was one.
    pub fn note(&self, error: Errno) -> bool {
        let refused = matches!(
            error,
            Errno::PERM | Errno::NOSYS | Errno::INVAL | Errno::NOTTY
        );
        if refused {
            self.state.store(ABSENT, Relaxed);
        }
        refused
    }
}

fn denied(name: &str) -> bool {
    let list = std::env::var("MANYCORE_DENY").unwrap_or_default();
    list.split(',')
        .map(str::trim)
        .any(|word| word == name || word == "all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_remembered_and_another_error_is_not() {
        let feature = Feature::new("of this test");
        if denied("all") {
            assert!(!feature.is_present());
            return;
        }
        assert!(feature.is_present());
        assert!(!feature.note(Errno::NOMEM));
        assert!(feature.is_present());
        assert!(feature.note(Errno::NOSYS));
        assert!(!feature.is_present());
    }
}
