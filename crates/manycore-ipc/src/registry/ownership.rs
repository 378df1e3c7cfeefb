//! Which threads can be the owner of an engine lock.

use manycore_os::process;

use super::membership::Registry;
use super::slot::Status;
use crate::lock::{EngineLock, Locked};
use crate::wait::{GaveUp, Patience};

impl Registry {
    /// Takes an engine lock of this heap, sleeping while another thread holds it.
    ///
    /// # Errors
    /// When the patience ends first.
    pub(crate) fn lock<'a>(
        &self,
        lock: &'a EngineLock,
        patience: &mut Patience<'_>,
    ) -> Result<Locked<'a>, GaveUp> {
        lock.lock(patience, &|tid| self.may_own(tid))
    }

    /// Whether a thread can be the owner of an engine lock: a process joins before it takes the first one.
    /// `false` only where it is known that the thread belongs to no member.
    pub(crate) fn may_own(&self, tid: u32) -> bool {
        #[cfg(any(test, feature = "fuzzing"))]
        if crate::scribble::is_running() {
            return false;
        }
        if self.heap.header().pid_namespace() == 0 || process::pid_namespace() == 0 {
            return true; // the numbers of other members may mean something else here
        }
        process::of_thread(tid).is_none_or(|pid| self.is_member(pid))
    }

    fn is_member(&self, pid: u32) -> bool {
        self.used().any(|number| {
            let (Ok(slot), Ok(tenancy)) = (self.slot(number), self.tenancy(number)) else {
                return false;
            };
            let is_taken = tenancy.status != Status::Free && tenancy.pid == pid;
            // Another process, or another program, may have the number by now: that one is no member.
            is_taken && !self.is_over(slot, tenancy)
        })
    }
}
