//! What each member did, in shared memory, where no signal can undo it. Every fact is one store.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use manycore_ipc::heap::Heap;
use manycore_ipc::word::{Word32, Word64};
use manycore_ipc::{Family, Handle, Hold, Kind};
use manycore_os::clock;

use crate::parcel::Parcel;

/// Messages that a producer's seat can have in one round.
const CAPACITY: usize = 1 << 21;
/// Words before the first seat.
const HEAD: usize = 16;
/// Words of a seat: two cache lines.
const SEAT: usize = 16;

/// See the module.
pub(crate) struct Journal {
    hold: Hold,
    heap: &'static Heap,
    offset: usize,
    seats: usize,
}

/// What one seat's present or last member did.
#[derive(Clone, Copy)]
pub(crate) struct Seat {
    heap: &'static Heap,
    offset: usize,
}

impl Journal {
    pub(crate) fn new(family: &'static Family, seats: usize) -> Self {
        let len = (HEAD + seats * SEAT) * 8 + seats * CAPACITY * 4;
        Self::of(family.make_memory(len as u64).unwrap(), seats)
    }

    pub(crate) fn open(family: &'static Family, handle: Handle, seats: usize) -> Self {
        Self::of(family.hold(handle, Kind::Memory).unwrap(), seats)
    }

    fn of(hold: Hold, seats: usize) -> Self {
        let offset = hold.memory().unwrap().offset();
        Self {
            heap: hold.family().heap(),
            hold,
            offset,
            seats,
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        self.hold.handle()
    }

    fn word(&self, at: usize) -> &'static Word64 {
        self.heap.at(self.offset + at * 8).unwrap()
    }

    /// The number of the last question: see [`Seat::answer`].
    pub(crate) fn asked(&self) -> u64 {
        self.word(0).load(Acquire)
    }

    /// Asks everybody for the time of the next step.
    pub(crate) fn ask(&self) -> u64 {
        self.word(0).fetch_add(1, AcqRel) + 1
    }

    /// Whether producers shall end.
    pub(crate) fn is_over(&self) -> bool {
        self.word(8).load(Acquire) != 0
    }

    /// Tells the producers to end.
    pub(crate) fn end(&self) {
        self.word(8).store(1, Release);
    }

    /// Who has the lock, by its own account.
    pub(crate) fn turn(&self) -> &'static Word64 {
        self.word(12)
    }

    pub(crate) fn seat(&self, number: usize) -> Seat {
        assert!(number < self.seats);
        Seat {
            heap: self.heap,
            offset: self.offset + (HEAD + number * SEAT) * 8,
        }
    }

    fn receipt(&self, parcel: Parcel) -> &'static Word32 {
        let Parcel { seat, number } = parcel;
        assert!(
            seat < self.seats && (number as usize) < CAPACITY,
            "the journal is full: {parcel:?}"
        );
        let receipts = self.offset + (HEAD + self.seats * SEAT) * 8;
        let at = (seat * CAPACITY + number as usize) * size_of::<Word32>();
        self.heap.at(receipts + at).unwrap()
    }

    /// Writes down that consumer `who` has a message.
    ///
    /// # Errors
    /// Who had it before; also `who` itself.
    pub(crate) fn receive(&self, parcel: Parcel, who: u32) -> Result<(), u32> {
        let noted = self
            .receipt(parcel)
            .compare_exchange(0, who, AcqRel, Acquire);
        noted.map(|_| ())
    }

    /// Every number that a message of this producer's seat can have, and whether it was received.
    pub(crate) fn receipts(&self, seat: usize) -> impl Iterator<Item = (u32, bool)> {
        (0..CAPACITY as u32).map(move |number| {
            let receipt = self.receipt(Parcel { seat, number });
            (number, receipt.load(Acquire) != 0)
        })
    }
}

impl Seat {
    fn word(&self, at: usize) -> &'static Word64 {
        self.heap.at(self.offset + at * 8).unwrap()
    }

    /// Of a producer: the number of the last message that it began to put.
    pub(crate) fn begun(&self) -> u32 {
        self.word(0).load(Acquire) as u32
    }

    pub(crate) fn begin(&self, number: u32) {
        self.word(0).store(u64::from(number), Release);
    }

    /// Of a producer: the number of the last message whose `put` returned.
    pub(crate) fn done(&self) -> u32 {
        self.word(1).load(Acquire) as u32
    }

    pub(crate) fn finish(&self, number: u32) {
        self.word(1).store(u64::from(number), Release);
    }

    /// How many steps the member in this seat has made.
    pub(crate) fn steps(&self) -> u64 {
        self.word(2).load(Relaxed) // a number that only grows
    }

    /// Of a new member.
    pub(crate) fn forget_steps(&self) {
        self.word(2).store(0, Relaxed);
    }

    /// Counts a step, and answers a question with the time of the first step after it.
    pub(crate) fn step(&self, asked: u64) {
        self.word(2).fetch_add(1, Relaxed);
        if self.word(3).load(Relaxed) != asked {
            self.word(4).store(clock::now_ns(), Relaxed); // published by the next line
            self.word(3).store(asked, Release);
        }
    }

    /// The time of the first step after a question.
    pub(crate) fn answer(&self, asked: u64) -> Option<u64> {
        (self.word(3).load(Acquire) == asked).then(|| self.word(4).load(Relaxed))
    }
}
