//! A worker's side of a pool.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use manycore::pool::Seat as Engine;
use manycore::pool::crew::SeatHandles;
use manycore::pool::seat::LEAVE;
use manycore_ipc::object::group::Spent;
use manycore_ipc::ring::{GetError, Message};
use manycore_os::Deadline;
use manycore_os::clock::{coarse_now_ns, now_ns};
use pyo3::exceptions::{PyException, PyKeyboardInterrupt};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::calling;
use crate::errors::{self, Error};
use crate::family::{Parts, family, handle_of};
use crate::gil_cell::GilCell;
use crate::kept::Kept;
use crate::message::{self, Encoded};
use crate::queue::with_message;
use crate::task::{ERROR, HEAD, Head, Mode, TIMED};
use crate::wait::detached;

/// Whether tasks fail as the calls of executors do: a `SystemExit` or the like is the answer, and not the end of this
/// worker, and what cannot be unpickled has an error of its own.
static SERVES_EXECUTOR: AtomicBool = AtomicBool::new(false);

/// Has the tasks that this process runs fail as the calls of executors do.
#[pyfunction]
pub fn serve_executor() {
    SERVES_EXECUTOR.store(true, Relaxed); // for this thread, which runs the tasks
}

/// Nanoseconds that a worker runs the items of a task before it leaves the rest to others, where it may: for much longer
/// than it takes to hand them out again, and not so long that the others wait for it at the end of a map.
const TURN: u64 = 4_000_000;

/// A worker's place in a pool. One thread works there, and any may be the last to have it.
#[pyclass(frozen, module = "manycore._engine")]
pub struct Seat {
    engine: Engine,
    functions: GilCell<Kept>,
    /// The tag of the task that runs and was not told to stop; zero while none does. This and the numbers
    /// below are for the one thread that works here, so nothing orders them.
    current: AtomicU64,
    /// Makes a function of its pickle, where that is not what every worker does.
    load: Mutex<Option<Py<PyAny>>>,
    /// Whether it is measured what the time is spent on.
    measures: AtomicBool,
    /// When the task that runs was read; zero before that, and where nothing is measured.
    read_at: AtomicU64,
    /// Whether the answer that is next lacks results: the items behind them are left to others.
    leaves_rest: AtomicBool,
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
            functions: GilCell::default(),
            current: AtomicU64::new(LEAVE),
            load: Mutex::default(),
            measures: AtomicBool::new(false),
            read_at: AtomicU64::new(0),
            leaves_rest: AtomicBool::new(false),
        })
    }

    /// Has functions made of their pickles by `load(pickled)`.
    fn load_by(&self, load: Py<PyAny>) {
        let before = locked(&self.load).replace(load);
        drop(before);
    }

    /// Measures from now on what the time is spent on.
    fn measure(&self) {
        self.measures.store(true, Relaxed);
    }

    /// Runs the next task if there is one; whether there was.
    fn run_if_any(&self, py: Python<'_>) -> PyResult<bool> {
        with_message(|message| {
            if !self.engine.try_take(message).map_err(Error::from)? {
                return Ok(false);
            }
            let now = self.now();
            self.run_taken(py, message, (now, now)).map(|_| true)
        })
    }

    /// Runs tasks until the pool is closed, or `most` have been run; returns how many.
    #[pyo3(signature = (most=None))]
    fn run(&self, py: Python<'_>, most: Option<u64>) -> PyResult<u64> {
        let mut count = 0;
        self.engine.be_ready();
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
        self.answer_error(py, LEAVE, PyErr::from_value(error.into_any()), 0)
    }

    /// Whether the owner wants the task that runs to be given up. Says so once: the signal that makes a
    /// worker ask comes more than once, and what a task does when it is told is not disturbed.
    fn take_interruption(&self) -> bool {
        let is_wanted = self.engine.is_interrupted(self.current.load(Relaxed));
        if is_wanted {
            self.current.store(LEAVE, Relaxed);
        }
        is_wanted
    }
}

