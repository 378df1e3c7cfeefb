//! What a call to the pool waits for: one or many tasks, and their results so far.
//!
//! Whether a task that failed is tried again is asked before its answer counts, in one place: `deliver`.

mod calls;
mod flow;
mod moving;
mod plan;
mod reading;
mod settling;

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use manycore::pool::Cuts;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

pub use self::calls::Source;
use self::calls::{Calls, Others};
use self::moving::Moving;
pub use self::plan::Seed;
use self::plan::{Flow, Places, Plan, Results, Terms};
use crate::calling;
use crate::due::Due;
use crate::gil_cell::{GilCell, Use};
use crate::tracking::{set_plainly, track};

/// A call to the pool: what it returns is derived from this.
///
/// A *stream* delivers `(index, succeeded, value, bytes)` tuples, one for each task, as they come: the last is
/// how long the answer's message was. A *map* fills a list with the results of its items; its tasks are named by their
/// first items. Any other job has one task and one place. These two remember the first error.
///
/// Many programs have a hundred thousand of one task each. The collector need not walk these while
/// nothing that they refer to could lead back to them: see `crate::tracking`.
#[pyclass(frozen, subclass, weakref, module = "manycore._engine")]
pub struct Job {
    plan: OnceLock<Plan>,
    /// What has no answer: items of a map, else tasks.
    left: AtomicUsize,
    delivered: AtomicUsize,
    is_done: AtomicBool,
    outcome: GilCell<Outcome>,
    /// What to call: forgotten once it is done, since most of it refers to this job.
    calls: GilCell<Calls>,
    /// Of a job that is one task: its tag, once it was handed out.
    tag: AtomicU64,
    is_withdrawn: AtomicBool,
    /// Whether no task of it shall be run again.
    is_unwanted: AtomicBool,
    /// How many threads wait for it.
    waiting: AtomicUsize,
}

/// What has come of a job.
#[derive(Default)]
struct Outcome {
    /// Of a job with one place.
    value: Option<Py<PyAny>>,
    /// The first.
    error: Option<Py<PyAny>>,
    /// Errors of answers that could not be decoded here.
    undecodable: Option<Py<PyList>>,
}

