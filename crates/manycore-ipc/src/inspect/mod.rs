//! What a family's processes are doing, for whoever looks from outside: at a program that lives, or hangs.
//!
//! | module | what it is |
//! |---|---|
//! | [`members`] | the processes, and what their threads sleep for |
//! | [`things`] | the shared objects |
//! | `text` | all of it in words |
//!
//! Nothing is written and no lock is taken, so that who looks can neither help nor harm. What is seen changes
//! meanwhile: each figure was true at some moment, not all of them at the same.

pub mod members;
mod text;
pub mod things;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use manycore_os::{channel, onlooker};

use crate::block::Blocks;
use crate::error::{Corrupted, FamilyError};
use crate::heap::{Heap, header};
use crate::object::Objects;
use crate::registry::{OwnerId, Registry};

pub use members::{Asleep, Member};
pub use things::{Detail, GONE, Holders, Place, Thing};

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

/// Looks at the family of a process. What it has mapped for that is kept, for the next time.
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
    report(seen(file)?)
}

/// The heap that a file is, mapped once.
fn seen(file: OwnedFd) -> Result<&'static Heap, InspectError> {
    // Not while another thread forks: see the binding.
    static SEEN: Mutex<Vec<&'static Heap>> = Mutex::new(Vec::new());
    let identity = channel::identity(&file).map_err(FamilyError::from)?;
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = seen.iter().find(|heap| heap.mapping().file() == identity);
    if let Some(known) = known {
        return Ok(known);
    }
    let heap = header::look_at(file)?;
    seen.push(heap);
    Ok(heap)
}

fn report(heap: &'static Heap) -> Result<Report, InspectError> {
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

#[cfg(test)]
mod tests;
