//! Death at a chosen store, for the tests of this crate.
//!
//! A test arms the calling thread with a number of stores. The store after the last one does not
//! happen and unwinds the operation; whatever the unwinding code would still store is dropped too,
//! as if the process had been killed there. [`run_until_death`] returns once the "process" is gone.
//!
//! [`interrupted`] does not kill: it lets others act in front of a load or store, as if the process had been
//! stopped there. For what takes no lock, that walks through every order of two processes' steps.
//! [`stopped_until_death`] kills it after that.
//!
//! A death in place of a copy leaves the first half of the bytes. [`run_until_death_with_late`] also keeps
//! one store back that the process has made before it died, as if it had not become visible: no store is
//! bound to come before those that follow it, by the compiler at least, up to the next `Release`.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{self, Acquire, Relaxed},
};

use crate::kernel::Holder;
use crate::model;

/// How many stores a thread has left to live, and whether it has died.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mortal {
    left: Option<u64>,
    is_dead: bool,
}

impl Mortal {
    fn current() -> Self {
        if model::is_active() {
            model::kernel::mortal()
        } else {
            MORTAL.get()
        }
    }

    fn store(self) {
        if model::is_active() {
            model::kernel::set_mortal(self);
        } else {
            MORTAL.set(self);
        }
    }
}

thread_local! {
    static MORTAL: Cell<Mortal> = const { Cell::new(Mortal { left: None, is_dead: false }) };
    static MEANWHILE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
    static DIES_THEN: Cell<bool> = const { Cell::new(false) };
    static COUNTS_LOADS: Cell<bool> = const { Cell::new(false) };
    static LATE: Cell<Late> = const { Cell::new(Late::No) };
    static KEPT_BACK: Cell<Option<(usize, u64)>> = const { Cell::new(None) };
    static PID: Cell<Option<u32>> = const { Cell::new(None) };
}

/// The pid under which the calling thread joins a family, if it plays another process.
pub(crate) fn pretended_pid() -> Option<u32> {
    PID.get()
}

/// A process that has ended, and whose number stays taken until this is dropped.
pub(crate) struct Corpse(std::process::Child);

impl Corpse {
    pub(crate) fn new() -> Self {
        let child = std::process::Command::new("true").spawn().expect("runs");
        while manycore_os::process::state(child.id()) != Some('Z') {
            std::thread::yield_now();
        }
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Runs `operation` as this process did.
    pub(crate) fn play<R>(&self, operation: impl FnOnce() -> R) -> R {
        PID.set(Some(self.pid()));
        let result = catch_unwind(AssertUnwindSafe(operation));
        PID.set(None);
        result.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    }
}

impl Drop for Corpse {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

/// What unwinds the operation of a dead process.
struct Died;

pub(crate) fn is_dead() -> bool {
    model::is_over() && model::is_active() || Mortal::current().is_dead
}

/// Kills the calling thread.
pub(crate) fn die() -> ! {
    let dead = Mortal {
        left: None,
        is_dead: true,
    };
    dead.store();
    panic_any(Died)
}

/// Whether a store is kept back that the process believes it has made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Late {
    No,
    /// The one after this many; the process dies in place of the store that comes so many later.
    In(u64, u64),
    /// One is; the next store with an order would show it, so the process dies in place of that at the
    /// latest.
    Yes,
    /// It died in place of that.
    Ordered,
}

/// Counts one load, where loads are counted: a process may be stopped between any two of them.
pub(crate) fn at_load() {
    if COUNTS_LOADS.get() && !is_dead() {
        is_lost(false, || ());
    }
}

/// Counts one store that is visible at once; `true` when it must not happen.
pub(crate) fn is_dead_at_store(order: Ordering) -> bool {
    is_lost(order != Relaxed && order != Acquire, || ())
}

/// Counts one store of `value` to the word at an address, which may be late.
pub(crate) fn is_dead_or_late_at_store(order: Ordering, word: usize, value: u64) -> bool {
    if is_dead_at_store(order) {
        return true;
    }
    if KEPT_BACK.get().is_some_and(|(kept, _)| kept == word) {
        forget_late(); // two stores to one word keep their order
    }
    let is_late = is_late();
    if is_late {
        KEPT_BACK.set(Some((word, value)));
    }
    is_late
}

/// What the calling process believes to be in the word at an address: it sees its own stores at once.
pub(crate) fn kept_back(word: usize) -> Option<u64> {
    KEPT_BACK
        .get()
        .filter(|&(kept, _)| kept == word)
        .map(|(_, value)| value)
}

/// As [`kept_back`], before an exchange, which shows it to all.
pub(crate) fn shown(word: usize) -> Option<u64> {
    let kept = kept_back(word);
    if kept.is_some() {
        forget_late();
    }
    kept
}

fn forget_late() {
    KEPT_BACK.set(None);
    LATE.set(Late::No);
}

/// Counts one copy, which a death cuts short: `half` makes the first half of it.
pub(crate) fn is_dead_or_late_at_copy(half: impl FnOnce()) -> bool {
    is_lost(false, half) || is_late()
}

fn is_lost(has_order: bool, half: impl FnOnce()) -> bool {
    if is_dead() {
        return true;
    }
    let mut mortal = Mortal::current();
    if LATE.get() == Late::Yes && has_order {
        if mortal.left != Some(0) {
            LATE.set(Late::Ordered);
        }
        mortal.left = Some(0);
    }
    let set_left = |left| Mortal { left, ..mortal }.store();
    match mortal.left {
        None => false,
        Some(0) => {
            set_left(None);
            if let Some(others) = MEANWHILE.take() {
                others();
                if !DIES_THEN.get() {
                    return false;
                }
            }
            half();
            die()
        }
        Some(n) => {
            set_left(Some(n - 1));
            false
        }
    }
}

/// Counts one store that may be late; `true` when it is.
fn is_late() -> bool {
    match LATE.get() {
        Late::In(0, then) => {
            LATE.set(Late::Yes);
            let left = Some(then);
            Mortal {
                left,
                ..Mortal::current()
            }
            .store();
            true
        }
        Late::In(n, then) => {
            LATE.set(Late::In(n - 1, then));
            false
        }
        Late::No | Late::Yes | Late::Ordered => false,
    }
}

/// The death of a process while it released a lock.
pub(crate) struct Death(Option<Box<dyn std::any::Any + Send>>);

impl Death {
    /// Unwinds on, unless the thread is unwinding already.
    pub(crate) fn go_on(self) {
        if let Some(payload) = self.0 {
            std::panic::resume_unwind(payload);
        }
    }
}

/// Runs the release of a lock; an error when the process died before it.
pub(crate) fn releasing(release: impl FnOnce()) -> Result<(), Death> {
    if is_dead() {
        return Err(Death(None));
    }
    catch_unwind(AssertUnwindSafe(release)).map_err(|payload| Death(Some(payload)))
}

/// Keeps deaths, and what ends a run of a model, out of the test's output.
pub(crate) fn quieten() {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            let is_death = info.payload().is::<Died>();
            if !model::notice_panic(info.payload(), is_death) && !is_death {
                usual(info);
            }
        }));
    });
}

