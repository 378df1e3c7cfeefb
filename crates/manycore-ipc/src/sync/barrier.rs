//! A place where a number of parties meet: each waits until all have come.
//!
//! | TURN (29 bits) | PHASE    | meaning                                                                      |
//! |----------------|----------|------------------------------------------------------------------------------|
//! | n              | Filling  | who comes waits, unless it is the last of the parties                         |
//! | n              | Acting   | all have come; `actor`, the last of them, runs the action of turn n            |
//! | n              | Passing  | all have come; those that wait are being let through: inside the lock only   |
//! | n              | Broken   | nobody waits, and who comes is told so                                       |
//! | n              | Resetting | those that wait are being sent away: inside the lock only                   |
//!
//! Who waits has an entry of the roll, and nothing else counts it: the parties that have come are the entries that
//! wait. What becomes of a wait stands in the entry, so the next turn may fill while the last one's parties are
//! still on their way out.

mod phase;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manycore_os::Deadline;

use super::condition::wake;
use super::roll::{Entry, Place, Roll, State};
use crate::block::BlockRef;
use crate::error::Corrupted;
use crate::fault;
use crate::heap::Heap;
use crate::lock::Locked;
use crate::object::Objects;
use crate::registry::OwnerId;
use crate::wait::{GaveUp, Patience};

pub use phase::BarrierBody;
use phase::{ONE, PHASE, Phase};

/// How a party has come.
#[must_use]
pub enum Arrival {
    /// As one of those who have to wait, this many of whom came before it.
    Waits(Place, u32),
    /// As the last: it has to run the action, then [`Barrier::finish`].
    Acts(Action),
    /// As the last, and all have been let through.
    Passes(u32),
    /// Not at all: the barrier is broken.
    Broken,
    /// Not yet: the action of an earlier turn runs.
    Early(Action),
    /// Not yet: a block has to be brought for it first.
    NeedsBlock,
}

/// The running action of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    word: u32,
    /// How many came before its actor.
    pub index: u32,
}

/// How a wait at a barrier ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// All have come; so many came before this one.
    All(u32),
    /// The barrier was broken or reset.
    Broken,
}

/// A barrier, on behalf of one process.
#[derive(Clone, Copy)]
pub struct Barrier {
    pub(crate) roll: Roll,
    body: &'static BarrierBody,
}

/// What became of a wait for a turn at the roll's lock.
type Turn<R> = Result<Result<R, GaveUp>, Corrupted>;
/// Those whose entries were changed.
type Told = Vec<&'static Entry>;

impl Barrier {
    /// An object of the table, as one.
    pub(crate) fn of(objects: &Objects, index: u32) -> Result<Self, Corrupted> {
        let body = objects.body(index)?;
        Ok(Self::new(body, index, objects.heap(), objects.me()))
    }

    pub(crate) fn new(
        body: &'static BarrierBody,
        object: u32,
        heap: &'static Heap,
        me: OwnerId,
    ) -> Self {
        let roll = Roll::new(&body.roll, object, heap, me);
        Self { roll, body }
    }

    fn phase(&self) -> Result<Phase, Corrupted> {
        Phase::of(self.body.phase.load(Acquire)) // pairs with the Release in `enter`
    }

    /// Enters a phase of the present turn. Under the lock only.
    fn enter(&self, phase: Phase) {
        let turn = self.body.phase.load(Relaxed) & !PHASE; // changed under the lock only
        self.body.phase.store(turn | phase as u32, Release); // pairs with the Acquire in `phase`
    }

    /// Does something under the lock, after the repair of what a dead owner left, and wakes whoever was told
    /// something.
    fn locked<R>(
        &self,
        patience: &mut Patience<'_>,
        operation: impl FnOnce(&mut Told) -> Result<R, Corrupted>,
    ) -> Turn<R> {
        let mut told = Told::new();
        let outcome = match self.roll.lock(patience) {
            Err(gave_up) => return Ok(Err(gave_up)),
            Ok(Locked::Clean(_guard)) => operation(&mut told),
            Ok(Locked::OwnerDied(guard)) => self.go_on(&mut told).and_then(|()| {
                guard.repaired();
                operation(&mut told)
            }),
        };
        wake(&told); // what was changed before an error, too
        if self.phase() != Ok(Phase::Acting) {
            self.body.bell.ring_all();
        }
        outcome.map(Ok)
    }

