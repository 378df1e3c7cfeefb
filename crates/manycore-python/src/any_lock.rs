//! The lock of a condition, whichever it is.

use pyo3::prelude::*;
use pyo3::types::PyBool;

use crate::errors::Error;
use crate::lock::{PlainLock, RecursiveLock, holder, not_owned, this_thread};

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

    /// What the lock's own `__enter__` does.
    pub fn enter(&self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let acquired = match self {
            Self::Plain(lock) => lock.get().named().acquire(py, true, None, |_| ())?,
            Self::Recursive(lock) => lock.get().acquire(py, true, None)?,
            Self::Other(lock) => return lock.call_method0("__enter__"),
        };
        Ok(PyBool::new(py, acquired).to_owned().into_any())
    }

    /// What its `__exit__` does.
    pub fn exit(
        &self,
        kind: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match self {
            Self::Plain(lock) => lock.get().release(),
            Self::Recursive(lock) => lock.get().release(),
            Self::Other(lock) => {
                let args = (kind, value, trace);
                lock.call_method1("__exit__", args).map(drop)
            }
        }
    }

    /// Whether the caller holds it; of a lock without threads, whether this process does.
    pub fn is_owned(&self) -> PyResult<bool> {
        match self {
            Self::Plain(lock) => {
                let (held_by, me) = holder(&lock.get().hold)?;
                Ok(held_by == Some(me))
            }
            Self::Recursive(lock) => Ok(lock.get().is_mine()),
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
    /// lock is the caller's again, a second time at once; and so is that a holder was killed, if the lock refuses
    /// then.
    pub fn take_back(&self, times: u64) -> PyResult<()> {
        let named = match self {
            Self::Plain(lock) => lock.get().named(),
            Self::Recursive(lock) => lock.get().named(),
            Self::Other(lock) => return lock.call_method0("acquire").map(drop),
        };
        let (py, mut raised) = (self.py(), Ok(()));
        let acquired = loop {
            match named.take_back(py) {
                Ok(acquired) => break acquired,
                // The lock itself is there, so that it was a signal handler.
                Err(error) if raised.is_err() || named.0.lock().is_err() => return Err(error),
                Err(error) => raised = Err(error),
            }
        };
        if let Self::Recursive(_) = self {
            let lock = named.0.lock().map_err(Error::from)?;
            lock.enter_times(this_thread(), times);
        }
        raised.and(named.tell(py, acquired))
    }

    fn py(&self) -> Python<'py> {
        match self {
            Self::Plain(lock) => lock.py(),
            Self::Recursive(lock) => lock.py(),
            Self::Other(lock) => lock.py(),
        }
    }
}