#[pymethods]
impl Job {
    /// A job that has no tasks: see `__init__`.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self::blank()
    }

    /// A job of one task. Or, with `results`, a map: the list to fill, with a place for each item; or a stream: the list
    /// to append to, of `tasks` tasks for the time being. Tasks have `chunk` items, unless they are cut otherwise; with `lists` they are
    /// lists of items, and their results are lists, also those of one item; with `shared`, besides, a worker that has run
    /// for long leaves the rest of a list to others.
    ///
    /// With the last answer `on_answered` is added to `due`: the job is done once that has called `_complete`.
    /// `retry(task, error)` is called when a task
    /// failed; if it hands the task out again it returns true, and the error is no answer. `about(task, item)`
    /// tells the arguments of a task, or of an item of it, for messages; `function` is the function or its name. `timeout` is how many
    /// seconds each task may run. With `returns_errors` an error is a result like any other. `seed` is what the
    /// tasks' seeds are made of. `pool` is what `_pool` is to be.
    #[pyo3(signature = (results, tasks=1, chunk=1, *, stream=false, due=None, on_answered=None, retry=None,
        about=None, function=None, timeout=None, returns_errors=false, seed=None, pool=None, lists=false, shared=false))]
    #[allow(clippy::too_many_arguments)] // a constructor with defaults
    fn __init__(
        &self,
        py: Python<'_>,
        results: Option<Py<PyList>>,
        tasks: usize,
        chunk: usize,
        stream: bool,
        due: Option<Py<Due>>,
        on_answered: Option<Py<PyAny>>,
        retry: Option<Py<PyAny>>,
        about: Option<Py<PyAny>>,
        function: Option<Py<PyAny>>,
        timeout: Option<f64>,
        returns_errors: bool,
        seed: Option<Py<PyAny>>,
        pool: Option<Py<PyAny>>,
        lists: bool,
        shared: bool,
    ) -> PyResult<()> {
        let left = match &results {
            Some(results) if !stream => results.bind(py).len(),
            _ => tasks,
        };
        let is_done = left == 0 && on_answered.is_none();
        let terms = Terms {
            timeout: timeout.map(|seconds| (seconds * 1e9) as u64), // as much as there is room for
            returns_errors,
            seed: seed.map(|of_call| Seed {
                of_call,
                items: chunk,
            }),
            is_repeatable: retry.is_some() || lists,
            flow: Flow::default(),
        };
        let plan = Plan {
            results: match results {
                Some(results) if stream => Results::Stream(results),
                Some(results) => Results::List(Places {
                    results,
                    cuts: GilCell::new(Cuts::new(left, chunk.max(1))),
                    rests: GilCell::default(),
                    are_lists: lists,
                    are_shared: shared,
                }),
                None => Results::One,
            },
            function,
            pool,
            terms: Some(Box::new(terms)),
        };
        self.begin(plan)?;
        self.left.store(left, Release);
        self.is_done.store(is_done, Release);
        // Of one that is done already nobody would forget them.
        if !is_done || stream {
            let others = Others {
                on_answered: due.zip(on_answered),
                on_done: Vec::new(),
                on_news: None,
                source: None,
                retry,
            };
            *self.calls(py) = Calls::new(about, others);
        }
        Ok(())
    }

    /// Whether every task has been answered.
    #[getter]
    fn _is_done(&self) -> bool {
        self.is_done()
    }

    /// How many tasks have been answered.
    #[getter]
    fn _delivered(&self) -> usize {
        self.delivered_so_far()
    }

    /// How many items of a map, else tasks, have not been answered.
    #[getter]
    fn _left(&self) -> usize {
        self.left.load(Acquire)
    }

    /// How many tasks were handed out and have not been answered.
    #[getter]
    fn _open(&self) -> usize {
        self.open_tasks()
    }

    /// The first error, if a task failed.
    #[getter]
    fn _error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.outcome(py).error.as_ref().map(|e| e.clone_ref(py))
    }

    /// The results so far; of a job with one place `None`.
    #[getter]
    fn _results(&self, py: Python<'_>) -> Option<Py<PyList>> {
        match &self.plan().results {
            Results::One => None,
            Results::List(Places { results, .. }) | Results::Stream(results) => {
                Some(results.clone_ref(py))
            }
        }
    }

    /// What the one task returned, once it has.
    #[getter]
    fn _returned(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.outcome(py).value.as_ref().map(|it| it.clone_ref(py))
    }

    /// The pool whose call it is, where that was told.
    #[getter]
    fn _pool(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.plan().pool.as_ref().map(|it| it.clone_ref(py))
    }

    /// How many tasks a stream has handed out.
    #[getter]
    fn _sent(&self) -> usize {
        self.flow().map_or(0, |flow| flow.sent.load(Relaxed)) // all who count hold the interpreter
    }

    /// The function that its tasks call, or its name, where known.
    #[getter]
    fn _function(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.plan().function.as_ref().map(|it| it.clone_ref(py))
    }

    /// The positional and the keyword arguments of a task, or of an item of it, where known.
    #[pyo3(signature = (task, item=None))]
    fn _about(
        &self,
        py: Python<'_>,
        task: usize,
        item: Option<u64>,
    ) -> PyResult<Option<Py<PyAny>>> {
        match self.call(py, |calls| calls.about.as_ref()) {
            Some(about) if about.bind(py).is_callable() => {
                let about = calling::call(about.bind(py), (task, item))?;
                Ok(Some(about.unbind()))
            }
            Some(args) => {
                let calls = self.calls(py);
                let keywords = calls.keywords.as_ref().map(|it| it.clone_ref(py));
                drop(calls); // before any Python code runs
                let keywords = keywords.unwrap_or_else(|| PyDict::new(py).unbind());
                Ok(Some(
                    (args, keywords).into_pyobject(py)?.into_any().unbind(),
                ))
            }
            None => Ok(None),
        }
    }

    /// Whether tasks of it were withdrawn before a worker had them.
    #[getter]
    fn _is_withdrawn(&self) -> bool {
        self.is_withdrawn.load(Acquire) // pairs with the Release in `note_withdrawn`
    }

    /// Of a stream: it is not done before `_let_go` is called, even if all its tasks are.
    fn _hold(&self) {
        self.hold();
    }

    /// Of a stream: it is done when its tasks are.
    fn _let_go(&self, py: Python<'_>) -> PyResult<()> {
        self.let_go(py)
    }

    /// Notes that nobody wants its tasks any more: one that fails from now on is not tried again, and a stream has
    /// no more of them.
    fn _note_unwanted(&self) {
        self.note_unwanted();
    }

    /// Whether an error is that of an answer that could not be decoded here, and not the task's own.
    fn _is_undecodable(&self, error: &Bound<'_, PyAny>) -> bool {
        let outcome = self.outcome(error.py());
        let undecodable = outcome.undecodable.as_ref();
        undecodable.is_some_and(|it| it.bind(error.py()).iter().any(|other| other.is(error)))
    }

    /// Once it is answered: it is done now. Whether threads wait for it.
    fn _complete(&self, py: Python<'_>) -> PyResult<bool> {
        self.finish(py, self.calls(py))?;
        Ok(self.waiting.load(Relaxed) > 0) // who counts itself holds the interpreter, and looks after that
    }

    /// Whether it is one task, and that was handed out. Else its answer is why it was not.
    #[getter]
    fn _was_sent(&self) -> bool {
        self.tag().is_some()
    }

    /// Has `on_answered` added to `due` with the last answer, as that of `__init__`; `False`, and nothing happens, if
    /// it is done already.
    fn _when_answered(slf: &Bound<'_, Self>, due: Py<Due>, on_answered: Py<PyAny>) -> bool {
        track(slf);
        let this = slf.get();
        let mut calls = this.calls(slf.py());
        if this.is_done() {
            return false; // as in `_when_done`
        }
        let before = calls.others_mut().on_answered.replace((due, on_answered));
        drop(calls); // before any Python code runs
        drop(before);
        true
    }

    /// Has `on_done()` called when it is done; `False`, and nothing is called, if it is already.
    fn _when_done(slf: &Bound<'_, Self>, on_done: Py<PyAny>) -> bool {
        track(slf);
        let this = slf.get();
        let mut calls = this.calls(slf.py());
        if this.is_done() {
            return false; // `finish` has begun, and takes the calls away, or has taken them
        }
        calls.others_mut().on_done.push(on_done);
        true
    }

    /// Has `on_news()` called once, with the next answer of a stream, or when it is done; `False`, and
    /// nothing is called, if there is an answer to fetch already.
    fn _when_news(&self, py: Python<'_>, on_news: Py<PyAny>) -> bool {
        let mut calls = self.calls(py);
        let has_some = match &self.plan().results {
            Results::Stream(results) => !results.bind(py).is_empty(),
            Results::One | Results::List(..) => false,
        };
        if self.is_done() || has_some {
            return false;
        }
        let before = calls.others_mut().on_news.replace(on_news);
        drop(calls); // before any Python code runs
        drop(before);
        true
    }

    /// For Python's collector: the traceback of an error that was raised leads to who waited for it, and so
    /// back to here.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(&visit)
    }

    fn __clear__(&self) {
        let taken = Python::attach(|py| {
            let outcome = std::mem::take(&mut *self.outcome(py));
            (outcome, std::mem::take(&mut *self.calls(py)))
        });
        drop(taken); // when neither is in use: it may run Python code
    }

    /// As any object's, but from now on the collector walks this one: what was set may lead back to it.
    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        track(slf);
        set_plainly(slf, name, Some(value))
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>) -> PyResult<()> {
        set_plainly(slf, name, None)
    }

    /// Moves what a stream has: into the deque `items`, or into `early` what comes before its turn, where that is a dict. How
    /// many answers these were, and how long the longest of their messages. Counts them at `ahead`, and forgets
    /// in `open` what they answer; see `_lazy.py`. No handler of a signal runs in between, whose exception would lose some.
    fn _move_to(
        &self,
        items: &Bound<'_, PyAny>,
        ahead: &Bound<'_, PyAny>,
        open: &Bound<'_, PyDict>,
        early: Option<&Bound<'_, PyDict>>,
        are_lists: bool,
    ) -> PyResult<(usize, usize)> {
        let moving = Moving {
            items,
            ahead,
            open,
            early,
            are_lists,
        };
        self.move_answers(&moving)
    }

    /// Answers one task, for good: it is not tried again.
    fn _answer(
        slf: &Bound<'_, Self>,
        index: usize,
        succeeded: bool,
        value: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let terms = slf.get().terms();
        let succeeded = succeeded || terms.is_some_and(|terms| terms.returns_errors);
        Self::settle(slf, index, succeeded, value, 0)
    }
}

