//! Joining, leaving, and being forked.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use manycore_os::process::{self, Identity};

use super::owner::OwnerId;
use super::slot::{RegistryHeader, Slot, Status, Tenancy};
use crate::error::{Corrupted, HandleError};
use crate::fault;
use crate::heap::Heap;
use crate::heap::layout::SLOTS;
use crate::lock::UserLock;

/// The registry of a heap.
#[derive(Clone, Copy)]
pub struct Registry {
    heap: &'static Heap,
}

impl Registry {
    /// The registry of this heap.
    #[must_use]
    pub fn new(heap: &'static Heap) -> Self {
        Self { heap }
    }

    fn header(&self) -> &'static RegistryHeader {
        &self.heap.header().registry
    }

    /// A slot by its number.
    ///
    /// # Errors
    /// When there is no such slot.
    pub fn slot(&self, number: usize) -> Result<&'static Slot, Corrupted> {
        if number == 0 || number >= SLOTS {
            return Err(Corrupted::new("a word names a process slot that does not exist"));
        }
        self.heap.at(self.heap.layout().registry + number * size_of::<Slot>())
    }

    /// Who has a slot.
    ///
    /// # Errors
    /// When the slot's word makes no sense.
    pub fn tenancy(&self, number: usize) -> Result<Tenancy, Corrupted> {
        // Acquire pairs with the Release of whoever changed the word.
        Tenancy::decode(self.slot(number)?.state.load(Acquire))
            .ok_or(Corrupted::new("a process slot's word is not one"))
    }

    /// Numbers of all slots that were ever used.
    pub fn used(&self) -> std::ops::Range<usize> {
        1..(self.header().high.load(Acquire) as usize).min(SLOTS)
    }

    /// Takes a free slot for the calling process.
    ///
    /// # Errors
    /// When all are taken.
    pub fn join(&self) -> Result<OwnerId, HandleError> {
        let id = Identity::of_self();
        let owner = self.take(|generation| Tenancy {
            status: Status::Alive,
            by: 0,
            generation,
            pid: id.pid,
        })?;
        fault::point("registry.taken");
        self.slot(owner.slot())?.start.store(id.start, Release);
        Ok(owner)
    }

    /// Takes a free slot for a child that `parent` is about to fork.
    ///
    /// # Errors
    /// When all are taken.
    pub fn reserve(&self, parent: OwnerId) -> Result<OwnerId, HandleError> {
        self.take(|generation| Tenancy {
            status: Status::Reserved,
            by: parent.slot(),
            generation,
            pid: 0,
        })
    }

    fn take(&self, tenancy: impl Fn(u32) -> Tenancy) -> Result<OwnerId, HandleError> {
        for number in 1..SLOTS {
            let slot = self.slot(number)?;
            let word = slot.state.load(Acquire);
            let Some(Tenancy { status: Status::Free, generation, .. }) = Tenancy::decode(word) else {
                continue;
            };
            let next = tenancy(generation);
            if slot.state.compare_exchange(word, next.encode(), AcqRel, Relaxed).is_err() {
                continue;
            }
            slot.start.store(0, Relaxed); // until the process says when it started
            slot.has_life.store(0, Relaxed);
            self.raise_high(number);
            return Ok(OwnerId::new(number, next.generation));
        }
        Err(HandleError::FamilyFull(SLOTS as u32 - 1))
    }

    fn raise_high(&self, number: usize) {
        let high = &self.header().high;
        let mut seen = high.load(Relaxed);
        while seen <= number as u32 {
            match high.compare_exchange(seen, number as u32 + 1, Release, Relaxed) {
                Ok(_) => return,
                #[cfg(test)]
                Err(_) if crate::crash::is_dead() => return,
                Err(found) => seen = found,
            }
        }
    }

    /// Moves the calling process, a fresh child, into the slot that its parent reserved.
    ///
    /// # Errors
    /// When the slot is not reserved for it.
    pub fn adopt(&self, owner: OwnerId) -> Result<(), HandleError> {
        let slot = self.slot(owner.slot())?;
        let reserved = self.tenancy(owner.slot())?;
        if reserved.status != Status::Reserved || reserved.generation != owner.generation() {
            return Err(HandleError::Gone);
        }
        let id = Identity::of_self();
        slot.parent.store(reserved.by as u32, Relaxed); // published by the exchange
        slot.start.store(id.start, Relaxed);
        let alive = Tenancy { status: Status::Alive, by: 0, generation: reserved.generation, pid: id.pid };
        let taken = slot.state.compare_exchange(reserved.encode(), alive.encode(), AcqRel, Relaxed);
        taken.map(|_| ()).map_err(|_| HandleError::Gone)
    }

    /// Links the slot's life word to the calling thread, which must be the process's main thread.
    pub fn link_life(&self, owner: OwnerId) {
        if let Ok(slot) = self.slot(owner.slot()) {
            if slot.life.link() {
                slot.has_life.store(1, Release); // pairs with the Acquire in `seems_dead`
            }
        }
    }

    /// Says goodbye: what this process still holds stays held.
    pub fn leave(&self, owner: OwnerId) {
        let Ok(tenancy) = self.tenancy(owner.slot()) else { return };
        if tenancy.generation == owner.generation() && tenancy.status == Status::Alive {
            let left = Tenancy { status: Status::Left, ..tenancy };
            if let Ok(slot) = self.slot(owner.slot()) {
                let _ = slot.state.compare_exchange(tenancy.encode(), left.encode(), AcqRel, Relaxed);
            }
        }
    }

    /// Whether the kernel's early mark says that the process in this slot is ending. A hint.
    #[must_use]
    pub fn seems_dead(&self, number: usize) -> bool {
        self.slot(number).is_ok_and(|slot| slot.has_life.load(Acquire) == 1 && slot.life.seems_dead())
    }

    /// Whether the process that `owner` names is confirmed to have ended. Also true when its slot has
    /// changed hands since, because that takes such a confirmation.
    #[must_use]
    pub fn has_ended(&self, owner: OwnerId) -> bool {
        let Ok(tenancy) = self.tenancy(owner.slot()) else { return false };
        if tenancy.generation != owner.generation() {
            return true;
        }
        match tenancy.status {
            Status::Free | Status::Killed | Status::Gone => true,
            Status::Reserved => false,
            Status::Alive | Status::Left => {
                self.slot(owner.slot()).is_ok_and(|slot| process::has_ended(slot.identity(tenancy)))
            }
        }
    }

    /// Whether the process that a lock of the user's names (see [`UserLock::name_of`]) is confirmed to
    /// have ended, with goodbye or without.
    #[must_use]
    pub fn has_holder_ended(&self, name: u32) -> bool {
        let number = OwnerId::from_bits(name).slot(); // a name has the slot in the same place
        let Ok(tenancy) = self.tenancy(number) else { return false };
        let present = OwnerId::new(number, tenancy.generation);
        UserLock::name_of(present) != name || self.has_ended(present)
    }

    /// Claims the cleaning up after the process in this slot, if it is confirmed to have ended and no
    /// living process has claimed it. Returns who it was and whether it went without goodbye.
    ///
    /// # Errors
    /// When the slot's word makes no sense.
    pub fn claim_dead(&self, number: usize, me: OwnerId) -> Result<Option<(OwnerId, bool)>, Corrupted> {
        let slot = self.slot(number)?;
        let tenancy = self.tenancy(number)?;
        let dead = OwnerId::new(number, tenancy.generation);
        let status = match tenancy.status {
            Status::Free => return Ok(None),
            Status::Reserved if self.is_orphan(tenancy.by) => Status::Gone,
            Status::Alive if process::has_ended(slot.identity(tenancy)) => Status::Killed,
            Status::Left if process::has_ended(slot.identity(tenancy)) => Status::Gone,
            Status::Killed | Status::Gone if self.is_orphan(tenancy.by) => tenancy.status,
            _ => return Ok(None),
        };
        let claimed = Tenancy { status, by: me.slot(), ..tenancy };
        let won = slot.state.compare_exchange(tenancy.encode(), claimed.encode(), AcqRel, Relaxed);
        fault::point("registry.claimed");
        if status == Status::Killed && tenancy.status == Status::Alive && won.is_ok() {
            self.header().deaths.fetch_add(1, Relaxed); // a statistic
        }
        Ok(won.is_ok().then_some((dead, status == Status::Killed)))
    }

    /// Whether the process in slot `by` (a parent or a reaper) is not there any more.
    fn is_orphan(&self, by: usize) -> bool {
        match self.tenancy(by) {
            Ok(Tenancy { status: Status::Alive | Status::Left, pid, .. }) => {
                let Ok(slot) = self.slot(by) else { return true };
                process::has_ended(Identity { pid, start: slot.start.load(Acquire) })
            }
            _ => true,
        }
    }

    /// Ends the cleaning up: the slot may be used again, by another generation.
    pub fn release(&self, dead: OwnerId) {
        let (Ok(slot), Ok(tenancy)) = (self.slot(dead.slot()), self.tenancy(dead.slot())) else { return };
        if tenancy.generation == dead.generation() && tenancy.status != Status::Free {
            let generation = tenancy.generation.wrapping_add(1);
            let free = Tenancy { status: Status::Free, by: 0, generation, pid: 0 };
            // Fails when another reaper was quicker.
            let _ = slot.state.compare_exchange(tenancy.encode(), free.encode(), AcqRel, Relaxed);
        }
    }

    /// How many processes were found dead without goodbye.
    #[must_use]
    pub fn deaths(&self) -> u32 {
        self.header().deaths.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::header::create_with;
    use crate::heap::layout::LEAST;

    fn registry() -> Registry {
        Registry::new(create_with(LEAST).expect("a small heap"))
    }

    #[test]
    fn a_living_process_cannot_be_claimed() {
        let registry = registry();
        let me = registry.join().expect("room");
        assert!(!me.is_nobody());
        assert!(!registry.has_ended(me));
        assert_eq!(registry.claim_dead(me.slot(), me), Ok(None));
    }

    #[test]
    fn a_dead_process_is_claimed_once_and_its_slot_changes_generation() {
        let registry = registry();
        let me = registry.join().expect("room");
        let mut child = std::process::Command::new("true").spawn().expect("runs");
        let other = registry.take(|generation| Tenancy {
            status: Status::Alive,
            by: 0,
            generation,
            pid: child.id(),
        });
        let other = other.expect("room");
        child.wait().expect("ours");
        assert!(registry.has_ended(other));
        assert_eq!(registry.claim_dead(other.slot(), me), Ok(Some((other, true))));
        assert_eq!(registry.claim_dead(other.slot(), me), Ok(None), "the claimer lives");
        registry.release(other);
        let next = registry.join().expect("room");
        assert_eq!(next.slot(), other.slot());
        assert_ne!(next, other);
        assert!(registry.has_ended(other));
        assert!(registry.has_holder_ended(UserLock::name_of(other)));
        assert!(!registry.has_holder_ended(UserLock::name_of(me)));
    }

    #[test]
    fn a_forked_child_moves_into_the_reserved_slot_only() {
        let registry = registry();
        let me = registry.join().expect("room");
        let child = registry.reserve(me).expect("room");
        assert_eq!(registry.claim_dead(child.slot(), me), Ok(None), "its parent lives");
        registry.adopt(child).expect("reserved");
        assert_eq!(registry.adopt(child), Err(HandleError::Gone));
        assert_eq!(registry.adopt(me), Err(HandleError::Gone));
    }
}
