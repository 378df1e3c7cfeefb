//! The one family of this process.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use manycore_ipc::object::holding::Counts;
use manycore_ipc::{Family, FamilyError};
use manycore_os::fork::{self, Hooks};
use manycore_os::{channel, process};

static FAMILY: OnceLock<&'static Family> = OnceLock::new();
static FOUNDING: Mutex<()> = Mutex::new(());

thread_local! {
    /// What stays locked from before a fork until after it, on both sides.
    static ACROSS_FORK: RefCell<Option<AcrossFork>> = const { RefCell::new(None) };
}

struct AcrossFork {
    counts: MutexGuard<'static, Counts>,
    lifelines: MutexGuard<'static, Vec<Lifeline>>,
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
    let _turn = FOUNDING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(family) = FAMILY.get() {
        return Ok(family); // another thread was quicker
    }
    let family = make()?;
    family.me()?;
    if is_main_thread() {
        family.link_life()?;
    }
    let _ = FAMILY.set(family);
    fork::install(Hooks {
        prepare,
        parent,
        child,
    });
    Ok(family)
}

/// The thread whose id is the process's lives as long as the process.
fn is_main_thread() -> bool {
    process::current_thread() == std::process::id()
}

fn prepare() {
    if let Some(family) = existing() {
        let lifelines = lifelines();
        let across = AcrossFork {
            counts: family.prepare_fork(),
            lifelines,
        };
        ACROSS_FORK.with_borrow_mut(|slot| *slot = Some(across));
    }
}

fn parent() {
    if let Some(across) = ACROSS_FORK.with_borrow_mut(Option::take) {
        if let Some(family) = existing() {
            family.finish_fork(&across.counts);
        }
    }
}

fn child() {
    if let Some(family) = existing() {
        family.adopt_fork();
    }
    if let Some(mut across) = ACROSS_FORK.with_borrow_mut(Option::take) {
        for line in across.lifelines.drain(..) {
            channel::close_if_same(line.fd, line.file);
        }
    }
}

/// Write ends of the lifelines of this process's children. A forked child closes its copies: a
/// lifeline is held by the owner alone.
static LIFELINES: Mutex<Vec<Lifeline>> = Mutex::new(Vec::new());

#[derive(Clone, Copy)]
struct Lifeline {
    fd: i32,
    file: (u64, u64),
}

fn lifelines() -> MutexGuard<'static, Vec<Lifeline>> {
    LIFELINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the write end of a child's lifeline until [`cut_lifeline`]; returns its number.
///
/// # Errors
/// When the descriptor is closed already.
pub fn keep_lifeline(write_end: OwnedFd) -> std::io::Result<i32> {
    use std::os::fd::{AsFd, IntoRawFd};
    let file = channel::identity(write_end.as_fd())?;
    let fd = write_end.into_raw_fd();
    lifelines().push(Lifeline { fd, file });
    Ok(fd)
}

/// Closes the write end of a child's lifeline: the child dies, if it still lives.
pub fn cut_lifeline(fd: i32) {
    let mut all = lifelines();
    if let Some(at) = all.iter().position(|line| line.fd == fd) {
        let line = all.swap_remove(at);
        channel::close_if_same(line.fd, line.file);
    }
}