impl Job {
    /// A job that was not told what it is.
    pub fn blank() -> Self {
        Self {
            plan: OnceLock::new(),
            left: AtomicUsize::new(1),
            delivered: AtomicUsize::new(0),
            is_done: AtomicBool::new(false),
            outcome: GilCell::default(),
            calls: GilCell::default(),
            tag: AtomicU64::new(0),
            is_withdrawn: AtomicBool::new(false),
            is_unwanted: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Shows the collector what this refers to.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(plan) = self.plan.get() {
            plan.traverse(visit)?;
        }
        if let Some(outcome) = self.outcome.seen_by(visit) {
            visit.call(&outcome.value)?;
            visit.call(&outcome.error)?;
            visit.call(&outcome.undecodable)?;
        }
        if let Some(calls) = self.calls.seen_by(visit) {
            calls.traverse(visit)?;
        }
        Ok(())
    }

    /// Makes it a job of one call, which nobody is told of.
    pub fn begin_single(
        &self,
        py: Python<'_>,
        pool: Py<PyAny>,
        function: Py<PyAny>,
        arguments: Py<PyTuple>,
        keywords: Option<Py<PyDict>>,
        head: Py<PyBytes>,
    ) -> PyResult<()> {
        self.begin(Plan {
            function: Some(function),
            pool: Some(pool),
            ..Plan::default()
        })?;
        let mut calls = self.calls(py);
        calls.about = Some(arguments.into_any());
        calls.keywords = keywords;
        calls.head = Some(head);
        Ok(())
    }

    /// Keeps a head until it is done: that of its function.
    pub fn hold_head(&self, py: Python<'_>, head: Py<PyBytes>) {
        let before = self.calls(py).head.replace(head);
        drop(before); // not while they are in use: it may run Python code
    }

    fn begin(&self, plan: Plan) -> PyResult<()> {
        self.plan
            .set(plan)
            .map_err(|_| PyRuntimeError::new_err("a job begins once"))
    }

    fn plan(&self) -> &Plan {
        static NONE: Plan = Plan::NONE;
        self.plan.get().unwrap_or(&NONE)
    }

    /// What is asked of its tasks, where that is not as usual.
    #[inline]
    fn terms(&self) -> Option<&Terms> {
        self.plan().terms.as_deref()
    }

    fn calls(&self, py: Python<'_>) -> Use<'_, Calls> {
        self.calls.lock(py)
    }

    fn outcome(&self, py: Python<'_>) -> Use<'_, Outcome> {
        self.outcome.lock(py)
    }
}
