//! Kernel features newer than Linux 5.10.
//!
//! A feature is *absent* when its first use ends in `EPERM` (a seccomp profile), `ENOSYS` (an older
//! kernel) or `EINVAL` (an older flag set); that answer is remembered. `MANYCORE_DENY=a,b` (or `all`)
//! makes features absent from the start, which is how their fallbacks are tested.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::io::Errno;

/// A feature that has a fallback.
pub struct Feature {
    name: &'static str,
    absent: AtomicBool,
}

/// `madvise(MADV_POPULATE_WRITE)`, Linux 5.14.
pub static POPULATE_WRITE: Feature = Feature::new("populate_write");
/// `madvise(MADV_WIPEONFORK)`, Linux 4.14, missing in some user-space kernels.
pub static WIPE_ON_FORK: Feature = Feature::new("wipe_on_fork");
/// `pidfd_open`, Linux 5.3, refused by some sandboxes.
pub static PIDFD: Feature = Feature::new("pidfd");
/// `MFD_NOEXEC_SEAL`, Linux 6.3.
pub static NOEXEC_SEAL: Feature = Feature::new("noexec_seal");

impl Feature {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            absent: AtomicBool::new(false),
        }
    }

    /// Whether the feature may be tried.
    pub fn is_present(&self) -> bool {
        // Relaxed: the flag only ever turns on, and being late costs one refused call.
        !self.absent.load(Relaxed) && !denied(self.name)
    }

    /// Remembers a refusal; returns whether `error` was one.
    pub fn note(&self, error: Errno) -> bool {
        let refused = matches!(error, Errno::PERM | Errno::NOSYS | Errno::INVAL);
        if refused {
            self.absent.store(true, Relaxed);
        }
        refused
    }
}

fn denied(name: &str) -> bool {
    static LIST: OnceLock<Vec<String>> = OnceLock::new();
    LIST.get_or_init(|| {
        let list = std::env::var("MANYCORE_DENY").unwrap_or_default();
        list.split(',')
            .map(|word| word.trim().to_owned())
            .filter(|word| !word.is_empty())
            .collect()
    })
    .iter()
    .any(|word| word == name || word == "all")
}
