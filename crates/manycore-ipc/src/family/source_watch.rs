//! Whether anybody is left who holds a source: for those that are not told by a ring.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{Family, Hold};
use crate::error::HandleError;
use crate::object::{Handle, Kind, Objects};

/// Looks after the holders of a source without holding it.
#[derive(Debug)]
pub struct SourceWatch {
    source: Handle,
    /// A process that held it when all were looked at. While it lives and still does, that is enough.
    seen: AtomicUsize,
}

impl Family {
    /// Makes a source, which exactly those processes hold that have this hold or a clone of it, by way of a
    /// message too, and no forked child by itself.
    ///
    /// # Errors
    /// When there is no room.
    pub fn make_source(&'static self) -> Result<Hold, HandleError> {
        self.make(Kind::Source, |_, _| Ok(()))
    }
}

impl SourceWatch {
    /// For a source that somebody holds.
    #[must_use]
    pub fn on(source: Handle) -> Self {
        let seen = AtomicUsize::new(0); // no process has this slot
        Self { source, seen }
    }

    /// What is watched.
    #[must_use]
    pub fn source(&self) -> Handle {
        self.source
    }

    /// Whether all have let go, or were killed, as far as the kernel has marked it. Once it is true it stays so.
    ///
    /// # Errors
    /// When this process cannot register, or the memory is corrupted.
    #[inline]
    pub fn is_over(&self, family: &Family) -> Result<bool, HandleError> {
        let objects = family.objects()?;
        if is_gone(&objects, self.source)? {
            return Ok(true);
        }
        let seen = self.seen.load(Relaxed); // a hint that is checked by the next lines
        let is_enough = seen != 0
            && objects.is_held_by(self.source.index, seen)?
            && !family.registry().may_have_ended(seen);
        if is_enough {
            return Ok(false);
        }
        self.look(family, false)
    }

    /// The same after a look at all holders: at those that the kernel has marked, or, when `thoroughly`, every
    /// one that is confirmed to have ended.
    ///
    /// # Errors
    /// As [`SourceWatch::is_over`].
    #[cold]
    pub fn look(&self, family: &Family, thoroughly: bool) -> Result<bool, HandleError> {
        family.look_after(self.source, thoroughly)?;
        let objects = family.objects()?;
        let first = objects.holder_slots(self.source.index)?.next();
        self.seen.store(first.unwrap_or(0), Relaxed);
        is_gone(&objects, self.source)
    }
}

impl Clone for SourceWatch {
    fn clone(&self) -> Self {
        Self::on(self.source)
    }
}

fn is_gone(objects: &Objects, source: Handle) -> Result<bool, HandleError> {
    match objects.check(source) {
        Ok(()) => Ok(false),
        Err(HandleError::Gone) => Ok(true),
        Err(error) => Err(error),
    }
}
