//! The classes behind `Lock` and `RLock`.

use manycore_ipc::lock::{Acquired, UserLock};
use manycore_ipc::wait::GaveUp;
use manycore_ipc::{Hold, Kind};
use manycore_os::robust::Holder;
use pyo3::exceptions::{PyAssertionError, PyKeyboardInterrupt, PyValueError};
use pyo3::prelude::*;

use crate::errors::Error;
use crate::family::{self, Parts};
use crate::message;
use crate::method::Held;
use crate::wait::{deadline, detached};

fn make(handle: Option<Parts>) -> Result<Hold, Error> {
    Ok(match handle {
        Some(parts) => family::hold(parts, Kind::Lock)?,
        None => family::family()?.make_lock()?,
    })
}

/// The calling thread's id, which the system-call layer keeps for the engine's own locks.
fn this_thread() -> u64 {
    u64::from(Holder::current().tid())
}

/// Acquires, without a word about the last holder; `None` when the time was up.
fn take(
    py: Python<'_>,
    hold: &Hold,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<Option<Acquired>> {
    let me = hold.family().me().map_err(Error::from)?;
    let lock = hold.lock().map_err(Error::from)?;
    let acquired = match lock.try_acquire(me) {
        Some(acquired) => acquired,
        None if !block => return Ok(None),
        None => {
            let (result, raised) = detached(py, deadline(block, timeout), |patience| {
                hold.acquire(patience)
            });
            match result.map_err(Error::from)? {
                Ok(acquired) => acquired,
                Err(GaveUp::TimedOut) => return Ok(None),
                Err(GaveUp::Interrupted) => {
                    return Err(raised.unwrap_or_else(|| PyKeyboardInterrupt::new_err(())));
                }
            }
        }
    };
    Ok(Some(acquired))
}

/// Warns of a holder that was killed.
fn tell(py: Python<'_>, acquired: Acquired) -> PyResult<()> {
    if let Acquired::HolderDied(pid) = acquired {
        let errors = py.import("manycore.errors")?;
        errors.call_method1("warn_owner_died", (pid,))?;
    }
    Ok(())
}

/// Acquires; `false` when the time was up. A holder that was killed is reported as a warning.
fn acquire(py: Python<'_>, hold: &Hold, block: bool, timeout: Option<f64>) -> PyResult<bool> {
    let Some(acquired) = take(py, hold, block, timeout)? else {
        return Ok(false);
    };
    if let Err(error) = tell(py, acquired) {
        // The warning was turned into an exception: the caller does not have the lock.
        hold.lock().map_err(Error::from)?.release();
        return Err(error);
    }
    Ok(true)
}

/// A lock that was given to a condition.
pub enum AnyLock<'a, 'py> {
    /// A `Lock`.
    Plain(Bound<'py, PlainLock>),
    /// An `RLock`.
    Recursive(Bound<'py, RecursiveLock>),
    /// Any other, which has the methods of the standard library's.
    Other(&'a Bound<'py, PyAny>),
}

impl<'a, 'py> AnyLock<'a, 'py> {
    /// The lock that an object is.
    pub fn of(lock: &'a Bound<'py, PyAny>) -> Self {
        if let Ok(lock) = lock.cast::<RecursiveLock>() {
            return Self::Recursive(lock.clone());
        }
        match lock.cast::<PlainLock>() {
            Ok(lock) => Self::Plain(lock.clone()),
            Err(_) => Self::Other(lock),
        }
    }

    /// Whether the caller holds it; of a lock without threads, whether this process does.
    pub fn is_owned(&self) -> PyResult<bool> {
        match self {
            Self::Plain(lock) => {
                let (held_by, me) = holder(&lock.get().hold)?;
                Ok(held_by == Some(me))
            }
            Self::Recursive(lock) => {
                let hold = &lock.get().hold;
                let me = hold.family().me().map_err(Error::from)?;
                let lock = hold.lock().map_err(Error::from)?;
                Ok(lock.is_held_by(me, this_thread()))
            }
            Self::Other(lock) if lock.hasattr("_is_owned")? => {
                lock.call_method0("_is_owned")?.is_truthy()
            }
            Self::Other(lock) => {
                if !lock.call_method1("acquire", (false,))?.is_truthy()? {
                    return Ok(true);
                }
                lock.call_method0("release")?;
                Ok(false)
            }
        }
    }

    /// Releases it, however often the caller has acquired it; how often that was.
    pub fn release_all(&self) -> PyResult<u64> {
        match self {
            Self::Plain(lock) => lock.get().release().map(|()| 1),
            Self::Recursive(lock) => {
                let hold = &lock.get().hold;
                let me = hold.family().me().map_err(Error::from)?;
                let lock = hold.lock().map_err(Error::from)?;
                lock.leave_all(me, this_thread()).ok_or_else(not_owned)
            }
            Self::Other(lock) => lock.call_method0("release").map(|_| 1),
        }
    }

    /// Takes it back, to be released as often as before. What a signal handler raises meanwhile is raised once the
    /// lock is the caller's again; a second time at once.
    pub fn take_back(&self, times: u64) -> PyResult<()> {
        let hold = match self {
            Self::Plain(lock) => &lock.get().hold,
            Self::Recursive(lock) => &lock.get().hold,
            Self::Other(lock) => return lock.call_method0("acquire").map(drop),
        };
        let (py, mut raised) = (self.py(), Ok(()));
        let acquired = loop {
            match take(py, hold, true, None) {
                Ok(Some(acquired)) => break acquired,
                Ok(None) => {}
                // The lock itself is there, so that it was a signal handler.
                Err(error) if raised.is_err() || hold.lock().is_err() => return Err(error),
                Err(error) => raised = Err(error),
            }
        };
        if let Self::Recursive(_) = self {
            let lock = hold.lock().map_err(Error::from)?;
            lock.enter_times(this_thread(), times);
        }
        raised.and(tell(py, acquired))
    }

    fn py(&self) -> Python<'py> {
        match self {
            Self::Plain(lock) => lock.py(),
            Self::Recursive(lock) => lock.py(),
            Self::Other(lock) => lock.py(),
        }
    }
}

fn not_owned() -> PyErr {
    PyAssertionError::new_err("attempt to release recursive lock not owned by thread")
}

/// Who holds the lock, for `repr`: slot and generation bits of the holder, and this process's own.
fn holder(hold: &Hold) -> Result<(Option<u32>, u32), Error> {
    let me = hold.family().me()?;
    Ok((hold.lock()?.holder(), UserLock::name_of(me)))
}

/// A lock that any thread of any process may release.
#[pyclass(subclass, frozen, module = "manycore._engine")]
pub struct PlainLock {
    hold: Hold,
}

impl Held for PlainLock {
    #[inline]
    fn acquire_at_once(&self) -> bool {
        let (Ok(me), Ok(lock)) = (self.hold.family().me(), self.hold.lock()) else {
            return false;
        };
        lock.try_acquire_clean(me)
    }

    fn acquire_slowly(&self, py: Python<'_>) -> PyResult<()> {
        acquire(py, &self.hold, true, None).map(drop)
    }

    #[inline]
    fn release_at_once(&self) -> bool {
        self.hold.lock().is_ok_and(UserLock::release)
    }

    fn release_slowly(&self) -> PyResult<()> {
        self.release()
    }
}

#[pymethods]
impl PlainLock {
    /// A new lock; or, with `handle`, one that exists.
    #[new]
    #[pyo3(signature = (*, handle=None))]
    fn new(handle: Option<Parts>) -> Result<Self, Error> {
        Ok(Self {
            hold: make(handle)?,
        })
    }

    /// Family, index and generation: what a pickle of this lock consists of.
    #[getter]
    fn handle(&self) -> Parts {
        message::note_handle(self.hold.handle())
    }

    /// Acquires the lock; `False` when `timeout` seconds were not enough, or at once with
    /// `block=False`.
    #[pyo3(signature = (block=true, timeout=None))]
    pub fn acquire(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        acquire(py, &self.hold, block, timeout)
    }

    /// Releases the lock, whoever holds it.
    pub fn release(&self) -> PyResult<()> {
        if self.hold.lock().map_err(Error::from)?.release() {
            Ok(())
        } else {
            Err(PyValueError::new_err(
                "semaphore or lock released too many times: nobody holds this lock",
            ))
        }
    }

    /// Whether anybody holds the lock.
    fn locked(&self) -> Result<bool, Error> {
        Ok(holder(&self.hold)?.0.is_some())
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        acquire(py, &self.hold, true, None)
    }

    fn __exit__(
        &self,
        _kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.release()
    }

    /// Who holds it, as words, and this process as such a word.
    fn _holder(&self) -> Result<(Option<u32>, u32), Error> {
        holder(&self.hold)
    }
}

/// A lock that its owning thread may acquire again.
#[pyclass(subclass, frozen, module = "manycore._engine")]
pub struct RecursiveLock {
    hold: Hold,
}

impl RecursiveLock {
    /// Whether the calling thread has it.
    pub fn is_mine(&self) -> bool {
        let (me, lock) = (self.hold.family().me(), self.hold.lock());
        me.is_ok_and(|me| lock.is_ok_and(|lock| lock.is_held_by(me, this_thread())))
    }
}

impl Held for RecursiveLock {
    #[inline]
    fn acquire_at_once(&self) -> bool {
        let (Ok(me), Ok(lock)) = (self.hold.family().me(), self.hold.lock()) else {
            return false;
        };
        let thread = this_thread();
        if lock.try_acquire_clean(me) {
            lock.enter(thread);
            return true;
        }
        lock.reenter(me, thread)
    }

    fn acquire_slowly(&self, py: Python<'_>) -> PyResult<()> {
        self.acquire(py, true, None).map(drop)
    }

    #[inline]
    fn release_at_once(&self) -> bool {
        let (Ok(me), Ok(lock)) = (self.hold.family().me(), self.hold.lock()) else {
            return false;
        };
        lock.leave(me, this_thread()).is_some()
    }

    fn release_slowly(&self) -> PyResult<()> {
        self.release()
    }
}

#[pymethods]
impl RecursiveLock {
    /// A new lock; or, with `handle`, one that exists.
    #[new]
    #[pyo3(signature = (*, handle=None))]
    fn new(handle: Option<Parts>) -> Result<Self, Error> {
        Ok(Self {
            hold: make(handle)?,
        })
    }

    /// Family, index and generation: what a pickle of this lock consists of.
    #[getter]
    fn handle(&self) -> Parts {
        message::note_handle(self.hold.handle())
    }

    /// Acquires the lock, again if this thread has it; `False` when the time was up.
    #[pyo3(signature = (block=true, timeout=None))]
    pub fn acquire(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        let me = self.hold.family().me().map_err(Error::from)?;
        let lock = self.hold.lock().map_err(Error::from)?;
        let thread = this_thread();
        if lock.reenter(me, thread) {
            return Ok(true);
        }
        let acquired = acquire(py, &self.hold, block, timeout)?;
        if acquired {
            lock.enter(thread);
        }
        Ok(acquired)
    }

    /// Releases the lock once; only its owner may.
    pub fn release(&self) -> PyResult<()> {
        let me = self.hold.family().me().map_err(Error::from)?;
        let lock = self.hold.lock().map_err(Error::from)?;
        match lock.leave(me, this_thread()) {
            Some(_) => Ok(()),
            None => Err(not_owned()),
        }
    }

    /// Whether anybody holds the lock.
    fn locked(&self) -> Result<bool, Error> {
        Ok(holder(&self.hold)?.0.is_some())
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire(py, true, None)
    }

    fn __exit__(
        &self,
        _kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.release()
    }

    /// Who holds it, as words, this process as such a word, and how often it was acquired.
    fn _holder(&self) -> PyResult<(Option<u32>, u32, u64, bool)> {
        let (held_by, me) = holder(&self.hold)?;
        let owner = self.hold.family().me().map_err(Error::from)?;
        let lock = self.hold.lock().map_err(Error::from)?;
        let mine = lock.is_held_by(owner, this_thread());
        Ok((held_by, me, lock.depth(), mine))
    }
}
