//! The class behind `Connection`: one end of a pipe.
//!
//! Messages go through two rings. That the other end is gone is known from its *source*, the object that
//! all processes hold that have that end; and, for those who poll, and should a count have been leaked, from a
//! *line*: a pair of connected sockets through which nothing is ever sent.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use manycore_ipc::family::{Producer, SourceWatch};
use manycore_ipc::ring::pollers::Event;
use manycore_ipc::ring::{GetError, Message, PutError, Ring, Shape};
use manycore_ipc::wait::Patience;
use manycore_ipc::{Family, HandleError, Hold, Kind};
use manycore_os::channel::{self, Lent};
use manycore_os::{Deadline, incarnation};
use pyo3::exceptions::{PyBrokenPipeError, PyEOFError};
use pyo3::prelude::*;

use crate::errors::{self, Error};
use crate::family::{self, Parts};
use crate::message::{self, Encoded};
use crate::queue::with_message;
use crate::wait::{deadline, detached};
use crate::watching::Watches;

/// The most bytes that wait in one direction; one more message waits for the receiver.
const MOST_WAITING: u64 = 1 << 20;

/// One end of a pipe. It is open as long as this object is there, here and in forked children.
#[pyclass(frozen, weakref, module = "manycore._engine")]
pub struct PipeEnd {
    /// What the other end sends.
    incoming: Hold,
    /// What this one sends, with this end's source. Let go of before the line.
    outgoing: Producer,
    /// Whether a process is left that has the other end.
    other: SourceWatch,
    line: Lent,
    is_watched: AtomicBool,
    watches: Watches,
    /// Readable when there is a message, or when the other end is gone; and the process that made it.
    gathered: Mutex<Option<(Lent, u64)>>,
}

type Handles = (Parts, Parts, Parts);

impl PipeEnd {
    fn new(incoming: Hold, outgoing: Producer, line: std::os::fd::OwnedFd) -> PyResult<Self> {
        let ring = incoming.ring().map_err(Error::from)?;
        let other = ring
            .source()
            .ok_or(HandleError::Gone)
            .map_err(Error::from)?;
        Ok(Self {
            other: SourceWatch::on(other),
            incoming,
            outgoing,
            line: Lent::new(line)?,
            is_watched: AtomicBool::new(false),
            watches: Watches::default(),
            gathered: Mutex::default(),
        })
    }

    fn family(&self) -> &'static Family {
        self.incoming.family()
    }

    fn incoming(&self) -> PyResult<Ring> {
        Ok(self.incoming.ring().map_err(Error::from)?)
    }

    /// Whether the kernel says that the other end is closed in all processes.
    fn is_hung_up(&self) -> bool {
        self.line.get().is_ok_and(channel::is_hung_up)
    }

    fn is_other_gone(&self) -> bool {
        // What is corrupted shows where the ring is used.
        self.other.is_over(self.family()).unwrap_or(false)
    }

    fn encoded_send(&self, py: Python<'_>, encoded: Encoded) -> PyResult<()> {
        if self.is_other_gone() {
            return Err(broken());
        }
        let ring = self.outgoing.ring().map_err(Error::from)?;
        if encoded.put_at_once(&ring, 0, 0) {
            return Ok(());
        }
        let ready = encoded.ready(py, self.family())?;
        let (result, raised) = detached(py, Deadline::NEVER, |patience| {
            self.noticing(patience, |patience| ready.put(&ring, 0, 0, patience))
        });
        match result {
            (Err(PutError::Interrupted), true) => Err(broken()),
            (result, _) => result.map_err(|error| errors::from_put(error, raised)),
        }
    }

    /// Runs a wait that ends when the other end is found to be gone; whether it was.
    fn noticing<R>(
        &self,
        patience: &mut Patience<'_>,
        wait: impl FnOnce(&mut Patience<'_>) -> R,
    ) -> (R, bool) {
        let mut is_gone = false;
        let until = patience.until();
        let mut tick = || {
            is_gone = self.is_hung_up() || self.is_other_gone();
            !is_gone && patience.tick().is_ok()
        };
        let result = wait(&mut Patience::new(until, &mut tick));
        (result, is_gone)
    }

    fn receive(&self, py: Python<'_>, message: &mut Message) -> PyResult<()> {
        let ring = self.incoming()?;
        if !self.incoming.get_at_once(&ring, message, None) {
            let (result, raised) = detached(py, Deadline::NEVER, |patience| {
                self.receive_or_notice(&ring, message, patience)
            });
            match result? {
                Ok(()) => {}
                Err(GetError::Ended | GetError::Closed) => return Err(PyEOFError::new_err(())),
                Err(error) => return Err(errors::from_get(error, raised)),
            }
        }
        self.renew(py, &ring);
        Ok(())
    }

    fn receive_or_notice(
        &self,
        ring: &Ring,
        message: &mut Message,
        patience: &mut Patience<'_>,
    ) -> Result<Result<(), GetError>, Error> {
        let (result, is_gone) = self.noticing(patience, |patience| {
            self.incoming.get(message, None, patience)
        });
        let outcome = result?;
        if outcome != Err(GetError::Interrupted) || !is_gone {
            return Ok(outcome);
        }
        ring.settle(); // it may have died over its last message
        // Not only if the lock is free: another thread may be taking the message before.
        let mut go_on = || true;
        let outcome = ring.get(
            message,
            None,
            &mut Patience::new(Deadline::PASSED, &mut go_on),
        );
        Ok(outcome.map_err(|error| match error {
            GetError::Empty => GetError::Ended,
            error => error,
        }))
    }

    fn renew(&self, py: Python<'_>, ring: &Ring) -> bool {
        self.is_watched.load(Relaxed) && self.watches.after_get(py, ring)
    }
}

