//! The classes behind `Event`, `Condition` and `Barrier`.

use manycore_ipc::sync::{Met, Place};
use manycore_ipc::wait::{GaveUp, Patience};
use manycore_ipc::{Hold, Kind, Meeting};
use manycore_os::Deadline;
use pyo3::exceptions::PyAssertionError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::any_lock::AnyLock;
use crate::calling;
use crate::errors::{Error, interrupted};
use crate::family::{self, Parts};
use crate::message;
use crate::wait::{deadline, detached, finished};

/// Does what takes an object's own lock, which others have for a moment.
fn in_turn<R: Send, E: Send>(
    py: Python<'_>,
    operation: impl FnOnce(&mut Patience<'_>) -> Result<Result<R, GaveUp>, E> + Send,
) -> PyResult<R>
where
    Error: From<E>,
{
    let (outcome, raised) = detached(py, Deadline::NEVER, operation);
    outcome
        .map_err(Error::from)?
        .map_err(|_| interrupted(raised))
}

/// A flag that processes set, clear and wait for.
#[pyclass(subclass, frozen, module = "manycore._engine")]
pub struct EventFlag {
    hold: Hold,
}

#[pymethods]
impl EventFlag {
    /// A new event, not set; or, with `handle`, one that exists.
    #[new]
    #[pyo3(signature = (*, handle=None))]
    fn new(handle: Option<Parts>) -> Result<Self, Error> {
        let hold = match handle {
            Some(parts) => family::hold(parts, Kind::Event)?,
            None => family::family()?.make_event()?,
        };
        Ok(Self { hold })
    }

    /// Family, index and generation: what a pickle of this event consists of.
    #[getter]
    fn handle(&self) -> Parts {
        message::note_handle(self.hold.handle())
    }

    /// Whether it is set.
    fn is_set(&self) -> Result<bool, Error> {
        Ok(self.hold.event()?.is_set())
    }

    /// Sets it: all who wait return, and who waits from now on does at once.
    fn set(&self) -> Result<(), Error> {
        self.hold.event()?.set();
        Ok(())
    }

    /// Clears it: who waits from now on waits for the next `set`.
    fn clear(&self) -> Result<(), Error> {
        self.hold.event()?.clear();
        Ok(())
    }

    /// Waits until it is set; `False` when `timeout` seconds were not enough.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let event = self.hold.event().map_err(Error::from)?;
        if event.is_set() {
            return Ok(true);
        }
        let (waited, raised) =
            detached(py, deadline(true, timeout), |patience| event.wait(patience));
        match waited {
            Ok(()) => Ok(true),
            Err(GaveUp::TimedOut) => Ok(false),
            Err(GaveUp::Interrupted) => Err(interrupted(raised)),
        }
    }
}

/// Those who wait to be notified, and the lock of the condition.
#[pyclass(subclass, frozen, module = "manycore._engine")]
pub struct WaitRoll {
    hold: Hold,
    lock: AnyLock,
}

impl WaitRoll {
    fn check_owned(&self, py: Python<'_>, what: &'static str) -> PyResult<()> {
        if self.lock.is_owned(py)? {
            Ok(())
        } else {
            Err(PyAssertionError::new_err(what))
        }
    }

    /// Gives a place up: a notification that it has goes to another.
    fn withdraw(&self, py: Python<'_>, place: Place) -> PyResult<()> {
        let condition = self.hold.condition().map_err(Error::from)?;
        finished(py, |patience| condition.withdraw(place, patience)).map(drop)
    }

    fn notify_up_to(&self, py: Python<'_>, most: usize) -> PyResult<()> {
        self.check_owned(py, "lock is not owned")?;
        // Who waits has come before it released the lock.
        let condition = self.hold.condition().map_err(Error::from)?;
        if condition.waiting().map_err(Error::from)? == 0 {
            return Ok(());
        }
        in_turn(py, |patience| self.hold.notify(most, patience)).map(drop)
    }
}

#[pymethods]
impl WaitRoll {
    /// A new condition with this lock; or, with `handle`, one that exists.
    #[new]
    #[pyo3(signature = (lock, *, handle=None))]
    fn new(lock: &Bound<'_, PyAny>, handle: Option<Parts>) -> Result<Self, Error> {
        let hold = match handle {
            Some(parts) => family::hold(parts, Kind::Condition)?,
            None => family::family()?.make_condition()?,
        };
        let lock = AnyLock::of(lock)?;
        Ok(Self { hold, lock })
    }

    /// Family, index and generation: what a pickle of this condition consists of, beside its lock.
    #[getter]
    fn handle(&self) -> Parts {
        message::note_handle(self.hold.handle())
    }

    /// The lock.
    #[getter]
    fn _lock(&self, py: Python<'_>) -> Py<PyAny> {
        self.lock.object().clone_ref(py)
    }

    /// Acquires the lock, as its own method does.
    #[pyo3(signature = (*args, **kwargs), text_signature = "($self, block=True, timeout=None)")]
    fn acquire(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let acquire = self
            .lock
            .object()
            .bind(py)
            .getattr(intern!(py, "acquire"))?;
        calling::call_with(&acquire, args, kwargs).map(Bound::unbind)
    }

