//! The owner's side of a pool.

mod backlog;
mod batch;
mod collecting;
mod handing_out;
mod heads;
mod items;
mod ownership;
mod state;
mod streaming;
mod tending;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock, PoisonError};

use manycore::pool::Crew as Engine;
use manycore_os::incarnation;
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use self::handing_out::{Part, head_for};
use self::heads::{Heads, Known};
use self::state::State;
use self::streaming::Kind;
use crate::errors::Error;
use crate::family::{self, Parts};
use crate::gil_cell::{GilCell, Use};
use crate::job::{Job, Source};
use crate::message;
use crate::task::{Head, Mode};
use crate::tracking;

/// The owner's side of a pool: hands out tasks, collects answers, buries workers.
///
/// A forked copy of it does none of that: see [`ownership`].
#[pyclass(frozen, module = "manycore._engine")]
pub struct Crew {
    /// Which process made it.
    process: u64,
    engine: Engine,
    state: GilCell<State>,
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
    heads: GilCell<Heads>,
    /// What workers have left of tasks, and nobody has handed out yet.
    rests: AtomicUsize,
    /// Whether calls are accepted.
    is_open: AtomicBool,
    /// Whether a thread keeps the pool going while nobody waits.
    is_kept: AtomicBool,
}

type SeatParts = (Parts, Parts, Parts, usize);

impl Crew {
    fn state(&self, py: Python<'_>) -> Use<'_, State> {
        self.state.lock(py)
    }

    fn heads(&self, py: Python<'_>) -> Use<'_, Heads> {
        self.heads.lock(py)
    }

    /// Whether a thread keeps the pool going while nobody waits.
    pub fn is_kept(&self) -> bool {
        self.is_kept.load(SeqCst)
    }

    /// Notes that there is such a thread; whether there was none.
    pub fn begin_keeping(&self) -> bool {
        !self.is_kept.swap(true, SeqCst)
    }

    /// Notes that there is none.
    pub fn end_keeping(&self) {
        self.is_kept.store(false, SeqCst);
    }

    /// Ends the waiting of every thread that is in `wait`.
    pub fn ring(&self) {
        self.rung.fetch_add(1, SeqCst); // pairs with the looks of who waits
        if self.is_ours() {
            self.engine.ring();
        }
    }

    /// Whether a call can be handed out without a look at anything else.
    #[inline]
    pub fn is_at_ease(&self) -> bool {
        self.is_open.load(SeqCst)
            && self.is_kept()
            && !self.has_backlog.load(SeqCst)
            && self.is_ours()
    }
}

#[pymethods]
impl Crew {
    /// A crew with this many rows, and room for `most`: each seats one worker at a time.
    #[new]
    #[pyo3(signature = (rows, most=0))]
    fn new(rows: usize, most: usize) -> Result<Self, Error> {
        let engine = Engine::new(family::family()?, rows, most)?;
        Ok(Self {
            process: incarnation::id(),
            engine,
            state: GilCell::default(),
            waiting: AtomicUsize::new(0),
            between: AtomicUsize::new(0),
            false_start: Mutex::new(None),
            rung: AtomicUsize::new(0),
            listener: OnceLock::new(),
            long: AtomicU64::new(0),
            has_backlog: AtomicBool::new(false),
            heads: GilCell::default(),
            rests: AtomicUsize::new(0),
            is_open: AtomicBool::new(false),
            is_kept: AtomicBool::new(false),
        })
    }

    /// Calls `listener(nanoseconds, job, task)` for each task that took long, where workers measure that; it returns
    /// from how many nanoseconds on that is so. To be called once, before the first task.
    fn listen(&self, listener: Py<PyAny>) {
        let _ = self.listener.set(listener); // the first one stays
    }

    /// For Python's collector: functions, and calls that were not answered, may lead back to the pool.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(listener) = self.listener.get() {
            visit.call(listener)?;
        }
        if let Some(heads) = self.heads.seen_by(&visit) {
            heads.traverse(&visit)?;
        }
        if let Some(state) = self.state.seen_by(&visit) {
            for open in state.ledger.iter() {
                tracking::visit(&open.job, &visit, |job| job.traverse(&visit))?;
            }
        }
        Ok(())
    }

