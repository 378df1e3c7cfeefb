//! The owner's side of a pool.

mod backlog;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use manycore::pool::{Backlog, Crew as Engine, Ledger};
use manycore_ipc::ring::Message;
use manycore_ipc::wait::GaveUp;
use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::errors::{Error, interrupted};
use crate::family::{self, Parts};
use crate::imported::imported;
use crate::job::Job;
use crate::message::{self, Encoded};
use crate::queue::with_message;
use crate::task::{ERROR, HEAD, Head, Mode};
use crate::wait::{deadline, detached};

/// A task without an answer.
struct Open {
    job: Py<Job>,
    index: usize,
}

struct State {
    ledger: Ledger<Open>,
    cursor: usize,
    backlog: Backlog,
    /// Whether the workers are to leave once the backlog is empty.
    is_ending: bool,
}

/// The owner's side of a pool: hands out tasks, collects answers, buries workers.
///
/// `state` is only locked while the interpreter is held, and no Python code runs meanwhile.
#[pyclass(frozen, module = "manycore._engine")]
pub struct Crew {
    engine: Engine,
    state: Mutex<State>,
    waiting: AtomicUsize,
    /// How often somebody has rung.
    rung: AtomicUsize,
    /// Whether tasks wait in the backlog: for who does not lock the state.
    has_backlog: AtomicBool,
}

type SeatParts = (Parts, Parts, Parts, usize);

impl Crew {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encodes and hands out one task; returns its tag.
    #[inline]
    #[allow(clippy::too_many_arguments)] // what a task consists of
    fn hand_out(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        index: usize,
        head: &[u8; HEAD],
        arguments: &Bound<'_, PyAny>,
        priority: i64,
    ) -> PyResult<u64> {
        let mut encoded = Encoded::new();
        encoded.payload.extend_from_slice(head);
        encoded.object(arguments)?;
        let open = Open {
            job: job.clone().unbind(),
            index,
        };
        let (tag, is_in_turn) = {
            let mut state = self.state();
            (state.ledger.open(open), state.backlog.is_empty())
        };
        let tag =
            tag.ok_or_else(|| PyRuntimeError::new_err("too many tasks are open in this pool"))?;
        let sent = if is_in_turn && priority == 0 {
            self.send(py, encoded, tag)
        } else {
            self.queue_up(py, encoded, tag, priority)
        };
        if let Err(error) = sent {
            let closed = self.state().ledger.close(tag);
            drop(closed); // not under the lock: it may run Python code
            return Err(error);
        }
        Ok(tag)
    }

    #[inline]
    fn send(&self, py: Python<'_>, encoded: Encoded, tag: u64) -> PyResult<()> {
        let ring = self.engine.tasks().map_err(Error::from)?;
        encoded.put(py, self.engine.family(), &ring, tag, 0)
    }

    /// Hands out one task, and returns its tag; what is wrong with its arguments is the answer to that task.
    #[inline]
    #[allow(clippy::too_many_arguments)] // what a task consists of
    fn hand_out_or_answer(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        index: usize,
        head: &[u8; HEAD],
        arguments: &Bound<'_, PyAny>,
        priority: i64,
    ) -> PyResult<Option<u64>> {
        match self.hand_out(py, job, index, head, arguments, priority) {
            Ok(tag) => Ok(Some(tag)),
            Err(error) if error.is_instance_of::<PyException>(py) => {
                let value = error.into_value(py).into_bound(py).into_any();
                job.get().deliver(py, index, false, value).map(|()| None)
            }
            Err(error) => Err(error),
        }
    }

    /// Receives one answer and closes its task, both under one lock: whoever buries a worker meanwhile
    /// finds the task either open with its answer still to come, or answered.
    fn receive(&self, message: &mut Message) -> Result<Option<Option<Open>>, Error> {
        let state = &mut *self.state();
        if !self.engine.try_receive(&mut state.cursor, message)? {
            return Ok(None);
        }
        Ok(Some(state.ledger.close(message.header.tag)))
    }

