//! A worker's side of a pool.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use manycore::pool::Seat as Engine;
use manycore::pool::crew::SeatHandles;
use manycore::pool::seat::LEAVE;
use manycore_ipc::ring::{GetError, Message};
use manycore_os::Deadline;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::errors::{self, Error};
use crate::family::{Parts, family, handle_of};
use crate::message::{self, Encoded};
use crate::queue::with_message;
use crate::task::{ERROR, HEAD, Head, Mode};
use crate::wait::detached;

/// A worker's place in a pool.
#[pyclass(frozen, unsendable, module = "manycore._engine")]
pub struct Seat {
    engine: Engine,
    functions: RefCell<HashMap<(u32, u64), Py<PyAny>>>,
    /// The tag of the task that runs; zero while none does.
    current: Cell<u64>,
}

#[pymethods]
impl Seat {
    /// Takes the seat that the pool's owner described.
    #[new]
    fn new(group: Parts, tasks: Parts, answers: Parts, row: usize) -> Result<Self, Error> {
        let handles = SeatHandles {
            group: handle_of(group),
            tasks: handle_of(tasks),
            answers: handle_of(answers),
            row,
        };
        Ok(Self {
            engine: Engine::new(family()?, handles)?,
            functions: RefCell::default(),
            current: Cell::new(LEAVE),
        })
    }

    /// Runs tasks until the pool is closed, or `most` have been run; returns how many.
    #[pyo3(signature = (most=None))]
    fn run(&self, py: Python<'_>, most: Option<u64>) -> PyResult<u64> {
        let mut count = 0;
        while most.is_none_or(|most| count < most) {
            match with_message(|message| self.run_one(py, message))? {
                Next::Task => count += 1,
                Next::Close => return Ok(count),
                Next::Leave => break,
            }
        }
        self.engine.leave();
        Ok(count)
    }

    /// Tells the owner why this worker cannot begin.
    fn fail(&self, py: Python<'_>, error: Bound<'_, PyException>) -> PyResult<()> {
        self.answer_error(py, LEAVE, PyErr::from_value(error.into_any()))
    }

    /// Whether the owner wants the task that runs to be given up.
    fn is_interrupted(&self) -> bool {
        self.engine.is_interrupted(self.current.get())
    }
}

/// What a worker is to do next.
enum Next {
    /// Look for another task.
    Task,
    /// End: the pool was closed.
    Close,
    /// Leave, and be replaced if there are too few then.
    Leave,
}