    /// Ends what a dead owner of the lock had begun. May be done twice.
    fn go_on(&self, told: &mut Told) -> Result<(), Corrupted> {
        match self.phase()? {
            Phase::Filling | Phase::Acting => Ok(()),
            Phase::Passing => self.let_through(told),
            Phase::Broken => self.shatter(told),
            Phase::Resetting => self.send_away(told),
        }
    }

    fn let_through(&self, told: &mut Told) -> Result<(), Corrupted> {
        self.enter(Phase::Passing);
        fault::point("barrier.passing");
        self.roll.turn_all(State::Notified, told)?;
        self.enter(Phase::Filling);
        Ok(())
    }

    fn shatter(&self, told: &mut Told) -> Result<(), Corrupted> {
        self.enter(Phase::Broken);
        fault::point("barrier.breaking");
        self.roll.turn_all(State::Broken, told)
    }

    fn send_away(&self, told: &mut Told) -> Result<(), Corrupted> {
        self.enter(Phase::Resetting);
        fault::point("barrier.resetting");
        self.roll.turn_all(State::Broken, told)?;
        self.enter(Phase::Filling);
        Ok(())
    }

    /// Comes. With an action, the last to come runs it before anybody passes.
    ///
    /// # Errors
    /// When the memory is corrupted, or the patience ends before it is the caller's turn at the lock.
    pub(crate) fn arrive(&self, has_action: bool, patience: &mut Patience<'_>) -> Turn<Arrival> {
        self.locked(patience, |told| {
            let word = self.body.phase.load(Relaxed); // changed under the lock only
            match Phase::of(word)? {
                Phase::Filling => self.come(has_action, told),
                Phase::Acting => Ok(Arrival::Early(Action { word, index: 0 })),
                Phase::Broken => Ok(Arrival::Broken),
                Phase::Passing | Phase::Resetting => {
                    Err(Corrupted::new("a barrier's phase is not over"))
                }
            }
        })
    }

    fn come(&self, has_action: bool, told: &mut Told) -> Result<Arrival, Corrupted> {
        let index = self.roll.count(State::Waiting)? as u32;
        if index + 1 < self.parties() {
            let place = self.roll.take()?;
            return Ok(place.map_or(Arrival::NeedsBlock, |place| Arrival::Waits(place, index)));
        }
        if !has_action {
            self.let_through(told)?;
            return Ok(Arrival::Passes(index));
        }
        self.body.actor.store(self.roll.me().bits(), Relaxed); // published by the next store
        let turn = (self.body.phase.load(Relaxed) & !PHASE).wrapping_add(ONE);
        let word = turn | Phase::Acting as u32;
        self.body.phase.store(word, Release); // as in `enter`
        fault::point("barrier.acting");
        Ok(Arrival::Acts(Action { word, index }))
    }

    /// Ends an action, and lets all pass; `false` when the barrier was broken or reset meanwhile.
    ///
    /// # Errors
    /// As for `arrive`.
    pub fn finish(&self, action: Action, patience: &mut Patience<'_>) -> Turn<bool> {
        self.locked(patience, |told| {
            let is_on = self.does_run(action);
            if is_on {
                self.let_through(told)?;
            }
            Ok(is_on)
        })
    }

    fn does_run(&self, action: Action) -> bool {
        self.body.phase.load(Acquire) == action.word // as in `phase`
    }

    /// Waits until an action is over. `look_around` runs after each slice.
    pub(crate) fn wait_for(
        &self,
        action: Action,
        patience: &mut Patience<'_>,
        mut look_around: impl FnMut(),
    ) -> Result<(), GaveUp> {
        let until = patience.until();
        let mut tick = || {
            look_around();
            patience.tick().is_ok()
        };
        let mut patience = Patience::new(until, &mut tick);
        self.body
            .bell
            .wait(&mut patience, || !self.does_run(action))
            .map(drop)
    }

    /// Sleeps until this place's turn is over. When the time has passed first, the barrier breaks for all.
    ///
    /// # Errors
    /// When the memory is corrupted, or the caller was interrupted: then it has left, as if it had not come.
    pub(crate) fn sleep(
        &self,
        place: Place,
        index: u32,
        patience: &mut Patience<'_>,
        look_around: impl FnMut(),
    ) -> Turn<Met> {
        let slept = match place.sleep(patience, look_around) {
            Err(GaveUp::TimedOut) => self.time_out(place, patience)?,
            slept => slept,
        };
        match slept {
            Ok(()) => {}
            Err(_) if place.leave(State::Waiting) => {
                return Ok(Err(GaveUp::Interrupted));
            }
            Err(_) => {
                let outcome = place.outcome()?.unwrap_or(State::Broken);
                place.leave(outcome);
                return Ok(Err(GaveUp::Interrupted));
            }
        }
        let outcome = place.outcome()?.unwrap_or(State::Broken); // it does not wait, by what was seen
        place.leave(outcome);
        Ok(Ok(match outcome {
            State::Notified => Met::All(index),
            _ => Met::Broken,
        }))
    }

