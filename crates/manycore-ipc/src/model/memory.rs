//! Words and bytes of the heap, as `loom` knows them while a model runs.
//!
//! `loom` wants each of its objects made before the threads that share it. So the addresses that threads
//! touch are collected: one that no run has met before ends the exploring, which starts over and makes
//! that object in time.
//!
//! It also has to be told of some orders that matter. Of each word it remembers the last access only, so a
//! thread that looks at a word and then changes it hides from `loom` that another one has looked at it before
//! (and might do so later instead). Therefore each reader of a word has a *mark* there, which it touches when
//! it looks, and which whoever changes the word touches, too. A mark is a condition variable that nobody
//! waits for: the one object of `loom` that has an order and no other effect.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use loom::cell::UnsafeCell;
use loom::sync::Condvar;
use loom::sync::atomic::{AtomicU32, AtomicU64};

use super::{exploring, kernel};

/// Bytes that are told apart when two threads touch bytes: a record's header never has two in it.
const UNIT: usize = 16;

/// What lies at an address when a run begins.
#[derive(Clone, Copy)]
enum Initial {
    Narrow(u32),
    Wide(u64),
    Unit([u8; UNIT]),
}

/// An address, and which threads look at the word there, by a bit for each.
#[derive(Clone, Copy)]
struct Known {
    initial: Initial,
    readers: u8,
}

/// The same as objects of the present run.
#[derive(Clone)]
struct Live {
    what: What,
    marks: Rc<Vec<(usize, Condvar)>>,
}

#[derive(Clone)]
enum What {
    Narrow(Rc<AtomicU32>),
    Wide(Rc<AtomicU64>),
    Unit(Rc<Unit>),
}

/// Some bytes; `loom` notices who reads them while another may write.
struct Unit {
    access: UnsafeCell<()>,
    bytes: RefCell<[u8; UNIT]>,
}

/// What is done to a word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It is read.
    Look,
    /// It is written, or read and written at once.
    Change,
}

thread_local! {
    static KNOWN: RefCell<BTreeMap<usize, Known>> = const { RefCell::new(BTreeMap::new()) };
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

impl Known {
    fn make(self) -> Live {
        let what = match self.initial {
            Initial::Narrow(value) => What::Narrow(Rc::new(AtomicU32::new(value))),
            Initial::Wide(value) => What::Wide(Rc::new(AtomicU64::new(value))),
            Initial::Unit(bytes) => What::Unit(Rc::new(Unit {
                access: UnsafeCell::new(()),
                bytes: RefCell::new(bytes),
            })),
        };
        let readers = (0..8).filter(|reader| self.readers & 1 << reader != 0);
        let marks = readers.map(|reader| (reader, Condvar::new())).collect();
        Live {
            what,
            marks: Rc::new(marks),
        }
    }
}

fn find(address: usize, initial: impl FnOnce() -> Initial) -> Live {
    if let Some(live) = found(address) {
        return live;
    }
    let known = Known {
        initial: initial(),
        readers: 0,
    };
    KNOWN.with_borrow_mut(|all| all.insert(address, known));
    if exploring::has_threads() {
        exploring::start_over();
    }
    let live = known.make();
    LIVE.with_borrow_mut(|all| all.insert(address, live.clone()));
    live
}

fn found(address: usize) -> Option<Live> {
    LIVE.with_borrow(|live| live.get(&address).cloned())
}

/// Tells `loom` which accesses of others this one comes before or after.
fn mark(address: usize, marks: &[(usize, Condvar)], access: Access) {
    if !exploring::has_threads() {
        return;
    }
    let me = kernel::number();
    match access {
        Access::Look => match marks.iter().find(|(reader, _)| *reader == me) {
            Some((_, mark)) => mark.notify_one(),
            None => note_reader(address, me),
        },
        Access::Change => {
            let others = marks.iter().filter(|(reader, _)| *reader != me);
            others.for_each(|(_, mark)| mark.notify_one());
        }
    }
}

fn note_reader(address: usize, reader: usize) {
    KNOWN.with_borrow_mut(|all| {
        let known = all.get_mut(&address).expect("it was found");
        known.readers |= 1 << reader;
    });
    exploring::start_over();
}

/// The word at this address; `value` reads what it holds when a run begins.
pub(crate) fn narrow(address: usize, access: Access, value: impl FnOnce() -> u32) -> Rc<AtomicU32> {
    let live = find(address, || Initial::Narrow(value()));
    mark(address, &live.marks, access);
    match live.what {
        What::Narrow(word) => word,
        _ => panic!("a word of 32 bits is used as something else, too"),
    }
}

/// As [`narrow`].
pub(crate) fn wide(address: usize, access: Access, value: impl FnOnce() -> u64) -> Rc<AtomicU64> {
    let live = find(address, || Initial::Wide(value()));
    mark(address, &live.marks, access);
    match live.what {
        What::Wide(word) => word,
        _ => panic!("a word of 64 bits is used as something else, too"),
    }
}

/// The word at this address and the address, if the present run has touched it.
pub(crate) fn found_narrow(address: usize) -> Option<(usize, Rc<AtomicU32>)> {
    let live = found(address)?;
    mark(address, &live.marks, Access::Change);
    match live.what {
        What::Narrow(word) => Some((address, word)),
        _ => None,
    }
}

fn unit(address: usize, bytes: impl FnOnce() -> [u8; UNIT]) -> Rc<Unit> {
    match find(address, || Initial::Unit(bytes())).what {
        What::Unit(unit) => unit,
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