/// Runs `operation` and kills it in place of its store number `stores` (from 0). `Some` is its
/// result when it had fewer stores than that.
pub(crate) fn run_until_death<R>(stores: u64, operation: impl FnOnce() -> R) -> Option<R> {
    quieten();
    let mortal = Mortal {
        left: Some(stores),
        is_dead: false,
    };
    mortal.store();
    let outcome = catch_unwind(AssertUnwindSafe(operation));
    KEPT_BACK.set(None);
    let died = Mortal::current().is_dead;
    Mortal::default().store();
    if model::is_active() {
        if died {
            model::kernel::bury_thread();
        }
    } else {
        Holder::current().retract(); // it may have died while taking a lock
    }
    match outcome {
        Ok(result) => {
            assert!(!died, "an operation swallowed its own death");
            Some(result)
        }
        Err(payload) if payload.is::<Died>() => None,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

/// Calls `explore` with 0, 1, 2 ... stores, until no process died of so many any more.
pub(crate) fn for_every_death(mut explore: impl FnMut(u64, &'static AtomicU64)) {
    let deaths: &'static AtomicU64 = Box::leak(Box::default());
    for stores in 0.. {
        deaths.store(0, Relaxed);
        explore(stores, deaths);
        if deaths.load(Relaxed) == 0 {
            return;
        }
    }
}

/// As [`run_until_death`], and counts the deaths.
pub(crate) fn run_and_count<R>(
    stores: u64,
    deaths: &AtomicU64,
    operation: impl FnOnce() -> R,
) -> Option<R> {
    let result = run_until_death(stores, operation);
    deaths.fetch_add(u64::from(result.is_none()), Relaxed);
    result
}

/// Runs `operation`, and in front of its load or store number `steps` (from 0) what `others` do. The result,
/// and whether it had that many.
pub(crate) fn interrupted<R>(
    steps: u64,
    others: impl FnOnce() + 'static,
    operation: impl FnOnce() -> R,
) -> (R, bool) {
    MEANWHILE.set(Some(Box::new(others)));
    COUNTS_LOADS.set(true);
    MORTAL.set(Mortal {
        left: Some(steps),
        is_dead: false,
    });
    let result = operation();
    MORTAL.set(Mortal::default());
    COUNTS_LOADS.set(false);
    (result, MEANWHILE.take().is_none())
}

/// Runs `operation`, in front of its load or store number `steps` (from 0) what `others` do, and kills it
/// there. `Some` is its result when it had fewer than that.
pub(crate) fn stopped_until_death<R>(
    steps: u64,
    others: impl FnOnce() + 'static,
    operation: impl FnOnce() -> R,
) -> Option<R> {
    MEANWHILE.set(Some(Box::new(others)));
    DIES_THEN.set(true);
    COUNTS_LOADS.set(true);
    let result = run_until_death(steps, operation);
    COUNTS_LOADS.set(false);
    DIES_THEN.set(false);
    MEANWHILE.take();
    result
}

/// How [`run_until_death_with_late`] ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LateDeath {
    /// In place of the store that was asked for.
    There,
    /// Earlier, in place of one that would have shown what was kept back; or nothing is kept back any more.
    Earlier,
    /// Not at all: the operation has fewer stores that may be late.
    Finished,
}

/// Runs `operation` without its store number `late` (from 0; exchanges are not counted), and kills it in
/// place of the store that comes `then` stores after that one.
pub(crate) fn run_until_death_with_late(
    late: u64,
    then: u64,
    operation: impl FnOnce(),
) -> LateDeath {
    LATE.set(Late::In(late, then));
    let outcome = run_until_death(u64::MAX, operation);
    match (outcome, LATE.replace(Late::No)) {
        (Some(()), Late::In(..)) => LateDeath::Finished,
        (None, Late::Yes) => LateDeath::There,
        _ => LateDeath::Earlier,
    }
}
