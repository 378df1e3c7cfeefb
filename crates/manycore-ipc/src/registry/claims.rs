//! Who has ended, and who cleans up after it.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use manycore_os::mapped;

use super::membership::Registry;
use super::owner::OwnerId;
use super::slot::{Slot, Status, Tenancy};
use crate::error::Corrupted;
use crate::fault;
use crate::kernel;
use crate::lock::UserLock;

impl Registry {
    /// Whether the kernel's early mark says that the process in this slot is ending. A hint.
    #[must_use]
    pub fn seems_dead(&self, number: usize) -> bool {
        self.slot(number).is_ok_and(seems_dead)
    }

    /// Whether it is worth asking the kernel about the process in this slot: its early mark says so, or there
    /// is nothing that the kernel would mark.
    pub(crate) fn may_have_ended(&self, number: usize) -> bool {
        self.slot(number)
            .is_ok_and(|slot| !has_life(slot) || slot.life.seems_dead())
    }

    /// Whether the process that `owner` names is confirmed to have ended. Also true when its slot has
    /// changed hands since, because that takes such a confirmation.
    #[must_use]
    pub fn has_ended(&self, owner: OwnerId) -> bool {
        let Ok(tenancy) = self.tenancy(owner.slot()) else {
            return false;
        };
        if tenancy.generation != owner.generation() {
            return true;
        }
        match tenancy.status {
            Status::Free | Status::Killed | Status::Gone => true,
            Status::Reserved => false,
            Status::Alive | Status::Left => self
                .slot(owner.slot())
                .is_ok_and(|slot| self.is_over(slot, tenancy)),
        }
    }

    /// Whether the kernel says that a slot's tenant will not touch the heap any more: it has ended, or it
    /// has become another program by `exec`, which is the same process to all who ask by its number.
    pub(super) fn is_over(&self, slot: &Slot, tenancy: Tenancy) -> bool {
        kernel::has_ended(slot.identity(tenancy)) || self.is_another_program(slot, tenancy)
    }

    /// The kernel marks the life word at an `exec`, too. Whether it was one says the list of what the
    /// process maps: a member maps the heap from before it has a slot until it ends.
    fn is_another_program(&self, slot: &Slot, tenancy: Tenancy) -> bool {
        let file = self.heap.mapping().file();
        seems_dead(slot) && mapped::has_mapped(tenancy.pid, file) == Some(false)
    }

    /// Whether the process that a lock of the user's names (see [`UserLock::name_of`]) is confirmed to
    /// have ended, with goodbye or without.
    #[must_use]
    pub fn has_holder_ended(&self, name: u32) -> bool {
        let number = OwnerId::from_bits(name).slot(); // a name has the slot in the same place
        let Ok(tenancy) = self.tenancy(number) else {
            return false;
        };
        let present = OwnerId::new(number, tenancy.generation);
        UserLock::name_of(present) != name || self.has_ended(present)
    }

    /// Claims the cleaning up after the process in this slot, if it is confirmed to have ended and no
    /// living process has claimed it. Returns who it was and whether it went without goodbye.
    ///
    /// # Errors
    /// When the slot's word makes no sense.
    pub fn claim_dead(
        &self,
        number: usize,
        me: OwnerId,
    ) -> Result<Option<(OwnerId, bool)>, Corrupted> {
        let slot = self.slot(number)?;
        let tenancy = self.tenancy(number)?;
        let dead = OwnerId::new(number, tenancy.generation);
        let status = match tenancy.status {
            Status::Free => return Ok(None),
            Status::Reserved if tenancy.pid == 0 && self.is_orphan(tenancy.by) => Status::Gone,
            Status::Reserved if tenancy.pid != 0 && kernel::has_ended(slot.identity(tenancy)) => {
                Status::Gone
            }
            Status::Alive if self.is_over(slot, tenancy) => Status::Killed,
            Status::Left if self.is_over(slot, tenancy) => Status::Gone,
            Status::Killed | Status::Gone if self.is_orphan(tenancy.by) => tenancy.status,
            _ => return Ok(None),
        };
        let claimed = Tenancy {
            status,
            by: me.slot(),
            ..tenancy
        };
        let won = slot
            .state
            .compare_exchange(tenancy.encode(), claimed.encode(), AcqRel, Relaxed);
        fault::point("registry.claimed");
        if status == Status::Killed && tenancy.status == Status::Alive && won.is_ok() {
            self.header().deaths.fetch_add(1, Relaxed); // a statistic
        }
        Ok(won.is_ok().then_some((dead, status == Status::Killed)))
    }

