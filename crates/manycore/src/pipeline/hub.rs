//! All stages of a pipeline, in the process that made it.

use manycore_ipc::object::group::GroupBody;
use manycore_ipc::ring::{Message, PutError, Ring};
use manycore_ipc::wait::{GaveUp, Patience};
use manycore_ipc::{Family, Handle, HandleError, Hold};

use super::parcel::Parcel;
use super::plan::{Failure, Piece, Plan};
use super::stage::Stage;

/// Moves what each stage makes to the next one. Whoever waits for results does it.
pub struct Hub<E> {
    family: &'static Family,
    group: Hold,
    stages: Vec<Stage<E>>,
    message: Message,
}

impl<E> Hub<E> {
    /// A pipeline of stages, without workers yet.
    ///
    /// # Errors
    /// When there is no room in the heap.
    pub fn new(family: &'static Family, plans: &[Plan]) -> Result<Self, HandleError> {
        let stages = plans
            .iter()
            .enumerate()
            .map(|(index, &plan)| Stage::new(family, index, plan));
        Ok(Self {
            family,
            group: family.make_group(1)?,
            stages: stages.collect::<Result<_, _>>()?,
            message: Message::default(),
        })
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// Where workers ring that have news.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.group.handle()
    }

    /// The stages.
    #[must_use]
    pub fn stages(&self) -> &[Stage<E>] {
        &self.stages
    }

    /// A stage.
    pub fn stage(&mut self, index: usize) -> Option<&mut Stage<E>> {
        self.stages.get_mut(index)
    }

    /// Whether the first stage takes one more item.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.stages.first().is_some_and(Stage::has_room)
    }

    /// Gives an item to the first stage.
    ///
    /// # Errors
    /// When there is no room in the heap.
    pub fn feed(&mut self, item: Parcel) -> Result<(), PutError> {
        match self.stages.first_mut() {
            Some(first) => first.accept(Piece::Value(item)),
            None => Ok(()),
        }
    }

    /// There will be no more items.
    pub fn end_input(&mut self) {
        if let Some(first) = self.stages.first_mut() {
            first.end_input();
        }
    }

    /// Moves all that can move; whether anything did.
    ///
    /// # Errors
    /// When a ring's bytes make no sense or there is no room in the heap.
    pub fn pump(&mut self) -> Result<bool, PutError> {
        let mut has_moved = false;
        loop {
            let mut moves = false;
            // The last one first: it makes room for the others.
            for index in (0..self.stages.len()).rev() {
                moves |= self.collect(index)?;
                moves |= self.pass_on(index)?;
            }
            if !moves {
                self.end_stages();
                return Ok(has_moved);
            }
            has_moved = true;
        }
    }

    fn collect(&mut self, index: usize) -> Result<bool, PutError> {
        let Some(stage) = self.stages.get_mut(index) else {
            return Ok(false);
        };
        Ok(stage.collect(&mut self.message)?)
    }

    fn pass_on(&mut self, index: usize) -> Result<bool, PutError> {
        let Some([from, to]) = self.stages.get_mut(index..index + 2) else {
            return Ok(false);
        };
        let mut moves = false;
        while to.has_room() {
            let Some(piece) = from.pop() else {
                break;
            };
            to.accept(piece)?;
            moves = true;
        }
        Ok(moves)
    }

    /// Behind a stage that is at its end the next one gets no more.
    fn end_stages(&mut self) {
        let mut is_over = false;
        for stage in &mut self.stages {
            if is_over {
                stage.end_input();
            }
            is_over = stage.is_over();
        }
    }

    /// The next result of the last stage.
    pub fn pop(&mut self) -> Option<Piece<E>> {
        self.stages.last_mut()?.pop()
    }

    /// Whether there is a result.
    #[must_use]
    pub fn has_results(&self) -> bool {
        self.stages.last().is_some_and(Stage::has_ready)
    }

    /// Whether all has been done, and all results were fetched.
    pub fn is_over(&mut self) -> bool {
        self.stages.last_mut().is_none_or(Stage::is_over)
    }

    /// Why it has to end early, if it has to: the stage and what its worker said.
    pub fn take_failure(&mut self) -> Option<(usize, Failure)> {
        let mut stages = self.stages.iter_mut().enumerate();
        stages.find_map(|(index, stage)| Some((index, stage.failure.take()?)))
    }

    /// Drops what nobody has begun, and has all workers leave when they are done with what they have.
    ///
    /// # Errors
    /// When a ring's bytes make no sense.
    pub fn abandon(&mut self) -> Result<(), HandleError> {
        for stage in &mut self.stages {
            stage.abandon()?;
        }
        Ok(())
    }

    /// What to wait for, with how many answers a worker is to ring that has tasks left. A stage that has
    /// little to do is told of each answer of the one before it.
    #[must_use]
    pub fn watch(&self, answers: usize) -> Option<Watch> {
        let mut stages = Vec::with_capacity(self.stages.len());
        for (index, stage) in self.stages.iter().enumerate() {
            let next = self.stages.get(index + 1);
            let is_awaited = next.is_some_and(Stage::is_hungry);
            let at_least = stage.wake_at(if is_awaited { 1 } else { answers });
            let rows = (0..stage.crew().rows()).filter(|&row| stage.listens_to(row));
            stages.push(Watched {
                at_least,
                answers: rows
                    .filter_map(|row| stage.crew().answers_of(row))
                    .collect(),
                tasks: stage.crew().tasks().ok(),
            });
        }
        let group = self.group.group().ok()?;
        Some(Watch { group, stages })
    }
}

/// What the owner of a pipeline waits for.
pub struct Watch {
    group: &'static GroupBody,
    stages: Vec<Watched>,
}

/// A stage that has, or will have, answers.
struct Watched {
    /// How many of them in one ring are worth a look.
    at_least: u64,
    answers: Vec<Ring>,
    tasks: Option<Ring>,
}

impl Watched {
    fn is_idle(&self) -> bool {
        self.tasks.is_some_and(|ring| ring.is_empty())
    }
}

impl Watch {
    /// Waits until there are enough news, or a few for a stage that has nothing to do, or `done` says so.
    ///
    /// # Errors
    /// When the patience ends first.
    pub fn wait(
        &self,
        patience: &mut Patience<'_>,
        mut done: impl FnMut() -> bool,
    ) -> Result<(), GaveUp> {
        let ready = || done() || self.has_news();
        self.group.bell.sleep(patience, ready).map(drop)
    }

    fn has_news(&self) -> bool {
        self.stages.iter().enumerate().any(|(index, stage)| {
            let most = stage.answers.iter().map(Ring::len).max().unwrap_or(0);
            let next_is_idle = || self.stages.get(index + 1).is_some_and(Watched::is_idle);
            most >= stage.at_least || (most > 0 && (stage.is_idle() || next_is_idle()))
        })
    }

    /// Ends the waiting.
    pub fn ring(&self) {
        self.group.bell.ring_all();
    }
}
