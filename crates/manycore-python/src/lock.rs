//! The classes behind `Lock` and `RLock`.

use manycore_ipc::lock::{Acquired, UserLock};
use manycore_ipc::{Hold, Kind};
use manycore_os::Deadline;
use manycore_os::robust::Holder;
use pyo3::exceptions::{PyAssertionError, PyValueError};
use pyo3::prelude::*;

use crate::errors::{self, Error};
use crate::family::{self, Parts};
use crate::message;
use crate::method::Held;
use crate::wait::{deadline, truth, waited};

fn make(handle: Option<Parts>, refuses: bool) -> Result<Hold, Error> {
    Ok(match handle {
        Some(parts) => family::hold(parts, Kind::Lock)?,
        None if refuses => family::family()?.make_refusing_lock()?,
        None => family::family()?.make_lock()?,
    })
}

/// The calling thread's id, which the system-call layer keeps for the engine's own locks.
pub fn this_thread() -> u64 {
    u64::from(Holder::current().tid())
}

/// A lock and what its class is called.
pub struct Named<'a>(pub &'a Hold, &'static str);

impl Named<'_> {
    /// Acquires; `false` when the time was up. A holder that was killed is reported as a warning, or raised if
    /// the lock refuses.
    /// Once the caller has the lock, and before it is told, `enter` runs.
    #[inline]
    pub fn acquire(
        &self,
        py: Python<'_>,
        block: bool,
        timeout: Option<f64>,
        enter: impl FnOnce(&UserLock),
    ) -> PyResult<bool> {
        let me = self.0.family().me().map_err(Error::from)?;
        let lock = self.0.lock().map_err(Error::from)?;
        match lock.try_acquire(me) {
            Some(Acquired::Clean) => {
                enter(lock);
                Ok(true)
            }
            None if !block => self.try_from_the_dead(py, enter),
            acquired => self.acquire_slow(py, acquired, deadline(block, timeout), enter),
        }
    }

    /// Tries again if the holder was killed: who only ever tries has nobody else to find that out.
    #[cold]
    fn try_from_the_dead(&self, py: Python<'_>, enter: impl FnOnce(&UserLock)) -> PyResult<bool> {
        self.0.look_after_lock().map_err(Error::from)?;
        let me = self.0.family().me().map_err(Error::from)?;
        match self.0.lock().map_err(Error::from)?.try_acquire(me) {
            None => Ok(false),
            acquired => self.acquire_slow(py, acquired, Deadline::PASSED, enter),
        }
    }

    /// What [`Named::acquire`] does where it takes more than a look.
    #[cold]
    fn acquire_slow(
        &self,
        py: Python<'_>,
        acquired: Option<Acquired>,
        until: Deadline,
        enter: impl FnOnce(&UserLock),
    ) -> PyResult<bool> {
        let acquired = match acquired {
            Some(acquired) => Some(acquired),
            None => waited(py, until, |patience| self.0.acquire(patience))?,
        };
        let Some(acquired) = acquired else {
            return Ok(false);
        };
        let lock = self.0.lock().map_err(Error::from)?;
        let is_held = !matches!(acquired, Acquired::Refused(_));
        if is_held {
            enter(lock); // before any Python code runs, which may want it again
        }
        self.tell(py, acquired).inspect_err(|_| {
            // A warning that was turned into an exception: the caller does not have the lock.
            if is_held {
                let _ = lock.release();
            }
        })?;
        Ok(true)
    }

    /// Takes the lock back after a wait. If it refuses, the caller has what it is going to release all the same, and
    /// everybody else is told afterwards as well.
    pub fn take_back(&self, py: Python<'_>) -> PyResult<Acquired> {
        let until = Deadline::NEVER;
        match waited(py, until, |patience| self.0.acquire_to_repair(patience))? {
            Some(Acquired::HolderDied(pid)) => {
                let lock = self.0.lock().map_err(Error::from)?;
                if !lock.refuses() {
                    return Ok(Acquired::HolderDied(pid));
                }
                lock.leave_unrepaired();
                Ok(Acquired::Refused(pid))
            }
            _ => Ok(Acquired::Clean), // no deadline, no refusal
        }
    }

    /// Tells of a holder that was killed.
    pub fn tell(&self, py: Python<'_>, acquired: Acquired) -> PyResult<()> {
        match acquired {
            Acquired::Clean => Ok(()),
            Acquired::Refused(pid) => Err(errors::owner_died(py, pid, &self.name())),
            Acquired::HolderDied(pid) => errors::warn_owner_died(py, pid, &self.name()),
        }
    }

    /// Acquires to repair what the lock guards: the pid of the holder that was killed, if one was.
    fn acquire_to_repair(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        let until = deadline(true, None);
        match waited(py, until, |patience| self.0.acquire_to_repair(patience))? {
            Some(Acquired::HolderDied(pid)) => Ok(Some(pid)),
            _ => Ok(None), // no deadline, no refusal
        }
    }

    fn name(&self) -> String {
        let handle = self.0.handle();
        format!("{} {}.{}", self.1, handle.index, handle.generation)
    }
}

pub fn not_owned() -> PyErr {
    PyAssertionError::new_err("attempt to release recursive lock not owned by thread")
}

/// Who holds the lock: slot and generation bits of the holder, and this process's own.
pub fn holder(hold: &Hold) -> Result<(Option<u32>, u32), Error> {
    let me = hold.family().me()?;
    Ok((hold.lock()?.holder(), UserLock::name_of(me)))
}

