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

/// The slots of members.
const USUAL: Range<usize> = 1..SLOTS - 8;
/// The slots of those that have to make room first.
const SPARE: Range<usize> = USUAL.end..SLOTS;

/// The registry of a heap.
#[derive(Clone, Copy)]
pub struct Registry {
    pub(super) heap: &'static Heap,
}

impl Registry {
    /// The registry of this heap.
    #[must_use]
    pub fn new(heap: &'static Heap) -> Self {
        Self { heap }
    }

    pub(super) fn header(&self) -> &'static RegistryHeader {
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
        fault::point("registry.joined");
        Ok(owner)
    }

    /// A place for a process with this pid, for tests.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn join_as(&self, pid: u32) -> Result<OwnerId, HandleError> {
        self.take(USUAL, |generation| Tenancy {
            status: Status::Alive,
            by: 0,
            generation,
            pid,
        })
    }

    /// The same for a child with this pid, for tests.
    #[cfg(test)]
    pub(crate) fn adopt_as(&self, owner: OwnerId, pid: u32) -> Result<(), HandleError> {
        self.adopt_by(owner, Identity { pid, start: 0 })
    }

    /// Lets the tenant of a slot be another process, one that has ended for instance.
    #[cfg(test)]
    pub(crate) fn pretend_pid(&self, owner: OwnerId, pid: u32) {
        let (slot, tenancy) = (self.slot(owner.slot()), self.tenancy(owner.slot()));
        let tenancy = tenancy.expect("sound");
        if tenancy.generation == owner.generation() {
            let other = Tenancy { pid, ..tenancy }.encode();
            slot.expect("inside").state.store(other, Release);
        }
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

    pub(super) fn take(
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
            // First: a slot beyond it would not be looked at when its tenant has died.
            self.raise_high(number);
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
        self.adopt_by(owner, identity_of_self())
    }

    fn adopt_by(&self, owner: OwnerId, id: Identity) -> Result<(), HandleError> {
        let slot = self.slot(owner.slot())?;
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

    /// Takes back a reservation for a child that does not exist, and claims the cleaning up after it. `false`
    /// when the child was there all the same, or is expected by its pid.
    pub(crate) fn withdraw(&self, child: OwnerId, me: OwnerId) -> bool {
        let (Ok(slot), Some(reserved)) = (self.slot(child.slot()), self.reservation(child)) else {
            return false;
        };
        let gone = Tenancy {
            status: Status::Gone,
            by: me.slot(),
            ..reserved
        };
        slot.state
            .compare_exchange(reserved.encode(), gone.encode(), AcqRel, Relaxed)
            .is_ok()
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
}

fn identity_of_self() -> Identity {
    #[cfg(test)]
    if let Some(pid) = crate::crash::pretended_pid() {
        return Identity { pid, start: 0 };
    }
    Identity::of_self()
}
