//! The owner's side of a pool.

mod backlog;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use manycore::pool::seat::LEAVE;
use manycore::pool::{Backlog, Crew as Engine, Ledger};
use manycore_ipc::ring::Message;
use manycore_ipc::wait::GaveUp;
use manycore_os::clock::now_ns;
use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::errors::{Error, interrupted};
use crate::family::{self, Parts};
use crate::job::Job;
use crate::message::{self, Encoded};
use crate::queue::with_message;
use crate::task::{ERROR, HEAD, Head, Mode, TIMED};
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
    /// Whether the workers are to leave once no task waits here, or may be handed out again.
    is_ending: bool,
    /// Open tasks that may be handed out again.
    repeatable: usize,
    /// Open tasks that may run only so long.
    timed: usize,
    /// Answers that were results, and that were errors.
    answered: [u64; 2],
}

impl State {
    fn open(&mut self, open: Open) -> Option<u64> {
        let job = open.job.get();
        let (is_timed, is_repeatable) = (job.timeout().is_some(), job.is_repeatable());
        let tag = self.ledger.open(open)?;
        self.timed += usize::from(is_timed);
        self.repeatable += usize::from(is_repeatable);
        Some(tag)
    }

    fn close(&mut self, tag: u64) -> Option<Open> {
        let open = self.ledger.close(tag)?;
        let job = open.job.get();
        self.timed -= usize::from(job.timeout().is_some());
        self.repeatable -= usize::from(job.is_repeatable());
        Some(open)
    }
}

/// The owner's side of a pool: hands out tasks, collects answers, buries workers.
///
/// `state` is only locked while the interpreter is held, and no Python code runs meanwhile.
#[pyclass(frozen, module = "manycore._engine")]
pub struct Crew {
    engine: Engine,
    state: Mutex<State>,
    waiting: AtomicUsize,
    /// The error of the last worker that could not begin.
    false_start: Mutex<Option<Py<PyAny>>>,
    /// Threads between closing a task and delivering its answer.
    between: AtomicUsize,
    /// How often somebody has rung.
    rung: AtomicUsize,
    /// What is told of tasks that took long, where that is measured.
    listener: OnceLock<Py<PyAny>>,
    /// Nanoseconds from which on a task took long.
    long: AtomicU64,
    /// Whether tasks wait in the backlog: for who does not lock the state.
    has_backlog: AtomicBool,
}

struct Between<'a>(&'a Crew);

impl Drop for Between<'_> {
    fn drop(&mut self) {
        if self.0.between.fetch_sub(1, SeqCst) == 1 {
            self.0.end_if_due(&self.0.state());
        }
    }
}

type SeatParts = (Parts, Parts, Parts, usize);

/// What stands before the arguments of a job's tasks.
fn head_for(job: &Bound<'_, Job>, head: &[u8], mode: Mode) -> PyResult<[u8; HEAD]> {
    let (mut head, _) = Head::from_bytes(head)?;
    head.seeded = job.get().seed().is_some();
    Ok(head.to_bytes(mode))
}

impl Crew {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encodes and hands out one task, whose first item is number `first` of its job; returns its tag.
    #[inline]
    #[allow(clippy::too_many_arguments)] // what a task consists of
    fn hand_out(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        index: usize,
        first: usize,
        head: &[u8; HEAD],
        arguments: &Bound<'_, PyAny>,
        priority: i64,
    ) -> PyResult<u64> {
        let mut encoded = Encoded::new();
        encoded.payload.extend_from_slice(head);
        if let Some(seed) = job.get().seed() {
            encoded.object(
                (&seed.of_call, first, arguments)
                    .into_pyobject(py)?
                    .as_any(),
            )?;
        } else {
            encoded.object(arguments)?;
        }
        let open = Open {
            job: job.clone().unbind(),
            index,
        };
        let (tag, is_in_turn) = {
            let mut state = self.state();
            (state.open(open), state.backlog.is_empty())
        };
        let tag =
            tag.ok_or_else(|| PyRuntimeError::new_err("too many tasks are open in this pool"))?;
        let sent = if is_in_turn && priority == 0 {
            self.send(py, encoded, tag)
        } else {
            self.queue_up(py, encoded, tag, priority)
        };
        if let Err(error) = sent {
            let closed = self.state().close(tag);
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
        first: usize,
        head: &[u8; HEAD],
        arguments: &Bound<'_, PyAny>,
        priority: i64,
    ) -> PyResult<Option<u64>> {
        match self.hand_out(py, job, index, first, head, arguments, priority) {
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
        let open = state.close(message.header.tag);
        if open.is_some() {
            let is_error = message.header.kind & ERROR != 0;
            state.answered[usize::from(is_error)] += 1;
        }
        Ok(Some(open))
    }

    /// Has the workers leave if that was asked and nothing more is to be handed out.
    fn end_if_due(&self, state: &State) {
        let is_due = state.is_ending && state.backlog.is_empty() && state.repeatable == 0;
        if is_due && self.between.load(SeqCst) == 0 {
            self.engine.dismiss();
        }
    }

    /// Wakes the threads that wait: something was delivered.
    fn tell_others(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.engine.ring();
        }
    }

    /// Counts a thread that has closed a task and is about to tell whose it was. Until then the task
    /// may be handed out again, so that it is not over yet for those who wait for the end of all.
    fn between(&self) -> Between<'_> {
        self.between.fetch_add(1, SeqCst); // before the task is closed: `open` sees one or the other
        Between(self)
    }

