//! What a queue hands out: its items one after the other, and what keeps it from ending.

use manycore_ipc::family::Producer;
use manycore_os::Deadline;
use pyo3::prelude::*;

use super::class::RingQueue;

/// A producer of a queue, open as long as this object is there.
#[pyclass(frozen, module = "manycore._engine")]
pub struct OpenProducer {
    pub(super) producer: Producer,
}

#[pymethods]
impl OpenProducer {
    /// Whether this process opened it; in a forked child it is nothing.
    #[getter]
    fn is_own(&self) -> bool {
        self.producer.ring().is_ok()
    }
}

/// The items of a queue, as they come.
#[pyclass(frozen, module = "manycore._engine")]
pub struct QueueIterator {
    pub(super) queue: Py<RingQueue>,
}

#[pymethods]
impl QueueIterator {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.queue.get().next(py, Deadline::NEVER)
    }
}