    /// Delivers one received answer; a stale one is dropped.
    fn deliver(&self, py: Python<'_>, message: &Message, open: Option<Open>) -> PyResult<()> {
        let value = message::decode(py, self.engine.family(), message, 0);
        let Some(Open { job, index }) = open else {
            return Ok(());
        };
        match value {
            Ok(value) => job
                .get()
                .deliver(py, index, message.header.kind & ERROR == 0, value),
            Err(error) => {
                let value = error.into_value(py).into_bound(py).into_any();
                job.get().note_undecodable(value.clone().unbind());
                job.get().deliver(py, index, false, value)
            }
        }
    }
}

#[pymethods]
impl Crew {
    /// A crew with this many rows: each seats one worker at a time.
    #[new]
    fn new(rows: usize) -> Result<Self, Error> {
        let engine = Engine::new(family::family()?, rows)?;
        let state = Mutex::new(State {
            ledger: Ledger::default(),
            cursor: 0,
            backlog: Backlog::default(),
            is_ending: false,
        });
        Ok(Self {
            engine,
            state,
            waiting: AtomicUsize::new(0),
            rung: AtomicUsize::new(0),
            has_backlog: AtomicBool::new(false),
        })
    }

    /// How many rows there are.
    #[getter]
    fn rows(&self) -> usize {
        self.engine.rows()
    }

    /// What the worker of a row needs to take its seat.
    fn seat(&self, row: usize) -> PyResult<SeatParts> {
        let seat = self
            .engine
            .seat(row)
            .ok_or_else(|| PyValueError::new_err("no such row"))?;
        let parts = message::note_handle;
        Ok((
            parts(seat.group),
            parts(seat.tasks),
            parts(seat.answers),
            row,
        ))
    }