/// What a worker is to do next.
enum Next {
    /// Look for another task.
    Task,
    /// End: the pool was closed.
    Close,
    /// Leave, and be replaced if there are too few then: it is old, or to be killed for a task that has
    /// its answer.
    Leave,
}

impl Seat {
    /// Takes and runs one task.
    #[inline]
    fn run_one(&self, py: Python<'_>, message: &mut Message) -> PyResult<Next> {
        let asked = self.now();
        if !self.engine.try_take(message).map_err(Error::from)? && !self.take(py, message)? {
            return Ok(Next::Close);
        }
        self.run_taken(py, message, (asked, self.now()))
    }

    /// Runs the task that was taken, given when it was asked for and when it came.
    #[inline(always)] // it is run a million times a second, from one place
    fn run_taken(
        &self,
        py: Python<'_>,
        message: &mut Message,
        (asked, came): (u64, u64),
    ) -> PyResult<Next> {
        let tag = message.header.tag;
        if tag == LEAVE {
            return Ok(Next::Leave);
        }
        self.current.store(tag, Relaxed);
        self.read_at.store(came, Relaxed);
        let outcome = if self.engine.may_begin(tag) {
            self.engine.begin();
            self.execute(py, message)
        } else {
            self.current.store(LEAVE, Relaxed); // the signal that says so, too, may not have been seen to
            Err(errors::withdrawn(py))
        };
        self.engine.foresee();
        let ran = self.now();
        self.current.store(LEAVE, Relaxed); // from here on the answer is on its way
        let answered = match outcome {
            Ok(value) => self.answer(py, tag, &value, ran),
            Err(error) => self.answer_error(py, tag, error, ran),
        };
        // An answer that does not fit into the heap. What says so needs no new memory; if that does not
        // arrive either, this worker ends, and its task with it.
        answered.or_else(|error| self.answer_error(py, tag, error, ran))?;
        if self.measures.load(Relaxed) {
            self.note_time(asked, came, ran);
        }
        let goes_on = self.engine.finish();
        if self.leaves_rest.load(Relaxed) {
            self.leaves_rest.store(false, Relaxed);
            self.engine.answered_early();
        } else {
            self.engine.answered();
        }
        if !goes_on || self.engine.is_to_retire() {
            return Ok(Next::Leave);
        }
        Ok(Next::Task)
    }

    /// The time, where anything is measured.
    #[inline]
    fn now(&self) -> u64 {
        if self.measures.load(Relaxed) {
            now_ns()
        } else {
            0
        }
    }

    #[cold]
    fn note_time(&self, asked: u64, came: u64, ran: u64) {
        let read = self.read_at.load(Relaxed);
        self.engine.spend(Spent {
            waited: came.saturating_sub(asked),
            worked: ran.saturating_sub(read),
            moved: read.saturating_sub(came) + now_ns().saturating_sub(ran),
        });
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
        let (head, mode, arguments, function) = self
            .unpack(py, message)
            .map_err(|error| undecodable(py, error))?;
        let function = function.bind(py);
        if self.measures.load(Relaxed) {
            self.read_at.store(now_ns(), Relaxed);
        }
        if head.seeded {
            return self.call_seeded(function, (head, mode), &arguments);
        }
        self.call(function, (head, mode), arguments, |_| Ok(()))
    }

