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

/// Whether an argument counts as true: where the standard library takes any object for that.
pub fn truth(argument: &Bound<'_, PyAny>) -> PyResult<bool> {
    argument.is_truthy()
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

/// For how long what has to be done is tried once a signal handler has raised.
const GRACE: Duration = Duration::from_secs(1);

/// Does what somebody would miss if it were left undone, and takes an object's own lock, which others have for a
/// moment. What a signal handler raises meanwhile is raised once it has been done; or undone, when a process that was
/// stopped has the lock: after a second more, or with what is raised next.
pub fn finished<R: Send, E: Send>(
    py: Python<'_>,
    operation: impl FnOnce(&mut Patience<'_>) -> Result<Result<R, GaveUp>, E> + Send,
) -> PyResult<R>
where
    Error: From<E>,
{
    let (outcome, raised) = py.detach(|| {
        let mut raised: Option<(PyErr, Deadline)> = None;
        let mut tick = || match (Python::attach(|py| py.check_signals()), &raised) {
            (Ok(()), None) => true,
            (Ok(()), Some((_, until))) => !until.has_passed(),
            (Err(error), None) => {
                raised = Some((error, Deadline::after(GRACE)));
                true
            }
            (Err(_), Some(_)) => false,
        };
        let outcome = operation(&mut Patience::new(Deadline::NEVER, &mut tick));
        (outcome, raised.map(|(error, _)| error))
    });
    match (outcome.map_err(Error::from)?, raised) {
        (_, Some(error)) => Err(error),
        (Ok(result), None) => Ok(result),
        (Err(_), None) => Err(interrupted(None)), // never: nothing else ends it
    }
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
