//! A fork by a thread of ours, of which Python 3.12 and later do not warn.
#![allow(unsafe_code)] // the limited API has the steps of `os.fork`, but not as safe calls

use manycore_os::fork::fork_bare;
use pyo3::ffi;
use pyo3::prelude::*;

/// Does what `os.fork` does, hooks included, but warns of nothing. What other threads have printed is written before,
/// so that the child does not write it once more.
#[pyfunction]
pub fn fork(py: Python<'_>) -> PyResult<u32> {
    // SAFETY: this thread is attached to the interpreter, and one of the calls below follows in each process.
    unsafe { ffi::PyOS_BeforeFork() };
    write_out(py);
    let pid = fork_bare();
    match pid {
        // SAFETY: as `os.fork` does it, in the child's only thread, which the fork left attached.
        Ok(0) => unsafe { ffi::PyOS_AfterFork_Child() },
        // SAFETY: the step before was taken by this thread.
        _ => unsafe { ffi::PyOS_AfterFork_Parent() },
    }
    Ok(pid?)
}

/// Writes what was printed. Behind the hooks: no other thread runs Python code between this and the fork, unless a
/// stream is a program's own class.
fn write_out(py: Python<'_>) {
    let Ok(sys) = py.import("sys") else { return };
    for name in ["stdout", "stderr"] {
        // One that is `None`, closed or broken is no reason not to fork.
        let _ = sys
            .getattr(name)
            .and_then(|stream| stream.call_method0("flush"));
    }
}
