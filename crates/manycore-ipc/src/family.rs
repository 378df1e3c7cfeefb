//! A family from the point of view of one process: everything that the layers above need.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use manycore_os::incarnation;

use crate::block::allocator::Taken;
use crate::block::{BlockRef, Blocks};
use crate::error::{AllocError, Corrupted, FamilyError, HandleError};
use crate::fault;
use crate::heap::{Bytes, Heap, header};
use crate::lock::{Acquired, UserLock};
use crate::object::group::{GroupBody, Row};
use crate::object::header::{Handle, Kind, Object, Phase};
use crate::object::holding::{Counts, Holding, Holdings};
use crate::object::memory::{INLINE, MemoryBody};
use crate::object::Objects;
use crate::registry::{OwnerId, Registry};
use crate::ring::{Ring, Shape};
use crate::wait::{GaveUp, Patience};

/// The family that this process belongs to. It lasts as long as the process.
pub struct Family {
    heap: &'static Heap,
    /// `incarnation:32 | owner:32`: who this process is, as long as the incarnation is still its own.
    member: AtomicU64,
    /// The slot that the running fork has reserved for the child.
    reserved: AtomicU64,
    holdings: Holdings,
}

/// A process that was found dead and cleaned up after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// Who it was.
    pub owner: OwnerId,
    /// Its pid.
    pub pid: u32,
    /// Whether it went without goodbye.
    pub was_killed: bool,
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

    fn on(heap: &'static Heap) -> &'static Self {
        fault::arm_from_environment();
        // Leaked on purpose: handles refer to it until the process ends.
        Box::leak(Box::new(Self {
            heap,
            member: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
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
        let member = self.member.load(Acquire); // pairs with the Release in `register`
        if (member >> 32) as u32 == incarnation::id() as u32 && member != 0 {
            return Ok(OwnerId::from_bits(member as u32));
        }
        self.register()
    }

    #[cold]
    fn register(&self) -> Result<OwnerId, HandleError> {
        let counts = self.holdings.lock(); // one thread registers, the others find it done
        let member = self.member.load(Acquire);
        if (member >> 32) as u32 == incarnation::id() as u32 && member != 0 {
            return Ok(OwnerId::from_bits(member as u32));
        }
        self.reap_dead(true);
        let me = self.registry().join()?;
        // In a child of a raw `clone` the counts came with the memory; the bits did not.
        self.hold_all(&counts, me);
        self.be(me);
        Ok(me)
    }

    fn be(&self, me: OwnerId) {
        let word = (incarnation::id() << 32) | u64::from(me.bits());
        self.member.store(word, Release);
    }

    fn hold_all(&self, counts: &Counts, who: OwnerId) {
        let objects = Objects::new(self.heap, who);
        for &index in counts.keys() {
            let _ = objects.set_holder(index, who); // every index in the counts was checked when it came in
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
        if let Ok(me) = self.me() {
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
        match blocks.take(len) {
            Err(AllocError::HeapFull { .. }) => {
                self.reap_dead(true);
                self.free_buried()?;
                Ok(blocks.take(len)?)
            }
            other => Ok(other?),
        }
    }

    // ---- making objects -----------------------------------------------------------------------

    fn make(
        &'static self,
        kind: Kind,
        fill: impl FnOnce(&Objects, Handle) -> Result<(), HandleError>,
    ) -> Result<Hold, HandleError> {
        self.free_buried()?;
        let objects = self.objects()?;
        let handle = objects.make(kind)?;
        if let Err(error) = fill(&objects, handle) {
            objects.freed(handle.index)?;
            return Err(error);
        }
        // Under the lock, so that a fork finds the count and the bit together.
        let mut counts = self.holdings.lock();
        objects.publish(handle)?;
        count_up(&mut counts, handle.index, handle.generation);
        Ok(Hold { family: self, handle, kind })
    }

    /// Makes a ring.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_ring(&'static self, shape: Shape) -> Result<Hold, HandleError> {
        let blocks = self.blocks()?;
        self.make(Kind::Ring, |objects, handle| {
            Ok(Ring::new(handle.index, blocks, *objects)?.initialise(shape)?)
        })
    }

    /// Makes a lock of the user's.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_lock(&'static self) -> Result<Hold, HandleError> {
        self.make(Kind::Lock, |objects, handle| {
            objects.body::<UserLock>(handle.index)?.initialise();
            Ok(())
        })
    }

    /// Makes `len` bytes of shared memory, all zero.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_memory(&'static self, len: u64) -> Result<Hold, HandleError> {
        self.make(Kind::Memory, |objects, handle| {
            let body: &MemoryBody = objects.body(handle.index)?;
            if len as usize <= INLINE {
                body.set(len, None);
                self.inline_bytes(objects, handle.index, len)?.clear();
                return Ok(());
            }
            let block = self.take_bound(handle.index, len)?;
            body.set(len, Some(block));
            Ok(())
        })
    }

    /// Makes a group of up to `rows` workers.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_group(&'static self, rows: u32) -> Result<Hold, HandleError> {
        self.make(Kind::Group, |objects, handle| {
            let len = u64::from(rows.max(1)) * size_of::<Row>() as u64;
            let block = self.take_bound(handle.index, len)?;
            objects.body::<GroupBody>(handle.index)?.set(rows.max(1), block);
            Ok(())
        })
    }

    /// Takes a block that lives as long as an object, all zero.
    fn take_bound(&self, object: u32, len: u64) -> Result<BlockRef, HandleError> {
        let taken = self.take_block(len)?;
        let blocks = self.blocks()?;
        blocks.bytes(taken.block)?.clear();
        blocks.bind(taken.block, object, u64::MAX, OwnerId::NOBODY)?;
        Ok(taken.block)
    }

    /// Keeps bytes for as long as an object lives, or until [`Family::discard`].
    ///
    /// # Errors
    /// When there is no room.
    pub fn store(&self, object: &Hold, bytes: &[u8]) -> Result<BlockRef, HandleError> {
        let taken = self.take_block(bytes.len().max(1) as u64)?;
        let blocks = self.blocks()?;
        blocks.fill(&taken, 0, bytes)?;
        let block = BlockRef { len: bytes.len() as u64, ..taken.block };
        blocks.bind(block, object.handle.index, u64::MAX, OwnerId::NOBODY)?;
        Ok(block)
    }

    /// Frees what [`Family::store`] kept.
    pub fn discard(&self, block: BlockRef) {
        if let Ok(blocks) = self.blocks() {
            blocks.free(block);
        }
    }

    fn inline_bytes(&self, objects: &Objects, index: u32, len: u64) -> Result<Bytes, Corrupted> {
        let body = objects.offset_of(index) + std::mem::offset_of!(Object, body);
        self.heap.bytes(body + std::mem::offset_of!(MemoryBody, inline), (len as usize).min(INLINE))
    }

    // ---- holding objects ----------------------------------------------------------------------

    /// Holds the object that a handle names.
    ///
    /// # Errors
    /// When it is gone, of another kind, or of another family.
    pub fn hold(&'static self, handle: Handle, kind: Kind) -> Result<Hold, HandleError> {
        let mut counts = self.holdings.lock();
        self.objects()?.attach(handle, kind)?;
        count_up(&mut counts, handle.index, handle.generation);
        Ok(Hold { family: self, handle, kind })
    }

    /// Counts handles that are about to travel in a message.
    ///
    /// # Errors
    /// When one leads nowhere.
    pub fn send(&self, handles: &[Handle]) -> Result<(), HandleError> {
        let objects = self.objects()?;
        for handle in handles {
            objects.send(handle.index)?;
            fault::point("handle.sent");
        }
        Ok(())
    }

    /// Takes back the counting of a message that was not sent.
    pub fn unsend(&self, handles: &[Handle]) {
        if let Ok(objects) = self.objects() {
            for handle in handles {
                let _ = objects.arrived(handle.index); // counted by `send`, so the index is good
            }
        }
    }

    /// Takes over the handles of a message that was received. Keep the result until the message has
    /// been decoded: what the decoder does not hold by then is let go.
    ///
    /// # Errors
    /// When one leads nowhere.
    pub fn receive(&'static self, handles: &[(u32, u32)]) -> Result<Vec<Hold>, HandleError> {
        if handles.is_empty() {
            return Ok(Vec::new());
        }
        let objects = self.objects()?;
        let mut held = Vec::with_capacity(handles.len());
        for &(index, generation) in handles {
            let handle = Handle { family: self.number(), index, generation };
            let kind = objects.stage(index)?.kind.ok_or(HandleError::Gone)?;
            held.push(self.hold(handle, kind)?);
            fault::point("handle.held");
            objects.arrived(index)?;
        }
        Ok(held)
    }

    /// Frees objects that nobody holds any more.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn free_buried(&self) -> Result<(), HandleError> {
        let objects = self.objects()?;
        while objects.has_buried() {
            let Some((index, kind)) = objects.pop_buried()? else { return Ok(()) };
            self.free_object(&objects, index, kind)?;
        }
        Ok(())
    }

    fn free_object(&self, objects: &Objects, index: u32, kind: Kind) -> Result<(), HandleError> {
        let blocks = self.blocks()?;
        match kind {
            Kind::Ring => Ring::new(index, blocks, *objects)?.drain()?,
            Kind::Memory => {
                if let Some(block) = objects.body::<MemoryBody>(index)?.block() {
                    blocks.free(block);
                }
            }
            Kind::Group => blocks.free_bound_to(index)?,
            Kind::Lock => {}
        }
        fault::point("object.emptied");
        Ok(objects.freed(index)?)
    }

    // ---- the dead -----------------------------------------------------------------------------

    /// Looks for dead processes and cleans up after them: those that the kernel has marked, or, when
    /// `thoroughly`, every one that is confirmed to have ended. Returns whom it found.
    pub fn reap_dead(&self, thoroughly: bool) -> Vec<Reaped> {
        let registry = self.registry();
        let mut found = Vec::new();
        for number in registry.used() {
            if thoroughly || registry.seems_dead(number) {
                found.extend(self.reap(number));
            }
        }
        found
    }

    /// Cleans up after the process in a slot, if it is confirmed to have ended.
    pub fn reap(&self, number: usize) -> Option<Reaped> {
        // Not through `me`: a process that is just registering reaps too.
        let me = OwnerId::from_bits(self.member.load(Acquire) as u32);
        if number == me.slot() && !me.is_nobody() {
            return None;
        }
        let registry = self.registry();
        let (dead, was_killed) = registry.claim_dead(number, me).ok()??;
        let pid = registry.tenancy(number).map_or(0, |tenancy| tenancy.pid);
        if let Err(damage) = self.recover(dead, pid, was_killed, me) {
            // The slot stays claimed: what could not be understood is not reused.
            debug_assert!(false, "{damage}");
            return None;
        }
        registry.release(dead);
        Some(Reaped { owner: dead, pid, was_killed })
    }

    /// Everything that a dead process may have left. Each step may be done twice.
    fn recover(&self, dead: OwnerId, pid: u32, was_killed: bool, me: OwnerId) -> Result<(), HandleError> {
        let (objects, blocks) = (Objects::new(self.heap, me), Blocks::new(self.heap, me));
        if was_killed {
            objects.for_each_live(|index, stage| {
                if stage.kind == Some(Kind::Lock) {
                    if let Ok(lock) = objects.body::<UserLock>(index) {
                        lock.hand_over(dead, pid);
                    }
                }
            })?;
        }
        fault::point("recover.locks");
        blocks.sweep(dead, |index| self.settle(index, blocks, objects))?;
        fault::point("recover.blocks");
        for (index, kind) in objects.sweep(dead)? {
            if me.is_nobody() {
                continue; // found again by the next process that looks
            }
            self.free_object(&objects, index, kind)?;
        }
        fault::point("recover.objects");
        Ok(())
    }

    fn settle(&self, index: u32, blocks: Blocks, objects: Objects) {
        let is_ring = objects
            .stage(index)
            .is_ok_and(|stage| stage.kind == Some(Kind::Ring) && stage.phase != Phase::Free);
        if let (true, Ok(ring)) = (is_ring, Ring::new(index, blocks, objects)) {
            ring.settle();
        }
    }

    // ---- fork ---------------------------------------------------------------------------------

    /// Before a fork, in the parent: reserves the child's slot and makes it a holder of all that this
    /// process holds. Returns the counts, locked: keep them until after the fork, on both sides.
    pub fn prepare_fork(&self) -> std::sync::MutexGuard<'_, Counts> {
        let counts = self.holdings.lock();
        let member = self.member.load(Acquire);
        self.reserved.store(0, Relaxed);
        if (member >> 32) as u32 == incarnation::id() as u32 {
            let me = OwnerId::from_bits(member as u32);
            if let Ok(child) = self.registry().reserve(me) {
                fault::point("fork.reserved");
                self.hold_all(&counts, child);
                self.reserved.store(u64::from(child.bits()), Relaxed);
            }
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

fn count_up(counts: &mut Counts, index: u32, generation: u32) {
    let holding = counts.entry(index).or_insert(Holding { generation, count: 0 });
    if holding.generation != generation {
        // The old object is gone, and with it all that the old references could do.
        *holding = Holding { generation, count: 0 };
    }
    holding.count += 1;
}

/// A reference to a shared object that keeps it alive. Cloning and dropping take no engine lock.
pub struct Hold {
    family: &'static Family,
    handle: Handle,
    kind: Kind,
}

impl Hold {
    /// How the object is named in messages.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.family
    }

    fn body<T: crate::heap::shared::Shared>(&self, kind: Kind) -> Result<&'static T, HandleError> {
        if self.kind != kind {
            return Err(HandleError::OtherKind);
        }
        Ok(self.family.objects()?.body(self.handle.index)?)
    }

    /// The object as a ring.
    ///
    /// # Errors
    /// When it is none.
    #[inline]
    pub fn ring(&self) -> Result<Ring, HandleError> {
        if self.kind != Kind::Ring {
            return Err(HandleError::OtherKind);
        }
        let me = self.family.me()?;
        let heap = self.family.heap;
        Ok(Ring::new(self.handle.index, Blocks::new(heap, me), Objects::new(heap, me))?)
    }

    /// The object as a lock.
    ///
    /// # Errors
    /// When it is none.
    #[inline]
    pub fn lock(&self) -> Result<&'static UserLock, HandleError> {
        self.body(Kind::Lock)
    }

    /// Acquires the object as a lock. A holder that was killed is noticed within a slice.
    ///
    /// # Errors
    /// When it is none, or the patience ends.
    pub fn acquire(&self, patience: &mut Patience<'_>) -> Result<Result<Acquired, GaveUp>, HandleError> {
        let (family, me, lock) = (self.family, self.family.me()?, self.lock()?);
        Ok(lock.acquire(me, patience, |holder| {
            let number = (holder & 0xfff) as usize;
            let _ = family.reap(number); // does nothing unless that process is confirmed dead
        }))
    }

    /// The object as a group.
    ///
    /// # Errors
    /// When it is none.
    pub fn group(&self) -> Result<&'static GroupBody, HandleError> {
        self.body(Kind::Group)
    }

    /// Where the group's bell lies, for the rings that shall ring it.
    ///
    /// # Errors
    /// When the object is no group.
    pub fn bell_offset(&self) -> Result<u64, HandleError> {
        self.group()?;
        let body = self.family.objects()?.offset_of(self.handle.index) + std::mem::offset_of!(Object, body);
        Ok((body + std::mem::offset_of!(GroupBody, bell)) as u64)
    }

    /// The rows of the group's workers.
    ///
    /// # Errors
    /// When the object is no group.
    pub fn rows(&self) -> Result<Vec<&'static Row>, HandleError> {
        self.group()?;
        Ok(self.family.objects()?.rows(self.handle.index, &self.family.blocks()?)?)
    }

    /// The object as shared memory.
    ///
    /// # Errors
    /// When it is none.
    pub fn memory(&self) -> Result<Bytes, HandleError> {
        let body: &MemoryBody = self.body(Kind::Memory)?;
        match body.block() {
            Some(block) => Ok(self.family.blocks()?.bytes(block)?),
            None => {
                let objects = self.family.objects()?;
                Ok(self.family.inline_bytes(&objects, self.handle.index, body.len())?)
            }
        }
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        count_up(&mut self.family.holdings.lock(), self.handle.index, self.handle.generation);
        Self { family: self.family, handle: self.handle, kind: self.kind }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut counts = self.family.holdings.lock();
        let Some(holding) = counts.get_mut(&self.handle.index) else { return };
        if holding.generation != self.handle.generation {
            return;
        }
        holding.count -= 1;
        if holding.count > 0 {
            return;
        }
        counts.remove(&self.handle.index);
        // Under the lock: another thread that attaches the same object now sets the bit afterwards. Not
        // through `me`, which may register: who is not registered has no bit.
        let member = self.family.member.load(Acquire);
        if (member >> 32) as u32 == incarnation::id() as u32 {
            let me = OwnerId::from_bits(member as u32);
            let _ = Objects::new(self.family.heap, me).clear_holder(self.handle.index, me);
        }
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}.{}", self.kind, self.handle.index, self.handle.generation)
    }
}