/// A lock that any thread of any process may release.
#[pyclass(subclass, frozen, module = "manycore._engine")]
pub struct PlainLock {
    pub hold: Hold,
}

impl Held for PlainLock {
    #[inline]
    fn acquire_at_once(&self) -> bool {
        let Ok((lock, me)) = self.hold.lock_and_me() else {
            return false;
        };
        lock.try_acquire_clean(me)
    }

    fn acquire_slowly(&self, py: Python<'_>, block: bool) -> PyResult<bool> {
        self.acquire(py, block, None)
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
    /// A new lock, which `refuses` after a death; or, with `handle`, one that exists.
    #[new]
    #[pyo3(signature = (*, refuses=false, handle=None))]
    fn new(refuses: bool, handle: Option<Parts>) -> Result<Self, Error> {
        Ok(Self {
            hold: make(handle, refuses)?,
        })
    }

    /// The pid of the holder that was killed, if nobody has had the lock since.
    #[getter]
    fn dead_owner(&self) -> Result<Option<u32>, Error> {
        Ok(self.hold.lock()?.dead_holder())
    }

    /// Family, index and generation: what a pickle of this lock consists of.
    #[getter]
    fn handle(&self) -> Parts {
        message::note_handle(self.hold.handle())
    }

    /// Acquires the lock; `False` when `timeout` seconds were not enough, or at once with
    /// `block=False`.
    #[pyo3(signature = (block=true, timeout=None))]
    pub fn acquire(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = truth)] block: bool,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        self.named().acquire(py, block, timeout, |_| ())
    }

    /// Acquires the lock to repair what it guards: the pid of the holder that was killed, if one was.
    fn _acquire_to_repair(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        self.named().acquire_to_repair(py)
    }

    /// Releases the lock as one whose holder was killed.
    fn _release_unrepaired(&self) -> PyResult<()> {
        self.hold.lock().map_err(Error::from)?.leave_unrepaired();
        self.release()
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
        self.named().acquire(py, true, None, |_| ())
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

impl PlainLock {
    pub fn named(&self) -> Named<'_> {
        Named(&self.hold, "Lock")
    }
}

/// A lock that its owning thread may acquire again.
#[pyclass(subclass, frozen, module = "manycore._engine")]
pub struct RecursiveLock {
    pub hold: Hold,
}

impl RecursiveLock {
    /// Whether the calling thread has it.
    pub fn is_mine(&self) -> bool {
        let (me, lock) = (self.hold.family().me(), self.hold.lock());
        me.is_ok_and(|me| lock.is_ok_and(|lock| lock.is_held_by(me, this_thread())))
    }

    /// How often its owner has acquired it.
    pub fn depth(&self) -> PyResult<u64> {
        Ok(self.hold.lock().map_err(Error::from)?.depth())
    }
}

impl Held for RecursiveLock {
    #[inline]
    fn acquire_at_once(&self) -> bool {
        let Ok((lock, me)) = self.hold.lock_and_me() else {
            return false;
        };
        let thread = this_thread();
        if lock.try_acquire_clean(me) {
            lock.enter(thread);
            return true;
        }
        lock.reenter(me, thread)
    }

    fn acquire_slowly(&self, py: Python<'_>, block: bool) -> PyResult<bool> {
        self.acquire(py, block, None)
    }

    #[inline]
    fn release_at_once(&self) -> bool {
        let Ok((lock, me)) = self.hold.lock_and_me() else {
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
    /// A new lock, which `refuses` after a death; or, with `handle`, one that exists.
    #[new]
    #[pyo3(signature = (*, refuses=false, handle=None))]
    fn new(refuses: bool, handle: Option<Parts>) -> Result<Self, Error> {
        Ok(Self {
            hold: make(handle, refuses)?,
        })
    }

    /// The pid of the holder that was killed, if nobody has had the lock since.
    #[getter]
    fn dead_owner(&self) -> Result<Option<u32>, Error> {
        Ok(self.hold.lock()?.dead_holder())
    }

    /// Family, index and generation: what a pickle of this lock consists of.
    #[getter]
    fn handle(&self) -> Parts {
        message::note_handle(self.hold.handle())
    }

    /// Acquires the lock, again if this thread has it; `False` when the time was up.
    #[pyo3(signature = (block=true, timeout=None))]
    pub fn acquire(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = truth)] block: bool,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let me = self.hold.family().me().map_err(Error::from)?;
        let lock = self.hold.lock().map_err(Error::from)?;
        let thread = this_thread();
        if lock.reenter(me, thread) {
            return Ok(true);
        }
        self.named()
            .acquire(py, block, timeout, |lock| lock.enter(thread))
    }

    /// Acquires the lock to repair what it guards: the pid of the holder that was killed, if one was.
    fn _acquire_to_repair(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        let me = self.hold.family().me().map_err(Error::from)?;
        let lock = self.hold.lock().map_err(Error::from)?;
        let thread = this_thread();
        if lock.reenter(me, thread) {
            return Ok(None);
        }
        let pid = self.named().acquire_to_repair(py)?;
        lock.enter(thread);
        Ok(pid)
    }

    /// Releases the lock as one whose holder was killed.
    fn _release_unrepaired(&self) -> PyResult<()> {
        if !self.is_mine() {
            return Err(not_owned());
        }
        self.hold.lock().map_err(Error::from)?.leave_unrepaired();
        self.release()
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

impl RecursiveLock {
    pub fn named(&self) -> Named<'_> {
        Named(&self.hold, "RLock")
    }
}
