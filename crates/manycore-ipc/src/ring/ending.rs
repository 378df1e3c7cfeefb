//! Whether anybody is left who would put something in.
//!
//! A ring names its *source*, an object that the processes hold that have an open producer. The ring does not
//! hold it: once nobody does, it is condemned as any object is, which cannot be taken back, and the *stream* is
//! over. Whoever produces after that names another source.

use std::sync::atomic::Ordering::{AcqRel, Acquire};

use manycore_os::Deadline;

use super::get::GetError;
use super::pollers::Event;
use super::region::Ring;
use crate::error::{Corrupted, HandleError};
use crate::object::Handle;
use crate::wait::Patience;

/// How a ring names a source: `index + 1:32 | generation:32`; zero as long as there was none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SourceName(u64);

impl SourceName {
    fn of(source: Handle) -> Self {
        Self(u64::from(source.index + 1) << 32 | u64::from(source.generation))
    }

    /// The source, if it is the name of one.
    pub(crate) fn handle(self, family: u64) -> Option<Handle> {
        Some(Handle {
            family,
            index: ((self.0 >> 32) as u32).checked_sub(1)?,
            generation: self.0 as u32,
        })
    }
}

impl Ring {
    pub(crate) fn source_name(&self) -> SourceName {
        // Acquire pairs with the Release in `name_source`: the source was made before.
        SourceName(self.body.source.load(Acquire))
    }

    /// The source that the ring names. It may be over.
    #[must_use]
    pub fn source(&self) -> Option<Handle> {
        self.source_name()
            .handle(self.blocks.heap.header().family())
    }

    /// Names another source, unless somebody has done so meanwhile.
    pub(crate) fn name_source(&self, from: SourceName, to: Handle) -> bool {
        self.body
            .source
            .compare_exchange(from.0, SourceName::of(to).0, AcqRel, Acquire)
            .is_ok()
    }

    /// Whether there were producers, and all of them have closed, or have died and were cleaned up after.
    ///
    /// # Errors
    /// When the source's words make no sense.
    pub fn is_over(&self) -> Result<bool, Corrupted> {
        let Some(source) = self.source() else {
            return Ok(false);
        };
        match self.objects.check(source) {
            Ok(()) => Ok(false),
            Err(HandleError::Corrupted(error)) => Err(error),
            Err(_) => Ok(true),
        }
    }

    /// Whether the ring might stay empty for ever: it is closed, or has, or had, producers.
    #[inline]
    #[must_use]
    pub fn may_be_over(&self) -> bool {
        self.is_closed() || self.body.source.load(Acquire) != 0 // as in `source_name`
    }

    /// Whether a consumer has nothing to wait for: there is a message, or an end.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_empty() || self.end() != Ok(None)
    }

    /// Why an empty ring would stay empty.
    pub(crate) fn end(&self) -> Result<Option<GetError>, Corrupted> {
        if self.is_closed() {
            return Ok(Some(GetError::Closed));
        }
        Ok(self.is_over()?.then_some(GetError::Ended))
    }

    /// Wakes the consumers if the stream is over, and tells those that poll: each of them is told.
    pub(crate) fn announce_end(&self) {
        if self.is_over() != Ok(true) {
            return;
        }
        // Who asks after this finds the stream over, under the same lock.
        let mut go_on = || true;
        let mut patience = Patience::new(Deadline::PASSED, &mut go_on);
        if let Ok(locked) = self.lock(&self.body.put, &mut patience.for_lock()) {
            let guard = self.repaired_put(locked);
            self.tell_if_polled(Event::Message);
            drop(guard);
        }
        self.items_bell().ring_all();
    }
}
