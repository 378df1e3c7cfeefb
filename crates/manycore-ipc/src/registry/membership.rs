//! Joining, leaving, and being forked.

use std::ops::Range;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use manycore_os::process::{self, Identity};

use super::owner::OwnerId;
use super::slot::{RegistryHeader, Slot, Status, Tenancy};
use crate::error::{Corrupted, HandleError};
use crate::fault;
use crate::heap::Heap;
use crate::heap::layout::SLOTS;
use crate::lock::UserLock;

/// The slots of members.
const USUAL: Range<usize> = 1..SLOTS - 8;
/// The slots of those that have to make room first.
const SPARE: Range<usize> = USUAL.end..SLOTS;

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
            return Err(Corrupted::new(
                "a word names a process slot that does not exist",
            ));
        }
        self.heap
            .at(self.heap.layout().registry + number * size_of::<Slot>())
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
    pub fn used(&self) -> Range<usize> {
        1..(self.header().high.load(Acquire) as usize).min(SLOTS)
    }

    /// Takes a free slot for the calling process.
    ///
    /// # Errors
    /// When all are taken.
    pub fn join(&self) -> Result<OwnerId, HandleError> {
        self.join_in(USUAL)
    }

    /// Takes one of the slots that are kept for a process that finds all others taken. It has to clean
    /// up behind the dead and [`Registry::vacate`] the slot.
    ///
    /// # Errors
    /// When those are taken too.
    pub(crate) fn join_spare(&self) -> Result<OwnerId, HandleError> {
        self.join_in(SPARE)
    }

    fn join_in(&self, slots: Range<usize>) -> Result<OwnerId, HandleError> {
        self.check_namespace()?;
        let id = identity_of_self();
        let alive = |generation| Tenancy {
            status: Status::Alive,
            by: 0,
            generation,
            pid: id.pid,
        };
        let owner = self.take(slots, alive)?;
        fault::point("registry.taken");
        self.slot(owner.slot())?
            .set_start(owner.generation(), id.start);
        Ok(owner)
    }

    /// A place for a process with this pid, for tests.
    #[cfg(test)]
    pub(crate) fn join_as(&self, pid: u32) -> Result<OwnerId, HandleError> {
        self.take(USUAL, |generation| Tenancy {
            status: Status::Alive,
            by: 0,
            generation,
            pid,
        })
    }

    /// A pid says nothing to processes of another PID namespace: they would take this one for dead.
    fn check_namespace(&self) -> Result<(), HandleError> {
        let (theirs, own) = (self.heap.header().pid_namespace(), process::pid_namespace());
        // Zero: one side could not read it, and the system is not that of the other side only then.
        if theirs == own || theirs == 0 || own == 0 {
            Ok(())
        } else {
            Err(HandleError::OtherNamespace)
        }
    }

    /// Takes a free slot for a child that `parent` is about to fork.
    ///
    /// # Errors
    /// When all are taken.
    pub fn reserve(&self, parent: OwnerId) -> Result<OwnerId, HandleError> {
        let by = parent.slot();
        self.take(USUAL, |generation| Tenancy {
            status: Status::Reserved,
            by,
            generation,
            pid: 0,
        })
    }

    fn take(
        &self,
        slots: Range<usize>,
        tenancy: impl Fn(u32) -> Tenancy,
    ) -> Result<OwnerId, HandleError> {
        for number in slots {
            let slot = self.slot(number)?;
            let word = slot.state.load(Acquire);
            let Some(Tenancy {
                status: Status::Free,
                generation,
                ..
            }) = Tenancy::decode(word)
            else {
                continue;
            };
            let next = tenancy(generation);
            if slot
                .state
                .compare_exchange(word, next.encode(), AcqRel, Relaxed)
                .is_err()
            {
                continue;
            }
            slot.parent.store(0, Relaxed); // what follows is for who looks, and nobody acts on it
            slot.has_life.store(0, Relaxed);
            self.raise_high(number);
            return Ok(OwnerId::new(number, next.generation));
        }
        Err(HandleError::FamilyFull(USUAL.len() as u32))
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
        self.check_namespace()?;
        let slot = self.slot(owner.slot())?;
        let id = identity_of_self();
        let reserved = loop {
            let reserved = self.tenancy(owner.slot())?;
            if reserved.status != Status::Reserved || reserved.generation != owner.generation() {
                return Err(HandleError::Gone);
            }
            let alive = Tenancy {
                status: Status::Alive,
                by: 0,
                pid: id.pid,
                ..reserved
            };
            let (old, new) = (reserved.encode(), alive.encode());
            if slot
                .state
                .compare_exchange(old, new, AcqRel, Relaxed)
                .is_ok()
            {
                break reserved;
            }
            // The parent has just noted this process's pid; or the slot is not its any more.
        };
        fault::point("registry.adopted");
        // Not before: the slot may have changed hands, if the parent died.
        slot.set_start(reserved.generation, id.start);
        slot.parent.store(reserved.by as u32, Relaxed); // for who looks
        Ok(())
    }

    /// Notes which process a slot was reserved for: from now on its death, not that of its parent, ends
    /// the reservation.
    pub(crate) fn expect(&self, child: OwnerId, pid: u32) {
        if let (Ok(slot), Some(reserved)) = (self.slot(child.slot()), self.reservation(child)) {
            let expected = Tenancy { pid, ..reserved };
            // Fails when the child was quicker.
            let (old, new) = (reserved.encode(), expected.encode());
            let _ = slot.state.compare_exchange(old, new, AcqRel, Relaxed);
        }
    }

    /// Whether a reserved slot waits for a child of unknown pid.
    pub(crate) fn is_open(&self, child: OwnerId) -> bool {
        self.reservation(child).is_some()
    }

    /// Takes back a reservation for a child that does not exist and holds nothing.
    pub(crate) fn cancel(&self, child: OwnerId) {
        if let Some(reserved) = self.reservation(child) {
            self.free(child.slot(), reserved);
        }
    }

    /// The tenancy of a slot that is reserved for a child of unknown pid.
    fn reservation(&self, child: OwnerId) -> Option<Tenancy> {
        let found = self.tenancy(child.slot()).ok()?;
        let is_open = found.status == Status::Reserved && found.pid == 0;
        (is_open && found.generation == child.generation()).then_some(found)
    }

    /// Gives up a slot in which the calling process holds nothing and is doing nothing.
    pub(crate) fn vacate(&self, owner: OwnerId) {
        let Ok(tenancy) = self.tenancy(owner.slot()) else {
            return;
        };
        if tenancy.generation == owner.generation() && tenancy.status == Status::Alive {
            self.free(owner.slot(), tenancy);
        }
    }

    /// Links the slot's life word to the calling thread, which must be the process's main thread.
    pub fn link_life(&self, owner: OwnerId) {
        if let Ok(slot) = self.slot(owner.slot()) {
            // Once: a word that is linked twice makes a circle of the thread's robust list.
            if slot.has_life.load(Relaxed) == 0 && slot.life.link() {
                slot.has_life.store(1, Release); // pairs with the Acquire in `seems_dead`
            }
        }
    }

    /// Says goodbye: what this process still holds stays held.
    pub fn leave(&self, owner: OwnerId) {
        let Ok(tenancy) = self.tenancy(owner.slot()) else {
            return;
        };
        if tenancy.generation == owner.generation() && tenancy.status == Status::Alive {
            let left = Tenancy {
                status: Status::Left,
                ..tenancy
            };
            if let Ok(slot) = self.slot(owner.slot()) {
                let _ =
                    slot.state
                        .compare_exchange(tenancy.encode(), left.encode(), AcqRel, Relaxed);
                fault::point("registry.left");
            }
        }
    }

    /// Whether the kernel's early mark says that the process in this slot is ending. A hint.
    #[must_use]
    pub fn seems_dead(&self, number: usize) -> bool {
        self.slot(number)
            .is_ok_and(|slot| slot.has_life.load(Acquire) == 1 && slot.life.seems_dead())
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
                .is_ok_and(|slot| process::has_ended(slot.identity(tenancy))),
        }
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
            Status::Reserved if tenancy.pid != 0 && process::has_ended(slot.identity(tenancy)) => {
                Status::Gone
            }
            Status::Alive if process::has_ended(slot.identity(tenancy)) => Status::Killed,
            Status::Left if process::has_ended(slot.identity(tenancy)) => Status::Gone,
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

    /// Whether the process in slot `by` (a parent or a reaper) is not there any more. The slot is not
    /// used again before all that names it has been taken over, see [`Registry::is_left_by`].
    fn is_orphan(&self, by: usize) -> bool {
        match self.tenancy(by) {
            Ok(
                tenancy @ Tenancy {
                    status: Status::Alive | Status::Left,
                    ..
                },
            ) => self
                .slot(by)
                .is_ok_and(|slot| process::has_ended(slot.identity(tenancy))),
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

    fn free(&self, number: usize, tenancy: Tenancy) {
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

    /// How many processes were found dead without goodbye.
    #[must_use]
    pub fn deaths(&self) -> u32 {
        self.header().deaths.load(Relaxed)
    }
}

fn identity_of_self() -> Identity {
    #[cfg(test)]
    if let Some(pid) = crate::crash::pretended_pid() {
        return Identity { pid, start: 0 };
    }
    Identity::of_self()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::{Corpse, run_until_death};
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
        let other = registry.join_as(child.id()).expect("room");
        child.wait().expect("ours");
        assert!(registry.has_ended(other));
        assert_eq!(
            registry.claim_dead(other.slot(), me),
            Ok(Some((other, true)))
        );
        assert_eq!(
            registry.claim_dead(other.slot(), me),
            Ok(None),
            "the claimer lives"
        );
        registry.release(other, other);
        assert!(!registry.is_left_by(other.slot(), other.slot()));
        assert_eq!(
            registry.tenancy(other.slot()).map(|t| t.status),
            Ok(Status::Killed),
            "not its to release"
        );
        registry.release(other, me);
        let next = registry.join().expect("room");
        assert_eq!(next.slot(), other.slot());
        assert_ne!(next, other);
        assert!(registry.has_ended(other));
        assert!(registry.has_holder_ended(UserLock::name_of(other)));
        assert!(!registry.has_holder_ended(UserLock::name_of(me)));
    }

    #[test]
    fn a_process_is_not_taken_for_dead_by_the_start_of_an_earlier_tenant() {
        let registry = registry();
        let me = registry.join().expect("room");
        let earlier = registry.join().expect("room");
        registry
            .slot(earlier.slot())
            .expect("its slot")
            .set_start(earlier.generation(), 1);
        assert!(registry.has_ended(earlier), "a later process has its pid");
        registry.vacate(earlier);
        // Stopped right after it took the slot, before it could say when it started.
        assert_eq!(run_until_death(1, || registry.join()), None);
        let next = OwnerId::new(earlier.slot(), earlier.generation() + 1);
        assert!(!registry.has_ended(next), "it lives");
        assert_eq!(registry.claim_dead(next.slot(), me), Ok(None));
    }

    #[test]
    fn a_child_that_comes_too_late_does_not_touch_the_next_tenant() {
        let registry = registry();
        let me = registry.join().expect("room");
        let child = registry.reserve(me).expect("room");
        let reserved = registry.tenancy(child.slot()).expect("sound");
        registry.free(child.slot(), reserved); // as after the death of its parent
        let next = registry.join().expect("room");
        assert_eq!(next.slot(), child.slot());
        assert_eq!(registry.adopt(child), Err(HandleError::Gone));
        assert!(!registry.has_ended(next));
    }

    #[test]
    fn a_reservation_ends_with_the_child_that_it_is_for() {
        let registry = registry();
        let me = registry.join().expect("room");
        let corpse = Corpse::new();
        let parent = registry.join_as(corpse.pid()).expect("room");
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("runs");
        let slot = registry.reserve(parent).expect("room");
        registry.expect(slot, child.id());
        let claimed = || registry.claim_dead(slot.slot(), me);
        assert_eq!(claimed(), Ok(None), "its parent is dead, it lives");
        child.kill().expect("ours");
        child.wait().expect("ours");
        assert_eq!(claimed(), Ok(Some((slot, false))), "dead before it came");
        let slot = registry.reserve(me).expect("room");
        registry.expect(slot, std::process::id());
        registry.adopt(slot).expect("the process that was expected");
        registry.cancel(slot);
        assert!(!registry.has_ended(slot), "too late");
    }

    #[test]
    fn a_process_of_another_pid_namespace_is_refused() {
        let registry = registry();
        let me = registry.join().expect("room");
        let child = registry.reserve(me).expect("room");
        registry.heap.header().pretend_pid_namespace(1);
        assert_eq!(registry.join(), Err(HandleError::OtherNamespace));
        assert_eq!(registry.adopt(child), Err(HandleError::OtherNamespace));
    }

    #[test]
    fn the_last_slots_are_kept_for_those_that_make_room() {
        let registry = registry();
        while registry.join_as(1).is_ok() {}
        assert!(matches!(registry.join(), Err(HandleError::FamilyFull(_))));
        let usher = registry.join_spare().expect("kept");
        assert!(
            registry.used().contains(&usher.slot()),
            "a dead one is found"
        );
        registry.vacate(usher);
        assert!(registry.has_ended(usher));
    }

    #[test]
    fn a_forked_child_moves_into_the_reserved_slot_only() {
        let registry = registry();
        let me = registry.join().expect("room");
        let child = registry.reserve(me).expect("room");
        assert_eq!(
            registry.claim_dead(child.slot(), me),
            Ok(None),
            "its parent lives"
        );
        registry.adopt(child).expect("reserved");
        assert_eq!(registry.adopt(child), Err(HandleError::Gone));
        assert_eq!(registry.adopt(me), Err(HandleError::Gone));
    }
}
