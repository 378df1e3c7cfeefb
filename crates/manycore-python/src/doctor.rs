//! Looking at a program from outside.

use std::io;

use manycore_ipc::inspect::{InspectError, inspect as look_at};
use pyo3::exceptions::{PyOSError, PyPermissionError, PyProcessLookupError};
use pyo3::prelude::*;

use crate::errors::Error;

/// What the processes of the family of `pid` are doing, in words.
///
/// Raises:
///     ProcessLookupError: When there is no such process, or it has no family.
///     PermissionError: When this user may not look at it.
///     OSError: When it cannot be looked at for another reason.
#[pyfunction]
pub fn inspect(pid: u32) -> PyResult<String> {
    // With the interpreter held: a fork meanwhile would leave what was looked at locked in the child.
    look_at(pid)
        .map(|report| report.to_string())
        .map_err(|error| match &error {
            InspectError::Unreachable(_, why) => match why.kind() {
                io::ErrorKind::NotFound => PyProcessLookupError::new_err(error.to_string()),
                io::ErrorKind::PermissionDenied => PyPermissionError::new_err(error.to_string()),
                _ => PyOSError::new_err(error.to_string()),
            },
            InspectError::Corrupted(damage) => Error::from(*damage).into(),
            _ => PyOSError::new_err(error.to_string()),
        })
}
