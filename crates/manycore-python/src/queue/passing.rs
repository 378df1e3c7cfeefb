//! Putting and getting, as quickly as it can be done without waiting, and else without the interpreter.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use manycore_ipc::ring::{GetError, Message, Outgoing, Ring};
use manycore_ipc::{Family, Hold};
use manycore_os::Deadline;
use pyo3::prelude::*;

use super::class::{CLOSED, FAILED, OTHERS, RingQueue, WATCHED};
use super::incoming::with_message;
use crate::codec::{self, Number};
use crate::errors::{self, Error};
use crate::message::{self, Encoded};
use crate::wait::detached;

impl RingQueue {
    /// Puts an item if it is a number and nothing at all stands in the way: in no case it raises or runs Python code.
    #[inline(always)]
    pub fn put_number(&self, item: &Bound<'_, PyAny>) -> bool {
        let mut number = Number::default();
        codec::encode_number(item, &mut number) == Ok(true)
            && self.put_at_once(message::NATIVE, number.bytes())
    }

    /// Puts a short payload if nothing at all stands in the way: in no case it raises or runs Python code.
    #[inline(always)]
    fn put_at_once(&self, kind: u8, payload: &[u8]) -> bool {
        self.undisturbed().is_some_and(|(_, ring)| {
            ring.put_at_once(&Outgoing {
                kind,
                payload,
                ..Outgoing::default()
            })
        })
    }

    /// Takes the next message and returns what becomes of it, if one is there, nothing at all stands in the way, and the
    /// one before was a number.
    #[inline(always)]
    pub fn get_likely_number<R>(
        &self,
        made_of_it: impl FnOnce(&'static Family, &Message) -> R,
    ) -> Option<R> {
        if self.is(OTHERS) {
            return None;
        }
        let (hold, ring) = self.undisturbed()?;
        with_message(|message| {
            let is_there = hold.get_at_once(&ring, message, None);
            is_there.then(|| made_of_it(hold.family(), message))
        })
    }

    /// The object that a message holds.
    #[inline]
    pub fn decode<'py>(
        &self,
        py: Python<'py>,
        family: &'static Family,
        message: &Message,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.is(OTHERS) == message::is_number(message) {
            self.state.fetch_xor(OTHERS, Relaxed);
        }
        message::decode(py, family, message, 0)
    }

    /// The ring, if this process has not closed it, does not poll it, and has nothing to raise.
    #[inline(always)]
    fn undisturbed(&self) -> Option<(&Hold, Ring)> {
        if self.is(CLOSED | FAILED | WATCHED) {
            return None;
        }
        let hold = self.made_hold()?;
        Some((hold, hold.ring().ok()?))
    }

    /// Receives into `message`; `false` when there is nothing and never will be.
    #[inline]
    pub(super) fn receive(
        &self,
        py: Python<'_>,
        message: &mut Message,
        until: Deadline,
    ) -> PyResult<bool> {
        if self.is(FAILED) {
            self.raise_failure()?;
        }
        let ring = self.ring()?;
        let is_there = if until == Deadline::PASSED {
            ring.get_at_once(message, None)
        } else {
            self.hold()?.get_at_once(&ring, message, None)
        };
        if is_there {
            self.after_get(py, &ring);
            return Ok(true);
        }
        self.receive_slow(py, &ring, message, until)
    }

    #[cold]
    #[inline(never)]
    fn receive_slow(
        &self,
        py: Python<'_>,
        ring: &Ring,
        message: &mut Message,
        until: Deadline,
    ) -> PyResult<bool> {
        if until == Deadline::PASSED && ring.is_empty() && !ring.may_be_over() {
            // Without letting go of the interpreter: for who looks again and again.
            if self.after_get(py, ring) {
                return self.receive(py, message, until);
            }
            return Err(errors::empty());
        }
        let hold = self.hold()?;
        // With the interpreter: letting go of it costs as much as the turn, which is over in a microsecond, or is the
        // last one for some thousand waits.
        if until != Deadline::PASSED && hold.get_after_a_turn(ring, message) {
            self.after_get(py, ring);
            return Ok(true);
        }
        let (result, raised) = detached(py, until, |patience| hold.get(message, None, patience));
        let result = result.map_err(Error::from)?;
        match result {
            Ok(()) => {
                self.after_get(py, ring);
                Ok(true)
            }
            Err(GetError::Empty) if self.after_get(py, ring) => self.receive(py, message, until),
            Err(GetError::Closed | GetError::Ended) => Ok(false),
            Err(error) => Err(errors::from_get(error, raised)),
        }
    }

    pub(super) fn raise_failure(&self) -> PyResult<()> {
        self.state.fetch_and(!FAILED, Relaxed);
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        failure.map_or(Ok(()), Err)
    }

    /// The next item; `None` when there is none and never will be.
    #[inline]
    pub fn next<'py>(
        &self,
        py: Python<'py>,
        until: Deadline,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        with_message(|message| {
            if self.receive(py, message, until)? {
                self.decode(py, self.family()?, message).map(Some)
            } else {
                Ok(None)
            }
        })
    }

    /// The next item, if it is there. The producers' position is looked at only when all is taken that is known of.
    #[inline]
    pub(super) fn next_of_several<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let ring = self.any_ring()?;
        let usual = with_message(|message| {
            (!self.is(CLOSED | FAILED) && ring.get_at_once(message, None)).then(|| {
                self.after_get(py, &ring);
                self.decode(py, self.family()?, message)
            })
        });
        match usual {
            Some(item) => item.map(Some),
            None if ring.is_empty() => Ok(None),
            None => match self.next(py, Deadline::PASSED) {
                Err(error) if errors::is_empty(py, &error) => Ok(None),
                item => item,
            },
        }
    }

    /// Puts an item.
    #[inline]
    pub fn put_until(&self, obj: &Bound<'_, PyAny>, until: Deadline) -> PyResult<()> {
        let ring = self.ring()?;
        let mut encoded = Encoded::new();
        encoded.object(obj)?;
        if encoded.put_at_once(&ring, 0, 0) {
            self.after_put(obj.py(), &ring);
            return Ok(());
        }
        self.put_slow(obj.py(), &ring, encoded, until)
    }

    #[cold]
    #[inline(never)]
    fn put_slow(
        &self,
        py: Python<'_>,
        ring: &Ring,
        encoded: Encoded,
        until: Deadline,
    ) -> PyResult<()> {
        if until == Deadline::PASSED && ring.is_full() && !ring.is_closed() {
            self.after_put(py, ring);
            return Err(errors::full());
        }
        let ready = encoded.ready(py, self.family()?)?;
        let (result, raised) = detached(py, until, |patience| ready.put(ring, 0, 0, patience));
        self.after_put(py, ring);
        result.map_err(|error| errors::from_put(error, raised))
    }

    /// Whether there is an item that was announced and not there before.
    #[inline]
    pub(super) fn after_get(&self, py: Python<'_>, ring: &Ring) -> bool {
        self.is(WATCHED) && self.watches.after_get(py, ring)
    }

    #[inline]
    pub(super) fn after_put(&self, py: Python<'_>, ring: &Ring) {
        if self.is(WATCHED) {
            self.watches.after_put(py, ring);
        }
    }
}
