//! Those who wait to be notified: a roll, and nothing else. The lock of a condition variable is another object.

use super::roll::{Entry, Place, Roll, RollBody, State};
use crate::block::BlockRef;
use crate::error::Corrupted;
use crate::fault;
use crate::heap::Heap;
use crate::lock::{Guard, Locked};
use crate::registry::OwnerId;
use crate::wait::{GaveUp, Patience};
use crate::word::Word64;

/// See the module.
#[repr(C, align(64))]
pub struct ConditionBody {
    pub(crate) roll: RollBody,
    spare: [Word64; 6],
}

impl ConditionBody {
    pub(crate) fn initialise(&self) {
        self.roll.initialise();
    }
}

/// A condition, on behalf of one process.
#[derive(Clone, Copy)]
pub struct Condition(pub(crate) Roll);

/// What became of a wait for a turn at the roll's lock.
type Turn<R> = Result<Result<R, GaveUp>, Corrupted>;

impl Condition {
    pub(crate) fn new(
        body: &'static ConditionBody,
        object: u32,
        heap: &'static Heap,
        me: OwnerId,
    ) -> Self {
        Self(Roll::new(&body.roll, object, heap, me))
    }

    /// What a dead owner leaves needs no repair: every change is one store, or may be made again.
    fn lock(&self, patience: &mut Patience<'_>) -> Result<Guard<'static>, GaveUp> {
        match self.0.lock(patience)? {
            Locked::Clean(guard) => Ok(guard),
            Locked::OwnerDied(guard) => {
                guard.repaired();
                Ok(guard)
            }
        }
    }

    fn locked<R>(
        &self,
        patience: &mut Patience<'_>,
        operation: impl FnOnce() -> Result<R, Corrupted>,
    ) -> Turn<R> {
        match self.lock(patience) {
            Ok(_guard) => operation().map(Ok),
            Err(gave_up) => Ok(Err(gave_up)),
        }
    }

    /// The same, and wakes those that were told something.
    fn telling(
        &self,
        patience: &mut Patience<'_>,
        operation: impl FnOnce(&mut Vec<&'static Entry>) -> Result<(), Corrupted>,
    ) -> Turn<usize> {
        let mut told = Vec::new();
        let outcome = self.locked(patience, || operation(&mut told));
        wake(&told); // what was changed before an error, too
        Ok(outcome?.map(|()| told.len()))
    }

    /// Takes a place in the queue of those who wait; `None` when a block has to be brought for it first.
    ///
    /// # Errors
    /// When the roll is corrupted.
    pub(crate) fn join(&self, patience: &mut Patience<'_>) -> Turn<Option<Place>> {
        self.locked(patience, || self.0.take())
    }

    /// Adds a block of places, unless another process was quicker.
    pub(crate) fn extend(&self, patience: &mut Patience<'_>, block: BlockRef) -> Turn<bool> {
        self.locked(patience, || Ok(self.0.name_block(block)))
    }

    /// Notifies up to `most` of those who wait, those first that have waited longest. Returns how many.
    ///
    /// # Errors
    /// When the roll is corrupted, or the patience ends before it is the caller's turn.
    pub fn notify(&self, most: usize, patience: &mut Patience<'_>) -> Turn<usize> {
        self.telling(patience, |told| self.0.notify_first(most, told))
    }

    /// How many wait.
    ///
    /// # Errors
    /// When the roll is corrupted.
    pub fn waiting(&self) -> Result<usize, Corrupted> {
        self.0.count(State::Waiting)
    }

    /// Sleeps until this place is notified; [`Condition::take`] takes the notification then. Who gives up because
    /// the time has passed has left.
    ///
    /// # Errors
    /// When the roll is corrupted, or the patience ends first. Who was interrupted has to [`Condition::withdraw`].
    pub(crate) fn sleep(
        &self,
        place: Place,
        patience: &mut Patience<'_>,
        look_around: impl FnMut(),
    ) -> Turn<()> {
        let slept = place.sleep(patience, look_around);
        if slept == Err(GaveUp::TimedOut) && place.leave(State::Waiting) {
            return Ok(Err(GaveUp::TimedOut));
        }
        if slept == Err(GaveUp::Interrupted) {
            return Ok(Err(GaveUp::Interrupted));
        }
        place.outcome().map(|_| Ok(())) // it does not wait, by what was seen
    }

    /// Takes the notification of a place, which is given up by this.
    pub fn take(&self, place: Place) -> bool {
        place.leave(State::Notified)
    }

    /// Gives a place up. If it was notified, that goes to who has waited longest.
    ///
    /// # Errors
    /// When the roll is corrupted, or the patience ends before it is the caller's turn.
    pub fn withdraw(&self, place: Place, patience: &mut Patience<'_>) -> Turn<usize> {
        if place.leave(State::Waiting) {
            return Ok(Ok(0));
        }
        self.telling(patience, |told| self.0.withdraw(place, told))
    }

    /// Frees the places of a process that has ended, and passes on the notifications that it has not taken. May
    /// be done twice, and by several at once.
    ///
    /// # Errors
    /// When the roll is corrupted, or the patience ends before it is the caller's turn.
    pub(crate) fn forget(&self, dead: OwnerId, patience: &mut Patience<'_>) -> Turn<usize> {
        if !self.0.has_any_of(dead)? {
            return Ok(Ok(0));
        }
        self.telling(patience, |told| self.0.forget(dead, told))
    }
}

/// Wakes those whose entries were changed. Without the lock.
pub(super) fn wake(told: &[&'static Entry]) {
    if !told.is_empty() {
        fault::point("roll.told");
    }
    told.iter().for_each(|entry| entry.wake());
}
