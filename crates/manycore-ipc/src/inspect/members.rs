//! The processes of a family, and what their threads sleep for.

use manycore_os::process::Identity;
use manycore_os::{mapped, onlooker, process};

use super::things::{self, Place};
use crate::error::Corrupted;
use crate::heap::Heap;
use crate::object::Objects;
use crate::registry::Registry;
use crate::registry::slot::Status;

/// A process.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its place in the registry.
    pub slot: usize,
    /// The process, as it is called in the family's PID namespace.
    pub pid: u32,
    /// What the registry knows of it.
    pub status: Status,
    /// What the kernel says: its state as in `ps`; `None` when it does not exist.
    pub state: Option<char>,
    /// Its command line, if the kernel tells.
    pub command: String,
    /// Its threads that sleep for something of the family's; `None` where the kernel does not tell.
    pub asleep: Option<Vec<Asleep>>,
}

/// A thread that sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asleep {
    /// The thread.
    pub thread: u32,
    /// Where.
    pub at: Place,
}

/// All that the registry names.
pub(super) fn members(
    heap: &'static Heap,
    registry: Registry,
    objects: &Objects,
) -> Result<Vec<Member>, Corrupted> {
    let mut members = Vec::new();
    for slot in registry.used() {
        let tenancy = registry.tenancy(slot)?;
        if matches!(tenancy.status, Status::Free | Status::Reserved) {
            continue;
        }
        let state = state(registry.slot(slot)?.identity(tenancy));
        members.push(Member {
            slot,
            pid: tenancy.pid,
            status: tenancy.status,
            state,
            command: state.map_or_else(String::new, |_| onlooker::command(tenancy.pid)),
            asleep: state.and_then(|_| asleep(heap, tenancy.pid, objects)),
        });
    }
    Ok(members)
}

/// The state of a process, not of a later one that has its number.
fn state(process: Identity) -> Option<char> {
    let state = process::state(process.pid)?;
    (state == 'Z' || !process::has_ended(process)).then_some(state)
}

fn asleep(heap: &'static Heap, pid: u32, objects: &Objects) -> Option<Vec<Asleep>> {
    let parts = mapped::ranges(pid, heap.mapping().file())?;
    let sleepers = onlooker::sleepers(pid).ok()?;
    let place = |address: u64| {
        let part = parts
            .iter()
            .find(|part| part.addresses.contains(&address))?;
        let offset = address - part.addresses.start + part.offset;
        things::place_at(objects, usize::try_from(offset).ok()?)
    };
    let known = |sleeper: onlooker::Sleeper| {
        Some(Asleep {
            thread: sleeper.thread,
            at: place(sleeper.address)?,
        })
    };
    Some(sleepers.into_iter().filter_map(known).collect())
}
