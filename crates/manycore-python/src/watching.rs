//! Descriptors by which this process polls a ring.

use std::sync::{Arc, Mutex, PoisonError};

use manycore_ipc::ring::pollers::Event;
use manycore_ipc::ring::watch::WatchError;
use manycore_ipc::ring::{Ring, Watch};
use manycore_ipc::wait::Patience;
use manycore_os::Deadline;
use pyo3::prelude::*;

use crate::errors;
use crate::wait::detached;

/// The descriptors of one ring, made at the first need.
#[derive(Default)]
pub struct Watches {
    /// Never locked without the interpreter, nor while it is let go: so a fork finds them free.
    message: Mutex<Option<Arc<Watch>>>,
    room: Mutex<Option<Arc<Watch>>>,
}

impl Watches {
    fn slot(&self, event: Event) -> &Mutex<Option<Arc<Watch>>> {
        match event {
            Event::Message => &self.message,
            Event::Room => &self.room,
        }
    }

    /// The watch that this process has made: a forked child has none.
    fn existing(&self, event: Event) -> Option<Arc<Watch>> {
        let watch = self
            .slot(event)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        watch.clone().filter(|watch| watch.is_own())
    }

    /// The descriptor for an event, which is right from now on.
    pub fn fd(&self, py: Python<'_>, ring: &Ring, event: Event) -> PyResult<i32> {
        Ok(self.watch(py, ring, event)?.fd())
    }

    /// The watch for an event, which is right from now on.
    pub fn watch(&self, py: Python<'_>, ring: &Ring, event: Event) -> PyResult<Arc<Watch>> {
        let watch = match self.existing(event) {
            Some(watch) => watch,
            None => {
                let new = Arc::new(Watch::new(ring, event).map_err(errors::from_watch)?);
                let mut slot = self
                    .slot(event)
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *slot = Some(Arc::clone(&new));
                new
            }
        };
        renew(py, &watch, ring)?;
        Ok(watch)
    }

    /// Keeps the descriptors right once this process has got an item, or found none. It never fails: that item
    /// is taken, and would be lost with an error. Whether there is an item now: who was told of one is told
    /// before it is there, and waits here for the producer.
    #[cold]
    pub fn after_get(&self, py: Python<'_>, ring: &Ring) -> bool {
        let Some(watch) = self.existing(Event::Message) else {
            return false;
        };
        if ring.is_empty() {
            renew_afterwards(py, &watch, ring);
        }
        !ring.is_empty() // it may have come at any moment since the caller looked
    }

    /// The same once it has put an item, or found no room.
    #[cold]
    pub fn after_put(&self, py: Python<'_>, ring: &Ring) {
        match self.existing(Event::Room) {
            Some(watch) if !ring.takes_anything() => renew_afterwards(py, &watch, ring),
            _ => {}
        }
    }
}

fn renew_afterwards(py: Python<'_>, watch: &Watch, ring: &Ring) {
    py.detach(|| {
        let mut go_on = || true; // the interpreter answers signals, soon
        let mut patience = Patience::new(Deadline::PASSED, &mut go_on);
        // Where the ring cannot be asked, the descriptor is readable; and who closed it does not poll it.
        let _ = watch.renew(ring, &mut patience);
    });
}

fn renew(py: Python<'_>, watch: &Watch, ring: &Ring) -> PyResult<()> {
    let (result, raised) = detached(py, Deadline::NEVER, |patience| watch.renew(ring, patience));
    result.map_err(|error| match (error, raised) {
        (WatchError::Ring(error), raised) => errors::from_put(error, raised),
        (error, _) => errors::from_watch(error),
    })
}
