//! The workers of one stage, as the hub sees them: hands out, collects, buries.

use std::collections::VecDeque;

use manycore_ipc::ring::{Message, PutError, Ring, Shape};
use manycore_ipc::{Corrupted, Family, HandleError};

use super::answer::Answer;
use super::outlet::{Outlet, Weigh};
use super::parcel::{Kept, Parcel};
use super::plan::{Counts, Failure, Lost, OnError, Piece, Plan};
use crate::pool::crew::SeatHandles;
use crate::pool::{Crew, Ledger};

/// The longest payload that is kept to say what a task was that died.
const TOLD: usize = 256;

struct Task {
    number: u64,
    bytes: u64,
    kept: Option<Kept>,
    told: Option<(u8, Vec<u8>)>,
    deaths: u32,
    /// Outputs that went on.
    seen: u64,
    /// Outputs that will come once more: an earlier run has brought them.
    again: u64,
}

/// One stage.
pub struct Stage<E> {
    index: usize,
    family: &'static Family,
    plan: Plan,
    crew: Crew,
    ledger: Ledger<Task>,
    outlet: Outlet<Piece<E>>,
    /// Of each row: answers that came before there was room for them. One, but when a worker has died.
    early: Vec<VecDeque<Answer>>,
    task_bytes: u64,
    counts: Counts,
    is_fed: bool,
    is_dismissed: bool,
    pub(super) failure: Option<Failure>,
}

impl<E> Stage<E> {
    pub(super) fn new(
        family: &'static Family,
        index: usize,
        plan: Plan,
    ) -> Result<Self, HandleError> {
        let each = (plan.most_items / plan.workers.max(1)).max(1) as u64;
        let answers = Shape {
            max_bytes: plan.most_bytes,
            ..Shape::of_messages(each)
        };
        let rows = plan.workers;
        Ok(Self {
            index,
            family,
            plan,
            crew: Crew::answering(family, rows, rows, answers)?,
            ledger: Ledger::default(),
            outlet: Outlet::new(plan.is_ordered),
            early: std::iter::repeat_with(VecDeque::new).take(rows).collect(),
            task_bytes: 0,
            counts: Counts::default(),
            is_fed: false,
            is_dismissed: false,
            failure: None,
        })
    }

    /// The crew.
    #[must_use]
    pub fn crew(&self) -> &Crew {
        &self.crew
    }

    /// What the worker of a row needs.
    #[must_use]
    pub fn seat(&self, row: usize) -> Option<SeatHandles> {
        self.crew.seat(row)
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let worked = (0..self.crew.rows()).map(|row| self.crew.worked(row));
        Counts {
            worked: self.counts.worked + worked.sum::<u64>(),
            inside: (self.outlet.load(), self.bytes()),
            ..self.counts
        }
    }

    /// How many tasks have no answer yet.
    #[must_use]
    pub fn open_tasks(&self) -> usize {
        self.ledger.len()
    }