    /// Keeps a pickled function for the workers; returns the head of its tasks. With `keep`, workers
    /// keep the unpickled function for later tasks.
    fn store<'py>(
        &self,
        py: Python<'py>,
        pickled: &[u8],
        keep: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let function = self.engine.store(pickled).map_err(Error::from)?;
        Ok(PyBytes::new(
            py,
            &Head { function, keep }.to_bytes(Mode::Call),
        ))
    }

    /// Frees the function of a head.
    fn discard(&self, head: &[u8]) -> PyResult<()> {
        self.engine.discard(Head::from_bytes(head)?.0.function);
        Ok(())
    }

    /// Hands out a call with positional and keyword arguments. The higher priority comes first.
    #[pyo3(signature = (job, head, arguments, has_keywords, priority=0))]
    fn call(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        head: &[u8],
        arguments: &Bound<'_, PyAny>,
        has_keywords: bool,
        priority: i64,
    ) -> PyResult<()> {
        let mode = if has_keywords {
            Mode::CallWithKeywords
        } else {
            Mode::Call
        };
        let head = Head::from_bytes(head)?.0.to_bytes(mode);
        if let Some(tag) = self.hand_out_or_answer(py, job, 0, &head, arguments, priority)? {
            job.get().note_tag(tag);
        }
        Ok(())
    }

    /// Hands out a call that is a job of its own.
    #[pyo3(signature = (function, head, arguments, keywords, priority=0))]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        function: &Bound<'py, PyAny>,
        head: &[u8],
        arguments: &Bound<'py, PyTuple>,
        keywords: &Bound<'py, PyDict>,
        priority: i64,
    ) -> PyResult<Bound<'py, Job>> {
        let job = Bound::new(py, Job::single(py, name_of(function)?)?)?;
        if keywords.is_empty() {
            self.call(py, &job, head, arguments, false, priority)?;
        } else {
            let both = (arguments, keywords).into_pyobject(py)?;
            self.call(py, &job, head, &both, true, priority)?;
        }
        Ok(job)
    }

    /// Hands out tasks of `chunk` items each, from item `start` on, while fewer than `most_open` tasks
    /// are open; returns the first item that was not handed out. The first of the tasks is number `task`
    /// of its job.
    #[pyo3(signature = (job, head, items, start, chunk, star, most_open, task, priority=0))]
    #[allow(clippy::too_many_arguments)] // one call for a whole map is the point
    fn map(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        head: &[u8],
        items: &Bound<'_, PyList>,
        start: usize,
        chunk: usize,
        star: bool,
        most_open: usize,
        task: usize,
        priority: i64,
    ) -> PyResult<usize> {
        let chunk = chunk.max(1);
        let mode = match (star, chunk) {
            (false, 1) => Mode::Item,
            (true, 1) => Mode::StarItem,
            (false, _) => Mode::Chunk,
            (true, _) => Mode::StarChunk,
        };
        let head = Head::from_bytes(head)?.0.to_bytes(mode);
        let mut next = start;
        let room = most_open.saturating_sub(self.state().ledger.len());
        for index in task..task.saturating_add(room) {
            if next >= items.len() {
                break;
            }
            let end = (next + chunk).min(items.len());
            let arguments = if chunk == 1 {
                items.get_item(next)?
            } else {
                items.get_slice(next, end).into_any()
            };
            self.hand_out_or_answer(py, job, index, &head, &arguments, priority)?;
            next = end;
        }
        Ok(next)
    }

    /// Hands out one task of a stream. With `star`, its items are tuples of arguments.
    #[pyo3(signature = (job, head, index, items, chunked, star=false, priority=0))]
    #[allow(clippy::too_many_arguments)] // as for a map
    fn stream(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        head: &[u8],
        index: usize,
        items: &Bound<'_, PyAny>,
        chunked: bool,
        star: bool,
        priority: i64,
    ) -> PyResult<()> {
        let mode = match (star, chunked) {
            (false, false) => Mode::Item,
            (true, false) => Mode::StarItem,
            (false, true) => Mode::Chunk,
            (true, true) => Mode::StarChunk,
        };
        let head = Head::from_bytes(head)?.0.to_bytes(mode);
        self.hand_out_or_answer(py, job, index, &head, items, priority)?;
        Ok(())
    }

    /// Delivers all answers that are there; how many there were.
    fn collect(&self, py: Python<'_>) -> PyResult<usize> {
        let mut count = 0;
        loop {
            let received = with_message(|message| match self.receive(message)? {
                Some(open) => self.deliver(py, message, open).map(|()| true),
                None => Ok::<_, PyErr>(false),
            })?;
            if !received {
                break;
            }
            count += 1;
        }
        if self.has_backlog.load(SeqCst) {
            self.feed(py)?;
        }
        if count > 0 && self.waiting.load(SeqCst) > 0 {
            self.engine.ring(); // another thread may wait for what was just delivered
        }
        Ok(count)
    }

    /// Sleeps until `want` answers are there, or `job` is done or has more than `seen` answers, or a
    /// worker is leaving, or somebody calls `ring`, at most `timeout` seconds.
    fn wait(
        &self,
        py: Python<'_>,
        job: Option<&Bound<'_, Job>>,
        seen: usize,
        want: u64,
        timeout: f64,
    ) -> PyResult<()> {
        let open = self.state().ledger.len() as u64;
        let job = job.map(|job| job.get());
        let want = self.want_with_backlog(want);
        self.waiting.fetch_add(1, SeqCst);
        let rung = self.rung.load(SeqCst);
        let (result, raised) = detached(py, deadline(true, Some(timeout)), |patience| {
            self.engine.wait(want, open, patience, || {
                self.rung.load(SeqCst) != rung // pairs with the step in `ring`, before the bell
                    || job.is_some_and(|job| job.is_done() || job.delivered_so_far() > seen)
                    || self.is_hungry()
            })
        });
        self.waiting.fetch_sub(1, SeqCst);
        match result {
            Err(GaveUp::Interrupted) => Err(interrupted(raised)),
            Ok(()) | Err(GaveUp::TimedOut) => Ok(()),
        }
    }

    /// How many tasks have no answer.
    #[getter]
    fn open(&self) -> usize {
        self.state().ledger.len()
    }

    /// How many tasks nobody has taken.
    #[getter]
    fn queued(&self) -> u64 {
        self.engine.queued() + self.state().backlog.len() as u64
    }

    /// Whether tasks wait that are handed out by `collect` and `feed` only.
    #[getter]
    fn has_backlog(&self) -> bool {
        self.has_backlog.load(SeqCst)
    }

    /// Gives the workers more of what waits in the backlog.
    fn feed(&self, py: Python<'_>) -> PyResult<()> {
        while let Some((open, error)) = self.feed_once() {
            let value = error.into_value(py).into_bound(py).into_any();
            open.job.get().deliver(py, open.index, false, value)?;
        }
        Ok(())
    }

    /// Whether a worker has begun the one task that a job is.
    fn is_running(&self, job: &Bound<'_, Job>) -> bool {
        let tag = job.get().tag();
        tag.is_some_and(|tag| self.state().ledger.get(tag).is_some() && self.engine.has_taken(tag))
    }

    /// Withdraws what no worker has taken of a job, and answers it with `error`: it will not be run.
    /// Returns how many tasks these were. Call `feed` afterwards.
    fn withdraw(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<usize> {
        let tags = match job.get().tag() {
            Some(tag) => vec![tag],
            None => self.state().ledger.tags(|open| open.job.is(job)),
        };
        self.withdraw_tasks(py, &tags, error)
    }

    /// Withdraws every task that no worker has taken, as `withdraw` does.
    fn withdraw_all(&self, py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<usize> {
        let tags = self.state().ledger.tags(|_| true);
        self.withdraw_tasks(py, &tags, error)
    }

    /// Ends the waiting of every thread that is in `wait`.
    fn ring(&self) {
        self.rung.fetch_add(1, SeqCst); // pairs with the looks of who waits
        self.engine.ring();
    }

    /// Tells workers that are idle, or become so, to leave; no more tasks are accepted.
    ///
    /// Tasks of the backlog are handed out before.
    fn dismiss(&self) {
        let mut state = self.state();
        state.is_ending = true;
        if state.backlog.is_empty() {
            self.engine.dismiss();
        }
    }

    /// Whether the worker of a row takes no more tasks.
    fn is_leaving(&self, row: usize) -> bool {
        self.engine.is_leaving(row)
    }

    /// Whether the kernel has marked any worker as ending: a hint.
    fn seems_dead(&self) -> bool {
        self.engine.seems_dead()
    }

    /// Which item of its task the worker of a row was at.
    fn item(&self, row: usize) -> u64 {
        self.engine.item(row)
    }

    /// Whether any worker takes no more tasks, and the owner does not know yet.
    fn has_leaving(&self) -> bool {
        (0..self.engine.rows()).any(|row| self.engine.is_leaving(row))
    }

    /// Notes that the owner knows that the worker of a row is leaving.
    fn note_leaving(&self, row: usize) {
        self.engine.note_leaving(row);
    }

    /// How many tasks the worker of a row has taken.
    fn taken(&self, row: usize) -> u64 {
        self.engine.taken(row)
    }

    /// Makes a row ready for a new worker.
    fn clear_row(&self, row: usize) {
        self.engine.clear_row(row);
    }

    /// After the worker of a row has ended: delivers its last answers, and returns the job and the
    /// number of the task that died with it, if one did. That task is closed; the caller answers it.
    fn bury(&self, py: Python<'_>, row: usize) -> PyResult<Option<(Py<Job>, usize)>> {
        let tag = self.engine.last_taken(row).map_err(Error::from)?;
        self.collect(py)?;
        let closed = tag.and_then(|tag| self.state().ledger.close(tag));
        self.engine.clear_row(row);
        Ok(closed.map(|open| (open.job, open.index)))
    }

    /// Closes every open task and drops those that nobody has taken; returns them for the caller to
    /// answer.
    fn abandon(&self) -> PyResult<Vec<(Py<Job>, usize)>> {
        let open = {
            let mut state = self.state();
            state.backlog.discard_all(&self.engine);
            self.has_backlog.store(false, SeqCst);
            self.engine.drop_tasks().map_err(Error::from)?;
            state.ledger.drain()
        };
        Ok(open
            .into_iter()
            .map(|open| (open.job, open.index))
            .collect())
    }
}

/// How a function is called in messages.
fn name_of(function: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyString>>> {
    static NAME: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = function.py();
    if let Some(name) = function.getattr_opt(intern!(py, "__qualname__"))? {
        return Ok(name.cast_into::<PyString>().ok().map(Bound::unbind));
    }
    let name = imported(&NAME, py, "manycore.pool", "_name")?.call1((function,))?;
    Ok(name.cast_into::<PyString>().ok().map(Bound::unbind))
}