#[pymethods]
impl PipeEnd {
    /// Both ends of a new pipe.
    #[staticmethod]
    fn pair() -> PyResult<(Self, Self)> {
        let family = family::family()?;
        let shape = Shape {
            max_bytes: MOST_WAITING,
            ..Shape::unbounded()
        };
        let ring = || family.make_ring(shape).map_err(Error::from);
        let (there, back) = (ring()?, ring()?);
        let end = |ring: &Hold| family.open_end(ring).map_err(Error::from);
        let (first, second) = (end(&there)?, end(&back)?);
        let (one, other) = channel::line()?;
        Ok((
            Self::new(back, first, one)?,
            Self::new(there, second, other)?,
        ))
    }

    /// An end that exists, by what [`PipeEnd::handles`] said, and its descriptor, which is taken over.
    #[staticmethod]
    fn attach(handles: Handles, line: i32) -> PyResult<Self> {
        let line = crate::buffer::owned_fd(line)?;
        let (incoming, outgoing, source) = handles;
        let outgoing = family::hold(outgoing, Kind::Ring)?;
        let source = family::hold(source, Kind::End)?;
        let outgoing = Producer::of(outgoing, source).map_err(Error::from)?;
        Self::new(family::hold(incoming, Kind::Ring)?, outgoing, line)
    }

    /// What a pickle of this end consists of, besides the line.
    fn handles(&self) -> Handles {
        (
            message::note_handle(self.incoming.handle()),
            message::note_handle(self.outgoing.queue().handle()),
            message::note_handle(self.outgoing.source().handle()),
        )
    }

    /// The number of the descriptor that says when the other end is gone.
    #[getter]
    fn line(&self) -> i32 {
        self.line.number()
    }

    /// Sends an object. Waits while too many bytes wait already.
    fn send(&self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut encoded = Encoded::new();
        encoded.object(obj)?;
        self.encoded_send(obj.py(), encoded)
    }

    /// Sends bytes, to be received as they are.
    fn send_bytes(&self, buffer: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut encoded = Encoded::new();
        encoded.raw(buffer)?;
        self.encoded_send(buffer.py(), encoded)
    }

    /// Receives an object, or bytes (then the second is true).
    fn recv<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, bool)> {
        with_message(|message| {
            self.receive(py, message)?;
            let is_raw = message::is_raw(message);
            Ok((message::decode(py, self.family(), message, 0)?, is_raw))
        })
    }

    /// Whether there is something to receive, or nothing ever will be.
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let ring = self.incoming()?;
        if !ring.is_empty() || self.is_other_gone() || self.is_hung_up() {
            return Ok(true);
        }
        if self.renew(py, &ring) {
            return Ok(true);
        }
        let until = deadline(true, timeout);
        if until == Deadline::PASSED {
            return Ok(false);
        }
        let (result, raised) = detached(py, until, |patience| {
            self.noticing(patience, |patience| ring.wait_for_message(patience))
        });
        match result {
            (Ok(()) | Err(GetError::Ended | GetError::Closed), _) | (_, true) => Ok(true),
            (Err(GetError::Empty), false) => Ok(self.is_other_gone() || self.is_hung_up()),
            (Err(error), false) => Err(errors::from_get(error, raised)),
        }
    }

    /// A descriptor that is readable while there is something to receive, and when the other end is gone.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        let ring = self.incoming()?;
        self.is_watched.store(true, Relaxed);
        let messages = self.watches.watch(py, &ring, Event::Message)?;
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((fd, made_by)) = &*gathered {
            if *made_by == incarnation::id() {
                return Ok(fd.number());
            }
        }
        let fd = channel::gather(messages.socket()?, self.line.get()?)?;
        let fd = Lent::new(fd)?;
        let number = fd.number();
        *gathered = Some((fd, incarnation::id()));
        Ok(number)
    }
}

fn broken() -> PyErr {
    let number = std::io::Error::from(std::io::ErrorKind::BrokenPipe).raw_os_error();
    let text = "the other end of the pipe is closed, or has died";
    PyBrokenPipeError::new_err((number.unwrap_or(32), text))
}
