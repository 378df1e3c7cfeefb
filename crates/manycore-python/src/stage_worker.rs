//! A worker's side of a pipeline.

use std::cell::Cell;
use std::time::Instant;

use manycore::pipeline::{ERROR, MORE, NOTHING};
use manycore::pool::Seat as Engine;
use manycore::pool::crew::SeatHandles;
use manycore_ipc::object::group::Spent;
use manycore_ipc::ring::{GetError, Message};
use manycore_os::Deadline;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use crate::errors::{self, Error};
use crate::family::{Parts, family, handle_of};
use crate::imported::imported;
use crate::message::{self, Encoded};
use crate::queue::with_message;
use crate::wait::detached;

/// A worker's place in a stage.
#[pyclass(frozen, unsendable, module = "manycore._engine")]
pub struct StageSeat {
    engine: Engine,
    /// The tag of the item that is worked on; zero for none.
    current: Cell<u64>,
}

#[pymethods]
impl StageSeat {
    /// Takes the seat that the pipeline's owner described.
    #[new]
    fn new(
        hub: Parts,
        group: Parts,
        tasks: Parts,
        answers: Parts,
        row: usize,
    ) -> Result<Self, Error> {
        let handles = SeatHandles {
            group: handle_of(group),
            tasks: handle_of(tasks),
            answers: handle_of(answers),
            row,
        };
        let engine = Engine::new(family()?, handles)?.reporting_to(handle_of(hub))?;
        Ok(Self {
            engine,
            current: Cell::new(0),
        })
    }

    /// Works on items until there are no more: calls `function(item, *more)`, or `function(*more)` where the
    /// stage is a source, and sends what it returns; of a generator, or what a source returns, each item.
    fn run(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        more: &Bound<'_, PyTuple>,
        is_source: bool,
    ) -> PyResult<()> {
        let work = Work {
            function,
            more,
            is_source,
        };
        while with_message(|message| self.run_one(py, message, &work))? {}
        Ok(())
    }

    /// Whether the owner wants the item that is worked on to be given up. Says so once, as in a pool.
    fn take_interruption(&self) -> bool {
        let is_wanted = self.engine.is_interrupted(self.current.get());
        if is_wanted {
            self.current.set(0);
        }
        is_wanted
    }

    /// Tells the owner what is wrong with this worker itself.
    fn report(&self, py: Python<'_>, failed: &Bound<'_, PyAny>) -> PyResult<()> {
        self.send(py, 0, failed, ERROR).map(drop)
    }
}

/// What a worker does with each item.
struct Work<'a, 'py> {
    function: &'a Bound<'py, PyAny>,
    more: &'a Bound<'py, PyTuple>,
    is_source: bool,
}

impl<'py> Work<'_, 'py> {
    fn call(&self, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match (self.is_source, self.more.is_empty()) {
            (true, _) => self.function.call1(self.more),
            (false, true) => self.function.call1((item,)),
            (false, false) => {
                let mut arguments = vec![item.clone()];
                arguments.extend(self.more.iter());
                self.function.call1(PyTuple::new(item.py(), arguments)?)
            }
        }
    }

    fn has_many(&self, result: &Bound<'py, PyAny>) -> PyResult<bool> {
        static GENERATOR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let generator = imported(&GENERATOR, result.py(), "types", "GeneratorType")?;
        Ok(self.is_source || result.get_type().is(generator))
    }
}

impl StageSeat {
    /// Works on one item; `false` when there will be none.
    fn run_one(
        &self,
        py: Python<'_>,
        message: &mut Message,
        work: &Work<'_, '_>,
    ) -> PyResult<bool> {
        if !self.engine.try_take(message).map_err(Error::from)? && !self.take(py, message)? {
            return Ok(false);
        }
        let (begin, tag) = (Instant::now(), message.header.tag);
        self.current.set(tag);
        self.engine.begin();
        let decoded = message::decode(py, self.engine.family(), message, 0);
        let is_wanted = match &decoded {
            Ok(item) => self.answer(py, tag, item, work),
            Err(error) => self.answer_error(py, tag, error.clone_ref(py), None),
        }?;
        self.current.set(0);
        self.engine.spend(Spent {
            worked: begin.elapsed().as_nanos() as u64,
            ..Spent::default()
        });
        let goes_on = self.engine.finish();
        self.engine.answered();
        Ok(is_wanted && goes_on)
    }

    #[cold]
    fn take(&self, py: Python<'_>, message: &mut Message) -> PyResult<bool> {
        let engine = &self.engine;
        let (result, raised) = detached(py, Deadline::NEVER, |patience| {
            engine.take(message, patience)
        });
        match result {
            Ok(()) => Ok(true),
            Err(GetError::Closed) => Ok(false),
            Err(error) => Err(errors::from_get(error, raised)),
        }
    }

    /// Answers with what comes of an item; whether the owner wants answers.
    fn answer(
        &self,
        py: Python<'_>,
        tag: u64,
        item: &Bound<'_, PyAny>,
        work: &Work<'_, '_>,
    ) -> PyResult<bool> {
        let sent = self.send_outputs(py, tag, item, work);
        sent.or_else(|error| self.answer_error(py, tag, error, Some(item)))
    }

    fn send_outputs(
        &self,
        py: Python<'_>,
        tag: u64,
        item: &Bound<'_, PyAny>,
        work: &Work<'_, '_>,
    ) -> PyResult<bool> {
        let result = work.call(item)?;
        if !work.has_many(&result)? {
            return self.send(py, tag, &result, 0);
        }
        for output in result.try_iter()? {
            if !self.send(py, tag, &output?, MORE)? {
                return Ok(false); // the generator ends when it is dropped
            }
            self.engine.answered();
        }
        self.send(py, tag, py.None().bind(py), NOTHING)
    }

    fn answer_error(
        &self,
        py: Python<'_>,
        tag: u64,
        error: PyErr,
        item: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.current.set(0); // from here on it is given up in any case
        if !error.is_instance_of::<PyException>(py) {
            return Err(error); // SystemExit and KeyboardInterrupt end the worker, and with it the task
        }
        let failed = py
            .import("manycore._stage_workers")?
            .call_method1("failed", (error.into_value(py), item))?;
        self.send(py, tag, &failed, ERROR)
    }

    /// Sends a part of an answer, waiting for room; whether the owner wants answers.
    fn send(
        &self,
        py: Python<'_>,
        tag: u64,
        value: &Bound<'_, PyAny>,
        flags: u8,
    ) -> PyResult<bool> {
        let mut encoded = Encoded::new();
        if let Err(error) = encoded.object(value) {
            if !error.is_instance_of::<PyException>(py) {
                return Err(error);
            }
            let wrapped = py
                .import("manycore._failures")?
                .call_method1("unsendable_error", (error.into_value(py), value))?;
            return Err(PyErr::from_value(wrapped));
        }
        let (family, ring) = (self.engine.family(), self.engine.answers());
        if encoded.put_at_once(ring, tag, flags) {
            return Ok(true);
        }
        // What is waited for here is none of the item's time.
        if tag != 0 && !self.engine.finish() {
            return Ok(false);
        }
        self.engine.ring(); // it may be full, and the owner asleep
        let sent = encoded.put(py, family, ring, tag, flags);
        if tag != 0 {
            self.engine.begin();
        }
        if sent.is_err() && ring.is_closed() {
            return Ok(false);
        }
        sent.map(|()| true)
    }
}
