//! The body of a group of workers: one bell and a row for each worker.
//!
//! A worker takes a task under its ring's get lock and writes its row before it commits; see
//! [`Row`] for what a death leaves there.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::block::BlockRef;
use crate::wait::Bell;
use crate::word::{Word32, Word64};

/// Shared by all processes of a group.
#[repr(C, align(64))]
pub struct GroupBody {
    /// Whoever has news for the group's owner rings here: one word for all of its conditions.
    pub bell: Bell,
    /// Rows in the block.
    pub rows: Word32,
    /// A worker with this many answers waiting rings; with fewer, only when it runs out of tasks.
    pub wake_each: Word32,
    /// One when the workers shall leave.
    pub dismissed: Word32,
    page: Word64,
    generation: Word64,
    spare: [Word64; 4],
}

impl GroupBody {
    pub(crate) fn set(&self, rows: u32, block: BlockRef) {
        self.page.store(u64::from(block.page), Relaxed); // published by the store of the count
        self.generation.store(block.generation, Relaxed);
        self.wake_each.store(1, Relaxed);
        self.dismissed.store(0, Relaxed);
        self.rows.store(rows, Release); // pairs with the Acquire in `block`
    }

    /// The block that holds the rows.
    #[must_use]
    pub fn block(&self) -> BlockRef {
        let len = u64::from(self.rows.load(Acquire)) * size_of::<Row>() as u64;
        let page = self.page.load(Relaxed) as u32;
        BlockRef {
            page,
            len,
            generation: self.generation.load(Relaxed),
        }
    }
}

/// What a worker took last.
///
/// It is written under the task ring's get lock, before the take is committed. If the worker dies
/// between the two, the task is still in the ring, and who finds the lock's owner dead voids every row
/// whose place is not yet behind the head.
#[repr(C, align(64))]
pub struct Row {
    tag: Word64,
    place: Word64,
    /// Tasks that this row's worker has taken.
    pub taken: Word64,
    /// One while a worker that will not take another task is on its way out.
    pub leaving: Word64,
    /// Slot of the worker's process; zero until it has taken its seat.
    pub worker: Word64,
    /// Of a task that is a list of items: the item that the worker is at.
    pub item: Word64,
    /// Nanoseconds that this row's worker has worked on tasks that it has answered.
    pub worked: Word64,
    spare: [Word64; 1],
}

/// A task that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taking {
    /// The tag of its message, which names task and attempt; never zero.
    pub tag: u64,
    /// Its place in the ring.
    pub place: u64,
}

impl Row {
    /// Says what is about to be taken. Under the ring's get lock only.
    pub fn write(&self, taking: Taking) {
        self.tag.store(0, Relaxed); // void while the rest is written
        self.place.store(taking.place, Relaxed);
        let taken = self.taken.load(Relaxed).wrapping_add(1); // only the row's worker counts
        self.taken.store(taken, Relaxed);
        self.item.store(0, Relaxed); // nothing of this task has been run
        self.tag.store(taking.tag, Release); // pairs with the Acquire in `read`
    }

    /// What was taken last, unless it was voided.
    #[must_use]
    pub fn read(&self) -> Option<Taking> {
        let tag = self.tag.load(Acquire);
        (tag != 0).then_some(Taking {
            tag,
            place: self.place.load(Relaxed),
        })
    }

    /// The slot of the process that has the seat.
    pub(crate) fn seat(&self) -> Option<usize> {
        let slot = self.worker.load(Relaxed) as usize; // for who only looks
        (slot != 0).then_some(slot)
    }

    /// Forgets what was taken. Under the ring's get lock, or before a worker uses the row.
    pub fn void(&self) {
        self.tag.store(0, Release);
    }
}