    /// Whether it takes one more item.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let load = self.outlet.load();
        !self.is_fed
            && load < self.plan.most_items
            && (load == 0 || self.bytes() < self.plan.most_bytes)
    }

    /// Whether a worker has nothing to do, or will soon.
    pub(super) fn is_hungry(&self) -> bool {
        !self.is_fed && self.ledger.len() < 2 * self.plan.workers
    }

    /// Has a worker that has tasks left ring with so many answers, or fewer; with how many.
    pub(super) fn wake_at(&self, answers: usize) -> u64 {
        let most = (self.plan.most_items / self.plan.workers.max(1) / 2).max(1);
        let answers = answers.clamp(1, most) as u32;
        self.crew.wake_at(answers);
        u64::from(answers)
    }

    fn bytes(&self) -> u64 {
        self.task_bytes + self.outlet.held().1
    }

    /// Takes what the stage before has made.
    ///
    /// # Errors
    /// When it cannot be handed out.
    pub fn accept(&mut self, piece: Piece<E>) -> Result<(), PutError> {
        match piece {
            Piece::Value(parcel) => self.hand_out(parcel),
            error => {
                self.outlet.pass(error);
                Ok(())
            }
        }
    }

    fn hand_out(&mut self, parcel: Parcel) -> Result<(), PutError> {
        let told = parcel.short_payload(TOLD);
        let task = Task {
            bytes: parcel.bytes(),
            kept: match self.plan.retries {
                0 => None,
                _ => Some(parcel.keep().map_err(no_room)?),
            },
            told: told.map(|payload| (parcel.kind, payload.to_vec())),
            number: self.outlet.open(),
            deaths: 0,
            seen: 0,
            again: 0,
        };
        self.task_bytes += task.bytes;
        self.counts.items_in += 1;
        let ring = self.tasks()?;
        self.open(task, parcel, &ring)
    }

    fn open(&mut self, task: Task, parcel: Parcel, ring: &Ring) -> Result<(), PutError> {
        let tag = self.ledger.open(task).ok_or(PutError::Full)?;
        parcel.put(ring, tag)
    }

    fn tasks(&self) -> Result<Ring, PutError> {
        self.crew.tasks().map_err(no_room)
    }

    /// Takes the answers that are there and for which there is room; whether there were any.
    pub(super) fn collect(&mut self, message: &mut Message) -> Result<bool, Corrupted> {
        let mut moved = false;
        for row in 0..self.crew.rows() {
            while let Some(answer) = self.next_answer(row, message)? {
                if !self.has_room_for(&answer) {
                    if let Some(early) = self.early.get_mut(row) {
                        early.push_front(answer);
                    }
                    break;
                }
                self.take(answer);
                moved = true;
            }
        }
        Ok(moved)
    }

    fn next_answer(
        &mut self,
        row: usize,
        message: &mut Message,
    ) -> Result<Option<Answer>, Corrupted> {
        if let Some(early) = self.early.get_mut(row).and_then(VecDeque::pop_front) {
            return Ok(Some(early));
        }
        if !self.crew.try_receive_from(row, message)? {
            return Ok(None);
        }
        let parcel = Parcel::received(self.family, message);
        Ok(Some(Answer::new(message.header.tag, parcel)))
    }

    /// Outputs of the task whose turn it is find room when none is left for those that have to wait for it.
    fn has_room_for(&mut self, answer: &Answer) -> bool {
        let is_below = |(items, bytes): (usize, u64)| {
            items < self.plan.most_items && (items == 0 || bytes < self.plan.most_bytes)
        };
        let is_first = |task: &mut Task| self.outlet.is_first(task.number);
        !answer.has_output()
            || answer.tag == 0
            || is_below(self.outlet.held())
            || (is_below(self.outlet.ready()) && self.ledger.get(answer.tag).is_none_or(is_first))
    }

    /// Whether answers of a row could be taken now, if there were any.
    pub(super) fn listens_to(&self, row: usize) -> bool {
        self.early.get(row).is_none_or(VecDeque::is_empty)
    }

    fn take(&mut self, answer: Answer) {
        if answer.tag == 0 {
            self.fail(None, answer.parcel);
            return;
        }
        let Some(task) = self.ledger.get(answer.tag) else {
            return; // stale
        };
        let number = task.number;
        let (is_last, is_error) = (answer.is_last(), answer.is_error());
        if answer.has_output() && !is_error && task.again > 0 {
            task.again -= 1;
        } else if answer.has_output() && !is_error {
            task.seen += 1;
            self.counts.items_out += 1;
            self.outlet.put(number, Piece::Value(answer.parcel));
        } else if is_error {
            self.take_error(number, answer.parcel);
        }
        if is_last {
            self.close(answer.tag);
            self.outlet.finish(number);
        }
    }

    fn close(&mut self, tag: u64) -> Option<Task> {
        let task = self.ledger.close(tag)?;
        self.task_bytes -= task.bytes;
        Some(task)
    }

    fn take_error(&mut self, number: u64, error: Parcel) {
        self.counts.failures += 1;
        match self.plan.on_error {
            OnError::Raise => self.fail(Some(number), error),
            OnError::Skip => {}
            OnError::Return => self
                .outlet
                .put(number, Piece::Error(self.index, number, error)),
        }
    }

    fn fail(&mut self, number: Option<u64>, error: Parcel) {
        if self.failure.is_none() {
            self.failure = Some(Failure { number, error });
        }
    }

    /// The next output that may go on.
    pub(super) fn pop(&mut self) -> Option<Piece<E>> {
        self.outlet.pop()
    }

    pub(super) fn has_ready(&self) -> bool {
        self.outlet.has_ready()
    }

    /// There will be no more items.
    pub(super) fn end_input(&mut self) {
        self.is_fed = true;
    }

    /// Has the workers leave if there is nothing more for them to do; whether this stage is at its end.
    pub(super) fn is_over(&mut self) -> bool {
        if self.is_fed && self.ledger.is_empty() && !self.is_dismissed {
            self.dismiss();
        }
        self.is_dismissed && self.outlet.load() == 0
    }

    pub(super) fn dismiss(&mut self) {
        self.is_dismissed = true;
        self.crew.dismiss();
    }

    /// Whether its workers were told to leave.
    #[must_use]
    pub fn is_dismissed(&self) -> bool {
        self.is_dismissed
    }

    /// Drops what nobody has begun, and has the workers leave, also those that wait for room.
    pub(super) fn abandon(&mut self) -> Result<(), HandleError> {
        self.is_fed = true;
        self.dismiss();
        self.crew.drop_tasks()?;
        for row in 0..self.crew.rows() {
            if let Some(ring) = self.crew.answers_of(row) {
                ring.close();
            }
        }
        Ok(())
    }

    /// After the worker of a row has ended: takes its last answers. A task that died with it is run again,
    /// unless it `is_given_up`, or else returned.
    ///
    /// # Errors
    /// When a ring's bytes make no sense, or there is no room to hand the task out again.
    pub fn bury(&mut self, row: usize, is_given_up: bool) -> Result<Option<Lost>, PutError> {
        let tag = self.crew.last_taken(row).map_err(no_room)?;
        let mut message = Message::default();
        while let Some(answer) = self.next_answer(row, &mut message)? {
            self.take(answer);
        }
        self.counts.worked += self.crew.worked(row);
        self.crew.clear_row(row);
        let Some(task) = tag.and_then(|tag| self.close(tag)) else {
            return Ok(None);
        };
        self.counts.deaths += 1;
        if self.is_dismissed {
            return Ok(None); // nobody waits for it
        }
        self.run_again_or_lose(task, is_given_up)
    }

    fn run_again_or_lose(
        &mut self,
        mut task: Task,
        is_given_up: bool,
    ) -> Result<Option<Lost>, PutError> {
        task.deaths += 1;
        let is_next = !is_given_up && task.deaths <= self.plan.retries;
        let kept = task.kept.take_if(|_| is_next);
        let Some(kept) = kept else {
            return Ok(Some(Lost {
                number: task.number,
                deaths: task.deaths,
                item: task.told,
            }));
        };
        let parcel = kept.again().map_err(no_room)?;
        task.kept = Some(kept);
        task.again = task.seen;
        self.task_bytes += task.bytes;
        self.put_first(task, parcel)?;
        Ok(None)
    }

    /// Hands out a task before all that wait: these may have to wait for its outputs, and all workers with
    /// them.
    fn put_first(&mut self, task: Task, parcel: Parcel) -> Result<(), PutError> {
        let ring = self.tasks()?;
        let mut waiting = Vec::new();
        let mut message = Message::default();
        while self.crew.take_back(&mut message).map_err(no_room)? {
            let tag = message.header.tag;
            waiting.push((tag, Parcel::received(self.family, &mut message)));
        }
        self.open(task, parcel, &ring)?;
        for (tag, parcel) in waiting {
            parcel.put(&ring, tag)?;
        }
        Ok(())
    }

    /// Takes an item that cannot be handed out for one that has failed: with what the owner says of it, or with nothing.
    pub fn refuse(&mut self, error: Option<E>) {
        let number = self.outlet.open();
        self.counts.items_in += 1;
        self.note_failed(number, error);
    }

    /// Answers a task that was lost with what the owner says of it, or with nothing.
    pub fn lose(&mut self, lost: &Lost, error: Option<E>) {
        self.note_failed(lost.number, error);
    }

    fn note_failed(&mut self, number: u64, error: Option<E>) {
        self.counts.failures += 1;
        if let Some(error) = error {
            self.outlet.put(number, Piece::Made(error));
        }
        self.outlet.finish(number);
    }
}

fn no_room(error: HandleError) -> PutError {
    match error {
        HandleError::Alloc(error) => error.into(),
        HandleError::Corrupted(error) => error.into(),
        _ => Corrupted::new("a pipeline's own objects are gone").into(),
    }
}
