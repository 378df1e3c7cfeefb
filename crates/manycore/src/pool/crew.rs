//! The owner's side of a pool.

use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manycore_ipc::block::BlockRef;
use manycore_ipc::object::group::{Row, Spent};
use manycore_ipc::ring::{Get, Message, Outgoing, Ring, Shape};
use manycore_ipc::wait::{GaveUp, Patience};
use manycore_ipc::{Corrupted, Family, Handle, HandleError, Hold};
use manycore_os::Deadline;
use manycore_os::affinity::online_cpus;

use super::seat::LEAVE;

/// What the owner and the workers of a pool share.
pub struct Crew {
    family: &'static Family,
    group: Hold,
    tasks: Hold,
    /// A ring for each row that is in use; they are filled from the front, and none is taken away.
    answers: Box<[OnceLock<Hold>]>,
    rows: Vec<&'static Row>,
    in_use: AtomicUsize,
    shape_of_answers: Shape,
}

/// The handles that a worker needs to take its seat.
#[derive(Clone, Copy, Debug)]
pub struct SeatHandles {
    /// The group.
    pub group: Handle,
    /// The task ring.
    pub tasks: Handle,
    /// The ring for this worker's answers.
    pub answers: Handle,
    /// The number of its row.
    pub row: usize,
}

impl Crew {
    /// A crew with this many rows, and room for `most`. Each row seats one worker at a time.
    ///
    /// # Errors
    /// When there is no room in the heap.
    pub fn new(family: &'static Family, rows: usize, most: usize) -> Result<Self, HandleError> {
        Self::answering(family, rows, most, Shape::unbounded())
    }

    /// A crew whose answer rings are of this shape.
    ///
    /// # Errors
    /// When there is no room in the heap.
    pub fn answering(
        family: &'static Family,
        rows: usize,
        most: usize,
        shape_of_answers: Shape,
    ) -> Result<Self, HandleError> {
        let most = most.max(rows);
        let group = family.make_group(u32::try_from(most).unwrap_or(u32::MAX))?;
        let shape = Shape {
            group: Some(group.handle().index),
            ..Shape::unbounded()
        };
        let tasks = family.make_ring(shape)?;
        let crew = Self {
            family,
            tasks,
            answers: (0..most).map(|_| OnceLock::new()).collect(),
            rows: group.rows()?,
            group,
            in_use: AtomicUsize::new(0),
            shape_of_answers,
        };
        crew.add_rows(rows)?;
        Ok(crew)
    }

    /// Has at least this many rows in use from now on, or as many as there is room for; returns how many
    /// there are.
    ///
    /// # Errors
    /// When there is no room in the heap.
    pub fn add_rows(&self, wanted: usize) -> Result<usize, HandleError> {
        for place in self.answers.iter().take(wanted).skip(self.rows()) {
            // Two threads may both make the ring; the second one's goes.
            if place
                .set(self.family.make_ring(self.shape_of_answers)?)
                .is_ok()
            {
                self.in_use.fetch_add(1, Release); // pairs with the Acquire in `rows`
            }
        }
        Ok(self.rows())
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// How many rows are in use.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.in_use.load(Acquire) // pairs with the Release in `add_rows`
    }

    /// How many rows there is room for.
    #[must_use]
    pub fn most_rows(&self) -> usize {
        self.answers.len()
    }

    /// What the worker of a row needs.
    #[must_use]
    pub fn seat(&self, row: usize) -> Option<SeatHandles> {
        let answers = self.answers.get(row)?.get()?.handle();
        Some(SeatHandles {
            group: self.group.handle(),
            tasks: self.tasks.handle(),
            answers,
            row,
        })
    }

    /// The task ring.
    ///
    /// # Errors
    /// When this process cannot register.
    #[inline]
    pub fn tasks(&self) -> Result<Ring, HandleError> {
        self.tasks.ring()
    }

    /// The ring for the answers of a row's worker.
    #[must_use]
    pub fn answers_of(&self, row: usize) -> Option<Ring> {
        self.answers.get(row)?.get()?.ring().ok()
    }