    /// Nanoseconds that the task of an answer took.
    #[cold]
    fn took(&self, message: &Message) -> PyResult<u64> {
        let front = message::front(self.engine.family(), message)?;
        Ok(u64::from_ne_bytes(front))
    }

    /// Tells of a task that took long, while its arguments are known.
    #[cold]
    fn tell_listener(
        &self,
        py: Python<'_>,
        took: u64,
        job: &Py<Job>,
        index: usize,
    ) -> PyResult<()> {
        match self.listener.get() {
            Some(listener) if took >= self.long.load(Relaxed) => {
                let long = listener.bind(py).call1((took, job, index))?.extract()?;
                self.long.store(long, Relaxed); // whoever sees it late tells of a task in vain
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Keeps what a worker says that cannot begin.
    fn note_false_start(&self, error: PyResult<Bound<'_, PyAny>>) {
        let error = error.ok().map(Bound::unbind);
        let mut kept = self
            .false_start
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *kept, error);
        drop(kept);
        drop(before); // not under the lock: it may run Python code
    }

    /// Delivers one received answer; a stale one is dropped.
    fn deliver(&self, py: Python<'_>, message: &Message, open: Option<Open>) -> PyResult<()> {
        let is_timed = message.header.kind & TIMED != 0;
        let took = if is_timed { self.took(message)? } else { 0 };
        let skip = if is_timed { size_of::<u64>() } else { 0 };
        let value = message::decode(py, self.engine.family(), message, skip);
        let Some(Open { job, index }) = open else {
            if message.header.tag == LEAVE {
                self.note_false_start(value);
            }
            return Ok(());
        };
        if is_timed {
            self.tell_listener(py, took, &job, index)?;
        }
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
    /// A crew with this many rows, and room for `most`: each seats one worker at a time.
    #[new]
    #[pyo3(signature = (rows, most=0))]
    fn new(rows: usize, most: usize) -> Result<Self, Error> {
        let engine = Engine::new(family::family()?, rows, most)?;
        let state = Mutex::new(State {
            ledger: Ledger::default(),
            cursor: 0,
            backlog: Backlog::default(),
            is_ending: false,
            repeatable: 0,
            timed: 0,
            answered: [0; 2],
        });
        Ok(Self {
            engine,
            state,
            waiting: AtomicUsize::new(0),
            between: AtomicUsize::new(0),
            false_start: Mutex::new(None),
            rung: AtomicUsize::new(0),
            listener: OnceLock::new(),
            long: AtomicU64::new(0),
            has_backlog: AtomicBool::new(false),
        })
    }

    /// Calls `listener(nanoseconds, job, task)` for each task that took long, where workers measure that; it returns
    /// from how many nanoseconds on that is so. To be called once, before the first task.
    fn listen(&self, listener: Py<PyAny>) {
        let _ = self.listener.set(listener); // the first one stays
    }

    /// How many tasks were answered, by results and by errors.
    #[getter]
    fn answered(&self) -> (u64, u64) {
        let [results, errors] = self.state().answered;
        (results, errors)
    }

    /// What the worker of a row has spent on waiting, working, and reading and writing messages, in seconds, and
    /// when it asked for its first task, on the monotonic clock; where that is measured.
    fn spent(&self, row: usize) -> (f64, f64, f64, Option<f64>) {
        let spent = self.engine.spent(row);
        let seconds = |ns: u64| ns as f64 / 1e9;
        (
            seconds(spent.waited),
            seconds(spent.worked),
            seconds(spent.moved),
            self.engine.ready(row).map(seconds),
        )
    }

    /// How many rows there are.
    #[getter]
    fn rows(&self) -> usize {
        self.engine.rows()
    }

    /// Has at least this many rows from now on, or as many as there is room for; how many there are.
    fn add_rows(&self, wanted: usize) -> Result<usize, Error> {
        Ok(self.engine.add_rows(wanted)?)
    }

    /// How many rows there is room for.
    #[getter]
    fn most_rows(&self) -> usize {
        self.engine.most_rows()
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
            &Head {
                function,
                keep,
                seeded: false,
            }
            .to_bytes(Mode::Call),
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
        let head = head_for(job, head, mode)?;
        if let Some(tag) = self.hand_out_or_answer(py, job, 0, 0, &head, arguments, priority)? {
            job.get().note_tag(tag);
        }
        Ok(())
    }

    /// Hands out a call that is a job of its own: the usual case in one step.
    #[pyo3(signature = (function, head, arguments, keywords=None, priority=0))]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        function: Py<PyAny>,
        head: &[u8],
        arguments: &Bound<'py, PyTuple>,
        keywords: Option<&Bound<'py, PyDict>>,
        priority: i64,
    ) -> PyResult<Bound<'py, Job>> {
        let keywords = keywords.filter(|keywords| !keywords.is_empty());
        let (args, kwargs) = (arguments.clone(), keywords.cloned());
        let job = Job::single(function, args.unbind(), kwargs.map(Bound::unbind));
        let job = Bound::new(py, job)?;
        match keywords {
            None => self.call(py, &job, head, arguments, false, priority)?,
            Some(keywords) => {
                let both = (arguments, keywords).into_pyobject(py)?;
                self.call(py, &job, head, &both, true, priority)?;
            }
        }
        Ok(job)
    }

    /// Hands out tasks of `chunk` items each, from item `start` on, while fewer than `most_open` tasks
    /// are open; returns the first item that was not handed out. The first of the tasks is number `task`
    /// of its job; item zero is number `base`.
    #[pyo3(signature = (job, head, items, start, chunk, star, most_open, task, priority=0, base=0))]
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
        base: usize,
    ) -> PyResult<usize> {
        let chunk = chunk.max(1);
        let mode = match (star, chunk) {
            (false, 1) => Mode::Item,
            (true, 1) => Mode::StarItem,
            (false, _) => Mode::Chunk,
            (true, _) => Mode::StarChunk,
        };
        let head = head_for(job, head, mode)?;
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
            let first = base + next;
            self.hand_out_or_answer(py, job, index, first, &head, &arguments, priority)?;
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
        let head = head_for(job, head, mode)?;
        let first = job.get().seed().map_or(0, |seed| index * seed.items);
        self.hand_out_or_answer(py, job, index, first, &head, items, priority)?;
        Ok(())
    }

