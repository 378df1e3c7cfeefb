//! What happens around a fork.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering::Relaxed;

use manycore_os::process;

use super::Family;
use crate::fault;
use crate::object::Objects;
use crate::object::holding::Counts;
use crate::registry::OwnerId;

impl Family {
    /// Before a fork, in the parent: reserves the child's slot and makes it a holder of all that this
    /// process holds. Returns the counts, locked: keep them until after the fork, on both sides.
    pub fn prepare_fork(&self) -> MutexGuard<'_, Counts> {
        let Some(me) = self.member() else {
            let counts = self.holdings.lock();
            self.reserved.store(0, Relaxed);
            return counts;
        };
        let child = self.registry().reserve(me).or_else(|_| {
            self.reap_dead(true); // without the counts: nothing waits under their lock
            self.registry().reserve(me)
        });
        let counts = self.holdings.lock(); // another thread may fork too: it waits here for this one
        self.reserved.store(0, Relaxed); // read by the child only
        if let Ok(child) = child {
            fault::point("fork.reserved");
            self.hold_all(me, &counts, child);
            fault::point("fork.held");
            self.reserved.store(u64::from(child.bits()), Relaxed);
            self.children.set(process::children_of_this_thread());
        }
        counts
    }

    /// After a fork, in the parent, with the counts that [`Family::prepare_fork`] returned: notes which
    /// process the slot is for, so that a child that dies before it comes leaves nothing. Where there
    /// is no child, the slot is free again.
    pub fn finish_fork(&self, counts: &Counts) {
        fault::point("fork.finishing");
        let child = OwnerId::from_bits(self.reserved.swap(0, Relaxed) as u32);
        // Where the kernel does not list children, the reservation ends with this process at the latest.
        let Some(before) = self.children.take().filter(|_| !child.is_nobody()) else {
            return;
        };
        let mut last = None;
        while let Some(after) = process::children_of_this_thread() {
            // Nobody new, and nobody who was collected while the list was read and so hid another: there
            // is no child.
            if last.as_ref() == Some(&after) || is_any_new(&before, &after) {
                return self.settle_reservation(counts, child, &before, &after);
            }
            last = Some(after);
        }
    }

    pub(super) fn settle_reservation(
        &self,
        counts: &Counts,
        child: OwnerId,
        before: &[u32],
        after: &[u32],
    ) {
        let registry = self.registry();
        let new: Vec<u32> = new_in(before, after).collect();
        match new[..] {
            [] => {}
            [pid] => return registry.expect(child, pid),
            // Another thread has ended, and its children have become this one's: the reservation ends with
            // this process at the latest.
            _ => return,
        }
        // First of all: a child that the kernel has not listed joins anew then, instead of moving into a
        // slot that is being emptied.
        let Some(me) = self.member().filter(|&me| registry.withdraw(child, me)) else {
            return;
        };
        fault::point("fork.withdrawn");
        let objects = Objects::new(self.heap, me);
        for &index in counts.keys() {
            let _ = objects.clear_holder(index, child); // set in `prepare_fork`, under this lock
        }
        fault::point("fork.failed");
        registry.release(child, me);
    }

    /// After a fork, in the child: takes the reserved slot. Without one (the registry was full, or this
    /// process was not registered) the child registers at its first need.
    pub fn adopt_fork(&self) {
        self.member.store(0, Relaxed);
        let reserved = self.reserved.swap(0, Relaxed) as u32;
        if reserved == 0 {
            return;
        }
        let me = OwnerId::from_bits(reserved);
        fault::point("fork.adopting");
        if self.registry().adopt(me).is_ok() {
            self.be(me);
            self.registry().link_life(me);
        }
    }
}

fn new_in<'a>(before: &'a [u32], after: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
    after.iter().copied().filter(|pid| !before.contains(pid))
}

fn is_any_new(before: &[u32], after: &[u32]) -> bool {
    new_in(before, after).next().is_some()
}
