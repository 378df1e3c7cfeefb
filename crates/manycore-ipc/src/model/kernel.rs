//! Sleeping and waking, deaths, and what the kernel does for the dead.
//!
//! A sleep has no end by itself here: a wake-up that is lost leaves threads asleep for ever, which `loom`
//! reports. Where a death may take a wake-up with it, [`end_slices`] is the end of everybody's slice.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use loom::sync::Mutex;
use loom::thread::{self, Thread, ThreadId};
use manycore_os::robust::{OWNER_DIED, TID, WAITERS};

use super::{exploring, memory};
use crate::crash;
use crate::kernel::Slept;
use crate::word::Word32;

/// What all threads of a run share. Under a lock of `loom`'s, so that it knows who depends on whom.
#[derive(Default)]
struct Everybody {
    sleepers: Vec<(usize, Thread)>,
    answers: Vec<(ThreadId, Slept)>,
    ended_threads: Vec<u32>,
    ended_processes: Vec<u32>,
    slices_end: bool,
}

/// What one thread has for itself.
#[derive(Clone, Copy, Default)]
struct Own {
    number: usize,
    tid: u32,
    /// The address of the word that it has announced.
    announced: Option<usize>,
    dies_when_woken: bool,
    mortal: crash::Mortal,
}

thread_local! {
    static EVERYBODY: RefCell<Option<Rc<Mutex<Everybody>>>> = const { RefCell::new(None) };
    static OWN: RefCell<HashMap<ThreadId, Own>> = RefCell::new(HashMap::new());
    static MORTALS: Cell<bool> = const { Cell::new(false) };
}

/// Gives the calling thread a number, its own in every run.
pub(super) fn be(number: usize) {
    let tid = 1_000 + number as u32;
    own(|own| (own.number, own.tid) = (number, tid));
}

/// The calling thread's number.
pub(super) fn number() -> usize {
    own(|own| own.number)
}

pub(super) fn begin() {
    EVERYBODY.set(Some(Rc::default()));
    OWN.with_borrow_mut(HashMap::clear);
    MORTALS.set(false);
}

pub(super) fn end() {
    EVERYBODY.set(None);
}

fn everybody<R>(change: impl FnOnce(&mut Everybody) -> R) -> R {
    let all = EVERYBODY.with_borrow(Clone::clone).expect("a run began");
    let mut all = all.lock().expect("nobody panics in here");
    change(&mut all)
}

fn own<R>(change: impl FnOnce(&mut Own) -> R) -> R {
    let id = thread::current().id();
    OWN.with_borrow_mut(|all| change(all.entry(id).or_default()))
}

fn address_of(word: &Word32) -> usize {
    std::ptr::from_ref(word).addr()
}

/// What the calling thread's death is like; see [`crash`].
pub(crate) fn mortal() -> crash::Mortal {
    if MORTALS.get() {
        own(|own| own.mortal)
    } else {
        crash::Mortal::default()
    }
}

pub(crate) fn set_mortal(mortal: crash::Mortal) {
    MORTALS.set(true);
    own(|own| own.mortal = mortal);
}

pub(crate) fn tid() -> u32 {
    own(|own| own.tid)
}

pub(crate) fn announce(word: &Word32) {
    let address = address_of(word);
    own(|own| {
        assert_eq!(own.announced, None, "engine locks never nest");
        own.announced = Some(address);
    });
}

pub(crate) fn retract() {
    if !crash::is_dead() {
        own(|own| own.announced = None);
    }
}

/// Sleeps while the word holds `expected`; if `at_most` is nothing, until others had their chance to wake it.
pub(crate) fn sleep(word: &Word32, expected: u32, at_most: Duration) -> Slept {
    sleep_any(&[(word, expected)], at_most)
}

