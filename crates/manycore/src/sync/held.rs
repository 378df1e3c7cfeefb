//! Counts what this process holds.

use std::marker::PhantomData;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use manycore_ipc::registry::OwnerId;
use manycore_ipc::wait::Patience;
use manycore_ipc::{Family, HandleError, Hold};
use manycore_os::Deadline;

/// How many guards and permits there are, those included that somebody waits for: one that is counted too early has
/// a process that ends in order taken for killed, one that is counted too late leaves a lock locked for ever.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Whether a thread of this process still has a guard or a permit.
pub(crate) fn are_any_held() -> bool {
    COUNT.load(Relaxed) > 0 // another thread may take one right afterwards, whatever the order
}

/// A guard's or a permit's own part: that it counts, whose it is, and that it stays with its thread.
pub(super) struct Held {
    family: &'static Family,
    me: OwnerId,
    /// As the standard library's guard: not `Send`, but `Sync`.
    stays: PhantomData<MutexGuard<'static, ()>>,
}

impl Held {
    pub(super) fn new(hold: &Hold) -> Result<Self, HandleError> {
        let family = hold.family();
        let me = family.me()?;
        COUNT.fetch_add(1, Relaxed);
        Ok(Self {
            family,
            me,
            stays: PhantomData,
        })
    }

    /// Whether it is of this process, and not a copy that a fork has made.
    pub(super) fn is_own(&self) -> bool {
        self.family.member() == Some(self.me)
    }

    pub(super) fn me(&self) -> OwnerId {
        self.me
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Relaxed);
    }
}

/// Runs a wait that only its deadline ends.
pub(super) fn until<R>(deadline: Deadline, wait: impl FnOnce(&mut Patience<'_>) -> R) -> R {
    let mut go_on = || {
        crate::launch::look_after_starting(); // whom this waits for may never begin
        true
    };
    wait(&mut Patience::new(deadline, &mut go_on))
}

/// Runs what takes an object's own lock, which others have for a moment.
pub(super) fn in_turn<R>(wait: impl FnOnce(&mut Patience<'_>) -> R) -> R {
    until(Deadline::NEVER, wait)
}
