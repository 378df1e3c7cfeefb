//! Closing a ring: no more messages are accepted.

use std::sync::atomic::Ordering::{Acquire, Release};

use manycore_os::Deadline;

use super::pollers::Event;
use super::region::Ring;
use crate::fault;
use crate::wait::Patience;

impl Ring {
    /// Refuses further messages, in all processes, and wakes whoever sleeps or polls.
    pub fn close(&self) {
        let mut go_on = || true;
        let mut patience = Patience::new(Deadline::PASSED, &mut go_on);
        // Pollers ask under these locks whether the ring is closed, so they are told or find out. A side that
        // is damaged, or whose owner is stopped, has nobody who could be told.
        if let Ok(locked) = self.lock(&self.body.put, &mut patience.for_lock()) {
            let guard = self.repaired_put(locked);
            self.tell_if_polled(Event::Message);
            self.mark_closed();
            drop(guard);
        }
        self.mark_closed();
        if let Ok(locked) = self.lock(&self.body.get, &mut patience.for_lock()) {
            let guard = self.repaired_get(locked);
            self.tell_if_polled(Event::Room);
            drop(guard);
        }
        fault::point("ring.closed");
        self.items_bell().ring_all();
        self.space_bell().ring_all();
    }

    pub(super) fn mark_closed(&self) {
        self.body.closed.store(1, Release); // pairs with the Acquire in `is_closed`
    }

    /// Whether [`Ring::close`] was called.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.body.closed.load(Acquire) != 0
    }
}
