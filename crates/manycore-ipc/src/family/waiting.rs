//! Events, conditions and barriers, and those who wait at them and were killed.

use manycore_os::Deadline;

use super::{Family, Hold};
use crate::block::{BlockRef, Blocks};
use crate::error::{AllocError, Corrupted, HandleError};
use crate::fault;
use crate::object::{Kind, Objects};
use crate::registry::OwnerId;
use crate::registry::slot::Tenancy;
use crate::sync::roll::{self, Roll, State};
use crate::sync::{
    Action, Arrival, Barrier, BarrierBody, Condition, ConditionBody, EventBody, Met, Place,
};
use crate::wait::{GaveUp, Patience};

/// Runs what takes a lock of an object's, for a caller whose wait nobody ends.
fn at_once<R>(operation: impl FnOnce(&mut Patience<'_>) -> R) -> R {
    let mut go_on = || true;
    operation(&mut Patience::new(Deadline::PASSED, &mut go_on))
}

/// How a party of a barrier goes on.
pub enum Meeting {
    /// It is over.
    Over(Met),
    /// This party runs the action, then calls [`Barrier::finish`] or [`Barrier::abort`].
    Acts(Action),
}

impl Family {
    /// Makes an event that is not set.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_event(&'static self) -> Result<Hold, HandleError> {
        self.make(Kind::Event, |objects, handle| {
            objects.body::<EventBody>(handle.index)?.initialise();
            Ok(())
        })
    }

    /// Makes a condition that nobody waits for.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_condition(&'static self) -> Result<Hold, HandleError> {
        self.make(Kind::Condition, |objects, handle| {
            objects.body::<ConditionBody>(handle.index)?.initialise();
            Ok(())
        })
    }

    /// Makes a barrier for this many parties.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_barrier(&'static self, parties: u32) -> Result<Hold, HandleError> {
        self.make(Kind::Barrier, |objects, handle| {
            objects
                .body::<BarrierBody>(handle.index)?
                .initialise(parties);
            Ok(())
        })
    }

    /// A block of entries for a roll, bound to its object.
    fn block_for(&self, roll: &Roll, object: u32) -> Result<BlockRef, HandleError> {
        let len = roll
            .wanted_block()
            .ok_or(AllocError::TooManyWait { most: roll::MOST })?;
        let block = BlockRef {
            len,
            ..self.take_zeroed(len)?.block
        };
        roll.expect_block();
        self.bind(object, block)?;
        fault::point("roll.bound");
        Ok(block)
    }

    /// Looks which of these processes have ended, cleans up after them, and has the object forget them: also where
    /// another process is still cleaning up, which may have been stopped.
    fn look_after_each(&self, owners: Vec<OwnerId>, mut forget: impl FnMut(OwnerId)) {
        let registry = self.registry();
        for owner in owners {
            let (number, generation) = (owner.slot(), owner.generation());
            let is_other = |tenancy: Tenancy| tenancy.generation != generation;
            let has_left = registry.tenancy(number).is_ok_and(is_other);
            if has_left || registry.may_have_ended(number) {
                self.reap(number);
                if registry.has_ended(owner) {
                    forget(owner);
                }
            }
        }
    }

    /// What a dead process leaves at conditions and barriers: the others must not wait for it, nor for what it was
    /// given. What cannot be understood, or is locked by a process that was stopped, is left to those who wait there.
    pub(super) fn forget_waiter(&self, index: u32, kind: Kind, dead: OwnerId, me: OwnerId) {
        let objects = Objects::new(self.heap, me);
        match kind {
            Kind::Condition => {
                if let Ok(condition) = Condition::of(&objects, index) {
                    let _ = at_once(|patience| condition.forget(dead, patience));
                }
            }
            Kind::Barrier => {
                if let Ok(barrier) = Barrier::of(&objects, index) {
                    let _ = at_once(|patience| barrier.forget(dead, patience));
                }
            }
            _ => {}
        }
    }

    /// Frees the blocks of a roll's object, which nobody holds any more.
    pub(super) fn free_roll(
        objects: &Objects,
        blocks: &Blocks,
        index: u32,
        kind: Kind,
    ) -> Result<(), Corrupted> {
        let is_extended = match kind {
            Kind::Condition => objects.body::<ConditionBody>(index)?.roll.is_extended(),
            _ => objects.body::<BarrierBody>(index)?.roll.is_extended(),
        };
        if is_extended {
            blocks.free_bound_to(index)?;
        }
        Ok(())
    }
}

