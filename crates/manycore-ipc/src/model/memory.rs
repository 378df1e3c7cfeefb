//! Words and bytes of the heap, as `loom` knows them while a model runs.
//!
//! `loom` wants each of its objects made before the threads that share it. So the addresses that threads
//! touch are collected: one that no run has met before ends the exploring, which starts over and makes
//! that object in time.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64};

use super::exploring;

/// Bytes that are told apart when two threads touch bytes: a record's header never has two in it.
const UNIT: usize = 16;

/// What lies at an address when a run begins.
#[derive(Clone, Copy)]
enum Initial {
    Narrow(u32),
    Wide(u64),
    Unit([u8; UNIT]),
}

/// The same as an object of the present run.
#[derive(Clone)]
enum Live {
    Narrow(Rc<AtomicU32>),
    Wide(Rc<AtomicU64>),
    Unit(Rc<Unit>),
}

/// Some bytes; `loom` notices who reads them while another may write.
struct Unit {
    access: UnsafeCell<()>,
    bytes: RefCell<[u8; UNIT]>,
}

thread_local! {
    static KNOWN: RefCell<BTreeMap<usize, Initial>> = const { RefCell::new(BTreeMap::new()) };
    static LIVE: RefCell<HashMap<usize, Live>> = RefCell::new(HashMap::new());
}

/// Forgets what an earlier exploring has met.
pub(super) fn forget() {
    KNOWN.with_borrow_mut(BTreeMap::clear);
}

/// Begins a run: every object that is known is made anew.
pub(super) fn begin() {
    let live = KNOWN.with_borrow(|known| {
        known
            .iter()
            .map(|(&address, &initial)| (address, initial.make()))
            .collect()
    });
    LIVE.set(live);
}

impl Initial {
    fn make(self) -> Live {
        match self {
            Self::Narrow(value) => Live::Narrow(Rc::new(AtomicU32::new(value))),
            Self::Wide(value) => Live::Wide(Rc::new(AtomicU64::new(value))),
            Self::Unit(bytes) => Live::Unit(Rc::new(Unit {
                access: UnsafeCell::new(()),
                bytes: RefCell::new(bytes),
            })),
        }
    }
}

fn find(address: usize, initial: impl FnOnce() -> Initial) -> Live {
    if let Some(live) = LIVE.with_borrow(|live| live.get(&address).cloned()) {
        return live;
    }
    let initial = initial();
    KNOWN.with_borrow_mut(|known| known.insert(address, initial));
    if exploring::has_threads() {
        exploring::start_over();
    }
    let live = initial.make();
    LIVE.with_borrow_mut(|all| all.insert(address, live.clone()));
    live
}

/// The word at this address; `value` reads what it holds when a run begins.
pub(crate) fn narrow(address: usize, value: impl FnOnce() -> u32) -> Rc<AtomicU32> {
    match find(address, || Initial::Narrow(value())) {
        Live::Narrow(word) => word,
        _ => panic!("a word of 32 bits is used as something else, too"),
    }
}

/// As [`narrow`].
pub(crate) fn wide(address: usize, value: impl FnOnce() -> u64) -> Rc<AtomicU64> {
    match find(address, || Initial::Wide(value())) {
        Live::Wide(word) => word,
        _ => panic!("a word of 64 bits is used as something else, too"),
    }
}

fn unit(address: usize, bytes: impl FnOnce() -> [u8; UNIT]) -> Rc<Unit> {
    match find(address, || Initial::Unit(bytes())) {
        Live::Unit(unit) => unit,
        _ => panic!("payload bytes are used as words, too"),
    }
}

/// Calls `each` for the units of `address .. address + len`: their address, and which of their bytes.
fn for_each_unit(address: usize, len: usize, mut each: impl FnMut(usize, std::ops::Range<usize>)) {
    let mut at = address;
    while at < address + len {
        let start = at / UNIT * UNIT;
        let end = (start + UNIT).min(address + len);
        each(start, at - start..end - start);
        at = end;
    }
}

/// Writes bytes at an address; `initial` reads a unit of memory as it was when a run began.
pub(crate) fn write(address: usize, from: &[u8], initial: impl Fn(usize) -> [u8; UNIT]) {
    for_each_unit(address, from.len(), |start, range| {
        let unit = unit(start, || initial(start));
        unit.access.with_mut(|_| {
            let at = start + range.start - address;
            let part = &from[at..at + range.len()];
            unit.bytes.borrow_mut()[range].copy_from_slice(part);
        });
    });
}

/// Reads bytes at an address, as [`write`] writes them.
pub(crate) fn read(address: usize, to: &mut [u8], initial: impl Fn(usize) -> [u8; UNIT]) {
    for_each_unit(address, to.len(), |start, range| {
        let unit = unit(start, || initial(start));
        unit.access.with(|_| {
            let at = start + range.start - address;
            to[at..at + range.len()].copy_from_slice(&unit.bytes.borrow()[range]);
        });
    });
}
