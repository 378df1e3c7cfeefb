//! The class behind `Queue`, `JoinableQueue` and `SimpleQueue`.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};

use manycore_ipc::ring::pollers::Event;
use manycore_ipc::ring::{Ring, Shape};
use manycore_ipc::wait::GaveUp;
use manycore_ipc::{Family, Hold, Kind};
use manycore_os::Deadline;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::handed_out::{OpenProducer, QueueIterator};
use crate::calling;
use crate::errors::{self, Error, interrupted};
use crate::family::{self, Parts};
use crate::message;
use crate::wait::{deadline, detached};
use crate::watching::Watches;

/// In `state`: this process puts and gets no more.
pub(super) const CLOSED: u8 = 1;
/// In `state`: there is an error that the next `get` raises.
pub(super) const FAILED: u8 = 2;
/// In `state`: this process polls the queue.
pub(super) const WATCHED: u8 = 4;
/// In `state`: a `SimpleQueue`; once closed it raises what the standard library's does.
const SIMPLE: u8 = 8;
/// In `state`: the last message was no number.
pub(super) const OTHERS: u8 = 16;

/// A first-in first-out queue in the family's heap.
#[pyclass(subclass, frozen, weakref, module = "manycore._engine")]
pub struct RingQueue {
    /// Set by `_make` or `_attach`.
    hold: OnceLock<Hold>,
    /// Flags of this process; nothing is published through them.
    pub(super) state: AtomicU8,
    /// Why an item behind others in `get_many` could not be unpickled.
    pub(super) failure: Mutex<Option<PyErr>>,
    pub(super) watches: Watches,
}

impl RingQueue {
    /// The hold, once the queue has been made.
    #[inline(always)]
    pub(super) fn made_hold(&self) -> Option<&Hold> {
        self.hold.get()
    }

    #[inline(always)]
    pub(super) fn hold(&self) -> PyResult<&Hold> {
        self.made_hold().ok_or_else(|| {
            PyRuntimeError::new_err("this queue was not made: its `__init__` has not been called")
        })
    }

    pub(super) fn family(&self) -> PyResult<&'static Family> {
        Ok(self.hold()?.family())
    }

    /// The ring, whatever this process said about it.
    #[inline(always)]
    pub(super) fn any_ring(&self) -> PyResult<Ring> {
        Ok(self.hold()?.ring().map_err(Error::from)?)
    }

    #[inline(always)]
    pub(super) fn ring(&self) -> PyResult<Ring> {
        if self.is(CLOSED) {
            return Err(self.closed_error());
        }
        self.any_ring()
    }

    #[inline]
    pub(super) fn is(&self, flag: u8) -> bool {
        self.state.load(Relaxed) & flag != 0
    }

    #[cold]
    fn closed_error(&self) -> PyErr {
        let text = "the queue is closed in this process";
        if self.is(SIMPLE) {
            PyOSError::new_err(text)
        } else {
            PyValueError::new_err(text)
        }
    }

    fn be_made(&self, hold: Hold, flags: u8) -> PyResult<()> {
        self.state.fetch_or(flags, Relaxed);
        self.hold
            .set(hold)
            .map_err(|_| PyRuntimeError::new_err("this queue has been made already"))
    }

    fn fd(&self, py: Python<'_>, event: Event) -> PyResult<i32> {
        let ring = self.ring()?;
        self.state.fetch_or(WATCHED, Relaxed);
        self.watches.fd(py, &ring, event)
    }
}

