//! The class behind `Semaphore` and `BoundedSemaphore`.

use std::os::raw::c_int;

use manycore_ipc::lock::Tokens;
use manycore_ipc::lock::tokens::MOST;
use manycore_ipc::{Hold, Kind};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::errors::Error;
use crate::family::{self, Parts};
use crate::message;
use crate::wait::{deadline, finished, truth, waited};

/// What the standard library's says of a value below zero: the system's "invalid argument".
const EINVAL: i32 = 22;

/// Tokens that any process may take and give.
#[pyclass(subclass, frozen, module = "manycore._engine")]
pub struct CountingSemaphore {
    hold: Hold,
}

fn make(value: c_int, bounded: bool, returns: bool) -> PyResult<Hold> {
    let value = u32::try_from(value).map_err(|_| {
        PyOSError::new_err((
            EINVAL,
            format!("a semaphore's value must be >= 0, not {value}"),
        ))
    })?;
    let most = if bounded { value } else { MOST };
    let made = family::family()?.make_semaphore(value, most, returns);
    Ok(made.map_err(Error::from)?)
}

impl CountingSemaphore {
    fn tokens(&self) -> Result<&'static Tokens, Error> {
        Ok(self.hold.semaphore()?)
    }

    /// Takes a token that is a signal.
    fn take(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        let tokens = self.tokens()?;
        if tokens.try_take() {
            return Ok(true);
        }
        if !block {
            self.hold.look_after_tokens().map_err(Error::from)?;
            return Ok(tokens.try_take());
        }
        let until = deadline(block, timeout);
        Ok(waited(py, until, |patience| self.hold.take_token(patience))?.is_some())
    }

    /// Takes a token that comes back when this process is killed.
    fn hold(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool> {
        let shares = self.hold.semaphore_shares().map_err(Error::from)?;
        match shares.hold_at_once().map_err(Error::from)? {
            Some(false) if !block => {
                self.hold.look_after_tokens().map_err(Error::from)?;
                let held = shares.hold_at_once().map_err(Error::from)?;
                return Ok(held == Some(true));
            }
            Some(true) => return Ok(true),
            _ => {}
        }
        let until = deadline(block, timeout);
        Ok(waited(py, until, |patience| self.hold.hold_token(patience))?.is_some())
    }

    fn give_back(&self, py: Python<'_>) -> PyResult<bool> {
        let shares = self.hold.semaphore_shares().map_err(Error::from)?;
        match shares.give_back_at_once().map_err(Error::from)? {
            Some(given) => Ok(given),
            None => finished(py, |patience| shares.give_back(patience)),
        }
    }
}

fn released_if(given: bool) -> PyResult<()> {
    if given {
        Ok(())
    } else {
        Err(PyValueError::new_err(
            "semaphore or lock released too many times: it has as many tokens as it may have",
        ))
    }
}

#[pymethods]
impl CountingSemaphore {
    /// A new semaphore, which never has more than `value` tokens if it is `bounded`, and where all tokens of a
    /// killed process come back if it `returns` them; or, with `handle`, one that exists.
    #[new]
    #[pyo3(signature = (value=1, *, bounded=false, returns=false, handle=None))]
    fn new(value: c_int, bounded: bool, returns: bool, handle: Option<Parts>) -> PyResult<Self> {
        let hold = match handle {
            Some(parts) => family::hold(parts, Kind::Semaphore)?,
            None => make(value, bounded, returns)?,
        };
        Ok(Self { hold })
    }

    /// Family, index and generation: what a pickle of this semaphore consists of.
    #[getter]
    fn handle(&self) -> Parts {
        message::note_handle(self.hold.handle())
    }

    /// Takes a token; `False` when `timeout` seconds were not enough, or at once with `block=False`.
    #[pyo3(signature = (block=true, timeout=None))]
    fn acquire(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = truth)] block: bool,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        if self.tokens()?.returns() {
            self.hold(py, block, timeout)
        } else {
            self.take(py, block, timeout)
        }
    }

    /// Gives a token.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        let tokens = self.tokens()?;
        released_if(if tokens.returns() {
            self.give_back(py)?
        } else {
            tokens.give()
        })
    }

    /// How many tokens are there.
    fn get_value(&self) -> Result<u32, Error> {
        Ok(self.tokens()?.value())
    }

    /// Whether there are none.
    fn locked(&self) -> Result<bool, Error> {
        Ok(self.tokens()?.value() == 0)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.hold(py, true, None)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        released_if(self.give_back(py)?)
    }

    /// How many tokens there may be.
    fn _most(&self) -> Result<u32, Error> {
        Ok(self.tokens()?.most())
    }
}
