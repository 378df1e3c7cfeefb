//! A reference to an object that keeps it alive.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::Family;
use crate::block::Blocks;
use crate::error::HandleError;
use crate::heap::Bytes;
use crate::heap::shared::Shared;
use crate::lock::{Access, Acquired, Shares, Tokens, UserLock, shares};
use crate::map::Map;
use crate::object::Objects;
use crate::object::group::{GroupBody, Row};
use crate::object::header::{Handle, Kind, Object};
use crate::object::holding::{Counts, count_up};
use crate::object::memory::MemoryBody;
use crate::registry::OwnerId;
use crate::ring::Ring;
use crate::ring::pace::Pace;
use crate::wait::{GaveUp, Patience};

/// A reference to a shared object that keeps it alive. Cloning and dropping take no engine lock.
pub struct Hold {
    pub(super) family: &'static Family,
    pub(super) handle: Handle,
    kind: Kind,
    /// The process that this is of, if a forked child's copy of it is nothing.
    owner: OwnerId,
    /// The process that last found the object there: it is there as long as that process holds it.
    found_by: AtomicU32,
    /// How this process looks for messages, if the object is a ring.
    pub(super) pace: Pace,
}

impl Hold {
    /// Counts a reference to an object that this process, `me`, holds.
    pub(super) fn counted(
        family: &'static Family,
        handle: Handle,
        kind: Kind,
        me: OwnerId,
        counts: &mut Counts,
    ) -> Self {
        let owner = if kind.is_inherited() {
            OwnerId::NOBODY
        } else {
            me
        };
        count_up(counts, handle.index, handle.generation, owner);
        Self {
            family,
            handle,
            kind,
            owner,
            found_by: AtomicU32::new(0),
            pace: Pace::default(),
        }
    }

    /// Whether this process has it: not if it came with the memory of the one that this was forked from,
    /// and is of a kind that children do not inherit.
    fn is_own(&self) -> bool {
        self.owner.is_nobody() || self.family.member() == Some(self.owner)
    }

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