    /// Breaks the barrier if this place still waits. Its time has passed, so nothing but an interruption ends this.
    fn time_out(&self, place: Place, patience: &mut Patience<'_>) -> Turn<()> {
        let mut tick = || patience.tick().is_ok();
        let mut breaking = Patience::new(Deadline::NEVER, &mut tick);
        self.locked(&mut breaking, |told| match place.outcome()? {
            None => self.shatter(told),
            Some(_) => Ok(()),
        })
    }

    /// Breaks the barrier: whoever waits, or comes from now on, is told so.
    ///
    /// # Errors
    /// As for `arrive`.
    pub fn abort(&self, patience: &mut Patience<'_>) -> Turn<()> {
        self.locked(patience, |told| self.shatter(told))
    }

    /// Empties the barrier: whoever waits is told that it was broken, and it may be used again.
    ///
    /// # Errors
    /// As for `arrive`.
    pub fn reset(&self, patience: &mut Patience<'_>) -> Turn<()> {
        self.locked(patience, |told| self.send_away(told))
    }

    /// Adds a block of places, unless another process was quicker.
    pub(crate) fn extend(&self, patience: &mut Patience<'_>, block: BlockRef) -> Turn<bool> {
        self.locked(patience, |_| Ok(self.roll.name_block(block)))
    }

    /// How many have to come.
    #[must_use]
    pub fn parties(&self) -> u32 {
        self.body.parties.load(Relaxed) // never changes
    }

    /// How many have come.
    ///
    /// # Errors
    /// When the memory is corrupted.
    pub fn waiting(&self) -> Result<u32, Corrupted> {
        let actor = u32::from(self.phase()? == Phase::Acting);
        Ok(self.roll.count(State::Waiting)? as u32 + actor)
    }

    /// Whether it is broken.
    ///
    /// # Errors
    /// When the memory is corrupted.
    pub fn is_broken(&self) -> Result<bool, Corrupted> {
        Ok(self.phase()? == Phase::Broken)
    }

    /// Ends what a process had begun that died over it: for those who wait, who would not come by the lock.
    pub(crate) fn settle(&self, patience: &mut Patience<'_>) -> Turn<()> {
        match self.phase()? {
            Phase::Filling | Phase::Acting => Ok(Ok(())),
            Phase::Passing | Phase::Broken | Phase::Resetting => self.locked(patience, |_| Ok(())),
        }
    }

    /// The processes without which nobody will pass: those that wait, and who runs the action.
    pub(crate) fn needed(&self) -> Result<Vec<OwnerId>, Corrupted> {
        let mut needed = self.roll.owners(&[State::Waiting])?;
        needed.extend(self.actor()?.filter(|&actor| actor != self.roll.me()));
        Ok(needed)
    }

    fn actor(&self) -> Result<Option<OwnerId>, Corrupted> {
        let is_acting = self.phase()? == Phase::Acting;
        Ok(is_acting.then(|| OwnerId::from_bits(self.body.actor.load(Relaxed)))) // ordered by the phase
    }

    /// Frees the places of a process that has ended, and breaks the barrier if the others wait for it. May be done
    /// twice, and by several at once.
    ///
    /// # Errors
    /// As for `arrive`.
    pub(crate) fn forget(&self, dead: OwnerId, patience: &mut Patience<'_>) -> Turn<()> {
        if self.actor()? != Some(dead) && !self.roll.has_any_of(dead)? {
            return Ok(Ok(()));
        }
        self.locked(patience, |told| {
            // First: what says that it was needed goes last.
            if self.roll.does_wait(dead)? || self.actor()? == Some(dead) {
                self.shatter(told)?;
            }
            self.roll.free_all_of(dead)
        })
    }
}

#[cfg(test)]
impl Barrier {
    /// Whether those who wait have something to wait for.
    pub(super) fn is_filling_or_acting(&self) -> Result<bool, Corrupted> {
        Ok(matches!(self.phase()?, Phase::Filling | Phase::Acting))
    }
}
