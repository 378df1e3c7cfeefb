//! Telling the program that a lock's holder does not move.

use std::sync::OnceLock;

/// A thread holds an engine lock and does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Its thread id; for a process with one thread, its process id.
    pub tid: u32,
    /// Its state as the kernel shows it: `T` stopped, `t` traced, `D` waiting for a device.
    pub state: char,
}

static HOOK: OnceLock<fn(Stalled)> = OnceLock::new();

/// Sets what hears of stalls. It runs in the waiting thread, with no lock held, about every 75 ms
/// from the first second on. The first setting holds.
pub fn on_stall(hook: fn(Stalled)) {
    let _ = HOOK.set(hook);
}

pub(crate) fn report(tid: u32) {
    if let Some(hook) = HOOK.get() {
        hook(Stalled {
            tid,
            state: manycore_os::process::state(tid).unwrap_or('?'),
        });
    }
}
