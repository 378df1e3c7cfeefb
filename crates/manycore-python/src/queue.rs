//! The class behind `Queue`, `JoinableQueue` and `SimpleQueue`.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use manycore_ipc::ring::{Get, Message, Put, Ring, Shape};
use manycore_ipc::wait::GaveUp;
use manycore_ipc::{Hold, Kind};
use manycore_os::Deadline;
use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::errors::{self, Error};
use crate::family::{self, Parts};
use crate::message::{self, Encoded};
use crate::wait::{deadline, detached};

thread_local! {
    /// A message to receive into, so that its space is used again.
    static INCOMING: Cell<Option<Box<Message>>> = const { Cell::new(None) };
}

/// Runs `f` with a message of this thread's; a nested call gets a new one.
pub fn with_message<R>(f: impl FnOnce(&mut Message) -> R) -> R {
    let mut message = INCOMING.take().unwrap_or_default();
    let result = f(&mut message);
    if message.payload.capacity() <= 1 << 20 {
        INCOMING.set(Some(message));
    }
    result
}

/// A first-in first-out queue in the family's heap.
#[pyclass(subclass, frozen, module = "manycore._engine")]
pub struct RingQueue {
    hold: Hold,
    closed: AtomicBool,
    /// A `SimpleQueue`: once closed it raises what the standard library's does.
    is_simple: bool,
}

impl RingQueue {
    #[inline]
    fn ring(&self) -> PyResult<Ring> {
        if self.closed.load(Relaxed) {
            return Err(self.closed_error());
        }
        Ok(self.hold.ring().map_err(Error::from)?)
    }

    #[cold]
    fn closed_error(&self) -> PyErr {
        let text = "the queue is closed in this process";
        if self.is_simple {
            PyOSError::new_err(text)
        } else {
            PyValueError::new_err(text)
        }
    }

    /// Receives into `message`, or says that there is nothing.
    #[inline]
    fn receive(&self, py: Python<'_>, message: &mut Message, until: Deadline) -> PyResult<()> {
        let ring = self.ring()?;
        match ring.try_get(message, None).map_err(Error::from)? {
            Get::Done => return Ok(()),
            Get::Empty if until == Deadline::PASSED => return Err(errors::empty()),
            Get::Empty | Get::Busy => {}
        }
        let (result, raised) = detached(py, until, |patience| ring.get(message, None, patience));
        result.map_err(|error| errors::from_get(error, raised))
    }

    fn send_slow(&self, py: Python<'_>, encoded: Encoded, until: Deadline) -> PyResult<()> {
        let ring = self.ring()?;
        let ready = encoded.ready(py, self.hold.family())?;
        let (result, raised) = detached(py, until, |patience| ready.put(&ring, 0, 0, patience));
        result.map_err(|error| errors::from_put(error, raised))
    }
}

#[pymethods]
impl RingQueue {
    /// A new queue of at most `maxsize` items (zero or less: any number); or, with `handle`, one that
    /// exists.
    #[new]
    #[pyo3(signature = (maxsize=0, *, handle=None, simple=false))]
    fn new(maxsize: i64, handle: Option<Parts>, simple: bool) -> Result<Self, Error> {
        let hold = match handle {
            Some(parts) => family::hold(parts, Kind::Ring)?,
            None => family::family()?
                .make_ring(Shape::of_messages(u64::try_from(maxsize).unwrap_or(0)))?,
        };
        Ok(Self {
            hold,
            closed: AtomicBool::new(false),
            is_simple: simple,
        })
    }

    /// Family, index and generation: what a pickle of this queue consists of.
    #[getter]
    fn handle(&self) -> Parts {
        message::note_handle(self.hold.handle())
    }

    /// Puts `obj`. Waits for room if the queue is bounded and full.
    #[pyo3(signature = (obj, block=true, timeout=None))]
    fn put(
        &self,
        py: Python<'_>,
        obj: &Bound<'_, PyAny>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let ring = self.ring()?;
        let mut encoded = Encoded::new();
        encoded.object(obj)?;
        if encoded.is_plain() {
            let message = manycore_ipc::ring::Outgoing {
                kind: encoded.kind,
                payload: &encoded.payload,
                ..Default::default()
            };
            match ring.try_put(&message, &mut None).map_err(Error::from)? {
                Put::Done => return Ok(()),
                Put::Full if !block => return Err(errors::full()),
                _ => {}
            }
        }
        self.send_slow(py, encoded, deadline(block, timeout))
    }

    /// Takes the next item. Waits for one if the queue is empty.
    #[pyo3(signature = (block=true, timeout=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        with_message(|message| {
            self.receive(py, message, deadline(block, timeout))?;
            message::decode(py, self.hold.family(), message, 0)
        })
    }

    /// `put(obj, block=False)`.
    fn put_nowait(&self, py: Python<'_>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(py, obj, false, None)
    }

    /// `get(block=False)`.
    fn get_nowait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.get(py, false, None)
    }

    /// How many items are in the queue, at some moment during the call.
    fn qsize(&self) -> PyResult<u64> {
        Ok(self.ring()?.len())
    }

    /// Whether the queue was empty at some moment during the call.
    fn empty(&self) -> PyResult<bool> {
        Ok(self.ring()?.is_empty())
    }

    /// Whether a bounded queue was full at some moment during the call.
    fn full(&self) -> PyResult<bool> {
        Ok(self.ring()?.is_full())
    }

    /// The most items at a time; zero for any number.
    #[getter]
    fn _maxsize(&self) -> PyResult<u64> {
        Ok(self.hold.ring().map_err(Error::from)?.max_messages())
    }

    /// This process puts and gets no more.
    fn _close(&self) {
        self.closed.store(true, Relaxed); // a flag of this process; nothing is published through it
    }

    /// Whether this process closed the queue.
    #[getter]
    fn _closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Marks an item of a joinable queue as done; `False` when all are done already.
    fn _mark_done(&self) -> PyResult<bool> {
        Ok(self.ring()?.mark_done())
    }

    /// Waits until every item of a joinable queue is done.
    fn _wait_finished(&self, py: Python<'_>) -> PyResult<()> {
        let ring = self.ring()?;
        let (result, raised) =
            detached(py, Deadline::NEVER, |patience| ring.wait_finished(patience));
        match result {
            Ok(()) | Err(GaveUp::TimedOut) => Ok(()),
            Err(GaveUp::Interrupted) => {
                Err(raised.unwrap_or_else(|| PyKeyboardInterrupt::new_err(())))
            }
        }
    }
}
