//! The family of this process, as far as Python needs to know it.

use std::os::fd::{AsFd, IntoRawFd};

use manycore::family as engine;
use manycore_ipc::stall;
use manycore_ipc::{Family, Handle, Hold, Kind};
use manycore_os::{lifeline, process};
use pyo3::prelude::*;

use crate::errors::Error;

/// A handle as Python has it: family, index and generation.
pub type Parts = (u64, u32, u32);

/// The family; founded at the first call.
pub fn family() -> Result<&'static Family, Error> {
    Ok(engine::family()?)
}

/// Whether this process has a family by now.
#[pyfunction]
pub fn has_family() -> bool {
    engine::existing().is_some()
}

/// A duplicate of the heap's descriptor for a child that is started by `spawn`: its number. The caller
/// closes it once the child has been started.
#[pyfunction]
pub fn heap_fd() -> Result<i32, Error> {
    Ok(family()?.heap().mapping().duplicate()?.into_raw_fd())
}

/// Joins the family whose heap was handed down as descriptor `fd`.
#[pyfunction]
pub fn join_family(fd: i32) -> Result<(), Error> {
    engine::join(crate::buffer::owned_fd(fd)?)?;
    Ok(())
}

/// Number of the family, slot and generation of this process.
#[pyfunction]
pub fn membership() -> Result<(u64, usize, u32), Error> {
    let family = family()?;
    let me = family.me().map_err(Error::from)?;
    Ok((family.number(), me.slot(), me.generation()))
}

/// Says goodbye to the family: what this process still holds stays held.
#[pyfunction]
pub fn leave_family() {
    if let Some(family) = engine::existing() {
        family.leave();
    }
}

/// Cleans up after family members that have ended; their pids and whether they were killed.
#[pyfunction]
pub fn reap(py: Python<'_>) -> Vec<(u32, bool)> {
    let Some(family) = engine::existing() else {
        return Vec::new();
    };
    // Without the interpreter: what it waits for may be for another thread of this program to do.
    let found = py.detach(|| {
        let found = family.reap_dead(true);
        let _ = family.free_buried(); // damage shows again when the objects are used
        found
    });
    found
        .into_iter()
        .map(|dead| (dead.pid, dead.was_killed))
        .collect()
}

/// The ids of all other members of the family that are not confirmed to have ended.
#[pyfunction]
pub fn other_members() -> Result<Vec<u32>, Error> {
    let family = family()?;
    Ok(family.registry().others(family.me()?))
}

/// A lifeline for a child: the number of the read end for the child, and of the write end that this
/// process keeps.
#[pyfunction]
pub fn make_lifeline() -> Result<(i32, i32), Error> {
    family()?; // its fork hooks close the write end in other children
    let (read, kept) = engine::make_lifeline()?;
    Ok((read.into_raw_fd(), kept))
}

/// Lets go of a child's lifeline.
#[pyfunction]
pub fn cut_lifeline(fd: i32) {
    engine::cut_lifeline(fd);
}

/// Makes this process die with the owner of the lifeline's write end.
#[pyfunction]
pub fn arm_lifeline(fd: i32) -> Result<(), Error> {
    Ok(lifeline::arm(crate::buffer::owned_fd(fd)?)?)
}

/// Makes a child die with the owner of its lifeline's write end, before it can arm the lifeline itself. The
/// caller keeps its copy of the read end, and has not waited for the child.
#[pyfunction]
pub fn arm_lifeline_of(pid: u32, fd: i32) -> Result<(), Error> {
    let read_end = crate::buffer::owned_fd(fd)?;
    let armed = lifeline::arm_for(read_end.as_fd(), pid);
    let _ = read_end.into_raw_fd(); // it stays the caller's
    Ok(armed?)
}

/// The calling thread's name, as `ps` shows that of a process's first thread.
#[pyfunction]
pub fn thread_name() -> Result<Vec<u8>, Error> {
    Ok(process::thread_name()?.into_bytes())
}

/// Gives the calling thread a name, of which the kernel keeps 15 bytes. It must have no zero in it.
#[pyfunction]
pub fn rename_thread(name: Vec<u8>) -> Result<(), Error> {
    let name = std::ffi::CString::new(name).map_err(PyErr::from)?;
    Ok(process::rename_thread(&name)?)
}

/// Makes a worker the first to go when memory runs out, and its death quick.
#[pyfunction]
pub fn volunteer_for_oom() {
    process::volunteer_for_oom();
}

/// What the heap uses, as a dict-like tuple: blocks in use, their bytes, bytes free, processes found dead.
#[pyfunction]
pub fn heap_usage() -> Result<(u64, u64, u64, u32), Error> {
    let family = family()?;
    family.free_buried()?;
    let usage = family.blocks()?.usage()?;
    let page = manycore_os::mapping::PAGE as u64;
    let deaths = family.registry().deaths();
    Ok((
        usage.used_blocks,
        usage.used_pages * page,
        usage.free_pages * page,
        deaths,
    ))
}

/// Numbers of the descriptors that the family keeps open in this process for its whole life.
#[pyfunction]
pub fn permanent_fds() -> Vec<i32> {
    engine::existing()
        .and_then(|family| family.heap().mapping().fd())
        .into_iter()
        .collect()
}

/// A handle of these parts.
pub fn handle_of(parts: Parts) -> Handle {
    Handle {
        family: parts.0,
        index: parts.1,
        generation: parts.2,
    }
}

/// What this process holds as long as the object is there.
#[pyclass(frozen, module = "manycore._engine")]
pub struct Held {
    _holds: Vec<Hold>,
}

/// Takes over handles that came outside a message, in the arguments of a spawned process: its death lets go of
/// what it holds, as no death does of what is counted.
#[pyfunction]
pub fn receive_handles(handles: Vec<Parts>) -> Result<Held, Error> {
    let handles: Vec<_> = handles.iter().map(|&(_, index, n)| (index, n)).collect();
    let _holds = family()?.receive(&handles)?;
    Ok(Held { _holds })
}

/// Takes back the counting of [`handles_sent`].
#[pyfunction]
pub fn handles_arrived(handles: Vec<Parts>) -> Result<(), Error> {
    let family = family()?;
    let objects = family.objects()?;
    for handle in handles {
        objects.arrived(handle_of(handle).index)?;
    }
    Ok(())
}

/// Counts handles that will travel outside a message.
#[pyfunction]
pub fn handles_sent(handles: Vec<Parts>) -> Result<(), Error> {
    let handles: Vec<_> = handles.into_iter().map(handle_of).collect();
    Ok(family()?.send(&handles)?)
}

/// Sets up what the engine needs in this process once the module is imported.
pub fn initialise() {
    stall::on_stall(|stalled| {
        Python::attach(|py| {
            let warned = py
                .import("manycore.errors")
                .and_then(|m| m.call_method1("warn_stalled", (stalled.tid, stalled.state)));
            if let Err(error) = warned {
                error.write_unraisable(py, None);
            }
        });
    });
}

/// Holds an object by its parts.
pub fn hold(parts: Parts, kind: Kind) -> Result<Hold, Error> {
    Ok(family()?.hold(handle_of(parts), kind)?)
}