    /// The process in this slot and its pid, if it is confirmed to have been killed.
    pub(crate) fn killed_in(&self, number: usize) -> Option<(OwnerId, u32)> {
        let tenancy = self.tenancy(number).ok()?;
        let owner = OwnerId::new(number, tenancy.generation);
        (tenancy.status == Status::Killed).then_some((owner, tenancy.pid))
    }

    /// Whether the process in slot `by` (a parent or a reaper) is not there any more. The slot is not
    /// used again before all that names it has been taken over, see [`Registry::is_left_by`].
    fn is_orphan(&self, by: usize) -> bool {
        match self.tenancy(by) {
            Ok(
                tenancy @ Tenancy {
                    status: Status::Alive | Status::Left,
                    ..
                },
            ) => self.slot(by).is_ok_and(|slot| self.is_over(slot, tenancy)),
            _ => true,
        }
    }

    /// Whether the slot was reserved, or claimed, by the process in slot `by`.
    pub(crate) fn is_left_by(&self, number: usize, by: usize) -> bool {
        self.tenancy(number).is_ok_and(|tenancy| {
            tenancy.by == by
                && matches!(
                    tenancy.status,
                    Status::Reserved | Status::Killed | Status::Gone
                )
        })
    }

    /// Ends the cleaning up that `me` has claimed: the slot may be used again, by another generation.
    pub(crate) fn release(&self, dead: OwnerId, me: OwnerId) {
        let Ok(tenancy) = self.tenancy(dead.slot()) else {
            return;
        };
        let is_mine =
            matches!(tenancy.status, Status::Killed | Status::Gone) && tenancy.by == me.slot();
        if is_mine && tenancy.generation == dead.generation() {
            self.free(dead.slot(), tenancy);
        }
    }

    pub(super) fn free(&self, number: usize, tenancy: Tenancy) {
        let generation = tenancy.generation.wrapping_add(1);
        let free = Tenancy {
            status: Status::Free,
            by: 0,
            generation,
            pid: 0,
        };
        if let Ok(slot) = self.slot(number) {
            let _ = slot
                .state
                .compare_exchange(tenancy.encode(), free.encode(), AcqRel, Relaxed);
        }
    }

    /// The ids of all members but `me` that are not confirmed to have ended. One that is just being forked has no id
    /// yet; its parent has.
    #[must_use]
    pub fn others(&self, me: OwnerId) -> Vec<u32> {
        let alive = |number: usize| {
            let tenancy = self.tenancy(number).ok()?;
            let owner = OwnerId::new(number, tenancy.generation);
            let is_there = match tenancy.status {
                Status::Reserved => !kernel::has_ended(self.slot(number).ok()?.identity(tenancy)),
                _ => !self.has_ended(owner),
            };
            (owner != me && tenancy.pid != 0 && is_there).then_some(tenancy.pid)
        };
        self.used().filter_map(alive).collect()
    }

    /// How many processes were found dead without goodbye.
    #[must_use]
    pub fn deaths(&self) -> u32 {
        self.header().deaths.load(Relaxed)
    }
}

fn has_life(slot: &Slot) -> bool {
    slot.has_life.load(Acquire) == 1 // pairs with the Release in `link_life`
}

fn seems_dead(slot: &Slot) -> bool {
    has_life(slot) && slot.life.seems_dead()
}
