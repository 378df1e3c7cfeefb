//! The one family of this process.

use std::cell::Cell;
use std::mem::{ManuallyDrop, take};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use manycore_ipc::object::holding::Counts;
use manycore_ipc::{Family, FamilyError};
use manycore_os::channel::{self, Lent};
use manycore_os::fork::{self, Hooks};
use manycore_os::process;

use crate::launch::{Children, children};

static FAMILY: OnceLock<&'static Family> = OnceLock::new();
static FOUNDING: Mutex<()> = Mutex::new(());

static HOOKS: Hooks = Hooks {
    prepare,
    parent,
    child,
};

thread_local! {
    /// What stays locked from before a fork until after it, on both sides. Never dropped by itself, so that
    /// a thread may fork also while it is ending.
    static ACROSS_FORK: Cell<Option<ManuallyDrop<AcrossFork>>> = const { Cell::new(None) };
}

/// Every lock of this crate that another thread may hold at a fork and that the child needs, in the order
/// in which they are taken.
struct AcrossFork {
    _founding: MutexGuard<'static, ()>,
    children: MutexGuard<'static, Children>,
    lifelines: MutexGuard<'static, Vec<Lent>>,
    counts: Option<MutexGuard<'static, Counts>>,
}

/// The family of this process; founds one at the first call.
///
/// # Errors
/// When the system refuses the memory for it.
pub fn family() -> Result<&'static Family, FamilyError> {
    match FAMILY.get() {
        Some(family) => Ok(family),
        None => found(Family::create),
    }
}

/// The family of this process, if it has one already.
#[must_use]
pub fn existing() -> Option<&'static Family> {
    FAMILY.get().copied()
}

/// Joins the family whose heap this descriptor was inherited for.
///
/// # Errors
/// When it is no heap of this version, or this process has a family already.
pub fn join(heap: OwnedFd) -> Result<&'static Family, FamilyError> {
    if FAMILY.get().is_some() {
        return Err(FamilyError::Foreign(
            "this process already belongs to a family",
        ));
    }
    found(|| Family::attach(heap))
}

fn found(
    make: impl FnOnce() -> Result<&'static Family, FamilyError>,
) -> Result<&'static Family, FamilyError> {
    fork::install(&HOOKS); // before the first lock: a fork by another thread waits for this one
    let _turn = founding();
    if let Some(family) = FAMILY.get() {
        return Ok(family); // another thread was quicker
    }
    let family = make()?;
    family.me()?;
    if is_main_thread() {
        family.link_life()?;
    }
    let _ = FAMILY.set(family);
    Ok(family)
}

fn founding() -> MutexGuard<'static, ()> {
    FOUNDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread whose id is the process's lives as long as the process.
fn is_main_thread() -> bool {
    process::current_thread() == std::process::id()
}

fn prepare() {
    let across = AcrossFork {
        _founding: founding(),
        children: children(),
        lifelines: lifelines(),
        counts: existing().map(Family::prepare_fork),
    };
    ACROSS_FORK.set(Some(ManuallyDrop::new(across)));
}

fn after_fork() -> Option<AcrossFork> {
    ACROSS_FORK.take().map(ManuallyDrop::into_inner)
}

fn parent() {
    let across = after_fork();
    let counts = across.as_ref().and_then(|across| across.counts.as_ref());
    if let (Some(family), Some(counts)) = (existing(), counts) {
        family.finish_fork(counts);
    }
}

fn child() {
    if let Some(family) = existing() {
        family.adopt_fork();
    }
    let Some(mut across) = after_fork() else {
        return;
    };
    across.lifelines.clear(); // which closes them
    let not_ours = take(&mut *across.children);
    drop(across);
    drop(not_ours); // lets go of rings, which takes the lock of the counts
}

/// Write ends of the lifelines of this process's children. A forked child closes its copies: a
/// lifeline is held by the owner alone.
static LIFELINES: Mutex<Vec<Lent>> = Mutex::new(Vec::new());

