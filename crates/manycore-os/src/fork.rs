//! Hooks that run around every `fork` of this process, also one made by C code.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

/// What to run around a fork. `prepare` runs in the parent before, `parent` and `child` after it.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// Before the fork, in the forking thread.
    pub prepare: fn(),
    /// After the fork, in the parent's forking thread, also when the fork failed.
    pub parent: fn(),
    /// After the fork, in the child's only thread.
    pub child: fn(),
}

/// Not a `OnceLock`, nor a `Once` in [`install`]: a fork while another thread installs would leave it
/// locked for ever in the child.
static HOOKS: AtomicPtr<Hooks> = AtomicPtr::new(ptr::null_mut());
static IS_INSTALLED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether the fork that this thread is making has been prepared.
    static IS_PREPARED: Cell<bool> = const { Cell::new(false) };
}

fn hooks() -> Option<&'static Hooks> {
    // Acquire pairs with the Release in `install`.
    let hooks = HOOKS.load(Acquire);
    // SAFETY: null, or what `install` stored: a reference for the life of the program.
    unsafe { hooks.as_ref() }
}

extern "C" fn prepare() {
    if let Some(hooks) = hooks().filter(|_| !IS_PREPARED.replace(true)) {
        (hooks.prepare)();
    }
}

extern "C" fn parent() {
    if let Some(hooks) = hooks().filter(|_| IS_PREPARED.replace(false)) {
        (hooks.parent)();
    }
}

extern "C" fn child() {
    crate::incarnation::forget();
    if let Some(hooks) = hooks().filter(|_| IS_PREPARED.replace(false)) {
        (hooks.child)();
    }
}

/// Installs the hooks for the life of the process; later calls change nothing. Two threads may come at
/// once, or one whose process is forked in the middle: hooks that were registered twice run once all the
/// same.
pub fn install(hooks: &'static Hooks) {
    if IS_INSTALLED.load(Relaxed) {
        return; // a flag that guards no other memory
    }
    // Release pairs with the Acquire in `hooks`.
    HOOKS.store(ptr::from_ref(hooks).cast_mut(), Release);
    // SAFETY: the three functions are safe to call at any fork, live as long as this image, and this
    // image is never unloaded (its mapping, too, is permanent).
    let rc = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    assert_eq!(rc, 0, "pthread_atfork only fails for want of memory");
    IS_INSTALLED.store(true, Relaxed);
}

/// How [`in_child`] makes a process.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum By {
    /// As programs do: the hooks run.
    Fork,
    /// By the bare system call, of which no library hears.
    RawClone,
}

/// Forks, as the C library does; zero in the child.
///
/// # Errors
/// When there can be no child.
pub fn fork_bare() -> io::Result<u32> {
    // SAFETY: a copy of this thread goes on in the child, with this engine's own hooks behind it. What a
    // child of a program with threads may do there is for the caller to know, as with `fork` everywhere.
    let pid = unsafe { libc::fork() };
    u32::try_from(pid).map_err(|_| io::Error::last_os_error())
}

/// Runs `body` in a child, which exits with what it returns; the child's pid. For tests of what forks do
/// to this engine: a program with threads must expect that the child finds locks of other libraries taken,
/// and after a `RawClone` even the C library's own.
///
/// # Errors
/// When there can be no child.
#[doc(hidden)]
pub fn in_child(by: By, body: impl FnOnce() -> i32) -> io::Result<u32> {
    let pid = match by {
        By::Fork => i64::from(fork_bare()?),
        // SAFETY: as above; without `CLONE_VM` and a stack this is a fork.
        By::RawClone => unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) },
    };
    match u32::try_from(pid) {
        Ok(0) => {
            let status = catch_unwind(AssertUnwindSafe(body)).unwrap_or(101);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(status) }
        }
        Ok(pid) => Ok(pid),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Exit, reap};

    thread_local! {
        /// How many hooks ran in this thread: other tests fork, too.
        static RAN: Cell<i32> = const { Cell::new(0) };
    }

    fn count() {
        RAN.set(RAN.get() + 1);
    }

    #[test]
    fn hooks_that_were_registered_twice_run_once() {
        static COUNTING: Hooks = Hooks {
            prepare: count,
            parent: count,
            child: count,
        };
        install(&COUNTING);
        IS_INSTALLED.store(false, Relaxed); // as a child finds it that was forked in the middle
        install(&COUNTING);
        for by in [By::Fork, By::RawClone] {
            RAN.set(0);
            let child = in_child(by, || RAN.get()).expect("a process");
            let exit = reap(child, true).expect("ours");
            let ran = match by {
                By::Fork => 2,
                By::RawClone => 0,
            };
            assert_eq!((exit, RAN.get()), (Some(Exit::Code(ran)), ran), "{by:?}");
        }
    }
}