    /// How many tasks were answered, by results and by errors.
    #[getter]
    fn answered(&self, py: Python<'_>) -> (u64, u64) {
        let [results, errors] = self.state(py).answered;
        (results, errors)
    }

    /// What the worker of a row has spent on waiting, working, and reading and writing messages, in seconds, and
    /// when it asked for its first task, on the monotonic clock; all but this only where it is measured.
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

    /// Whether this process made it: a fork of that one has a copy, which is of no use.
    #[getter(is_ours)]
    fn get_is_ours(&self) -> bool {
        self.is_ours()
    }

    /// Raises `RuntimeError` unless this process made it.
    #[pyo3(name = "check_ours")]
    fn raise_unless_ours(&self) -> PyResult<()> {
        self.check_ours()
    }

    /// Has at least this many rows from now on, or as many as there is room for; how many there are.
    fn add_rows(&self, wanted: usize) -> PyResult<usize> {
        self.check_ours()?;
        Ok(self.engine.add_rows(wanted).map_err(Error::from)?)
    }

    /// How many rows there is room for.
    #[getter]
    fn most_rows(&self) -> usize {
        self.engine.most_rows()
    }

    /// What the worker of a row needs to take its seat.
    fn seat(&self, row: usize) -> PyResult<SeatParts> {
        self.check_ours()?;
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
        self.check_ours()?;
        let function = self.engine.store(pickled).map_err(Error::from)?;
        Ok(PyBytes::new(
            py,
            &Head {
                function,
                keep,
                seeded: false,
                shared: false,
            }
            .to_bytes(Mode::Call),
        ))
    }

    /// Recognises a function by its identity from now on: `head` is that of its tasks.
    fn know(&self, function: Py<PyAny>, head: &Bound<'_, PyBytes>) -> PyResult<()> {
        let (parsed, mode) = Head::from_bytes(head.as_bytes())?;
        let known = Known {
            function,
            head: head.clone().unbind(),
            bytes: parsed.to_bytes(mode),
        };
        let before = self.heads(head.py()).insert(known);
        drop(before); // not while they are in use: it may run Python code
        Ok(())
    }

