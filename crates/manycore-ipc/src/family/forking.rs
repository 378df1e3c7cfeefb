//! What happens around a fork.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering::Relaxed;

use super::Family;
use crate::fault;
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
        }
        counts
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
