//! A worker's side of a pool.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manycore_ipc::block::BlockRef;
use manycore_ipc::object::group::{Row, Spent};
use manycore_ipc::ring::{Get, GetError, Message, Ring};
use manycore_ipc::wait::Patience;
use manycore_ipc::{Corrupted, Family, Handle, HandleError, Hold, Kind};

use manycore_os::clock::{coarse_now_ns, now_ns};

use super::crew::SeatHandles;

/// The tag of a message that is no task: whoever takes it is to leave.
pub const LEAVE: u64 = 0;

/// A worker's place in a crew.
pub struct Seat {
    group: Hold,
    /// Who is told of answers instead of the group's owner.
    hub: Option<Hold>,
    _tasks_hold: Hold,
    _answers_hold: Hold,
    tasks: Ring,
    answers: Ring,
    row: &'static Row,
}

impl Seat {
    /// Takes the seat that these handles describe.
    ///
    /// # Errors
    /// When the crew is gone.
    pub fn new(family: &'static Family, handles: SeatHandles) -> Result<Self, HandleError> {
        let group = family.hold(handles.group, Kind::Group)?;
        let tasks_hold = family.hold(handles.tasks, Kind::Ring)?;
        let answers_hold = family.hold(handles.answers, Kind::Ring)?;
        let row = group
            .rows()?
            .get(handles.row)
            .copied()
            .ok_or(HandleError::Gone)?;
        let (tasks, answers) = (tasks_hold.ring()?, answers_hold.ring()?);
        row.take_seat(family.me()?);
        Ok(Self {
            group,
            hub: None,
            _tasks_hold: tasks_hold,
            _answers_hold: answers_hold,
            tasks,
            answers,
            row,
        })
    }

    /// Has news told to the owner of another group, who waits for those of several.
    ///
    /// # Errors
    /// When that group is gone.
    pub fn reporting_to(mut self, hub: Handle) -> Result<Self, HandleError> {
        self.hub = Some(self.family().hold(hub, Kind::Group)?);
        Ok(self)
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.group.family()
    }

    /// Says that this worker is about to answer and to take its next task: what other workers write to for
    /// that, too, is on its way then.
    #[inline]
    pub fn foresee(&self) {
        self.answers.foresee_put();
        self.tasks.foresee_get();
    }

    /// Takes a task if there is one.
    ///
    /// # Errors
    /// When the ring's bytes make no sense.
    #[inline]
    pub fn try_take(&self, into: &mut Message) -> Result<bool, Corrupted> {
        Ok(self.tasks.try_get(into, Some(self.row))? == Get::Done)
    }

    /// Takes a task, waiting for one. Tells the owner first that this worker has nothing to do.
    ///
    /// # Errors
    /// [`GetError::Closed`] when the crew was dismissed.
    pub fn take(&self, into: &mut Message, patience: &mut Patience<'_>) -> Result<(), GetError> {
        self.row.end(); // not after each task: the owner may be looking at the same line of memory
        self.ring();
        self.tasks.get(into, Some(self.row), patience)
    }

    /// Reads what the owner keeps for the workers.
    ///
    /// # Errors
    /// When it is not there any more.
    pub fn read(&self, block: BlockRef) -> Result<Vec<u8>, HandleError> {
        let bytes = self.family().stored(&self.group, block)?;
        let mut copy = Vec::new();
        bytes.append_to(0, bytes.len(), &mut copy)?;
        Ok(copy)
    }

    /// The ring for the answers.
    #[inline]
    #[must_use]
    pub fn answers(&self) -> &Ring {
        &self.answers
    }

    /// Whether this worker may begin with a task that it took: not, when the owner wants it to be given up by now.
    #[inline]
    #[must_use]
    pub fn may_begin(&self, tag: u64) -> bool {
        self.row.may_begin(tag)
    }

    /// Notes that this worker begins to run the task that it took.
    #[inline]
    pub fn begin(&self) {
        self.row.begin(coarse_now_ns());
    }

    /// Notes that this worker is done with it, for an owner that kills workers by [`Crew::doom`]; false if it is
    /// to be killed for that, and so must take nothing else.
    ///
    /// [`Crew::doom`]: super::Crew::doom
    #[inline]
    #[must_use]
    pub fn finish(&self) -> bool {
        self.row.finish()
    }

    /// Notes that this worker asks for its first task.
    pub fn be_ready(&self) {
        self.row.be_ready(now_ns());
    }

    /// Adds to what this worker has spent its time on.
    pub fn spend(&self, more: Spent) {
        self.row.spend(more);
    }

    /// Whether the owner wants this task to be given up.
    #[must_use]
    pub fn is_interrupted(&self, tag: u64) -> bool {
        self.row.is_interrupted(tag)
    }

    /// Whether the owner wants this worker to leave after its task.
    #[inline]
    #[must_use]
    pub fn is_to_retire(&self) -> bool {
        self.row.is_to_retire()
    }

    /// Notes which item of its task this worker is at.
    #[inline]
    pub fn at_item(&self, item: usize) {
        self.row.item.store(item as u64, Relaxed); // read only after this process has ended
    }

    /// Tells the owner of answers, if it waits for as many as there are. How many there are is only asked
    /// while it waits for more than one: to read how far it has come takes that from it while it works.
    #[inline]
    pub fn answered(&self) {
        let Ok(group) = self.group.group() else {
            return;
        };
        let each = group.wake_each.load(Relaxed);
        if each <= 1 || u64::from(each) <= self.answers.len() {
            self.ring();
        }
    }

    /// Tells the owner of an answer at once, also if it waits for more: something follows from it.
    #[cold]
    pub fn answered_early(&self) {
        if let Ok(group) = self.hub.as_ref().unwrap_or(&self.group).group() {
            group.hasten();
        }
        self.ring();
    }

    /// Tells the owner that there are news.
    pub fn ring(&self) {
        if let Ok(group) = self.hub.as_ref().unwrap_or(&self.group).group() {
            group.bell.ring();
        }
    }

    /// Whether the crew was dismissed.
    #[must_use]
    pub fn is_dismissed(&self) -> bool {
        self.group
            .group()
            .is_ok_and(|group| group.dismissed.load(Acquire) != 0)
    }

    /// Says that this worker will take no more tasks.
    pub fn leave(&self) {
        self.row.end();
        self.row.leaving.store(1, Release); // seen by the owner's wait
        self.ring();
    }
}