    /// Releases the lock.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let lock = self.lock.object().bind(py);
        calling::call_method(lock, intern!(py, "release"), ()).map(drop)
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.lock.enter(py)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.lock.exit(py, kind, value, trace)
    }

    /// Releases the lock, waits until notified, and takes the lock back, as often as it was held. `False` when
    /// `timeout` seconds were not enough.
    ///
    /// A signal handler that raises ends the wait; the lock is taken back first. A second one ends that, too.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.check_owned(py, "must acquire() condition before using wait()")?;
        let place = in_turn(py, |patience| self.hold.join_condition(patience))?;
        let depth = match self.lock.release_all(py) {
            Ok(depth) => depth,
            Err(error) => {
                self.withdraw(py, place)?;
                return Err(error);
            }
        };
        let (slept, raised) = detached(py, deadline(true, timeout), |patience| {
            self.hold.wait_notified(place, patience)
        });
        let slept = match slept.map_err(Error::from) {
            Ok(Ok(())) => Ok(true),
            Ok(Err(GaveUp::TimedOut)) => Ok(false),
            Ok(Err(GaveUp::Interrupted)) => Err(interrupted(raised)),
            Err(error) => Err(error.into()),
        };
        // With the notification still at its place, which passes to another if this process is killed meanwhile.
        let taken_back = self.lock.take_back(py, depth);
        match slept.and_then(|is_notified| taken_back.map(|()| is_notified)) {
            Ok(true) => Ok(self.hold.condition().map_err(Error::from)?.take(place)),
            Ok(false) => Ok(false),
            Err(error) => {
                self.withdraw(py, place)?;
                Err(error)
            }
        }
    }

    /// Notifies those `n` that have waited longest, or as many as wait.
    #[pyo3(signature = (n=1))]
    fn notify(&self, py: Python<'_>, n: isize) -> PyResult<()> {
        self.notify_up_to(py, usize::try_from(n).unwrap_or(0))
    }

    /// Notifies all who wait.
    fn notify_all(&self, py: Python<'_>) -> PyResult<()> {
        self.notify_up_to(py, usize::MAX)
    }

    /// How many wait.
    fn _waiting(&self) -> Result<usize, Error> {
        Ok(self.hold.condition()?.waiting()?)
    }
}

/// A place where parties meet.
#[pyclass(subclass, frozen, module = "manycore._engine")]
pub struct MeetingPoint {
    hold: Hold,
}

impl MeetingPoint {
    fn abort_now(&self, py: Python<'_>) -> PyResult<()> {
        let barrier = self.hold.barrier().map_err(Error::from)?;
        finished(py, |patience| barrier.abort(patience))
    }
}

#[pymethods]
impl MeetingPoint {
    /// A new one for so many parties; or, with `handle`, one that exists.
    #[new]
    #[pyo3(signature = (parties=1, *, handle=None))]
    fn new(parties: u32, handle: Option<Parts>) -> Result<Self, Error> {
        let hold = match handle {
            Some(parts) => family::hold(parts, Kind::Barrier)?,
            None => family::family()?.make_barrier(parties)?,
        };
        Ok(Self { hold })
    }

    /// Family, index and generation: what a pickle of this barrier consists of, beside its action and timeout.
    #[getter]
    fn handle(&self) -> Parts {
        message::note_handle(self.hold.handle())
    }

    /// Waits until all parties have come, of which the last calls `action`. How many came before this one; `None`
    /// when the barrier is broken, or was reset.
    fn _meet(
        &self,
        py: Python<'_>,
        action: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Option<u32>> {
        let has_action = action.is_some();
        let (met, raised) = detached(py, deadline(true, timeout), |patience| {
            self.hold.meet(has_action, patience)
        });
        let turn = match met.map_err(Error::from)? {
            Ok(Meeting::Over(Met::All(index))) => return Ok(Some(index)),
            Ok(Meeting::Over(Met::Broken)) => return Ok(None),
            Ok(Meeting::Acts(turn)) => turn,
            Err(_) => return Err(interrupted(raised)),
        };
        if let Some(Err(error)) = action.map(|action| calling::call(action, ())) {
            self.abort_now(py)?;
            return Err(error);
        }
        let barrier = self.hold.barrier().map_err(Error::from)?;
        let is_over = in_turn(py, |patience| barrier.finish(turn, patience));
        match is_over {
            Ok(is_over) => Ok(is_over.then_some(turn.index)),
            Err(error) => {
                self.abort_now(py)?;
                Err(error)
            }
        }
    }

    /// Breaks the barrier: who waits, or comes from now on, gets `BrokenBarrierError`.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        self.abort_now(py)
    }

    /// Empties the barrier, so that it can be used again: who waits gets `BrokenBarrierError`.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        let barrier = self.hold.barrier().map_err(Error::from)?;
        in_turn(py, |patience| barrier.reset(patience))
    }

    /// How many have to come.
    #[getter]
    fn parties(&self) -> Result<u32, Error> {
        Ok(self.hold.barrier()?.parties())
    }

    /// How many have come, and wait for the others.
    #[getter]
    fn n_waiting(&self) -> Result<u32, Error> {
        Ok(self.hold.barrier()?.waiting()?)
    }

    /// Whether it is broken.
    #[getter]
    fn broken(&self) -> Result<bool, Error> {
        Ok(self.hold.barrier()?.is_broken()?)
    }
}