fn lifelines() -> MutexGuard<'static, Vec<Lent>> {
    LIFELINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a lifeline: the read end for a child, and the number of the write end, which this process keeps
/// until [`cut_lifeline`].
///
/// # Errors
/// When there are no descriptors left.
pub fn make_lifeline() -> std::io::Result<(OwnedFd, i32)> {
    let mut all = lifelines(); // before there is a pipe: a fork waits, and its child closes every write end
    let (read_end, write_end) = channel::pipe()?;
    let line = Lent::new(write_end)?;
    let number = line.number();
    all.push(line);
    Ok((read_end, number))
}

/// Closes the write end of a child's lifeline: the child dies, if it still lives.
pub fn cut_lifeline(fd: i32) {
    let mut all = lifelines();
    if let Some(at) = all.iter().position(|line| line.number() == fd) {
        all.swap_remove(at);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::time::Duration;

    use manycore_os::fork::{By, in_child};
    use manycore_os::process::{Exit, ended_within, kill, open, reap};

    use super::*;

    /// The exit of a child; one that hangs is killed.
    fn exit_of(child: u32) -> Option<Exit> {
        if let Ok(pidfd) = open(child) {
            if !ended_within(pidfd, Duration::from_secs(60)) {
                kill(child).expect("ours");
            }
        }
        reap(child, true).expect("ours")
    }

    /// How many write ends of pipes are open, beside the standard ones.
    fn write_ends() -> usize {
        let is_pipe = |fd: &u32| {
            std::fs::read_link(format!("/proc/self/fd/{fd}"))
                .is_ok_and(|target| target.to_string_lossy().starts_with("pipe:"))
        };
        let is_written = |fd: &u32| {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"));
            let flags = info.unwrap_or_default();
            let flags = flags.lines().find_map(|line| line.strip_prefix("flags:"));
            flags.is_some_and(|flags| flags.trim().ends_with('1'))
        };
        (3..100).filter(|fd| is_pipe(fd) && is_written(fd)).count()
    }

    #[test]
    fn a_child_has_no_lifeline_of_another() {
        family().expect("memory");
        let before = write_ends();
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Relaxed) {
                    let (_, kept) = make_lifeline().expect("descriptors");
                    cut_lifeline(kept);
                }
            });
            let held = |_| {
                let child = in_child(By::Fork, || i32::from(write_ends() != before));
                exit_of(child.expect("a process")) != Some(Exit::Code(0))
            };
            let times = (0..200).map(held).filter(|&is_held| is_held).count();
            is_done.store(true, Relaxed);
            assert_eq!(times, 0);
        });
    }

    #[test]
    fn a_child_finds_no_lock_taken_by_a_thread_that_it_does_not_have() {
        fork::install(&HOOKS); // as always before the first of these locks is taken
        let is_done = AtomicBool::new(false);
        let again_and_again = |operation: fn()| {
            while !is_done.load(Relaxed) {
                (0..100).for_each(|_| operation());
                std::thread::yield_now(); // these locks are not fair
            }
        };
        let operations: [fn(); 4] = [
            || drop(founding()),
            || drop(children()),
            || drop(lifelines()),
            || drop(existing().map(|family| family.make_lock())),
        ];
        std::thread::scope(|scope| {
            for operation in operations {
                scope.spawn(move || again_and_again(operation));
            }
            for round in 0..40 {
                let child = in_child(By::Fork, || {
                    operations.iter().for_each(|operation| operation());
                    let family = family().expect("memory");
                    i32::from(family.make_lock().is_err())
                });
                let exit = exit_of(child.expect("a process"));
                is_done.store(exit != Some(Exit::Code(0)), Relaxed);
                assert_eq!(exit, Some(Exit::Code(0)), "in round {round}");
                let _ = family(); // founded after the first round
            }
            is_done.store(true, Relaxed);
        });
    }
}
