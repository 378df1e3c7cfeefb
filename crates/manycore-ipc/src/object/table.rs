//! Making objects, holding them, freeing them.
//!
//! An object lives while somebody holds it: one bit for each process, plus a count of handles inside
//! messages. See `PROTOCOL.md` beside this file for what a death between any two steps leaves.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manycore_os::Deadline;
use manycore_os::mapping::PAGE;

use super::group::{GroupBody, Row};
use super::header::{Handle, Kind, Object, ObjectsHeader, Phase, Stage};
use crate::block::Blocks;
use crate::error::{AllocError, Corrupted, HandleError};
use crate::fault;
use crate::heap::Heap;
use crate::heap::shared::Shared;
use crate::lock::{Guard, Locked};
use crate::registry::{OwnerId, Registry};
use crate::wait::{Bell, Patience};

/// Object slots that are backed by memory at a time: 256 KiB.
const STEP: u32 = 256;

/// The object table, on behalf of one process.
#[derive(Clone, Copy)]
pub struct Objects {
    pub(super) heap: &'static Heap,
    pub(super) me: OwnerId,
}

impl Objects {
    /// The objects of `heap` as used by the process `me`.
    #[must_use]
    pub fn new(heap: &'static Heap, me: OwnerId) -> Self {
        Self { heap, me }
    }