#[pymethods]
impl RingQueue {
    /// A queue that is nowhere yet: see `_make` and `_attach`.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            hold: OnceLock::new(),
            state: AtomicU8::new(0),
            failure: Mutex::default(),
            watches: Watches::default(),
        }
    }

    /// Makes a new queue of at most `maxsize` items and `maxbytes` bytes; zero or less: any number.
    #[pyo3(signature = (maxsize=0, maxbytes=0, simple=false))]
    fn _make(&self, maxsize: i64, maxbytes: i64, simple: bool) -> PyResult<()> {
        let shape = Shape {
            max_bytes: u64::try_from(maxbytes).unwrap_or(0),
            ..Shape::of_messages(u64::try_from(maxsize).unwrap_or(0))
        };
        let hold = family::family()?.make_ring(shape).map_err(Error::from)?;
        self.be_made(hold, if simple { SIMPLE } else { 0 })
    }

    /// Makes this object lead to a queue that exists.
    #[pyo3(signature = (handle, simple=false))]
    fn _attach(&self, handle: Parts, simple: bool) -> PyResult<()> {
        let hold = family::hold(handle, Kind::Ring)?;
        self.be_made(hold, if simple { SIMPLE } else { 0 })
    }

    /// Family, index and generation: what a pickle of this queue consists of.
    #[getter]
    fn handle(&self) -> PyResult<Parts> {
        Ok(message::note_handle(self.hold()?.handle()))
    }

    /// Puts an item. It is in the queue, whole, when this returns; a killed process leaves all of it or nothing.
    ///
    /// Args:
    ///     obj: What is put; it is pickled here, if at all.
    ///     block: Whether to wait for room if the queue is bounded and full.
    ///     timeout: Seconds to wait at most; `None` for ever.
    ///
    /// Raises:
    ///     queue.Full: When there was no room in time.
    ///     ShutDown: When the queue is shut down, also while this waits.
    ///     ValueError: When this process has closed the queue (`OSError` from a `SimpleQueue`).
    ///     HeapFull: When there is no shared memory for it.
    #[pyo3(signature = (obj, block=true, timeout=None))]
    fn put(&self, obj: &Bound<'_, PyAny>, block: bool, timeout: Option<f64>) -> PyResult<()> {
        self.put_until(obj, deadline(block, timeout))
    }

    /// Takes the next item.
    ///
    /// Args:
    ///     block: Whether to wait for one if the queue is empty.
    ///     timeout: Seconds to wait at most; `None` for ever.
    ///
    /// Returns:
    ///     The item, which is this process's own.
    ///
    /// Raises:
    ///     queue.Empty: When there was none in time.
    ///     ShutDown: When the queue is empty, and shut down or without the producers that it had. A producer that
    ///         is killed is found by who waits here, within 75 ms.
    ///     ValueError: When this process has closed the queue (`OSError` from a `SimpleQueue`).
    #[pyo3(signature = (block=true, timeout=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.next(py, deadline(block, timeout))?
            .ok_or_else(errors::shut_down)
    }

    /// `put(obj, block=False)`.
    fn put_nowait(&self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put_until(obj, Deadline::PASSED)
    }

    /// `get(block=False)`.
    fn get_nowait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.get(py, false, None)
    }

    /// Puts the items of an iterable, one after the other.
    ///
    /// Args:
    ///     iterable: The items. Others may put between them.
    ///     block: As for `put`.
    ///     timeout: Seconds for all of them together.
    ///
    /// Returns:
    ///     How many there were.
    ///
    /// Raises:
    ///     Exception: What `put` raises. Its attribute `items_put` says how many items are in the queue, and `item`
    ///         is the one that is not.
    #[pyo3(signature = (iterable, block=true, timeout=None))]
    fn put_many(
        &self,
        iterable: &Bound<'_, PyAny>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<usize> {
        let until = deadline(block, timeout);
        let mut count = 0;
        let iterator = calling::iter(iterable)?;
        while let Some(item) = calling::next(&iterator) {
            let item = item?;
            if self.put_number(&item) {
                count += 1;
                continue;
            }
            if let Err(error) = self.put_until(&item, until) {
                let value = error.value(iterable.py());
                // An exception without attributes says less, but it is the one that matters.
                let _ = value.setattr("items_put", count);
                let _ = value.setattr("item", item);
                return Err(error);
            }
            count += 1;
        }
        Ok(count)
    }

    /// Takes the items that are there. Waits until there is at least one.
    ///
    /// Args:
    ///     max: The most items to take.
    ///     timeout: Seconds to wait for the first at most; `None` for ever.
    ///
    /// Returns:
    ///     A list of 1 to `max` items.
    ///
    /// Raises:
    ///     queue.Empty: When there was none in time.
    ///     ShutDown: As `get`.
    ///     Exception: What unpickling raised; for an item behind others it is raised by the next call.
    #[pyo3(signature = (max, timeout=None))]
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        max: usize,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        if max == 0 {
            return Err(PyValueError::new_err("max must be at least 1"));
        }
        let items = PyList::empty(py);
        items.append(self.get(py, true, timeout)?)?;
        while items.len() < max {
            match self.next_of_several(py) {
                Ok(Some(item)) => items.append(item)?,
                Ok(None) => break,
                Err(error) => {
                    // What was taken is not lost; the error is the next call's.
                    let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                    let other = failure.replace(error); // another thread's
                    drop(failure); // before that one: dropping it may run Python
                    drop(other);
                    self.state.fetch_or(FAILED, Relaxed);
                    break;
                }
            }
        }
        Ok(items)
    }

    /// The items, until the queue has ended and is empty.
    fn __iter__(slf: Bound<'_, Self>) -> QueueIterator {
        QueueIterator {
            queue: slf.unbind(),
        }
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

    /// A descriptor that is readable while there is an item, and at the end: for `select` and its kin.
    ///
    /// It may be readable once too often, so `get_nowait` may say `Empty`; and a moment before the item can be taken,
    /// for which `get_nowait` waits. It cannot be read, belongs to this process alone, and is closed with the queue.
    /// Who sleeps with it is not told of the end that the death of the last producer is until somebody looks, as
    /// `get` does; nor of what a process in another network namespace puts: look now and then, as `await` does.
    ///
    /// Raises:
    ///     OSError: When there is no descriptor left.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.fd(py, Event::Message)
    }

    /// A descriptor that is readable while there is room.
    fn _room_fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.fd(py, Event::Room)
    }

    /// The most items at a time; zero for any number.
    #[getter]
    fn _maxsize(&self) -> PyResult<u64> {
        Ok(self.any_ring()?.max_messages())
    }

    /// The most bytes at a time; zero for any number.
    #[getter]
    fn _maxbytes(&self) -> PyResult<u64> {
        Ok(self.any_ring()?.max_bytes())
    }

    /// Items and bytes put and got, sleeps of producers and consumers, items now, and at most.
    fn _stats(&self) -> PyResult<[u64; 8]> {
        let stats = self.any_ring()?.stats();
        Ok([
            stats.put,
            stats.got,
            stats.put_bytes,
            stats.got_bytes,
            stats.put_sleeps,
            stats.get_sleeps,
            stats.put.saturating_sub(stats.got),
            stats.high_water,
        ])
    }

    /// This process puts and gets no more.
    fn _close(&self) {
        self.state.fetch_or(CLOSED, Relaxed);
    }

    /// Whether this process closed the queue.
    #[getter]
    fn _closed(&self) -> bool {
        self.is(CLOSED)
    }

    /// Nobody puts any more; with `discard`, what is in the queue is thrown away.
    fn _shut_down(&self, py: Python<'_>, discard: bool) -> PyResult<()> {
        let ring = self.any_ring()?;
        let done = py.detach(|| {
            ring.close();
            if discard { ring.discard() } else { Ok(()) }
        });
        Ok(done.map_err(Error::from)?)
    }

    /// Opens a producer of this process: without one, or when all of them are closed, the stream ends.
    fn _open_producer(&self) -> PyResult<OpenProducer> {
        self.ring()?;
        let producer = self.family()?.open_producer(self.hold()?);
        Ok(OpenProducer {
            producer: producer.map_err(Error::from)?,
        })
    }

    /// Whether nobody puts any more.
    #[getter]
    fn _is_shut_down(&self) -> PyResult<bool> {
        Ok(self.any_ring()?.is_closed())
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
            Err(GaveUp::Interrupted) => Err(interrupted(raised)),
        }
    }
}