    fn row(&self, row: usize) -> Option<&'static Row> {
        self.rows.get(row).copied()
    }

    /// Keeps bytes for the workers, until [`Crew::discard`] or the end of the crew.
    ///
    /// # Errors
    /// When there is no room in the heap.
    pub fn store(&self, bytes: &[u8]) -> Result<BlockRef, HandleError> {
        self.family.store(&self.group, bytes)
    }

    /// Frees what [`Crew::store`] kept.
    pub fn discard(&self, block: BlockRef) {
        self.family.discard(block);
    }

    /// Receives one answer, from any row from `cursor` on, if there is one. The cursor stays on a row
    /// that has more.
    ///
    /// # Errors
    /// When a ring's bytes make no sense.
    #[inline]
    pub fn try_receive(&self, cursor: &mut usize, into: &mut Message) -> Result<bool, Corrupted> {
        let rows = self.rows();
        for _ in 0..rows {
            if *cursor >= rows {
                *cursor = 0;
            }
            if let Some(ring) = self.answers_of(*cursor) {
                match ring.try_get(into, None)? {
                    Get::Done => return Ok(true),
                    Get::Busy => await_turn(&ring), // a worker never takes this lock: another thread of ours
                    Get::Empty => {}
                }
            }
            *cursor += 1;
        }
        Ok(false)
    }

    /// Receives one answer from one row, if there is one.
    ///
    /// # Errors
    /// When the ring's bytes make no sense.
    #[inline]
    pub fn try_receive_from(&self, row: usize, into: &mut Message) -> Result<bool, Corrupted> {
        let Some(ring) = self.answers_of(row) else {
            return Ok(false);
        };
        loop {
            match ring.try_get(into, None)? {
                Get::Done => return Ok(true),
                Get::Busy => await_turn(&ring), // as in `try_receive`
                Get::Empty => return Ok(false),
            }
        }
    }

    /// With how many answers a worker rings that has tasks left.
    pub fn wake_at(&self, answers: u32) {
        if let Ok(group) = self.group.group() {
            group.wake_each.store(answers.max(1), Relaxed); // a hint, as in `wait`
        }
    }

    /// Nanoseconds that the worker in a row has worked.
    #[must_use]
    pub fn worked(&self, row: usize) -> u64 {
        self.row(row).map_or(0, |row| row.spent().worked)
    }

    /// How many answers are waiting.
    #[must_use]
    pub fn pending(&self) -> u64 {
        (0..self.rows())
            .filter_map(|row| self.answers_of(row))
            .map(|ring| ring.len())
            .sum()
    }

    /// How many tasks nobody has taken.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.tasks.ring().map_or(0, |ring| ring.len())
    }

    /// Waits until `want` answers are there, or one worker's part of them, or one that is early, or `done` says so, or
    /// a worker is leaving. `open` is the number of tasks without an answer: with fewer than there are CPUs it pays to look
    /// before sleeping.
    ///
    /// # Errors
    /// When the patience ends first.
    pub fn wait(
        &self,
        want: u64,
        open: u64,
        patience: &mut Patience<'_>,
        mut done: impl FnMut() -> bool,
    ) -> Result<(), GaveUp> {
        let Ok(group) = self.group.group() else {
            return Ok(());
        };
        let answers: Vec<Ring> = (0..self.rows())
            .filter_map(|row| self.answers_of(row))
            .collect();
        let each = (want / answers.len().max(1) as u64).clamp(1, u64::from(u32::MAX));
        group.wake_each.store(each as u32, Relaxed); // a hint: workers without tasks ring anyway
        let are_enough = || {
            let mut sum = 0;
            answers.iter().map(Ring::len).any(|len| {
                sum += len;
                len >= each || sum >= want // a worker with so many rings for each of them
            })
        };
        let ready = || {
            done()
                || are_enough()
                || group.is_hastened()
                || self.rows.iter().any(|row| row.leaving.load(Relaxed) == 1)
        };
        let outcome = if open < u64::from(online_cpus()) {
            group.bell.wait(patience, ready)
        } else {
            group.bell.sleep(patience, ready)
        };
        group.wake_each.store(1, Relaxed);
        group.forget_haste();
        outcome.map(|_| ())
    }

    /// Wakes every thread of the owner that waits: something that it waits for may be done.
    pub fn ring(&self) {
        if let Ok(group) = self.group.group() {
            group.bell.ring_all();
        }
    }

    /// Tells workers that are idle, or become so, to leave.
    pub fn dismiss(&self) {
        if let (Ok(group), Ok(tasks)) = (self.group.group(), self.tasks.ring()) {
            group.dismissed.store(1, Release); // pairs with the Acquire in `Seat::is_dismissed`
            tasks.close();
        }
    }

    /// Tells one worker, whichever takes it after the tasks that are there already, to leave. Whether it
    /// was told: not, where there is no room in the heap.
    #[must_use]
    pub fn dismiss_one(&self) -> bool {
        let message = Outgoing {
            tag: LEAVE,
            ..Outgoing::default()
        };
        self.tasks().is_ok_and(|tasks| tasks.put_at_once(&message))
    }

    /// Whether the worker in a row has said that it will take no more tasks.
    #[must_use]
    pub fn is_leaving(&self, row: usize) -> bool {
        self.row(row)
            .is_some_and(|row| row.leaving.load(Relaxed) == 1)
    }

    /// Whether the kernel has marked any worker as ending: a hint, for the price of a few loads.
    #[must_use]
    pub fn seems_dead(&self) -> bool {
        let registry = self.family.registry();
        let mut workers = self.rows.iter().map(|row| row.worker());
        workers.any(|worker| !worker.is_nobody() && registry.seems_dead(worker.slot()))
    }

    /// Which item of its task the worker in a row was at.
    #[must_use]
    pub fn item(&self, row: usize) -> u64 {
        self.row(row).map_or(0, |row| row.item.load(Relaxed))
    }

    /// Notes that the owner knows that the worker in a row is leaving.
    pub fn note_leaving(&self, row: usize) {
        if let Some(row) = self.row(row) {
            row.leaving.store(2, Relaxed); // only the owner reads it from now on
        }
    }

    /// How many tasks the worker in a row has taken.
    #[must_use]
    pub fn taken(&self, row: usize) -> u64 {
        self.row(row).map_or(0, |row| row.taken.load(Relaxed)) // a statistic
    }

    /// When the worker of a row asked for its first task, where that is measured.
    #[must_use]
    pub fn ready(&self, row: usize) -> Option<u64> {
        self.row(row)?.ready()
    }

    /// What the worker of a row has spent its time on, where that is measured.
    #[must_use]
    pub fn spent(&self, row: usize) -> Spent {
        self.row(row).map_or_else(Spent::default, Row::spent)
    }

    /// Whether a worker took this task, and no other since.
    #[must_use]
    pub fn has_taken(&self, tag: u64) -> bool {
        let mut taken = self.rows.iter().filter_map(|row| row.read());
        taken.any(|taking| taking.tag == tag)
    }

    /// Whether a worker has begun with this task, and taken no other since.
    #[must_use]
    pub fn has_begun(&self, tag: u64) -> bool {
        self.rows.iter().any(|row| row.has_begun(tag))
    }

    /// The tag of the task that the worker of a row has, begun or not, and is not done with.
    #[must_use]
    pub fn holding(&self, row: usize) -> Option<u64> {
        self.row(row)?.holding().map(|(tag, _)| tag)
    }

    /// The tag of the task that the worker of a row runs, or has just run, and when it began with it, in
    /// nanoseconds of the monotonic clock.
    #[must_use]
    pub fn running(&self, row: usize) -> Option<(u64, u64)> {
        self.row(row)?.running()
    }

    /// Asks the worker of a row to give up this task, if it still runs it. It looks when it is told to.
    pub fn interrupt(&self, row: usize, tag: u64) {
        if let Some(row) = self.row(row) {
            row.interrupt(tag);
        }
    }

    /// Decides that the worker of a row is to be killed for the task that it began with at this time, unless it
    /// is done with that. If so it will take no other: who kills it kills nothing else. For workers that say
    /// when they are done, by [`Seat::finish`](super::Seat::finish).
    #[must_use]
    pub fn doom(&self, row: usize, began: u64) -> bool {
        self.row(row).is_some_and(|row| row.doom(began))
    }

    /// Asks the worker of a row to leave after its task, or not to.
    pub fn retire(&self, row: usize, shall: bool) {
        if let Some(row) = self.row(row) {
            row.retire(shall);
        }
    }

    /// Makes a row ready for a new worker.
    pub fn clear_row(&self, row: usize) {
        if let Some(row) = self.row(row) {
            row.clear();
        }
    }

    /// Waits for a moment until no worker is about to take a task; whether that came. What one left that died over it is
    /// in order then. Else one was stopped there, most likely, and who waits for it with [`Crew::last_taken`] keeps it
    /// from being seen to.
    ///
    /// # Errors
    /// When the ring's bytes make no sense.
    pub fn settle(&self) -> Result<bool, HandleError> {
        Ok(self.tasks.ring()?.settle_get_soon())
    }

    /// After the worker of a row is confirmed dead and its answers have been received: the tag of the
    /// task that it took last. If that task is still open, it died with the worker.
    ///
    /// # Errors
    /// When this process cannot register.
    pub fn last_taken(&self, row: usize) -> Result<Option<u64>, HandleError> {
        self.family.reap_dead(true);
        // Whoever finds the get lock's owner dead voids the row of a task that was not taken.
        self.tasks.ring()?.settle();
        Ok(self.row(row).and_then(Row::read).map(|taking| taking.tag))
    }

    /// Takes back a task that nobody has taken, if there is one.
    ///
    /// # Errors
    /// When the ring's bytes make no sense.
    pub fn take_back(&self, into: &mut Message) -> Result<bool, HandleError> {
        let ring = self.tasks.ring()?;
        loop {
            match ring.try_get(into, None)? {
                Get::Done => return Ok(true),
                Get::Busy => await_turn(&ring), // a worker takes one
                Get::Empty => return Ok(false),
            }
        }
    }

    /// Drops every task that nobody has taken. Where a worker was stopped while it takes one, those that are left stay
    /// until the ring is freed.
    ///
    /// # Errors
    /// When the ring's bytes make no sense.
    pub fn drop_tasks(&self) -> Result<(), HandleError> {
        let (ring, blocks) = (self.tasks.ring()?, self.family.blocks()?);
        let mut message = Message::default();
        loop {
            match ring.try_get(&mut message, None)? {
                Get::Done => {}
                Get::Empty => return Ok(()),
                Get::Busy if self.settle()? => continue,
                Get::Busy => return Ok(()),
            }
            for &block in &message.blocks {
                blocks.free(block);
            }
            drop(self.family.receive(&message.handles)?);
        }
    }
}

/// Waits until no thread takes a message out of a ring.
#[cold]
fn await_turn(ring: &Ring) {
    let mut go_on = || true;
    let _ = ring.settle_get(&mut Patience::new(Deadline::NEVER, &mut go_on)); // nothing ends this wait
}