impl Hold {
    /// The object as an event.
    ///
    /// # Errors
    /// When it is none.
    pub fn event(&self) -> Result<&'static EventBody, HandleError> {
        self.body(Kind::Event)
    }

    /// The object as a condition.
    ///
    /// # Errors
    /// When it is none.
    pub fn condition(&self) -> Result<Condition, HandleError> {
        let body = self.body(Kind::Condition)?;
        let (family, index) = (self.family, self.handle.index);
        Ok(Condition::new(body, index, family.heap, family.me()?))
    }

    /// The object as a barrier.
    ///
    /// # Errors
    /// When it is none.
    pub fn barrier(&self) -> Result<Barrier, HandleError> {
        let body = self.body(Kind::Barrier)?;
        let (family, index) = (self.family, self.handle.index);
        Ok(Barrier::new(body, index, family.heap, family.me()?))
    }

    /// Begins to wait for a notification of the object, as a condition. Goes with [`Hold::wait_notified`].
    ///
    /// # Errors
    /// When it is none, there is no room, or the patience ends.
    pub fn join_condition(
        &self,
        patience: &mut Patience<'_>,
    ) -> Result<Result<Place, GaveUp>, HandleError> {
        let condition = self.condition()?;
        loop {
            match condition.join(patience)? {
                Err(gave_up) => return Ok(Err(gave_up)),
                Ok(Some(place)) => return Ok(Ok(place)),
                Ok(None) => {}
            }
            let extend = |block| condition.extend(patience, block);
            if let Err(gave_up) = self.bring_block(&condition.0, extend)? {
                return Ok(Err(gave_up));
            }
        }
    }

    /// Waits until a place is notified. The notification stays there until [`Condition::take`]: if this process is
    /// killed before, somebody else gets it, within a slice.
    ///
    /// # Errors
    /// When the object is no condition, or the patience ends. Who was interrupted has to [`Condition::withdraw`].
    pub fn wait_notified(
        &self,
        place: Place,
        patience: &mut Patience<'_>,
    ) -> Result<Result<(), GaveUp>, HandleError> {
        let condition = self.condition()?;
        Ok(condition.sleep(place, patience, || self.look_after_notified(&condition))?)
    }

    /// Notifies up to `most` of those who wait for the object, as a condition. Returns how many.
    ///
    /// # Errors
    /// When it is none, or the patience ends.
    pub fn notify(
        &self,
        most: usize,
        patience: &mut Patience<'_>,
    ) -> Result<Result<usize, GaveUp>, HandleError> {
        let condition = self.condition()?;
        self.look_after_waiters(&condition, &[State::Waiting]); // not to notify the dead
        Ok(condition.notify(most, patience)?)
    }

    fn look_after_notified(&self, condition: &Condition) {
        self.look_after_waiters(condition, &[State::Notified]);
    }

    fn look_after_waiters(&self, condition: &Condition, states: &[State]) {
        let owners = condition.0.owners(states).unwrap_or_default(); // what is corrupted, others meet too
        self.family.look_after_each(owners, |dead| {
            let _ = at_once(|patience| condition.forget(dead, patience));
        });
    }

    /// Comes to the object, as a barrier, and waits until all parties have, or one of them is found dead.
    ///
    /// # Errors
    /// When it is none, there is no room, or the caller was interrupted.
    pub fn meet(
        &self,
        has_action: bool,
        patience: &mut Patience<'_>,
    ) -> Result<Result<Meeting, GaveUp>, HandleError> {
        let barrier = self.barrier()?;
        let look_around = || self.look_after_parties(&barrier);
        loop {
            look_around(); // not to meet the dead
            // Without a time limit: as with the standard library, it is for the wait for the others.
            let mut tick = || patience.tick().is_ok();
            let mut arriving = Patience::new(Deadline::NEVER, &mut tick);
            let arrival = match barrier.arrive(has_action, &mut arriving)? {
                Ok(arrival) => arrival,
                Err(gave_up) => return Ok(Err(gave_up)),
            };
            match arrival {
                Arrival::Passes(index) => return Ok(Ok(Meeting::Over(Met::All(index)))),
                Arrival::Broken => return Ok(Ok(Meeting::Over(Met::Broken))),
                Arrival::Acts(action) => return Ok(Ok(Meeting::Acts(action))),
                Arrival::Waits(place, index) => {
                    let slept = barrier.sleep(place, index, patience, look_around)?;
                    return Ok(slept.map(Meeting::Over));
                }
                Arrival::Early(action) => {
                    if let Err(gave_up) = barrier.wait_for(action, &mut arriving, look_around) {
                        return Ok(Err(gave_up));
                    }
                }
                Arrival::NeedsBlock => {
                    let extend = |block| barrier.extend(&mut arriving, block);
                    if let Err(gave_up) = self.bring_block(&barrier.roll, extend)? {
                        return Ok(Err(gave_up));
                    }
                }
            }
        }
    }

    /// Brings a block of entries to a roll of the object, which `extend` adds unless another process was quicker.
    fn bring_block(
        &self,
        roll: &Roll,
        extend: impl FnOnce(BlockRef) -> Result<Result<bool, GaveUp>, Corrupted>,
    ) -> Result<Result<(), GaveUp>, HandleError> {
        let (family, index) = (self.family, self.handle.index);
        let block = family.block_for(roll, index)?;
        let extended = extend(block)?;
        if extended != Ok(true) {
            family.blocks()?.free_if_bound(block, index, u64::MAX);
        }
        Ok(extended.map(drop))
    }

    /// Cleans up behind parties that were killed, and ends what one of them had begun.
    pub(crate) fn look_after_parties(&self, barrier: &Barrier) {
        let _ = at_once(|patience| barrier.settle(patience));
        let needed = barrier.needed().unwrap_or_default(); // what is corrupted, `arrive` meets too
        self.family.look_after_each(needed, |dead| {
            let _ = at_once(|patience| barrier.forget(dead, patience));
        });
    }
}
