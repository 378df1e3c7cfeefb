//! Waiting with the interpreter released, answering signals.

use std::time::Duration;

use manycore_ipc::HandleError;
use manycore_ipc::wait::{GaveUp, Patience};
use manycore_os::Deadline;
use pyo3::prelude::*;

use crate::errors::{Error, interrupted};

/// The deadline of a `(block, timeout)` pair, as the standard library means it: a negative timeout is
/// none at all to wait for.
pub fn deadline(block: bool, timeout: Option<f64>) -> Deadline {
    match timeout {
        _ if !block => Deadline::PASSED,
        None => Deadline::NEVER,
        Some(seconds) if seconds > 0.0 => {
            Deadline::after(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
        }
        Some(_) => Deadline::PASSED,
    }
}

/// Runs `wait` without the interpreter. Signal handlers run now and then; what they raise ends the
/// wait and comes back beside its result.
pub fn detached<R: Send>(
    py: Python<'_>,
    until: Deadline,
    wait: impl FnOnce(&mut Patience<'_>) -> R + Send,
) -> (R, Option<PyErr>) {
    py.detach(|| {
        let mut raised = None;
        let mut tick = || match Python::attach(|py| py.check_signals()) {
            Ok(()) => true,
            Err(error) => {
                raised = Some(error);
                false
            }
        };
        let result = wait(&mut Patience::new(until, &mut tick));
        (result, raised)
    })
}

/// Waits as [`detached`]; `None` when the time was up.
pub fn waited<R: Send>(
    py: Python<'_>,
    until: Deadline,
    wait: impl FnOnce(&mut Patience<'_>) -> Result<Result<R, GaveUp>, HandleError> + Send,
) -> PyResult<Option<R>> {
    let (result, raised) = detached(py, until, wait);
    match result.map_err(Error::from)? {
        Ok(result) => Ok(Some(result)),
        Err(GaveUp::TimedOut) => Ok(None),
        Err(GaveUp::Interrupted) => Err(interrupted(raised)),
    }
}
