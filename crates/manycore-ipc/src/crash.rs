//! Death at a chosen store, for the tests of this crate.
//!
//! A test arms the calling thread with a number of stores. The store after the last one does not
//! happen and unwinds the operation; whatever the unwinding code would still store is dropped too,
//! as if the process had been killed there. [`run_until_death`] returns once the "process" is gone.
//!
//! [`interrupted`] does not kill: it lets others act in front of a store, as if the process had been
//! stopped there. For what takes no lock, that walks through every order of two processes' steps.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    static DEAD: Cell<bool> = const { Cell::new(false) };
    static MEANWHILE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
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
        let result = operation();
        PID.set(None);
        result
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
    DEAD.get()
}

/// Counts one store; `true` when it must not happen.
pub(crate) fn is_dead_at_store() -> bool {
    if DEAD.get() {
        return true;
    }
    match LEFT.get() {
        None => false,
        Some(0) => {
            LEFT.set(None);
            if let Some(others) = MEANWHILE.take() {
                others();
                return false;
            }
            DEAD.set(true);
            panic_any(Died);
        }
        Some(n) => {
            LEFT.set(Some(n - 1));
            false
        }
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

/// Runs `operation` and kills it in place of its store number `stores` (from 0). `Some` is its
/// result when it had fewer stores than that.
pub(crate) fn run_until_death<R>(stores: u64, operation: impl FnOnce() -> R) -> Option<R> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if !info.payload().is::<Died>() {
                usual(info);
            }
        }));
    });
    LEFT.set(Some(stores));
    let outcome = catch_unwind(AssertUnwindSafe(operation));
    LEFT.set(None);
    let died = DEAD.replace(false);
    manycore_os::robust::Holder::current().retract(); // it may have died while taking a lock
    match outcome {
        Ok(result) => {
            assert!(!died, "an operation swallowed its own death");
            Some(result)
        }
        Err(payload) if payload.is::<Died>() => None,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

/// Runs `operation`, and in front of its store number `stores` (from 0) what `others` do. The result, and
/// whether it had that many stores.
pub(crate) fn interrupted<R>(
    stores: u64,
    others: impl FnOnce() + 'static,
    operation: impl FnOnce() -> R,
) -> (R, bool) {
    MEANWHILE.set(Some(Box::new(others)));
    LEFT.set(Some(stores));
    let result = operation();
    LEFT.set(None);
    (result, MEANWHILE.take().is_none())
}
