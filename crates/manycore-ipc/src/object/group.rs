//! The body of a group of workers: one bell and a row for each worker.
//!
//! A worker takes a task under its ring's get lock and writes its row before it commits; see
//! [`Row`] for what a death leaves there.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::block::BlockRef;
use crate::fault;
use crate::registry::OwnerId;
use crate::wait::Bell;
use crate::word::{Word32, Word64};

/// What a row has in place of a time once its worker is to be killed for its task.
const DOOMED: u64 = u64::MAX;

/// What a row has in place of a time once its worker has answered what it took.
const ANSWERED: u64 = DOOMED - 1;

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
    /// One when there is an answer that the owner is to take at once.
    early: Word32,
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
        self.early.store(0, Relaxed);
        self.rows.store(rows, Release); // pairs with the Acquire in `block`
    }

    /// Notes that there is an answer that the owner is to take at once, also if it waits for more.
    pub fn hasten(&self) {
        self.early.store(1, Release); // pairs with the Acquire in `forget_haste`
        fault::point("group.hastened");
    }

    /// Whether there may be such an answer.
    #[must_use]
    pub fn is_hastened(&self) -> bool {
        self.early.load(Relaxed) == 1 // who finds it so calls `forget_haste`
    }

    /// By the owner, before it takes all answers: the one that was noted is among these, or will be noted later.
    pub fn forget_haste(&self) {
        self.early.swap(0, Acquire); // pairs with the Release in `hasten`
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

/// What a worker took last, and what its owner wants of it.
///
/// It is written under the task ring's get lock, before the take is committed. If the worker dies
/// between the two, the task is still in the ring, and who finds the lock's owner dead voids every row
/// whose place is not yet behind the head.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Row {
    tag: Word64,
    place: Word64,
    /// Tasks that this row's worker has taken.
    pub taken: Word64,
    /// One while a worker that will not take another task is on its way out.
    pub leaving: Word64,
    /// The worker's process; nobody until it has taken its seat.
    worker: Word64,
    /// Of a task that is a list of items: the item that the worker is at.
    pub item: Word64,
    /// When the worker began to run what it took, on the coarse monotonic clock; zero until then; [`ANSWERED`]
    /// once it has said that it is done, or there is nothing to run; or [`DOOMED`].
    began: Word64,
    /// Nanoseconds that the worker has spent on tasks, where that is measured.
    busy: Word64,
    wishes: Wishes,
}

/// What the owner wants of a worker: apart from the line that the worker writes for each task.
#[derive(Default)]
#[repr(C, align(64))]
struct Wishes {
    /// The tag of the task that is to be given up.
    interrupt: Word64,
    /// One when the worker is to leave after its task.
    retire: Word64,
    /// When the worker first asked for a task; zero until then.
    ready: Word64,
    /// Nanoseconds that the worker has waited for tasks, where that is measured.
    waited: Word64,
    /// Nanoseconds that the worker has spent on reading tasks and writing answers, where that is measured.
    moved: Word64,
    spare: [Word64; 3],
}