impl Seat {
    /// Runs one task.
    #[inline]
    fn run_one(&self, py: Python<'_>, message: &mut Message) -> PyResult<Next> {
        if !self.engine.try_take(message).map_err(Error::from)? && !self.take(py, message)? {
            return Ok(Next::Close);
        }
        let tag = message.header.tag;
        if tag == LEAVE {
            return Ok(Next::Leave);
        }
        self.current.set(tag);
        self.engine.begin();
        let outcome = self.execute(py, message);
        self.current.set(LEAVE); // from here on the answer is on its way
        let answered = match outcome {
            Ok(value) => self.answer(py, tag, &value),
            Err(error) => self.answer_error(py, tag, error),
        };
        // An answer that does not fit into the heap. What says so needs no new memory; if that does not
        // arrive either, this worker ends, and its task with it.
        answered.or_else(|error| self.answer_error(py, tag, error))?;
        self.engine.answered();
        if self.engine.is_to_retire() {
            return Ok(Next::Leave);
        }
        Ok(Next::Task)
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

    #[inline]
    fn execute<'py>(&self, py: Python<'py>, message: &Message) -> PyResult<Bound<'py, PyAny>> {
        let (head, mode, arguments) = self.decode(py, message)?;
        let function = self.function(py, head)?;
        let function = function.bind(py);
        match mode {
            Mode::Item => function.call1((arguments,)),
            Mode::Call | Mode::StarItem => function.call1(to_tuple(arguments)?),
            Mode::CallWithKeywords => {
                let pair = arguments.cast_into::<PyTuple>()?;
                let keywords = pair.get_item(1)?.cast_into::<PyDict>()?;
                function.call(pair.get_item(0)?.cast_into::<PyTuple>()?, Some(&keywords))
            }
            Mode::Chunk => {
                let results = PyList::empty(py);
                for (number, item) in arguments.try_iter()?.enumerate() {
                    self.engine.at_item(number);
                    results.append(function.call1((item?,))?)?;
                }
                Ok(results.into_any())
            }
            Mode::StarChunk => {
                let results = PyList::empty(py);
                for (number, item) in arguments.try_iter()?.enumerate() {
                    self.engine.at_item(number);
                    results.append(function.call1(to_tuple(item?)?)?)?;
                }
                Ok(results.into_any())
            }
        }
    }

    #[inline]
    fn decode<'py>(
        &self,
        py: Python<'py>,
        message: &Message,
    ) -> PyResult<(Head, Mode, Bound<'py, PyAny>)> {
        if message.header.kind & message::IN_BLOCK == 0 {
            let (head, mode) = Head::from_bytes(&message.payload)?;
            return Ok((
                head,
                mode,
                message::decode(py, self.engine.family(), message, HEAD)?,
            ));
        }
        // The head went into the block with the rest.
        let block = message
            .blocks
            .last()
            .ok_or_else(|| errors::corrupted("a task has lost its block"))?;
        let bytes = self
            .engine
            .family()
            .blocks()
            .map_err(Error::from)?
            .bytes(*block)
            .map_err(Error::from)?;
        let mut head = [0; HEAD];
        bytes.read(0, &mut head).map_err(Error::from)?;
        let (head, mode) = Head::from_bytes(&head)?;
        Ok((
            head,
            mode,
            message::decode(py, self.engine.family(), message, HEAD)?,
        ))
    }

    /// The function of a task: kept from an earlier one, or unpickled now.
    #[inline]
    fn function(&self, py: Python<'_>, head: Head) -> PyResult<Py<PyAny>> {
        let key = (head.function.page, head.function.generation);
        if head.keep {
            if let Some(function) = self.functions.borrow().get(&key) {
                return Ok(function.clone_ref(py));
            }
        }
        let pickled = self.engine.read(head.function).map_err(Error::from)?;
        let loads = py.import("manycore._pickling")?.getattr("loads_function")?;
        let function = loads.call1((PyBytes::new(py, &pickled),))?.unbind();
        if head.keep {
            self.functions
                .borrow_mut()
                .insert(key, function.clone_ref(py));
        }
        Ok(function)
    }

    #[inline]
    fn answer(&self, py: Python<'_>, tag: u64, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut encoded = Encoded::new();
        match encoded.object(value) {
            Ok(()) => self.send(py, encoded, tag, 0),
            Err(error) if error.is_instance_of::<PyException>(py) => {
                let wrapped = py
                    .import("manycore._pickling")?
                    .call_method1("unsendable_result", (error.into_value(py), value))?;
                self.answer_value(py, tag, &wrapped, ERROR)
            }
            Err(error) => Err(error),
        }
    }

    fn answer_error(&self, py: Python<'_>, tag: u64, error: PyErr) -> PyResult<()> {
        if !error.is_instance_of::<PyException>(py) {
            return Err(error); // SystemExit and KeyboardInterrupt end the worker, and with it the task
        }
        let wrapped = py
            .import("manycore._pickling")?
            .call_method1("sendable_exception", (error.into_value(py),))?;
        self.answer_value(py, tag, &wrapped, ERROR)
    }

    fn answer_value(
        &self,
        py: Python<'_>,
        tag: u64,
        value: &Bound<'_, PyAny>,
        flags: u8,
    ) -> PyResult<()> {
        let mut encoded = Encoded::new();
        encoded.object(value)?;
        self.send(py, encoded, tag, flags)
    }

    #[inline]
    fn send(&self, py: Python<'_>, encoded: Encoded, tag: u64, flags: u8) -> PyResult<()> {
        let (family, ring) = (self.engine.family(), self.engine.answers());
        encoded.put(py, family, ring, tag, flags)
    }
}

fn to_tuple(arguments: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyTuple>> {
    let py = arguments.py();
    match arguments.cast_into::<PyTuple>() {
        Ok(tuple) => Ok(tuple),
        Err(error) => PyTuple::new(
            py,
            error
                .into_inner()
                .try_iter()?
                .collect::<PyResult<Vec<_>>>()?,
        ),
    }
}