    #[inline(always)]
    pub(super) fn body<T: Shared>(&self, kind: Kind) -> Result<&'static T, HandleError> {
        let objects = self.found(kind)?;
        Ok(objects.body(self.handle.index)?)
    }

    /// The object table, once it is clear that the object is there and of this kind.
    #[inline(always)]
    fn found(&self, kind: Kind) -> Result<Objects, HandleError> {
        let me = self.family.me()?;
        // Relaxed: who looked is this process; the words of the object are ordered by its own.
        if self.found_by.load(Relaxed) != me.bits() {
            self.find(me)?;
        }
        if self.kind != kind {
            return Err(HandleError::OtherKind);
        }
        Ok(Objects::new(self.family.heap, me))
    }

    #[cold]
    fn find(&self, me: OwnerId) -> Result<(), HandleError> {
        self.check()?;
        self.found_by.store(me.bits(), Relaxed);
        Ok(())
    }

    /// The object table, once it is clear that the object is there: a process made by a raw `clone`
    /// comes too late for what its parent let go meanwhile.
    #[inline]
    fn objects(&self) -> Result<Objects, HandleError> {
        if !self.is_own() {
            return Err(HandleError::NotInherited);
        }
        let objects = self.family.objects()?;
        objects.check(self.handle)?;
        Ok(objects)
    }

    /// Whether this process holds it, and it is there.
    ///
    /// # Errors
    /// Why not.
    #[inline]
    pub fn check(&self) -> Result<(), HandleError> {
        self.objects().map(drop)
    }

    /// The object as a ring.
    ///
    /// # Errors
    /// When it is none.
    #[inline(always)] // a ring is several words, which would be copied again and again on their way up
    pub fn ring(&self) -> Result<Ring, HandleError> {
        let objects = self.found(Kind::Ring)?;
        let blocks = Blocks::new(self.family.heap, objects.me());
        Ok(Ring::new(self.handle.index, blocks, objects)?)
    }

    /// The object as a map.
    ///
    /// # Errors
    /// When it is none.
    #[inline]
    pub fn map(&self) -> Result<Map, HandleError> {
        let objects = self.found(Kind::Map)?;
        let blocks = Blocks::new(self.family.heap, objects.me());
        Ok(Map::new(self.handle.index, blocks, objects)?)
    }

    /// The object as a lock.
    ///
    /// # Errors
    /// When it is none.
    #[inline(always)]
    pub fn lock(&self) -> Result<&'static UserLock, HandleError> {
        self.body(Kind::Lock)
    }

    /// The same, and who this process is: for what has to be quick.
    ///
    /// # Errors
    /// When it is none.
    #[inline(always)]
    pub fn lock_and_me(&self) -> Result<(&'static UserLock, OwnerId), HandleError> {
        let objects = self.found(Kind::Lock)?;
        Ok((objects.body(self.handle.index)?, objects.me()))
    }

    /// Acquires the object as a lock. A holder that was killed is noticed within a slice.
    ///
    /// # Errors
    /// When it is none, or the patience ends.
    pub fn acquire(
        &self,
        patience: &mut Patience<'_>,
    ) -> Result<Result<Acquired, GaveUp>, HandleError> {
        let (family, me, lock) = (self.family, self.family.me()?, self.lock()?);
        Ok(lock.acquire(me, patience, |holder| {
            family.look_after_holder(lock, holder)
        }))
    }

    /// Hands the object, as a lock, over if its holder was killed: for who tries and does not wait. As long as the
    /// holder lives this is a look into memory, where the kernel marks who has ended.
    ///
    /// # Errors
    /// When it is none.
    pub fn look_after_lock(&self) -> Result<(), HandleError> {
        let lock = self.lock()?;
        if let Some(holder) = lock.holder() {
            let registry = self.family.registry();
            if registry.may_have_ended(UserLock::slot_of(holder)) {
                self.family.look_after_holder(lock, holder);
            }
        }
        Ok(())
    }

    /// The same by who repairs what the lock guards: it is not refused.
    ///
    /// # Errors
    /// When the object is no lock, or the patience ends.
    pub fn acquire_to_repair(
        &self,
        patience: &mut Patience<'_>,
    ) -> Result<Result<Acquired, GaveUp>, HandleError> {
        let (family, me, lock) = (self.family, self.family.me()?, self.lock()?);
        let look_after = |holder| family.look_after_holder(lock, holder);
        Ok(lock.acquire_to_repair(me, patience, look_after))
    }

    fn tokens(&self, kind: Kind) -> Result<Shares, HandleError> {
        let tokens: &Tokens = self.body(kind)?;
        let index = self.handle.index;
        Ok(Shares::new(tokens, index, self.family.blocks()?))
    }

    /// The object as a semaphore.
    ///
    /// # Errors
    /// When it is none.
    #[inline]
    pub fn semaphore(&self) -> Result<&'static Tokens, HandleError> {
        self.body(Kind::Semaphore)
    }

    /// The shares of the semaphore.
    ///
    /// # Errors
    /// When the object is none.
    pub fn semaphore_shares(&self) -> Result<Shares, HandleError> {
        self.tokens(Kind::Semaphore)
    }

    /// Brings the tokens of the semaphore back that killed processes had: for who tries and does not wait.
    ///
    /// # Errors
    /// When the object is no semaphore.
    pub fn look_after_tokens(&self) -> Result<(), HandleError> {
        self.family.look_after_shares(&self.semaphore_shares()?);
        Ok(())
    }

    /// Takes a token of the semaphore, which is a signal: it does not come back when this process is killed.
    ///
    /// # Errors
    /// When the object is no semaphore, or the patience ends.
    pub fn take_token(
        &self,
        patience: &mut Patience<'_>,
    ) -> Result<Result<(), GaveUp>, HandleError> {
        let shares = self.semaphore_shares()?;
        let look_after = || self.family.look_after_shares(&shares);
        Ok(shares.tokens().take(patience, look_after))
    }

    /// Takes a token of the semaphore to hold it: it comes back when this process is killed.
    ///
    /// # Errors
    /// When the object is no semaphore, the patience ends, or there is no room to note it.
    pub fn hold_token(
        &self,
        patience: &mut Patience<'_>,
    ) -> Result<Result<(), GaveUp>, HandleError> {
        let shares = self.semaphore_shares()?;
        let look_after = || self.family.look_after_shares(&shares);
        shares.hold(patience, look_after, &mut || {
            self.family.take_zeroed(shares::BLOCK)
        })
    }

    /// The object as a reader-writer lock.
    ///
    /// # Errors
    /// When it is none.
    pub fn rw_lock(&self) -> Result<Shares, HandleError> {
        self.tokens(Kind::RwLock)
    }

    /// Begins to read or write under the reader-writer lock.
    ///
    /// # Errors
    /// When the object is none, the patience ends, or there is no room to note it.
    pub fn enter(
        &self,
        access: Access,
        patience: &mut Patience<'_>,
    ) -> Result<Result<Acquired, GaveUp>, HandleError> {
        let shares = self.rw_lock()?;
        let look_after = || self.family.look_after_shares(&shares);
        let mut make_block = || self.family.take_zeroed(shares::BLOCK);
        shares.enter(access, patience, look_after, &mut make_block)
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
        let body = self.family.objects()?.offset_of(self.handle.index)
            + std::mem::offset_of!(Object, body);
        Ok((body + std::mem::offset_of!(GroupBody, bell)) as u64)
    }

    /// The rows of the group's workers.
    ///
    /// # Errors
    /// When the object is no group.
    pub fn rows(&self) -> Result<Vec<&'static Row>, HandleError> {
        self.group()?;
        Ok(self
            .family
            .objects()?
            .rows(self.handle.index, &self.family.blocks()?)?)
    }

    /// The object as shared memory.
    ///
    /// # Errors
    /// When it is none.
    pub fn memory(&self) -> Result<Bytes, HandleError> {
        let body: &MemoryBody = self.body(Kind::Memory)?;
        let Some(block) = body.block() else {
            let objects = self.family.objects()?;
            let bytes = self
                .family
                .inline_bytes(&objects, self.handle.index, body.len())?;
            return Ok(bytes);
        };
        self.family.lent_bytes(self.handle.index, block)
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        if self.is_own() {
            count_up(
                &mut self.family.holdings.lock(),
                self.handle.index,
                self.handle.generation,
                self.owner,
            );
        }
        Self {
            found_by: AtomicU32::new(0),
            pace: Pace::default(),
            ..*self
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_own() {
            return;
        }
        let mut counts = self.family.holdings.lock();
        let Some(holding) = counts.get_mut(&self.handle.index) else {
            return;
        };
        if (holding.generation, holding.owner) != (self.handle.generation, self.owner) {
            return;
        }
        holding.count -= 1;
        if holding.count > 0 {
            return;
        }
        counts.remove(&self.handle.index);
        // Under the lock: another thread that attaches the same object now sets the bit afterwards. Not
        // through `me`, which may register: who is not registered has no bit.
        if let Some(me) = self.family.member() {
            let _ = Objects::new(self.family.heap, me).clear_holder(self.handle.index, me);
        }
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} {}.{}",
            self.kind, self.handle.index, self.handle.generation
        )
    }
}
