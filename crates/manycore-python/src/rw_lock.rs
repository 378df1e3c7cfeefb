//! The class behind `RWLock`.

use manycore_ipc::lock::{Access, Acquired};
use manycore_ipc::{Hold, Kind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::{self, Error};
use crate::family::{self, Parts};
use crate::message;
use crate::wait::{deadline, finished, truth, waited};

/// A lock that many hold to read, or one to write.
#[pyclass(subclass, frozen, module = "manycore._engine")]
pub struct ReadWriteLock {
    hold: Hold,
}

impl ReadWriteLock {
    fn enter(
        &self,
        py: Python<'_>,
        access: Access,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let shares = self.hold.rw_lock().map_err(Error::from)?;
        let entered = match shares.try_enter(access).map_err(Error::from)? {
            Some(acquired) => Some(acquired),
            None => {
                let until = deadline(block, timeout);
                waited(py, until, |patience| self.hold.enter(access, patience))?
            }
        };
        match entered {
            None => Ok(false),
            Some(Acquired::HolderDied(pid)) => {
                let handle = self.hold.handle();
                let name = format!("RWLock {}.{}", handle.index, handle.generation);
                // A warning that was turned into an exception: the caller does not have the lock.
                errors::warn_owner_died(py, pid, &name)
                    .inspect_err(|_| drop(self.leave(py, access)))?;
                Ok(true)
            }
            Some(_) => Ok(true),
        }
    }

    fn leave(&self, py: Python<'_>, access: Access) -> PyResult<()> {
        let shares = self.hold.rw_lock().map_err(Error::from)?;
        let has_left = match shares.leave_at_once(access).map_err(Error::from)? {
            Some(has_left) => has_left,
            None => finished(py, |patience| shares.leave(access, patience))?,
        };
        if has_left {
            return Ok(());
        }
        Err(PyValueError::new_err(match access {
            Access::Read => "released too many times: this process does not hold the lock to read",
            Access::Write => {
                "released too many times: this process does not hold the lock to write"
            }
        }))
    }
}

#[pymethods]
impl ReadWriteLock {
    /// A new lock; or, with `handle`, one that exists.
    #[new]
    #[pyo3(signature = (*, handle=None))]
    fn new(handle: Option<Parts>) -> Result<Self, Error> {
        let hold = match handle {
            Some(parts) => family::hold(parts, Kind::RwLock)?,
            None => family::family()?.make_rw_lock()?,
        };
        Ok(Self { hold })
    }

    /// Family, index and generation: what a pickle of this lock consists of.
    #[getter]
    fn handle(&self) -> Parts {
        message::note_handle(self.hold.handle())
    }

    /// Acquires the lock to read; `False` when the time was up.
    #[pyo3(signature = (block=true, timeout=None))]
    fn acquire_read(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = truth)] block: bool,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        self.enter(py, Access::Read, block, timeout)
    }

    /// Acquires the lock to write; `False` when the time was up.
    #[pyo3(signature = (block=true, timeout=None))]
    fn acquire_write(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = truth)] block: bool,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        self.enter(py, Access::Write, block, timeout)
    }

    /// Releases what was acquired to read.
    fn release_read(&self, py: Python<'_>) -> PyResult<()> {
        self.leave(py, Access::Read)
    }

    /// Releases what was acquired to write.
    fn release_write(&self, py: Python<'_>) -> PyResult<()> {
        self.leave(py, Access::Write)
    }

    /// The pid of a writer that was killed, if no other has come since.
    #[getter]
    fn dead_owner(&self) -> Result<Option<u32>, Error> {
        Ok(self.hold.rw_lock()?.dead_writer())
    }

    /// How many hold it to read, and whether one does to write.
    fn _holders(&self) -> Result<(u32, bool), Error> {
        Ok(self.hold.rw_lock()?.readers_and_writer())
    }
}