    /// The head of the tasks of a function, if it is recognised.
    fn known<'py>(&self, function: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
        let (head, _) = self.head_of(function)?;
        Some(head.into_bound(function.py()))
    }

    /// Recognises no function with this head any more.
    fn forget(&self, py: Python<'_>, head: &[u8]) -> PyResult<()> {
        let (head, mode) = Head::from_bytes(head)?;
        let forgotten = self.heads(py).remove(head.to_bytes(mode));
        drop(forgotten); // not under the lock: it may run Python code
        Ok(())
    }

    /// Whether calls are accepted; and whether a thread keeps the pool going while nobody waits for its answers. Only
    /// while both are so calls are handed out without a look at the pool.
    #[getter]
    fn is_open(&self) -> bool {
        self.is_open.load(SeqCst)
    }

    #[setter]
    fn set_is_open(&self, is_open: bool) {
        self.is_open.store(is_open, SeqCst);
    }

    #[getter(is_kept)]
    fn get_is_kept(&self) -> bool {
        self.is_kept()
    }

    /// Frees the function of a head.
    fn discard(&self, head: &[u8]) -> PyResult<()> {
        if self.is_ours() {
            self.engine.discard(Head::from_bytes(head)?.0.function);
        }
        Ok(())
    }

    /// Hands out a call with positional and keyword arguments. The higher priority comes first.
    #[pyo3(signature = (job, head, arguments, has_keywords, priority=0))]
    fn call(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        head: &Bound<'_, PyBytes>,
        arguments: &Bound<'_, PyAny>,
        has_keywords: bool,
        priority: i64,
    ) -> PyResult<()> {
        self.check_ours()?;
        job.get().hold_head(py, head.clone().unbind());
        let mode = if has_keywords {
            Mode::CallWithKeywords
        } else {
            Mode::Call
        };
        let head = head_for(job, head.as_bytes(), mode)?;
        if let Some(tag) = self.hand_out_or_answer(py, job, 0, 0, &head, arguments, priority)? {
            job.get().note_tag(tag);
        }
        Ok(())
    }

    /// Hands out the items of a map from `start` to `end`, in tasks as they are cut, while fewer than `most_open`
    /// tasks are open; returns the first item that was not handed out. With `most`, which is not zero, each task may
    /// have twice as many items as the one before, at most these, and not much more than 64 KiB. The items are a list
    /// that nobody changes, or a range.
    #[pyo3(signature = (job, head, items, start, end, most, star, most_open, priority=0))]
    #[allow(clippy::too_many_arguments)] // one call for a whole map is the point
    fn map(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        head: &[u8],
        items: &Bound<'_, PyAny>,
        start: usize,
        end: usize,
        most: usize,
        star: bool,
        most_open: usize,
        priority: i64,
    ) -> PyResult<usize> {
        self.check_ours()?;
        let (function, mode) = Head::from_bytes(head)?;
        let source = Source {
            items: items.clone().unbind(),
            head: function.to_bytes(mode),
            star,
            priority,
        };
        job.get().note_source(py, source);
        let part = Part {
            start,
            end: end.min(items.len()?),
            most,
            star,
            priority,
        };
        self.hand_out_part(py, (job, head), items, most_open, &part)
    }

    /// Hands out tasks of `chunk` items each that an iterator gives, at most `most` of them, as long as
    /// messages of fewer than `most_bytes` bytes have no answer. What each consists of is put into `open`
    /// under its number. With `star`, items are tuples of arguments.
    ///
    /// Returns whether the iterator has ended, and the error that it has ended with.
    #[allow(clippy::too_many_arguments)] // as for a map
    fn stream(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        head: &[u8],
        source: &Bound<'_, PyAny>,
        open: &Bound<'_, PyDict>,
        chunk: usize,
        star: bool,
        most: usize,
        most_bytes: usize,
        priority: i64,
    ) -> PyResult<(bool, Option<Py<PyAny>>)> {
        self.check_ours()?;
        let kind = Kind {
            chunk: chunk.max(1),
            star,
            priority,
        };
        self.hand_out_from(py, (job, head), source, open, (most, most_bytes), &kind)
    }

    /// Hands out one task of a stream again.
    #[allow(clippy::too_many_arguments)] // as for a map
    fn stream_again(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        head: &[u8],
        index: usize,
        items: &Bound<'_, PyAny>,
        chunk: usize,
        star: bool,
        priority: i64,
    ) -> PyResult<()> {
        self.check_ours()?;
        let kind = Kind {
            chunk,
            star,
            priority,
        };
        self.hand_out_of_stream(py, (job, head), index, items, &kind)
    }

    /// Delivers the answers that are there, all of them or until they are as long as `most` bytes; how many
    /// there were.
    #[pyo3(signature = (most=usize::MAX))]
    fn collect(&self, py: Python<'_>, most: usize) -> PyResult<usize> {
        if !self.is_ours() {
            return self.fail_all(py);
        }
        let _between = self.between(py);
        let (count, collected) = self.receive_and_deliver(py, most);
        // The others are served also where Ctrl-C has come meanwhile.
        let fed = if self.has_backlog.load(SeqCst) {
            self.feed(py)
        } else {
            Ok(())
        };
        if count > 0 {
            self.tell_others();
        }
        collected.and(fed).map(|()| count)
    }

    /// As `collect`, by a thread that waits for `job`: hands out what was left of its tasks, too.
    fn collect_for(&self, py: Python<'_>, job: &Bound<'_, Job>) -> PyResult<usize> {
        let count = self.collect(py, usize::MAX)?;
        self.hand_out_rests(job)?;
        Ok(count)
    }

    /// Forgets what was left of the tasks of a job, whose thread waits for it no more; and what will be.
    fn forget_rests(&self, py: Python<'_>, job: &Bound<'_, Job>) {
        job.get().note_unwanted();
        while job.get().take_rest(py).is_some() {
            self.rests.fetch_sub(1, SeqCst);
        }
        self.end_if_due(&self.state(py));
    }

    /// Sleeps until `want` answers are there, or `job` is done or has more than `seen` answers, or a
    /// worker is leaving, or somebody calls `ring`, at most `timeout` seconds. With `rung`, also if somebody
    /// has rung since that was read.
    #[pyo3(signature = (job, seen, want, timeout, rung=None))]
    fn wait(
        &self,
        py: Python<'_>,
        job: Option<&Bound<'_, Job>>,
        seen: usize,
        want: u64,
        timeout: f64,
        rung: Option<usize>,
    ) -> PyResult<()> {
        if !self.is_ours() {
            return Ok(()); // `collect` answers everything
        }
        self.wait_for(py, job.map(|job| job.get()), seen, want, timeout, rung)
    }

    /// How many tasks have no answer, those included whose answer is just being delivered.
    #[getter]
    fn open(&self, py: Python<'_>) -> usize {
        self.between.load(SeqCst) + self.rests.load(SeqCst) + self.state(py).ledger.len()
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
    fn queued(&self, py: Python<'_>) -> u64 {
        self.engine.queued() + self.state(py).backlog.len() as u64
    }

    /// Those that tasks without an answer belong to, each once.
    #[getter]
    fn jobs(&self, py: Python<'_>) -> Vec<Py<Job>> {
        let mut seen = HashSet::new();
        let state = self.state(py);
        let open = state.ledger.iter().map(|open| &open.job);
        open.filter(|job| seen.insert(job.as_ptr()))
            .map(|job| job.clone_ref(py))
            .collect()
    }

    /// Whether tasks wait that are handed out by `collect` and `feed` only.
    #[getter]
    fn has_backlog(&self) -> bool {
        self.has_backlog.load(SeqCst)
    }

    /// Gives the workers more of what waits in the backlog.
    fn feed(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_ours() {
            return Ok(());
        }
        while let Some((open, error)) = self.feed_once(py) {
            let value = error.into_value(py).into_bound(py).into_any();
            Job::deliver(open.job.bind(py), open.index, false, value)?;
        }
        Ok(())
    }

    /// Whether a worker has begun the one task that a job is.
    fn is_running(&self, job: &Bound<'_, Job>) -> bool {
        let tag = job.get().tag();
        tag.is_some_and(|tag| {
            self.state(job.py()).ledger.get(tag).is_some() && self.engine.has_taken(tag)
        })
    }

    /// Withdraws what no worker has taken of a job, and answers it with `error`: it will not be run.
    /// Returns how many tasks these were; `None`, and it is to be tried again, while a worker takes long to take one. Call
    /// `feed` afterwards.
    fn withdraw(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<Option<usize>> {
        if !self.is_ours() {
            return Ok(Some(0));
        }
        let tags = match job.get().tag() {
            Some(tag) => vec![tag],
            None => self.state(py).ledger.tags(|open| open.job.is(job)),
        };
        self.withdraw_tasks(py, &tags, 0, error)
    }

    /// Withdraws every task that no worker has taken, but for the first `spare` of these, as `withdraw` does.
    #[pyo3(signature = (error, spare=0))]
    fn withdraw_all(
        &self,
        py: Python<'_>,
        error: &Bound<'_, PyAny>,
        spare: usize,
    ) -> PyResult<Option<usize>> {
        if !self.is_ours() {
            return Ok(Some(0));
        }
        let tags = self.state(py).ledger.tags(|_| true);
        self.withdraw_tasks(py, &tags, spare, error)
    }

    /// How often somebody has called `ring`.
    #[getter]
    fn rung(&self) -> usize {
        self.rung.load(SeqCst)
    }

    /// Ends the waiting of every thread that is in `wait`.
    #[pyo3(name = "ring")]
    fn ring_all(&self) {
        self.ring();
    }

    /// Tells workers that are idle, or become so, to leave; no more tasks are accepted.
    ///
    /// Tasks of the backlog are handed out before, and so are those whose workers die until then.
    fn dismiss(&self, py: Python<'_>) {
        let mut state = self.state(py);
        state.is_ending = true;
        self.end_if_due(&state);
    }

    /// Tells one worker, whichever is the first to be idle, to leave; whether it was told.
    fn dismiss_one(&self) -> bool {
        self.is_ours() && self.engine.dismiss_one()
    }

    /// Asks the worker of a row to leave after its task, or not to.
    fn retire(&self, row: usize, shall: bool) {
        if self.is_ours() {
            self.engine.retire(row, shall);
        }
    }

    /// The open task that the worker of a row runs: its tag, job and number, and for how many seconds.
    fn running(&self, py: Python<'_>, row: usize) -> Option<(u64, Py<Job>, usize, f64)> {
        self.find_running(py, row)
    }

    /// The tag of the open task of a job that the worker of a row has taken and is not done with, if it has one.
    fn holding(&self, job: &Bound<'_, Job>, row: usize) -> Option<u64> {
        self.find_held(job, row)
    }

    /// The tasks that have run for longer than they may: row, tag and seconds beyond, for each. And how
    /// many seconds it takes until another one has, at least, where any may.
    fn overdue(&self, py: Python<'_>) -> (Vec<(usize, u64, f64)>, Option<f64>) {
        self.find_overdue(py)
    }

    /// The shortest time-out in seconds of the open tasks; `None` where none has one.
    #[getter]
    fn shortest(&self, py: Python<'_>) -> Option<f64> {
        Some(self.state(py).shortest()? as f64 / 1e9)
    }

    /// The shortest time-out in seconds of the open tasks that no worker runs, infinite if none has one; `None` where
    /// there is no such task.
    fn patience(&self, py: Python<'_>) -> Option<f64> {
        self.least_patience(py)
    }

    /// Asks the worker of a row to give up a task, if it still runs it. It looks when a signal comes.
    fn interrupt(&self, row: usize, tag: u64) {
        if self.is_ours() {
            self.engine.interrupt(row, tag);
        }
    }

    /// Decides that the worker of a row is to be killed for this task, unless it is done with it. It takes no
    /// other then.
    fn doom(&self, row: usize, tag: u64) -> bool {
        let running = self.engine.running(row).filter(|_| self.is_ours());
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
        if self.is_ours() {
            self.engine.note_leaving(row);
        }
    }

    /// Whether the worker of a row has come as far as to ask for tasks.
    fn was_ready(&self, row: usize) -> bool {
        self.engine.ready(row).is_some()
    }

    /// How many tasks the worker of a row has taken.
    fn taken(&self, row: usize) -> u64 {
        self.engine.taken(row)
    }

    /// Makes a row ready for a new worker.
    fn clear_row(&self, row: usize) {
        if self.is_ours() {
            self.engine.clear_row(row);
        }
    }

    /// Whether workers that have ended may be buried. Not while another is about to take a task, for longer than a moment:
    /// it was stopped, and whoever waits for it does not see to it.
    fn settle(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(!self.is_ours() || self.settle_now(py)?)
    }

    /// After the worker of a row has ended: delivers its last answers, and calls
    /// `tell(tag, job, task, seconds, item)` if a task died with it, for the error that is the answer to that.
    fn bury(&self, py: Python<'_>, row: usize, tell: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.is_ours() {
            self.bury_worker(py, row, tell)?;
        }
        Ok(())
    }

    /// Closes every open task and drops those that nobody has taken; returns them for the caller to
    /// answer.
    fn abandon(&self, py: Python<'_>) -> PyResult<Vec<(Py<Job>, usize)>> {
        let open = if self.is_ours() {
            let mut state = self.state(py);
            state.backlog.discard_all(&self.engine);
            self.has_backlog.store(false, SeqCst);
            let open = state.drain();
            state.answered[1] += open.len() as u64;
            drop(state); // nobody waits with it
            let _ = py.detach(|| self.engine.drop_tasks()); // what stays is freed with the ring
            open
        } else {
            self.drain_copy(py)
        };
        Ok(open
            .into_iter()
            .map(|open| (open.job, open.index))
            .collect())
    }
}
