//! Which objects this process holds, and how often.
//!
//! Shared memory has one bit for each process and object; how many Python or Rust values of this
//! process stand behind the bit is private. Counts are taken over by a forked child together with
//! the values.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::registry::OwnerId;

/// Object index to how many local references there are, and to which generation.
#[derive(Default)]
pub struct Holdings {
    counts: Mutex<HashMap<u32, Holding>>,
}

/// The local references to one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Which of the objects at this index.
    pub generation: u32,
    /// Whose they are, where a forked child has no part in them; nobody's where it has.
    pub owner: OwnerId,
    /// How many local references.
    pub count: usize,
}

impl Holding {
    /// Whether a forked child has these references, too.
    pub(crate) fn is_inherited(&self) -> bool {
        self.owner.is_nobody()
    }
}

/// The children that the forking thread had before a fork. Touched by that thread alone, under the lock
/// of the counts.
#[derive(Default)]
pub struct Children(Mutex<Option<Vec<u32>>>);

impl Children {
    pub(crate) fn set(&self, pids: Option<Vec<u32>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pids;
    }

    pub(crate) fn take(&self) -> Option<Vec<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The table of counts.
pub type Counts = HashMap<u32, Holding>;

impl Holdings {
    /// The counts, locked. Nothing that waits happens under this lock.
    pub fn lock(&self) -> MutexGuard<'_, Counts> {
        // A panic while counting would leave a count that is at most too high.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one more local reference. What an earlier process had here, or what is left of an earlier object,
/// is gone, and with it all that those references could do.
pub(crate) fn count_up(counts: &mut Counts, index: u32, generation: u32, owner: OwnerId) {
    let none = Holding {
        generation,
        owner,
        count: 0,
    };
    let holding = counts.entry(index).or_insert(none);
    if (holding.generation, holding.owner) != (generation, owner) {
        *holding = none;
    }
    holding.count += 1;
}
