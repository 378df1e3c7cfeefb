//! Founding a family, joining it, leaving it.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};

use manycore_os::incarnation;

use crate::block::Blocks;
use crate::block::allocator::Taken;
use crate::error::{AllocError, FamilyError, HandleError};
use crate::fault;
use crate::heap::{Heap, header};
use crate::object::Objects;
use crate::object::holding::{Children, Counts, Holdings};
use crate::registry::{OwnerId, Registry};

/// The family that this process belongs to. It lasts as long as the process.
pub struct Family {
    pub(super) heap: &'static Heap,
    /// `incarnation:32 | owner:32`: who this process is, as long as the incarnation is still its own.
    pub(super) member: AtomicU64,
    /// The slot that the running fork has reserved for the child.
    pub(super) reserved: AtomicU64,
    /// The children that the forking thread had before.
    pub(super) children: Children,
    pub(super) holdings: Holdings,
}
impl Family {
    /// Founds a family, with a new heap.
    ///
    /// # Errors
    /// When the system refuses the memory.
    pub fn create() -> Result<&'static Self, FamilyError> {
        Ok(Self::on(header::create()?))
    }

    /// Founds a family on a heap of exactly `len` bytes of address space.
    ///
    /// # Errors
    /// When the system refuses the memory.
    pub fn create_with(len: usize) -> Result<&'static Self, FamilyError> {
        Ok(Self::on(header::create_with(len)?))
    }

    /// Joins the family of the process that handed this descriptor down.
    ///
    /// # Errors
    /// When it is no heap of this version, or has no room.
    pub fn attach(fd: OwnedFd) -> Result<&'static Self, FamilyError> {
        Ok(Self::on(header::attach(fd)?))
    }

    pub(crate) fn on(heap: &'static Heap) -> &'static Self {
        fault::arm_from_environment();
        // Leaked on purpose: handles refer to it until the process ends.
        Box::leak(Box::new(Self {
            heap,
            member: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            children: Children::default(),
            holdings: Holdings::default(),
        }))
    }

    /// The heap.
    #[must_use]
    pub fn heap(&self) -> &'static Heap {
        self.heap
    }

    /// The number that tells this family from all others.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.heap.header().family()
    }

    /// Who is in the family.
    #[must_use]
    pub fn registry(&self) -> Registry {
        Registry::new(self.heap)
    }

    /// Who this process is; it registers at the first call, and anew in a child that no hook ran in.
    ///
    /// # Errors
    /// When the registry is full.
    #[inline]
    pub fn me(&self) -> Result<OwnerId, HandleError> {
        match self.member() {
            Some(me) => Ok(me),
            None => self.register(),
        }
    }

    /// Who this process is, if it has registered.
    #[inline]
    #[must_use]
    pub fn member(&self) -> Option<OwnerId> {
        let member = self.member.load(Acquire); // pairs with the Release in `be`
        let is_ours = (member >> 32) as u32 == incarnation::id() as u32 && member != 0;
        is_ours.then(|| OwnerId::from_bits(member as u32))
    }

    #[cold]
    fn register(&self) -> Result<OwnerId, HandleError> {
        let me = match self.join() {
            Err(HandleError::FamilyFull(_)) => {
                self.make_room()?;
                self.join()?
            }
            joined => joined?,
        };
        // Once this process has a name: whoever finds it dead in the middle of this takes over.
        self.reap_dead(true);
        Ok(me)
    }

    fn join(&self) -> Result<OwnerId, HandleError> {
        let counts = self.holdings.lock(); // one thread joins, the others find it done
        if let Some(me) = self.member() {
            return Ok(me);
        }
        let me = self.registry().join()?;
        // In a child of a raw `clone` the counts came with the memory; the bits did not.
        self.hold_all(me, &counts, me);
        self.be(me);
        Ok(me)
    }

    /// Cleans up behind the dead, for a process that finds no place in the family.
    fn make_room(&self) -> Result<(), HandleError> {
        let registry = self.registry();
        let usher = registry.join_spare()?;
        fault::point("registry.ushered");
        let mut found = Vec::new();
        for number in registry.used() {
            self.reap_as(usher, number, &mut found);
        }
        registry.vacate(usher);
        Ok(())
    }

    pub(super) fn be(&self, me: OwnerId) {
        let word = (incarnation::id() << 32) | u64::from(me.bits());
        self.member.store(word, Release);
    }

    /// Makes this process `me`, who holds nothing.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn start_over(&self, me: OwnerId) {
        self.holdings.lock().clear();
        self.reserved.store(0, std::sync::atomic::Ordering::Relaxed);
        self.be(me);
    }

    /// Makes `who` (this process, or the child that it is about to fork) a holder of all that this process
    /// holds, but for what is each process's own. What is gone already stays gone.
    pub(super) fn hold_all(&self, me: OwnerId, counts: &Counts, who: OwnerId) {
        let objects = Objects::new(self.heap, me);
        for (&index, holding) in counts.iter().filter(|(_, holding)| holding.is_inherited()) {
            let _ = objects.attach_for(who, index, holding.generation);
        }
    }

    /// Links this process's life word to the calling thread, which must be its main thread.
    ///
    /// # Errors
    /// When this process cannot register.
    pub fn link_life(&self) -> Result<(), HandleError> {
        self.registry().link_life(self.me()?);
        Ok(())
    }

    /// Says goodbye: what this process still holds stays held, as with the standard library.
    pub fn leave(&self) {
        if let Some(me) = self.member() {
            self.registry().leave(me);
        }
    }

    /// The allocator.
    ///
    /// # Errors
    /// When this process cannot register.
    #[inline]
    pub fn blocks(&self) -> Result<Blocks, HandleError> {
        Ok(Blocks::new(self.heap, self.me()?))
    }

    /// The object table.
    ///
    /// # Errors
    /// When this process cannot register.
    #[inline]
    pub fn objects(&self) -> Result<Objects, HandleError> {
        Ok(Objects::new(self.heap, self.me()?))
    }

    /// Takes a block; when the heap is full, after cleaning up behind the dead.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn take_block(&self, len: u64) -> Result<Taken, HandleError> {
        self.free_buried()?;
        let blocks = self.blocks()?;
        Ok(self.with_room(AllocError::is_full, || blocks.take(len))?)
    }

    /// Does what takes memory; when the heap is full, once more after cleaning up behind the dead.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn with_room<R, E>(
        &self,
        is_full: impl FnOnce(&E) -> bool,
        mut action: impl FnMut() -> Result<R, E>,
    ) -> Result<R, E> {
        match action() {
            Err(error) if is_full(&error) => {
                self.reap_dead(true);
                let _ = self.free_buried(); // damage shows again when the objects are used
                action()
            }
            other => other,
        }
    }
}
