//! How many CPUs there are.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// CPUs in this thread's affinity mask; at least one.
#[must_use]
pub fn allowed_cpus() -> u32 {
    rustix::thread::sched_getaffinity(None)
        .map_or(1, |set| set.count())
        .max(1)
}

/// The CPU that this thread runs on, at this moment.
#[inline]
#[must_use]
pub fn current_cpu() -> u32 {
    rustix::thread::sched_getcpu() as u32
}

/// CPUs that are online on this machine. Two processes that are pinned to one CPU each may still run at
/// the same time, so this number, not the affinity mask, says whether looking again can ever pay.
#[must_use]
pub fn online_cpus() -> u32 {
    // Zero until asked. Not a `OnceLock`: a fork while another thread asks would leave it locked.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let known = COUNT.load(Relaxed); // a number, and the same whoever asked
    if known != 0 {
        return known;
    }
    // SAFETY: a plain query without pointers.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    let count = u32::try_from(online).unwrap_or(1).max(1);
    COUNT.store(count, Relaxed);
    count
}
