//! Looking at a family: finding its heap, and what is there.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use manycore_os::{channel, onlooker};

use super::{Member, Thing};
use super::{members, things};
use crate::block::Blocks;
use crate::error::{Corrupted, FamilyError};
use crate::heap::{Heap, header};
use crate::object::Objects;
use crate::registry::{OwnerId, Registry};

/// What was seen of a family. Its `Display` says it in words.
#[derive(Clone, Debug)]
pub struct Report {
    /// The number that tells this family from all others.
    pub family: u64,
    /// Bytes that have memory: of blocks in use, and of all.
    pub memory: (u64, u64),
    /// Processes that belong to it, or did and are not yet cleaned up after.
    pub members: Vec<Member>,
    /// Objects that somebody holds, in the order of their numbers.
    pub things: Vec<Thing>,
}

/// Why a process cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// There is no such process, it has no family, or this user may not look at it.
    #[error("process {0} cannot be looked at: {1}")]
    Unreachable(u32, #[source] io::Error),
    /// The family is of another version of manycore.
    #[error(transparent)]
    Family(#[from] FamilyError),
    /// See [`Corrupted`].
    #[error(transparent)]
    Corrupted(#[from] Corrupted),
}

/// Looks at the family of a process. What was mapped for that stays mapped, also what turned out to be no heap of this
/// version: for the next time, and since addresses in a heap are good for ever. It costs address space, not memory.
///
/// # Errors
/// When that is impossible.
pub fn inspect(pid: u32) -> Result<Report, InspectError> {
    let file = onlooker::open_heap(pid).map_err(|error| {
        let error = match error.kind() {
            io::ErrorKind::NotFound if onlooker::command(pid).is_empty() => {
                io::Error::new(error.kind(), "there is no such process")
            }
            io::ErrorKind::NotFound => {
                io::Error::new(error.kind(), "it has not used manycore so far")
            }
            _ => error,
        };
        InspectError::Unreachable(pid, error)
    })?;
    Ok(report(seen(file)?)?)
}

/// The heap that a file is, mapped once and checked each time: one that is just being made becomes a heap yet.
pub(super) fn seen(file: OwnedFd) -> Result<&'static Heap, FamilyError> {
    // Not while another thread forks: see the binding.
    static SEEN: Mutex<Vec<&'static Heap>> = Mutex::new(Vec::new());
    let identity = channel::identity(&file)?;
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = seen.iter().find(|heap| heap.mapping().file() == identity);
    let heap = match known {
        Some(known) => known,
        None => {
            let heap = header::look_at(file)?;
            seen.push(heap);
            heap
        }
    };
    header::check(heap)?;
    Ok(heap)
}

/// Looks at a heap.
///
/// # Errors
/// When it was scribbled on.
pub(super) fn report(heap: &'static Heap) -> Result<Report, Corrupted> {
    let nobody = OwnerId::NOBODY;
    let (blocks, objects) = (Blocks::new(heap, nobody), Objects::new(heap, nobody));
    let members = members::members(heap, Registry::new(heap), &objects)?;
    Ok(Report {
        family: heap.header().family(),
        memory: blocks.bytes_with_memory(),
        things: things::things(&objects, &blocks)?,
        members,
    })
}
