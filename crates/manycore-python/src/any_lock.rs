//! The lock of a condition, or of a value, whichever it is.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyType};

use crate::calling::call_method;
use crate::errors::Error;
use crate::lock::{PlainLock, RecursiveLock, holder, not_owned, this_thread};

/// A lock that a condition or a value was given, and how to acquire it.
pub enum AnyLock {
    /// A `Lock`.
    Plain(Py<PlainLock>),
    /// An `RLock`.
    Recursive(Py<RecursiveLock>),
    /// Any other, which has the methods of the standard library's; also one of ours whose class has some of its own.
    Other(Py<PyAny>),
}

impl AnyLock {
    /// The lock that an object is. What its class does is looked up here, once.
    pub fn of(lock: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = lock.py();
        if let Ok(plain) = lock.cast::<PlainLock>() {
            if is_as_in(lock, &py.get_type::<PlainLock>())? {
                return Ok(Self::Plain(plain.clone().unbind()));
            }
        } else if let Ok(recursive) = lock.cast::<RecursiveLock>() {
            if is_as_in(lock, &py.get_type::<RecursiveLock>())? {
                return Ok(Self::Recursive(recursive.clone().unbind()));
            }
        }
        Ok(Self::Other(lock.clone().unbind()))
    }

    /// The lock itself.
    #[inline]
    pub fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Plain(lock) => lock.as_any(),
            Self::Recursive(lock) => lock.as_any(),
            Self::Other(lock) => lock,
        }
    }

    /// The `RLock` that it is.
    #[inline]
    pub fn recursive(&self) -> Option<&RecursiveLock> {
        match self {
            Self::Recursive(lock) => Some(lock.get()),
            _ => None,
        }
    }

    /// What the lock's own `acquire` does.
    pub fn acquire(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Plain(lock) => lock.get().acquire(py, true, None).map(drop),
            Self::Recursive(lock) => lock.get().acquire(py, true, None).map(drop),
            Self::Other(lock) => call_method(lock.bind(py), intern!(py, "acquire"), ()).map(drop),
        }
    }

    /// What its `release` does.
    pub fn release(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Plain(lock) => lock.get().release(),
            Self::Recursive(lock) => lock.get().release(),
            Self::Other(lock) => call_method(lock.bind(py), intern!(py, "release"), ()).map(drop),
        }
    }

    /// Runs `work` with the lock held. If that fails and the lock cannot be released either, the second error is raised
    /// with the first as its context, as by a `finally`.
    pub fn during<R>(&self, py: Python<'_>, work: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        if self.recursive().is_some_and(RecursiveLock::is_mine) {
            return work(); // as within `with v.get_lock()`
        }
        self.acquire(py)?;
        let result = work();
        match (self.release(py), result) {
            (Ok(()), result) => result,
            (Err(second), Ok(_)) => Err(second),
            (Err(second), Err(first)) => Err(in_context(py, second, first)),
        }
    }

    /// What the lock's own `__enter__` does.
    pub fn enter<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let acquired = match self {
            Self::Plain(lock) => lock.get().acquire(py, true, None)?,
            Self::Recursive(lock) => lock.get().acquire(py, true, None)?,
            Self::Other(lock) => return call_method(lock.bind(py), intern!(py, "__enter__"), ()),
        };
        Ok(PyBool::new(py, acquired).to_owned().into_any())
    }

    /// What its `__exit__` does.
    pub fn exit(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match self {
            Self::Plain(lock) => lock.get().release(),
            Self::Recursive(lock) => lock.get().release(),
            Self::Other(lock) => {
                let args = (kind, value, trace);
                call_method(lock.bind(py), intern!(py, "__exit__"), args).map(drop)
            }
        }
    }

    /// Whether the caller holds it; of a lock without threads, whether this process does.
    pub fn is_owned(&self, py: Python<'_>) -> PyResult<bool> {
        let lock = self.object().bind(py);
        if let Ok(plain) = lock.cast::<PlainLock>() {
            let (held_by, me) = holder(&plain.get().hold)?;
            return Ok(held_by == Some(me));
        }
        if let Ok(recursive) = lock.cast::<RecursiveLock>() {
            return Ok(recursive.get().is_mine());
        }
        if lock.hasattr("_is_owned")? {
            return lock.call_method0("_is_owned")?.is_truthy();
        }
        if !lock.call_method1("acquire", (false,))?.is_truthy()? {
            return Ok(true);
        }
        lock.call_method0("release")?;
        Ok(false)
    }

    /// Releases it, however often the caller has acquired it; how often that was.
    pub fn release_all(&self, py: Python<'_>) -> PyResult<u64> {
        match self {
            Self::Plain(lock) => lock.get().release().map(|()| 1),
            Self::Recursive(lock) => {
                let hold = &lock.get().hold;
                let me = hold.family().me().map_err(Error::from)?;
                let lock = hold.lock().map_err(Error::from)?;
                lock.leave_all(me, this_thread()).ok_or_else(not_owned)
            }
            Self::Other(lock) => {
                let ours = lock.bind(py).cast::<RecursiveLock>();
                let times = ours.map_or(Ok(1), |lock| lock.get().depth())?;
                for _ in 0..times {
                    self.release(py)?;
                }
                Ok(times)
            }
        }
    }

    /// Takes it back, to be released as often as before. What a signal handler raises meanwhile is raised once the
    /// lock is the caller's again, a second time at once; and so is that a holder was killed, if the lock refuses
    /// then.
    pub fn take_back(&self, py: Python<'_>, times: u64) -> PyResult<()> {
        let named = match self {
            Self::Plain(lock) => lock.get().named(),
            Self::Recursive(lock) => lock.get().named(),
            Self::Other(_) => return (0..times).try_for_each(|_| self.acquire(py)),
        };
        let mut raised = Ok(());
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
}

/// Whether a lock's class acquires and releases as one of ours does.
fn is_as_in(lock: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> PyResult<bool> {
    let own = lock.get_type();
    // Each class of ours has its own, which the engine has made: see `quick`.
    for name in ["acquire", "release", "__enter__", "__exit__"] {
        let (own, ours) = (own.getattr(name)?, class.getattr(name)?);
        if !own.get_type().is(ours.get_type()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An error that was raised while another one was on its way.
fn in_context(py: Python<'_>, error: PyErr, first: PyErr) -> PyErr {
    let mut last = error.clone_ref(py);
    while let Some(context) = last.context(py) {
        last = context;
    }
    if !last.value(py).is(first.value(py)) {
        last.set_context(py, Some(first));
    }
    error
}