/// What a worker has spent its time on, in nanoseconds, where that is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// On waiting for tasks.
    pub waited: u64,
    /// On the tasks themselves.
    pub worked: u64,
    /// On reading tasks and writing answers.
    pub moved: u64,
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
        self.began.store(0, Release); // pairs with the Acquire in `holding`: behind the voiding
        self.tag.store(taking.tag, Release); // pairs with the Acquires in `read` and `holding`
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

    /// Whether the worker may begin with what it took: not, when it was asked by then to give it up.
    #[must_use]
    pub fn may_begin(&self, tag: u64) -> bool {
        fault::point("row.taken");
        !self.is_interrupted(tag)
    }

    /// Says when the worker began to run what it took.
    pub fn begin(&self, now: u64) {
        self.began.store(now, Release); // pairs with the Acquire in `holding`
    }

    /// Says that the worker has answered what it took, and has nothing else to run.
    pub fn end(&self) {
        self.began.store(ANSWERED, Relaxed); // the answer itself went through the ring
    }

    /// Says that the worker asks for its first task.
    pub fn be_ready(&self, now: u64) {
        self.wishes.ready.store(now, Relaxed); // for who only looks
    }

    /// When the worker asked for its first task, where it says so.
    #[must_use]
    pub fn ready(&self) -> Option<u64> {
        let ready = self.wishes.ready.load(Relaxed);
        (ready != 0).then_some(ready)
    }

    /// Adds to what the worker has spent: only itself does.
    pub fn spend(&self, more: Spent) {
        for (word, more) in [
            (&self.wishes.waited, more.waited),
            (&self.busy, more.worked),
            (&self.wishes.moved, more.moved),
        ] {
            word.store(word.load(Relaxed).wrapping_add(more), Relaxed); // a statistic
        }
    }

    /// What the worker has spent so far.
    #[must_use]
    pub fn spent(&self) -> Spent {
        Spent {
            waited: self.wishes.waited.load(Relaxed),
            worked: self.busy.load(Relaxed),
            moved: self.wishes.moved.load(Relaxed),
        }
    }

    /// The tag of the task that the worker has and has not said that it is done with, and when it began with it: zero
    /// until then. Of a task with which it has not begun the take may not be committed.
    #[must_use]
    pub fn holding(&self) -> Option<(u64, u64)> {
        let tag = self.tag.load(Acquire);
        let began = self.began.load(Acquire);
        // The worker may have taken another one in between.
        let is_same = tag != 0 && self.tag.load(Relaxed) == tag;
        (is_same && began < ANSWERED).then_some((tag, began))
    }

    /// The tag of the task that the worker runs, or has just run, and when it began with it.
    #[must_use]
    pub fn running(&self) -> Option<(u64, u64)> {
        self.holding().filter(|&(_, began)| began != 0)
    }

    /// Whether the worker has begun with this task, and taken no other since.
    #[must_use]
    pub fn has_begun(&self, tag: u64) -> bool {
        self.read().is_some_and(|taking| taking.tag == tag)
            && self.began.load(Acquire) != 0
            && self.tag.load(Relaxed) == tag // as in `holding`
    }

    /// Says that the worker is done with what it ran. False when its owner has decided by then to kill it for
    /// that: it is not to take anything else.
    #[must_use]
    pub fn finish(&self) -> bool {
        // Either side changes the word by one exchange, so the end comes first or the decision does. Nothing
        // else is handed over by it.
        let began = self.began.swap(ANSWERED, Relaxed);
        fault::point("row.finished");
        began != DOOMED
    }

    /// Decides that the worker is to be killed for what it began then, unless it is done with it: then it may
    /// run something else by now. The time stands for the task, as [`Row::running`] found it: for a worker that
    /// says when it is done, and is doomed only long after it began, so that it has begun nothing else then.
    #[must_use]
    pub fn doom(&self, began: u64) -> bool {
        let exchanged = self.began.compare_exchange(began, DOOMED, Relaxed, Relaxed); // see `finish`
        fault::point("row.doomed");
        exchanged.is_ok()
    }

    /// Asks the worker to give up this task, if it still runs it.
    pub fn interrupt(&self, tag: u64) {
        self.wishes.interrupt.store(tag, Release); // pairs with the Acquire in `is_interrupted`
    }

    /// Whether the worker was asked to give up this task.
    #[must_use]
    pub fn is_interrupted(&self, tag: u64) -> bool {
        tag != 0 && self.wishes.interrupt.load(Acquire) == tag
    }

    /// Asks the worker to leave after its task, or not to.
    pub fn retire(&self, shall: bool) {
        self.wishes.retire.store(u64::from(shall), Relaxed); // nothing else comes with it
    }

    /// Whether the worker was asked to leave after its task.
    #[must_use]
    pub fn is_to_retire(&self) -> bool {
        self.wishes.retire.load(Relaxed) == 1
    }

    /// Makes the row ready for a worker that does not exist yet.
    pub fn clear(&self) {
        self.void();
        for word in [
            &self.leaving,
            &self.taken,
            &self.worker,
            &self.item,
            &self.began,
            &self.busy,
            &self.wishes.interrupt,
            &self.wishes.retire,
            &self.wishes.ready,
            &self.wishes.waited,
            &self.wishes.moved,
        ] {
            word.store(0, Relaxed);
        }
    }

    /// Says whose the seat is.
    pub fn take_seat(&self, worker: OwnerId) {
        self.worker.store(worker.bits().into(), Release); // pairs with the Acquire in `worker`
    }

    /// The process that has the seat, or had it last.
    #[must_use]
    pub fn worker(&self) -> OwnerId {
        OwnerId::from_bits(self.worker.load(Acquire) as u32)
    }

    /// Forgets what was taken. Under the ring's get lock, or before a worker uses the row.
    pub fn void(&self) {
        self.tag.store(0, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Family;
    use crate::heap::layout::LEAST;

    #[test]
    fn what_a_worker_has_spent_adds_up_until_its_row_is_made_ready_for_another() {
        let family = Family::create_with(LEAST).expect("a small heap");
        let group = family.make_group(1).expect("room");
        let row = group.rows().expect("a group")[0];
        assert_eq!((row.spent(), row.ready()), (Spent::default(), None));
        let more = Spent {
            waited: 1,
            worked: 20,
            moved: 300,
        };
        row.be_ready(7);
        row.spend(more);
        row.spend(more);
        let twice = Spent {
            waited: 2,
            worked: 40,
            moved: 600,
        };
        assert_eq!((row.spent(), row.ready()), (twice, Some(7)));
        row.clear();
        assert_eq!((row.spent(), row.ready()), (Spent::default(), None));
    }

    #[test]
    fn a_worker_runs_a_task_from_when_it_begins_until_it_has_nothing_to_run() {
        let family = Family::create_with(LEAST).expect("a small heap");
        let group = family.make_group(1).expect("room");
        let row = group.rows().expect("a group")[0];
        row.write(Taking { tag: 5, place: 0 });
        assert_eq!((row.running(), row.has_begun(5)), (None, false));
        row.begin(9);
        assert_eq!((row.running(), row.has_begun(5)), (Some((5, 9)), true));
        assert!(!row.has_begun(4));
        row.end();
        assert_eq!((row.running(), row.has_begun(5)), (None, true));
        assert!(row.read().is_some());
    }

    #[test]
    fn a_worker_has_a_task_from_when_it_takes_it_until_it_is_done_or_doomed() {
        let row = Row::default();
        assert_eq!(row.holding(), None);
        for (tag, is_done) in [
            (5, Row::finish as fn(&Row) -> bool),
            (6, |row| !row.doom(9)),
        ] {
            row.write(Taking { tag, place: 0 });
            assert_eq!(row.holding(), Some((tag, 0)));
            row.begin(9);
            assert_eq!(row.holding(), Some((tag, 9)));
            let _ = is_done(&row);
            assert_eq!(row.holding(), None);
        }
    }

    #[test]
    fn a_worker_may_begin_with_what_it_was_not_asked_to_give_up() {
        let row = Row::default();
        row.write(Taking { tag: 5, place: 0 });
        row.interrupt(4);
        assert!(row.may_begin(5));
        row.interrupt(5);
        assert!(!row.may_begin(5) && row.may_begin(6));
    }
}
