//! Making objects, holding them, freeing them.
//!
//! An object lives while somebody holds it: one bit for each process, plus a count of handles inside
//! messages. See `PROTOCOL.md` beside this file for what a death between any two steps leaves.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

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
use crate::registry::OwnerId;
use crate::wait::Patience;

/// Object slots that are backed by memory at a time: 256 KiB.
const STEP: u32 = 256;

/// The object table, on behalf of one process.
#[derive(Clone, Copy)]
pub struct Objects {
    heap: &'static Heap,
    me: OwnerId,
}

impl Objects {
    /// The objects of `heap` as used by the process `me`.
    #[must_use]
    pub fn new(heap: &'static Heap, me: OwnerId) -> Self {
        Self { heap, me }
    }

    fn header(&self) -> &'static ObjectsHeader {
        &self.heap.header().objects
    }

    /// How many object slots were ever used.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.header().used.load(Acquire).min(self.heap.layout().max_objects as u32)
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
    pub fn object(&self, index: u32) -> Result<&'static Object, Corrupted> {
        if index as usize >= self.heap.layout().max_objects || index >= self.header().backed.load(Acquire) {
            return Err(Corrupted::new("a handle points outside the object table"));
        }
        self.heap.at(self.offset_of(index))
    }

    /// An object's body, as what its kind makes of it. The caller has checked the kind.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn body<T: Shared>(&self, index: u32) -> Result<&'static T, Corrupted> {
        const { assert!(size_of::<T>() <= super::header::BODY_WORDS * 8) };
        self.object(index)?;
        self.heap.at(self.offset_of(index) + std::mem::offset_of!(Object, body))
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

    fn locked<R>(&self, operation: impl FnOnce(&Self) -> R) -> Result<R, Corrupted> {
        let _guard = self.lock()?;
        Ok(operation(self))
    }

    fn lock(&self) -> Result<Guard<'static>, Corrupted> {
        let mut go_on = || true;
        match self.header().lock.lock(&mut Patience::new(Deadline::NEVER, &mut go_on)) {
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
        let head = &header.free[kind as usize];
        let index = match head.load(Relaxed).checked_sub(1) {
            Some(index) => {
                head.store(self.object(index)?.next.load(Relaxed) as u32, Relaxed);
                index
            }
            None => {
                let index = header.used.load(Relaxed);
                if index >= header.backed.load(Relaxed) {
                    return Ok(None);
                }
                header.used.store(index + 1, Release); // pairs with the Acquire in `used`
                index
            }
        };
        let object = self.object(index)?;
        let generation = Stage::decode(object.state.load(Relaxed)).map_or(0, |stage| stage.generation);
        let generation = generation.wrapping_add(1) & 0xff_ffff;
        let stage = Stage { phase: Phase::Making, kind: Some(kind), owner: self.me, generation };
        object.state.store(stage.encode(), Release);
        Ok(Some(Handle { family: self.heap.header().family(), index, generation }))
    }

    fn back_more(&self) -> Result<(), HandleError> {
        let header = self.header();
        let backed = header.backed.load(Acquire);
        let most = self.heap.layout().max_objects as u32;
        let wanted = backed.saturating_add(STEP).min(most);
        if wanted == backed {
            let used = u64::from(most) * size_of::<Object>() as u64;
            return Err(AllocError::HeapFull { wanted: size_of::<Object>() as u64, used, limit: used }.into());
        }
        let bytes = (wanted - backed) as usize * size_of::<Object>();
        let mapping = self.heap.mapping();
        if mapping.back(self.offset_of(backed), bytes.next_multiple_of(PAGE)).is_err() {
            let limit = manycore_os::limits::memory().available;
            return Err(AllocError::HeapFull { wanted: bytes as u64, used: 0, limit }.into());
        }
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
            match (stage.phase, stage.kind) {
                (Phase::Free, Some(kind)) => self.list_free(index, kind)?,
                // Taken from `used` but not marked yet: it never got a kind.
                _ => {}
            }
        }
        Ok(())
    }

    fn list_free(&self, index: u32, kind: Kind) -> Result<(), Corrupted> {
        let head = &self.header().free[kind as usize];
        self.object(index)?.next.store(u64::from(head.load(Relaxed)), Relaxed);
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
        let live = Stage { phase: Phase::Live, owner: OwnerId::NOBODY, ..stage };
        object.state.store(live.encode(), Release); // pairs with the Acquire in `stage`
        Ok(())
    }

    fn holder_word(&self, index: u32, who: OwnerId) -> Result<(&'static crate::word::Word64, u64), Corrupted> {
        let object = self.object(index)?;
        let word = object.holders.get(who.slot() / 64).ok_or(Corrupted::new("no such holder"))?;
        Ok((word, 1 << (who.slot() % 64)))
    }

    /// Notes that a process holds an object, whatever its state.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn set_holder(&self, index: u32, who: OwnerId) -> Result<(), Corrupted> {
        let (word, bit) = self.holder_word(index, who)?;
        word.fetch_or(bit, SeqCst); // ordered against the fence in `bury`, see `attach`
        Ok(())
    }

    /// Notes that a process does not hold an object any more, and buries it if nobody does.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn clear_holder(&self, index: u32, who: OwnerId) -> Result<(), Corrupted> {
        let (word, bit) = self.holder_word(index, who)?;
        let held = word.fetch_and(!bit, SeqCst);
        fault::point("object.released");
        if held & bit != 0 { self.bury_if_unheld(index) } else { Ok(()) }
    }

    /// Makes this process a holder of the object that a handle names.
    ///
    /// # Errors
    /// When the object is gone or of another kind.
    pub fn attach(&self, handle: Handle, kind: Kind) -> Result<(), HandleError> {
        if handle.family != self.heap.header().family() {
            return Err(HandleError::OtherFamily);
        }
        self.set_holder(handle.index, self.me)?;
        fence(SeqCst); // pairs with the fence in `bury`: the bit is set before the phase is read
        loop {
            let stage = self.stage(handle.index)?;
            if stage.generation != handle.generation & 0xff_ffff {
                return self.detach_with(handle, HandleError::Gone);
            }
            match stage.phase {
                Phase::Live if stage.kind == Some(kind) => return Ok(()),
                Phase::Live => return self.detach_with(handle, HandleError::OtherKind),
                // Being buried: either it turns live again because of our bit, or it is gone.
                Phase::Buried if stage.owner != self.me && !self.is_settled(handle.index, stage)? => {
                    std::hint::spin_loop();
                }
                _ => return self.detach_with(handle, HandleError::Gone),
            }
        }
    }

    /// Whether a burial has been decided: the burier's last look found nobody.
    fn is_settled(&self, index: u32, seen: Stage) -> Result<bool, Corrupted> {
        // `next` is written after that look; until then it holds the mark.
        let undecided = self.object(index)?.next.load(Acquire) == UNDECIDED;
        let burier_lives =
            !crate::registry::Registry::new(self.heap).has_ended(seen.owner);
        Ok(!(undecided && burier_lives))
    }

    fn detach_with(&self, handle: Handle, error: HandleError) -> Result<(), HandleError> {
        let (word, bit) = self.holder_word(handle.index, self.me)?;
        // Only if the object that lives there now is not one that this process holds as well.
        if self.stage(handle.index)?.phase != Phase::Live {
            word.fetch_and(!bit, SeqCst);
        }
        Err(error)
    }

    /// Counts a handle that is about to travel in a message.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn send(&self, index: u32) -> Result<(), Corrupted> {
        self.object(index)?.in_flight.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Counts a handle that has arrived, or whose message was never sent.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn arrived(&self, index: u32) -> Result<(), Corrupted> {
        let before = self.object(index)?.in_flight.saturating_sub(1, SeqCst);
        if before == 1 { self.bury_if_unheld(index) } else { Ok(()) }
    }

    /// Whether anybody holds the object, or a message does.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn is_held(&self, index: u32) -> Result<bool, Corrupted> {
        let object = self.object(index)?;
        let held = object.holders.iter().any(|word| word.load(SeqCst) != 0);
        Ok(held || object.in_flight.load(SeqCst) != 0)
    }

    fn bury_if_unheld(&self, index: u32) -> Result<(), Corrupted> {
        let stage = self.stage(index)?;
        if stage.phase != Phase::Live || self.is_held(index)? {
            return Ok(());
        }
        self.bury(index, stage)
    }

    fn bury(&self, index: u32, live: Stage) -> Result<(), Corrupted> {
        let object = self.object(index)?;
        object.next.store(UNDECIDED, Release);
        let buried = Stage { phase: Phase::Buried, owner: self.me, ..live };
        if object.state.compare_exchange(live.encode(), buried.encode(), SeqCst, Relaxed).is_err() {
            return Ok(()); // somebody else was quicker
        }
        fault::point("object.buried");
        fence(SeqCst); // pairs with the fence in `attach`: the phase is set before the bits are read
        if self.is_held(index)? {
            // Somebody attached meanwhile and waits for this.
            let _ = object.state.compare_exchange(buried.encode(), live.encode(), SeqCst, Relaxed);
            // It may have let go again before it could see the object live.
            return if self.is_held(index)? { Ok(()) } else { self.bury_if_unheld(index) };
        }
        self.push_buried(index)
    }

    fn push_buried(&self, index: u32) -> Result<(), Corrupted> {
        let (object, list) = (self.object(index)?, &self.header().buried);
        let mut top = list.load(Relaxed); // checked by the exchange
        loop {
            object.next.store(top, Release);
            // Release pairs with the Acquire in `pop_buried`.
            match list.compare_exchange(top, u64::from(index) + 1, AcqRel, Relaxed) {
                Ok(_) => return Ok(()),
                #[cfg(test)]
                Err(_) if crate::crash::is_dead() => return Ok(()),
                Err(found) => top = found,
            }
        }
    }

    /// Whether there is anything for [`Objects::pop_buried`].
    #[must_use]
    pub fn has_buried(&self) -> bool {
        self.header().buried.load(Relaxed) != 0 // a hint
    }

    /// Takes over the freeing of one buried object.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn pop_buried(&self) -> Result<Option<(u32, Kind)>, Corrupted> {
        self.locked(|this| {
            let list = &this.header().buried;
            loop {
                // Acquire pairs with the Release in `push_buried`.
                let top = list.load(Acquire);
                let Some(index) = top.checked_sub(1) else { return Ok(None) };
                let index = index as u32;
                let stage = this.stage(index)?;
                let object = this.object(index)?;
                let next = object.next.load(Relaxed);
                if matches!(stage.phase, Phase::Buried | Phase::Freeing) {
                    // Before it leaves the list: a death here leaves it on top, and the next one takes over.
                    let freeing = Stage { phase: Phase::Freeing, owner: this.me, ..stage };
                    object.state.store(freeing.encode(), Release);
                }
                // Only the lock's owner pops, so the top can only be covered, never replaced.
                if list.compare_exchange(top, next, AcqRel, Relaxed).is_err() {
                    continue;
                }
                fault::point("object.freeing");
                match (stage.phase, stage.kind) {
                    (Phase::Buried | Phase::Freeing, Some(kind)) => return Ok(Some((index, kind))),
                    _ => {}
                }
            }
        })?
    }

    /// Ends the freeing of an object whose body has been emptied.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn freed(&self, index: u32) -> Result<(), Corrupted> {
        self.locked(|this| {
            let (object, stage) = (this.object(index)?, this.stage(index)?);
            let Some(kind) = stage.kind else { return Ok(()) };
            for word in &object.holders {
                word.store(0, Relaxed);
            }
            let free = Stage { phase: Phase::Free, owner: OwnerId::NOBODY, ..stage };
            object.state.store(free.encode(), Release);
            this.list_free(index, kind)
        })?
    }

    /// Clears what a dead process held, and takes over what it was freeing. Returns those objects.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn sweep(&self, dead: OwnerId) -> Result<Vec<(u32, Kind)>, Corrupted> {
        let mut orphans = Vec::new();
        for index in 0..self.used() {
            self.clear_holder(index, dead)?;
            let stage = self.stage(index)?;
            if stage.owner != dead || matches!(stage.phase, Phase::Free | Phase::Live) {
                continue;
            }
            let freeing = Stage { phase: Phase::Freeing, owner: self.me, ..stage };
            let object = self.object(index)?;
            match stage.phase {
                // Pushed or not: popping marks it first, so look whether it is still to be pushed.
                Phase::Buried if object.next.load(Acquire) != UNDECIDED && self.is_listed(index)? => {}
                _ => {
                    let won = object.state.compare_exchange(stage.encode(), freeing.encode(), AcqRel, Relaxed);
                    if let (Ok(_), Some(kind)) = (won, stage.kind) {
                        orphans.push((index, kind));
                    }
                }
            }
        }
        Ok(orphans)
    }

    fn is_listed(&self, index: u32) -> Result<bool, Corrupted> {
        self.locked(|this| {
            let mut at = this.header().buried.load(Acquire);
            for _ in 0..=this.used() {
                match at.checked_sub(1) {
                    None => return Ok(false),
                    Some(found) if found == u64::from(index) => return Ok(true),
                    Some(found) => at = this.object(found as u32)?.next.load(Acquire),
                }
            }
            Err(Corrupted::new("the list of the buried is a circle"))
        })?
    }

    /// The rows of a group, one for each worker.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn rows(&self, index: u32, blocks: &Blocks) -> Result<Vec<&'static Row>, Corrupted> {
        let body: &GroupBody = self.body(index)?;
        let bytes = blocks.bytes(body.block())?;
        let count = bytes.len() / size_of::<Row>();
        (0..count).map(|n| self.heap.at(bytes.offset() + n * size_of::<Row>())).collect()
    }

    /// Visits every live object.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn for_each_live(&self, mut visit: impl FnMut(u32, Stage)) -> Result<(), Corrupted> {
        for index in 0..self.used() {
            let stage = self.stage(index)?;
            if stage.phase == Phase::Live {
                visit(index, stage);
            }
        }
        Ok(())
    }
}

/// In `next` while a burial may still be called off.
const UNDECIDED: u64 = u64::MAX;