/// The same at several words. A thread that was woken at one of them takes wake-ups at the others, too, until
/// it is back on a core.
pub(crate) fn sleep_any(words: &[(&Word32, u32)], at_most: Duration) -> Slept {
    if exploring::is_over() {
        return Slept::Woken;
    }
    let me = thread::current();
    let outcome = everybody(|all| {
        let is_changed = |&(word, expected): &(&Word32, u32)| word.load(SeqCst) != expected;
        if words.iter().any(is_changed) {
            return Some(Slept::Woken);
        }
        if all.slices_end {
            return Some(Slept::TimedOut);
        }
        let asleep = words.iter().map(|(word, _)| (address_of(word), me.clone()));
        all.sleepers.extend(asleep);
        None
    });
    if let Some(outcome) = outcome {
        if outcome == Slept::TimedOut {
            thread::yield_now();
        }
        return outcome;
    }
    loop {
        if at_most.is_zero() {
            thread::yield_now();
        } else {
            thread::park();
        }
        let answer = everybody(|all| {
            let at = all.answers.iter().position(|(id, _)| *id == me.id());
            let answer = at.map(|at| all.answers.swap_remove(at).1);
            let times_out = answer.is_none() && at_most.is_zero();
            if answer.is_some() || times_out {
                all.sleepers.retain(|(_, thread)| thread.id() != me.id());
                all.answers.retain(|(id, _)| *id != me.id());
            }
            answer.or(times_out.then_some(Slept::TimedOut))
        });
        if let Some(answer) = answer {
            if answer == Slept::Woken && own(|own| own.dies_when_woken) {
                crash::die();
            }
            return answer;
        }
    }
}

/// Wakes up to `count` threads. A process may die in place of this, as in place of a store.
pub(crate) fn wake(word: &Word32, count: u32) {
    if !crash::is_dead_at_store(SeqCst) {
        wake_at(address_of(word), count);
    }
}

fn wake_at(address: usize, count: u32) {
    everybody(|all| all.answer(|at| at == address, count as usize, Slept::Woken));
}

impl Everybody {
    fn answer(&mut self, whom: impl Fn(usize) -> bool, count: usize, how: Slept) {
        for _ in 0..count.min(self.sleepers.len()) {
            let Some(first) = self.sleepers.iter().position(|(at, _)| whom(*at)) else {
                return;
            };
            let (_, thread) = self.sleepers.remove(first);
            self.answers.push((thread.id(), how));
            thread.unpark();
        }
    }
}

/// Every sleep has an end from now on.
pub(crate) fn end_slices() {
    everybody(|all| {
        all.slices_end = true;
        all.answer(|_| true, usize::MAX, Slept::TimedOut);
    });
}

/// The calling thread dies when a wake-up has been given to it.
pub(crate) fn die_when_woken() {
    own(|own| own.dies_when_woken = true);
}

/// What the kernel does when a thread has died: as in `handle_futex_death` of Linux for the one word that
/// it had announced.
pub(crate) fn bury_thread() {
    let Own { tid, announced, .. } = own(|own| {
        let dead = *own;
        (own.announced, own.mortal, own.dies_when_woken) = (None, crash::Mortal::default(), false);
        dead
    });
    // A word that nobody has touched in this run is not the dead one's.
    if let Some((address, word)) = announced.and_then(memory::found_narrow) {
        let mut seen = word.load(SeqCst);
        while seen & TID == tid {
            let dead = (seen & WAITERS) | OWNER_DIED;
            match word.compare_exchange(seen, dead, SeqCst, SeqCst) {
                Ok(_) if seen & WAITERS != 0 => return end_thread(tid, Some(address)),
                Ok(_) => return end_thread(tid, None),
                Err(found) => seen = found,
            }
        }
        if seen & TID == 0 {
            return end_thread(tid, Some(address));
        }
    }
    end_thread(tid, None);
}

fn end_thread(tid: u32, woken: Option<usize>) {
    everybody(|all| {
        all.ended_threads.push(tid);
        if let Some(address) = woken {
            all.answer(|at| at == address, 1, Slept::Woken);
        }
    });
}

pub(crate) fn thread_has_ended(tid: u32) -> bool {
    everybody(|all| all.ended_threads.contains(&tid))
}

/// From now on the kernel says that this process has ended.
pub(crate) fn end_process(pid: u32) {
    everybody(|all| all.ended_processes.push(pid));
}

pub(crate) fn has_ended(pid: u32) -> bool {
    everybody(|all| all.ended_processes.contains(&pid))
}
