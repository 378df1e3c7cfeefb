//! What members do beside the queue, now and then: objects come and go, and a lock passes from one to the
//! next.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use manycore_ipc::lock::Acquired;
use manycore_ipc::ring::{Outgoing, Shape};
use manycore_ipc::wait::Patience;
use manycore_ipc::{Family, Hold};
use manycore_os::Deadline;

use crate::journal::Journal;

/// One step in so many has an errand.
const NOW_AND_THEN: u64 = 16;

/// See the module.
pub(crate) struct Errands {
    pub(crate) family: &'static Family,
    pub(crate) lock: Hold,
    pub(crate) name: u32,
}

impl Errands {
    /// Which errand follows from a random number.
    pub(crate) fn run(&self, journal: &Journal, draw: u64) {
        if !draw.is_multiple_of(NOW_AND_THEN) {
            return;
        }
        match draw / NOW_AND_THEN % 4 {
            0 => self.take_turn(journal),
            1 => drop(self.family.make_memory(100_000).unwrap()),
            2 => drop(self.family.make_lock().unwrap()),
            _ => self.use_a_queue(),
        }
        self.family.free_buried().unwrap();
    }

    /// Nobody else has the lock, unless it died with it.
    fn take_turn(&self, journal: &Journal) {
        let mut go_on = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
        let acquired = self.lock.acquire(&mut patience).unwrap().unwrap();
        let before = journal.turn().swap(u64::from(self.name), SeqCst);
        let is_handed_over = matches!(acquired, Acquired::HolderDied(_));
        assert!(before == 0 || is_handed_over, "{before} has the lock, too");
        let after = journal.turn().swap(0, SeqCst);
        assert_eq!(after, u64::from(self.name), "who came in between?");
        assert!(self.lock.lock().unwrap().release());
    }

    /// A queue that nobody else knows, with a message that has a block.
    fn use_a_queue(&self) {
        let queue = self.family.make_ring(Shape::unbounded()).unwrap();
        let block = self.family.take_block(40_000).unwrap().block;
        let message = Outgoing {
            blocks: &[block],
            payload: &[1; 9_000], // more than the first region
            ..Outgoing::default()
        };
        let mut go_on = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
        queue.ring().unwrap().put(&message, &mut patience).unwrap();
    }
}

/// The lock has nobody in it that lives.
pub(crate) fn assert_nobody_has_a_turn(journal: &Journal, lock: &Hold) {
    let mut go_on = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
    let acquired = lock.acquire(&mut patience).unwrap().unwrap();
    let is_handed_over = matches!(acquired, Acquired::HolderDied(_));
    assert!(journal.turn().load(Relaxed) == 0 || is_handed_over);
    assert!(lock.lock().unwrap().release());
}