    pub(crate) fn header(&self) -> &'static ObjectsHeader {
        &self.heap.header().objects
    }

    /// The heap that they are in.
    pub(crate) fn heap(&self) -> &'static Heap {
        self.heap
    }

    /// The process on whose behalf.
    pub(crate) fn me(&self) -> OwnerId {
        self.me
    }

    /// How many object slots were ever used.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.header()
            .used
            .load(Acquire)
            .min(self.heap.layout().max_objects as u32)
    }

    /// Where an object's slot lies in the heap.
    #[must_use]
    pub fn offset_of(&self, index: u32) -> usize {
        self.heap.layout().objects + index as usize * size_of::<Object>()
    }

    /// An object's slot.
    ///
    /// # Errors
    /// When there is no such object.
    #[inline]
    pub fn object(&self, index: u32) -> Result<&'static Object, Corrupted> {
        if index as usize >= self.heap.layout().max_objects
            || index >= self.header().backed.load(Acquire)
        {
            return Err(Corrupted::new("a handle points outside the object table"));
        }
        self.heap.at(self.offset_of(index))
    }

    /// An object's body, as what its kind makes of it. The caller has checked the kind.
    ///
    /// # Errors
    /// When there is no such object.
    #[inline(always)]
    pub fn body<T: Shared>(&self, index: u32) -> Result<&'static T, Corrupted> {
        const { assert!(size_of::<T>() <= super::header::BODY_WORDS * 8) };
        self.object(index)?;
        self.heap
            .at(self.offset_of(index) + std::mem::offset_of!(Object, body))
    }

    /// What is known about an object.
    ///
    /// # Errors
    /// When there is no such object, or its word makes no sense.
    pub fn stage(&self, index: u32) -> Result<Stage, Corrupted> {
        // Acquire pairs with the Release of whoever changed the word.
        Stage::decode(self.object(index)?.state.load(Acquire))
            .ok_or(Corrupted::new("an object's state word is not one"))
    }

    /// Takes an object slot; [`Objects::publish`] makes it live.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make(&self, kind: Kind) -> Result<Handle, HandleError> {
        loop {
            let made = self.locked(|this| this.take(kind))??;
            if let Some(handle) = made {
                fault::point("object.making");
                return Ok(handle);
            }
            self.back_more()?;
        }
    }

    pub(super) fn locked<R>(&self, operation: impl FnOnce(&Self) -> R) -> Result<R, Corrupted> {
        let _guard = self.lock()?;
        Ok(operation(self))
    }

    fn lock(&self) -> Result<Guard<'static>, Corrupted> {
        let mut go_on = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
        match Registry::new(self.heap).lock(&self.header().lock, &mut patience) {
            Ok(Locked::Clean(guard)) => Ok(guard),
            Ok(Locked::OwnerDied(guard)) => {
                self.relist()?;
                guard.repaired();
                Ok(guard)
            }
            Err(_) => unreachable!("this patience never ends"),
        }
    }

    fn take(&self, kind: Kind) -> Result<Option<Handle>, HandleError> {
        let header = self.header();
        let used = header.used.load(Relaxed);
        let index = match self.pop_free(kind)? {
            Some(index) => index,
            None if used == header.backed.load(Relaxed) => return Ok(None),
            None => used,
        };
        // Beyond `used` lies what was never used, or what a process died over while it took it.
        let (object, last) = (self.object(index)?, self.stage(index)?);
        let generation = last.generation.wrapping_add(1) & 0xff_ffff;
        let stage = Stage {
            phase: Phase::Making,
            kind: Some(kind),
            owner: self.me,
            generation,
        };
        object.state.store(stage.encode(), Release);
        fault::point("object.taken");
        if index == used {
            header.used.store(index + 1, Release); // pairs with the Acquire in `used`
        }
        Ok(Some(Handle {
            family: self.heap.header().family(),
            index,
            generation,
        }))
    }

    /// Takes an object off the free list of its kind.
    fn pop_free(&self, kind: Kind) -> Result<Option<u32>, Corrupted> {
        let head = &self.header().free[kind as usize];
        let Some(index) = head.load(Relaxed).checked_sub(1) else {
            return Ok(None);
        };
        let (object, last) = (self.object(index)?, self.stage(index)?);
        if index >= self.used() || last.phase != Phase::Free || last.kind != Some(kind) {
            return Err(Corrupted::new("a free list leads to an object in use"));
        }
        head.store(object.next.load(Relaxed) as u32, Relaxed); // all under the lock
        fault::point("object.unlisted");
        Ok(Some(index))
    }

    fn back_more(&self) -> Result<(), HandleError> {
        let header = self.header();
        let backed = header.backed.load(Acquire);
        let most = self.heap.layout().max_objects as u32;
        let wanted = backed.saturating_add(STEP).min(most);
        if wanted <= backed {
            let used = u64::from(most) * size_of::<Object>() as u64;
            return Err(AllocError::HeapFull {
                wanted: size_of::<Object>() as u64,
                used,
                limit: used,
            }
            .into());
        }
        let bytes = ((wanted - backed) as usize * size_of::<Object>()).next_multiple_of(PAGE);
        let blocks = Blocks::new(self.heap, self.me);
        blocks.check_room(bytes)?;
        self.heap
            .mapping()
            .back(self.offset_of(backed), bytes)
            .map_err(|_| blocks.full((bytes / PAGE) as u64))?;
        self.locked(|_| {
            if header.backed.load(Relaxed) < wanted {
                header.backed.store(wanted, Release); // pairs with the Acquire in `object`
            }
        })?;
        Ok(())
    }

    /// Lists all free objects anew, after the lock's owner died.
    fn relist(&self) -> Result<(), Corrupted> {
        let header = self.header();
        for head in &header.free {
            head.store(0, Relaxed);
        }
        for index in 0..self.used() {
            let stage = self.stage(index)?;
            if let (Phase::Free, Some(kind)) = (stage.phase, stage.kind) {
                self.list_free(index, kind)?;
            }
        }
        Ok(())
    }

    fn list_free(&self, index: u32, kind: Kind) -> Result<(), Corrupted> {
        let head = &self.header().free[kind as usize];
        self.object(index)?
            .next
            .store(u64::from(head.load(Relaxed)), Relaxed);
        head.store(index + 1, Relaxed); // all under the lock
        Ok(())
    }

    /// Makes an object live, held by this process. Its body is ready.
    ///
    /// # Errors
    /// When the handle leads nowhere.
    pub fn publish(&self, handle: Handle) -> Result<(), HandleError> {
        let object = self.object(handle.index)?;
        let stage = self.stage(handle.index)?;
        object.in_flight.store(0, Relaxed);
        self.set_holder(handle.index, self.me)?;
        fault::point("object.held");
        let live = Stage {
            phase: Phase::Live,
            owner: OwnerId::NOBODY,
            ..stage
        };
        object.state.store(live.encode(), Release); // pairs with the Acquire in `stage`
        Ok(())
    }

    /// Ends the freeing of an object whose body has been emptied.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn freed(&self, index: u32) -> Result<(), Corrupted> {
        self.locked(|this| {
            let (object, stage) = (this.object(index)?, this.stage(index)?);
            let is_mine =
                matches!(stage.phase, Phase::Making | Phase::Freeing) && stage.owner == this.me;
            let Some(kind) = stage.kind.filter(|_| is_mine) else {
                return Ok(());
            };
            for word in &object.holders {
                word.store(0, Relaxed);
            }
            let free = Stage {
                phase: Phase::Free,
                owner: OwnerId::NOBODY,
                ..stage
            };
            object.state.store(free.encode(), Release);
            fault::point("object.freed");
            this.list_free(index, kind)
        })?
    }

    /// The bell of a group, by its offset in the heap.
    pub(crate) fn bell_at(&self, offset: u64) -> Option<&'static Bell> {
        let first = self.offset_of(0)
            + std::mem::offset_of!(Object, body)
            + std::mem::offset_of!(GroupBody, bell);
        let from_first = usize::try_from(offset).ok()?.checked_sub(first)?;
        let index = u32::try_from(from_first / size_of::<Object>()).ok()?;
        let is_group = from_first.is_multiple_of(size_of::<Object>())
            && self.stage(index).ok()?.kind == Some(Kind::Group);
        let group: &GroupBody = self.body(index).ok().filter(|_| is_group)?;
        Some(&group.bell)
    }

    /// The rows of a group, one for each worker.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn rows(&self, index: u32, blocks: &Blocks) -> Result<Vec<&'static Row>, Corrupted> {
        let block = self.body::<GroupBody>(index)?.block();
        if !blocks.is_lent(block, index, u64::MAX) {
            return Err(Corrupted::new("the block of a group's rows is not its own"));
        }
        let bytes = blocks.bytes(block)?;
        let count = bytes.len() / size_of::<Row>();
        (0..count)
            .map(|n| self.heap.at(bytes.offset() + n * size_of::<Row>()))
            .collect()
    }

    /// Visits every live object, also one whose burial may still be called off.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn for_each_live(&self, mut visit: impl FnMut(u32, Stage)) -> Result<(), Corrupted> {
        for index in 0..self.used() {
            let stage = self.stage(index)?;
            if stage.is_live() {
                visit(index, stage);
            }
        }
        Ok(())
    }
}