    /// Delivers all answers that are there; how many there were.
    fn collect(&self, py: Python<'_>) -> PyResult<usize> {
        let mut count = 0;
        let _between = self.between();
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
        if count > 0 {
            self.tell_others();
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

    /// How many tasks have no answer, those included whose answer is just being delivered.
    #[getter]
    fn open(&self) -> usize {
        self.between.load(SeqCst) + self.state().ledger.len()
    }

    /// Why the last worker that could not begin did not, where it said so.
    #[getter]
    fn false_start(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let kept = self
            .false_start
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().map(|error| error.clone_ref(py))
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
    /// Tasks of the backlog are handed out before, and so are those whose workers die until then.
    fn dismiss(&self) {
        let mut state = self.state();
        state.is_ending = true;
        self.end_if_due(&state);
    }

    /// Tells one worker, whichever is the first to be idle, to leave; whether it was told.
    fn dismiss_one(&self) -> bool {
        self.engine.dismiss_one()
    }

    /// Asks the worker of a row to leave after its task, or not to.
    fn retire(&self, row: usize, shall: bool) {
        self.engine.retire(row, shall);
    }

    /// The open task that the worker of a row runs: its tag, job and number, and for how many seconds.
    fn running(&self, row: usize) -> Option<(u64, Py<Job>, usize, f64)> {
        let (tag, began) = self.engine.running(row)?;
        let mut state = self.state();
        let open = state.ledger.get(tag)?;
        let seconds = now_ns().saturating_sub(began) as f64 / 1e9;
        // Only a count changes, so that no Python code runs under the lock.
        Python::attach(|py| Some((tag, open.job.clone_ref(py), open.index, seconds)))
    }

    /// The tasks that have run for longer than they may: row, tag and seconds beyond, for each. And how
    /// many seconds it takes until another one has, at least, where any may.
    fn overdue(&self) -> (Vec<(usize, u64, f64)>, Option<f64>) {
        let mut state = self.state();
        if state.timed == 0 {
            return (Vec::new(), None);
        }
        let now = now_ns();
        let (mut overdue, mut soonest) = (Vec::new(), f64::INFINITY);
        for row in 0..self.engine.rows() {
            let Some((tag, began)) = self.engine.running(row) else {
                continue;
            };
            let Some(timeout) = state.ledger.get(tag).and_then(|it| it.job.get().timeout()) else {
                continue;
            };
            let beyond = (now.saturating_sub(began) as f64 - timeout as f64) / 1e9;
            if beyond >= 0.0 {
                overdue.push((row, tag, beyond));
            } else {
                soonest = soonest.min(-beyond);
            }
        }
        (overdue, soonest.is_finite().then_some(soonest))
    }

    /// Asks the worker of a row to give up a task, if it still runs it. It looks when a signal comes.
    fn interrupt(&self, row: usize, tag: u64) {
        self.engine.interrupt(row, tag);
    }

    /// Decides that the worker of a row is to be killed for this task, unless it is done with it. It takes no
    /// other then.
    fn doom(&self, row: usize, tag: u64) -> bool {
        let running = self.engine.running(row);
        running.is_some_and(|(runs, began)| runs == tag && self.engine.doom(row, began))
    }

    /// Whether the worker of a row takes no more tasks.
    fn is_leaving(&self, row: usize) -> bool {
        self.engine.is_leaving(row)
    }

    /// Whether the kernel has marked any worker as ending: a hint.
    fn seems_dead(&self) -> bool {
        self.engine.seems_dead()
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

    /// After the worker of a row has ended: delivers its last answers, and calls
    /// `tell(tag, job, task, seconds)` if a task died with it, for the error that is the answer to that.
    fn bury(&self, py: Python<'_>, row: usize, tell: &Bound<'_, PyAny>) -> PyResult<()> {
        let tag = self.engine.last_taken(row).map_err(Error::from)?;
        let item = self.engine.item(row);
        let began = self.engine.running(row).map(|(_, began)| began);
        let _between = self.between();
        self.collect(py)?;
        let closed = tag.and_then(|tag| {
            let state = &mut *self.state();
            let closed = state.close(tag);
            state.answered[1] += u64::from(closed.is_some());
            closed
        });
        self.engine.clear_row(row);
        if let Some(Open { job, index }) = closed {
            let seconds = began.map(|began| now_ns().saturating_sub(began) as f64 / 1e9);
            let error = tell
                .call1((tag, &job, index, seconds))
                .unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any());
            let resent = job.get().resend_after(py, index, item);
            job.get().deliver(py, index, false, error)?;
            self.tell_others();
            resent?;
        }
        Ok(())
    }

    /// Closes every open task and drops those that nobody has taken; returns them for the caller to
    /// answer.
    fn abandon(&self) -> PyResult<Vec<(Py<Job>, usize)>> {
        let open = {
            let mut state = self.state();
            state.backlog.discard_all(&self.engine);
            self.has_backlog.store(false, SeqCst);
            self.engine.drop_tasks().map_err(Error::from)?;
            state.timed = 0;
            state.repeatable = 0;
            state.ledger.drain()
        };
        Ok(open
            .into_iter()
            .map(|open| (open.job, open.index))
            .collect())
    }
}