    /// Calls a function for what came with a seed.
    #[cold]
    fn call_seeded<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        how: (Head, Mode),
        with_seed: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (seed, arguments) = Seed::split(with_seed)?;
        self.call(function, how, arguments, |item| seed.plant(item))
    }

    /// Calls a function, once or for each item; before each time it calls `prepare` with the item's number.
    #[inline(always)]
    fn call<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        (head, mode): (Head, Mode),
        arguments: Bound<'py, PyAny>,
        prepare: impl Fn(usize) -> PyResult<()>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let results = match mode {
            Mode::Chunk | Mode::StarChunk => PyList::empty(function.py()),
            _ => {
                prepare(0)?;
                return call_once(function, mode, arguments);
            }
        };
        let turn = head.shared.then(Turn::begin);
        for (number, item) in arguments.try_iter()?.enumerate() {
            if number > 0 && turn.as_ref().is_some_and(Turn::is_over) {
                self.leaves_rest.store(true, Relaxed);
                break;
            }
            self.engine.at_item(number);
            prepare(number)?;
            results.append(match mode {
                Mode::Chunk => calling::call(function, (item?,))?,
                _ => calling::call(function, to_tuple(item?)?)?,
            })?;
        }
        Ok(results.into_any())
    }

    /// What a task is made of: its head, how it is called, the arguments and the function.
    #[inline]
    fn unpack<'py>(
        &self,
        py: Python<'py>,
        message: &Message,
    ) -> PyResult<(Head, Mode, Bound<'py, PyAny>, Py<PyAny>)> {
        let (head, mode, arguments) = self.decode(py, message)?;
        let function = self.function(py, head)?;
        Ok((head, mode, arguments, function))
    }

    #[inline]
    fn decode<'py>(
        &self,
        py: Python<'py>,
        message: &Message,
    ) -> PyResult<(Head, Mode, Bound<'py, PyAny>)> {
        let family = self.engine.family();
        // A large task's head went into the block with the rest.
        let (head, mode) = if message.header.kind & message::IN_BLOCK == 0 {
            Head::from_bytes(&message.payload)?
        } else {
            Head::from_bytes(&message::front::<HEAD>(family, message)?)?
        };
        let arguments = message::decode(py, family, message, HEAD)?;
        Ok((head, mode, arguments))
    }

    /// The function of a task: kept from an earlier one, or unpickled now.
    #[inline]
    fn function(&self, py: Python<'_>, head: Head) -> PyResult<Py<PyAny>> {
        if head.keep {
            if let Some(function) = self.functions.lock(py).get(head.function) {
                return Ok(function.clone_ref(py));
            }
        }
        let pickled = self.engine.read(head.function).map_err(Error::from)?;
        let load = locked(&self.load).as_ref().map(|load| load.clone_ref(py));
        let load = match load {
            Some(load) => load.into_bound(py),
            None => py.import("manycore._pickling")?.getattr("loads_function")?,
        };
        let function = load.call1((PyBytes::new(py, &pickled),))?.unbind();
        if head.keep {
            let mut functions = self.functions.lock(py);
            let before = functions.insert(head.function, function.clone_ref(py));
            drop(functions);
            drop(before); // not while they are in use: it may run Python code
        }
        Ok(function)
    }

    #[inline]
    fn answer(&self, py: Python<'_>, tag: u64, value: &Bound<'_, PyAny>, ran: u64) -> PyResult<()> {
        let mut encoded = Encoded::new();
        let timed = if self.measures.load(Relaxed) {
            self.stamp(&mut encoded, ran)
        } else {
            0
        };
        match encoded.object(value) {
            Ok(()) => self.send(py, encoded, tag, timed),
            Err(error) if error.is_instance_of::<PyException>(py) => {
                let wrapped = py
                    .import("manycore._failures")?
                    .call_method1("unsendable_result", (error.into_value(py), value))?;
                self.answer_value(py, tag, &wrapped, ran)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes into an empty answer how long its task took; the flag that says so.
    #[cold]
    fn stamp(&self, encoded: &mut Encoded, ran: u64) -> u8 {
        let took = ran.saturating_sub(self.read_at.load(Relaxed));
        encoded.payload.extend_from_slice(&took.to_ne_bytes());
        TIMED
    }

    fn answer_error(&self, py: Python<'_>, tag: u64, error: PyErr, ran: u64) -> PyResult<()> {
        if !is_answer(py, &error) {
            return Err(error);
        }
        let wrapped = py
            .import("manycore._failures")?
            .call_method1("sendable_exception", (error.into_value(py),))?;
        self.answer_value(py, tag, &wrapped, ran)
    }

    #[cold]
    fn answer_value(
        &self,
        py: Python<'_>,
        tag: u64,
        error: &Bound<'_, PyAny>,
        ran: u64,
    ) -> PyResult<()> {
        let mut encoded = Encoded::new();
        let timed = if self.measures.load(Relaxed) {
            self.stamp(&mut encoded, ran)
        } else {
            0
        };
        encoded.object(error)?;
        self.send(py, encoded, tag, ERROR | timed)
    }

    #[inline]
    fn send(&self, py: Python<'_>, encoded: Encoded, tag: u64, flags: u8) -> PyResult<()> {
        let (family, ring) = (self.engine.family(), self.engine.answers());
        encoded.put(py, family, ring, tag, flags)
    }
}

/// The answer to a task that cannot be unpickled: what unpickling raised, or what executors make of it.
#[cold]
fn undecodable(py: Python<'_>, error: PyErr) -> PyErr {
    if !serves_executor() || !is_answer(py, &error) {
        return error;
    }
    let wrapped = py
        .import("manycore._executor_errors")
        .and_then(|module| module.call_method1("undecodable_call", (error.into_value(py),)));
    wrapped.map_or_else(|error| error, PyErr::from_value)
}

/// Whether an exception answers its task. Those that are no `Exception` end the worker otherwise, and with it the task;
/// of an executor's worker only `KeyboardInterrupt`, which Ctrl-C raises in every process.
fn is_answer(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyException>(py)
        || serves_executor() && !error.is_instance_of::<PyKeyboardInterrupt>(py)
}

fn serves_executor() -> bool {
    SERVES_EXECUTOR.load(Relaxed)
}

/// Calls a function for a task that is no list of items.
#[inline(always)]
fn call_once<'py>(
    function: &Bound<'py, PyAny>,
    mode: Mode,
    arguments: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    match mode {
        Mode::Call | Mode::StarItem => calling::call(function, to_tuple(arguments)?),
        Mode::CallWithKeywords => {
            let pair = arguments.cast_into::<PyTuple>()?;
            let keywords = pair.get_item(1)?.cast_into::<PyDict>()?;
            let arguments = pair.get_item(0)?.cast_into::<PyTuple>()?;
            calling::call_with(function, arguments, Some(&keywords))
        }
        _ => calling::call(function, (arguments,)),
    }
}

/// A worker's turn at the items of a task.
struct Turn {
    began: u64,
    tick: u64,
}

impl Turn {
    fn begin() -> Self {
        Self {
            began: now_ns(),
            tick: coarse_now_ns(),
        }
    }

    /// Whether it is the turn of others. The coarse clock, which takes little time, tells when to look at the other.
    #[inline]
    fn is_over(&self) -> bool {
        coarse_now_ns() != self.tick && now_ns().saturating_sub(self.began) >= TURN
    }
}

/// What the seeds of a task's items are made of.
struct Seed<'py> {
    seed: Bound<'py, PyAny>,
    first: usize,
    plant: Bound<'py, PyAny>,
}

impl<'py> Seed<'py> {
    /// The seed that came with arguments, and these.
    #[cold]
    fn split(with_seed: &Bound<'py, PyAny>) -> PyResult<(Self, Bound<'py, PyAny>)> {
        let (seed, first, arguments) = with_seed.extract()?;
        let plant = with_seed.py().import("manycore._seeds")?.getattr("plant")?;
        Ok((Self { seed, first, plant }, arguments))
    }

    /// Has what is random from now on follow from the seed and the number of an item.
    fn plant(&self, item: usize) -> PyResult<()> {
        self.plant.call1((&self.seed, self.first + item)).map(drop)
    }
}

impl Drop for Seed<'_> {
    /// Tasks without a seed may follow.
    fn drop(&mut self) {
        if let Err(error) = self.plant.call0() {
            calling::show(error, &self.plant);
        }
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

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
