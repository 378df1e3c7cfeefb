//! How children ended, as Python has it: exit codes, and the memory that they had.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use manycore_os::channel::Lent;
use manycore_os::ending::{self, Seen};
use manycore_os::process::{self, Exit, Identity};
use pyo3::exceptions::PyChildProcessError;
use pyo3::prelude::*;

/// For how long who collects a process may take over it.
const ABOUT_TO: Duration = Duration::from_millis(50);

/// An exit code as Python has it, and the most memory in bytes that the process had.
type Ending = (i32, u64);

/// A child, told apart from others by a descriptor where there is one to be had.
#[pyclass(frozen, module = "manycore._engine")]
pub struct ChildWatch {
    id: Identity,
    pidfd: Option<Lent>,
}

impl ChildWatch {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref()?.get().ok()
    }
}

#[pymethods]
impl ChildWatch {
    /// Watches a process that nobody has collected yet.
    #[new]
    fn new(pid: u32) -> Self {
        let pidfd = process::open(pid).ok();
        let pidfd = pidfd.and_then(|fd| Lent::new(fd).ok());
        let id = match pidfd {
            Some(_) => Identity { pid, start: 0 },
            None => Identity::of(pid),
        };
        Self { id, pidfd }
    }

    /// The number of a descriptor that becomes readable when the process has ended; `None` where there is none.
    fn fileno(&self) -> Option<i32> {
        self.fd().and(self.pidfd.as_ref().map(Lent::number))
    }

    /// Whether the process has ended, whoever's child it is.
    fn has_ended(&self) -> bool {
        match self.fd() {
            Some(fd) => process::ended_within(fd, Duration::ZERO),
            None => process::has_ended(self.id),
        }
    }

    /// How the process ended; `None` while it runs. It is still to be collected.
    ///
    /// # Errors
    /// `ChildProcessError` when somebody has collected it.
    fn look(&self) -> PyResult<Option<Ending>> {
        told(ending::look(self.id.pid, self.fd()))
    }

    /// Collects the process, which has ended, unless somebody else has.
    fn collect(&self) {
        ending::collect(self.id.pid, self.fd());
    }

    /// The exit code of a process that somebody else has collected, or is about to; `None` where the kernel
    /// does not tell.
    fn told(&self, py: Python<'_>) -> Option<i32> {
        let fd = self.fd()?;
        py.detach(|| ending::told(self.id.pid, fd, ABOUT_TO))
            .and_then(code)
    }
}

/// As `ChildWatch.look`, by the number of a child that nobody else collects.
#[pyfunction]
pub fn look_at_child(pid: u32) -> PyResult<Option<Ending>> {
    told(ending::look(pid, None))
}

fn told(seen: Seen) -> PyResult<Option<Ending>> {
    match seen {
        Seen::Running => Ok(None),
        Seen::Ended(ending) => Ok(code(ending.exit).map(|code| (code, ending.peak_memory))),
        Seen::Collected => Err(PyChildProcessError::new_err(
            "somebody else has collected the process",
        )),
    }
}

fn code(exit: Exit) -> Option<i32> {
    match exit {
        Exit::Code(status) => Some(status),
        Exit::Signal(number) => Some(-number),
        Exit::Unknown => None,
    }
}
