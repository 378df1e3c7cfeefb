//! What a call to the pool waits for: one or many tasks, and their results so far.
//!
//! Whether a task that failed is tried again is asked before its answer counts, in one place: `deliver`.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire};
use std::sync::atomic::{Ordering::Relaxed, Ordering::Release};
use std::sync::{Mutex, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// A call to the pool.
///
/// A *stream* delivers `(index, succeeded, value, bytes)` tuples, one for each task, as they come: the last is
/// how long the answer's message was. Any other job fills a list with the results of its tasks, `chunk` of them for each, and remembers the first
/// error.
#[pyclass(frozen, weakref, module = "manycore._engine")]
pub struct Job {
    results: Results,
    left: AtomicUsize,
    delivered: AtomicUsize,
    is_done: AtomicBool,
    error: Mutex<Option<Py<PyAny>>>,
    /// What to call: forgotten once it is done, since most of it refers to this job.
    calls: Mutex<Calls>,
    /// The function, or its name.
    function: Option<Py<PyAny>>,
    /// Nanoseconds that each task may run.
    timeout: Option<u64>,
    /// Errors are results.
    returns_errors: bool,
    /// What the seeds of its tasks are made of, where they have any.
    seed: Option<Seed>,
    /// Tasks of it may be handed out again.
    is_repeatable: bool,
    /// Of a job that is one task: its tag, once it was handed out.
    tag: AtomicU64,
    /// Errors of answers that could not be decoded here.
    undecodable: Mutex<Vec<Py<PyAny>>>,
    is_withdrawn: AtomicBool,
    flow: Flow,
}

/// What a stream has handed out.
#[derive(Default)]
struct Flow {
    /// Tasks.
    sent: AtomicUsize,
    /// Bytes of the messages of those that have no answer.
    open_bytes: AtomicUsize,
}

/// What the seeds of a job's tasks are made of, beside the numbers of their items.
pub struct Seed {
    /// The call's.
    pub of_call: Py<PyAny>,
    /// How many items each task has.
    pub items: usize,
}

/// Where the results of a job go.
enum Results {
    /// To the one place of a single call.
    One(Mutex<Option<Py<PyAny>>>),
    /// Into a list, so many from each task.
    List(Py<PyList>, usize),
    /// To the end of a list, with the task's number, whether it succeeded, and how long the message was.
    Stream(Py<PyList>),
}

#[derive(Default)]
struct Calls {
    on_done: Vec<Py<PyAny>>,
    on_news: Option<Py<PyAny>>,
    resend: Option<Py<PyAny>>,
    retry: Option<Py<PyAny>>,
    /// The positional arguments of a single call, or what tells those of each task.
    about: Option<Py<PyAny>>,
    keywords: Option<Py<PyDict>>,
}

#[pymethods]
impl Job {
    /// A job of `tasks` tasks. `results` is the list to fill, or, for a stream, to append to.
    ///
    /// `on_done()` is called with the last answer. `resend(task, item)` is called when a worker died at
    /// an item of a task: to hand out the items after it. `retry(task, error)` is called when a task
    /// failed; if it hands the task out again it returns true, and the error is no answer. `about(task)`
    /// tells the arguments of a task, for messages; `function` is the function or its name. `timeout` is how many
    /// seconds each task may run. With `returns_errors` an error is a result like any other. `seed` is what the
    /// tasks' seeds are made of.
    #[new]
    #[pyo3(signature = (results, tasks, chunk=1, *, stream=false, on_done=None, resend=None, retry=None,
        about=None, function=None, timeout=None, returns_errors=false, seed=None))]
    #[allow(clippy::too_many_arguments)] // a constructor with defaults
    fn new(
        results: Py<PyList>,
        tasks: usize,
        chunk: usize,
        stream: bool,
        on_done: Option<Py<PyAny>>,
        resend: Option<Py<PyAny>>,
        retry: Option<Py<PyAny>>,
        about: Option<Py<PyAny>>,
        function: Option<Py<PyAny>>,
        timeout: Option<f64>,
        returns_errors: bool,
        seed: Option<Py<PyAny>>,
    ) -> Self {
        let is_done = tasks == 0;
        let is_repeatable = retry.is_some() || (resend.is_some() && chunk > 1);
        // Of one that is done already nobody would forget them.
        let calls = if is_done && !stream {
            Calls::default()
        } else {
            Calls {
                on_done: on_done.into_iter().collect(),
                resend,
                retry,
                about,
                ..Calls::default()
            }
        };
        Self {
            results: if stream {
                Results::Stream(results)
            } else {
                Results::List(results, chunk)
            },
            left: AtomicUsize::new(tasks),
            delivered: AtomicUsize::new(0),
            is_done: AtomicBool::new(is_done),
            error: Mutex::new(None),
            calls: Mutex::new(calls),
            function,
            timeout: timeout.map(|seconds| (seconds * 1e9) as u64), // as much as there is room for
            returns_errors,
            seed: seed.map(|of_call| Seed {
                of_call,
                items: chunk,
            }),
            is_repeatable,
            tag: AtomicU64::new(0),
            undecodable: Mutex::default(),
            is_withdrawn: AtomicBool::new(false),
            flow: Flow::default(),
        }
    }

    /// Whether every task has been answered.
    #[getter]
    fn done(&self) -> bool {
        self.is_done()
    }

    /// How many tasks have been answered.
    #[getter]
    fn delivered(&self) -> usize {
        self.delivered_so_far()
    }

    /// How many tasks have not been answered.
    #[getter]
    fn left(&self) -> usize {
        self.left.load(Acquire)
    }

    /// The first error, if a task failed.
    #[getter]
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|e| e.clone_ref(py))
    }

    /// The results so far; of a single call `None`.
    #[getter]
    fn results(&self, py: Python<'_>) -> Option<Py<PyList>> {
        match &self.results {
            Results::One(_) => None,
            Results::List(results, _) | Results::Stream(results) => Some(results.clone_ref(py)),
        }
    }

    /// The result of a single call, once it is there.
    #[getter]
    fn value(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match &self.results {
            Results::One(place) => {
                let value = place.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(value.as_ref().map(|it| it.clone_ref(py)))
            }
            Results::List(results, _) | Results::Stream(results) => {
                results.bind(py).get_item(0).map(|it| Some(it.unbind()))
            }
        }
    }

    /// Adds tasks to a stream whose length was not known.
    fn extend(&self, tasks: usize) {
        self.left.fetch_add(tasks, Release);
        self.is_done.store(false, Release);
    }

    /// How many tasks a stream has handed out.
    #[getter]
    fn sent(&self) -> usize {
        self.flow.sent.load(Relaxed) // all who count hold the interpreter
    }

    /// The function that its tasks call, or its name, where known.
    #[getter]
    fn function(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.function.as_ref().map(|it| it.clone_ref(py))
    }

    /// The positional and the keyword arguments of a task, where known.
    fn about(&self, py: Python<'_>, task: usize) -> PyResult<Option<Py<PyAny>>> {
        match self.call(py, |calls| &calls.about) {
            Some(about) if about.bind(py).is_callable() => about.call1(py, (task,)).map(Some),
            Some(args) => {
                let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
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
    fn withdrawn(&self) -> bool {
        self.is_withdrawn.load(Acquire) // pairs with the Release in `note_withdrawn`
    }

    /// Whether an error is that of an answer that could not be decoded here, and not the task's own.
    fn is_undecodable(&self, error: &Bound<'_, PyAny>) -> bool {
        let undecodable = self.undecodable.lock();
        let undecodable = undecodable.unwrap_or_else(PoisonError::into_inner);
        undecodable.iter().any(|other| other.is(error))
    }

    /// Has `on_done()` called with the last answer; `False`, and nothing is called, if it is there already.
    fn when_done(&self, on_done: Py<PyAny>) -> bool {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_done() {
            return false; // `finish` has begun, and takes the calls away, or has taken them
        }
        calls.on_done.push(on_done);
        true
    }

    /// Has `on_news()` called once, with the next answer of a stream, or when it is done; `False`, and
    /// nothing is called, if there is an answer to fetch already.
    fn when_news(&self, py: Python<'_>, on_news: Py<PyAny>) -> bool {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let has_some = match &self.results {
            Results::Stream(results) => !results.bind(py).is_empty(),
            Results::One(_) | Results::List(..) => false,
        };
        if self.is_done() || has_some {
            return false;
        }
        let before = calls.on_news.replace(on_news);
        drop(calls); // before any Python code runs
        drop(before);
        true
    }

    /// For Python's collector: the traceback of an error that was raised leads to who waited for it, and so
    /// back to here.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.results {
            Results::One(place) => {
                if let Ok(value) = place.try_lock() {
                    visit.call(&*value)?;
                }
            }
            Results::List(results, _) | Results::Stream(results) => visit.call(results)?,
        }
        visit.call(&self.function)?;
        if let Ok(error) = self.error.try_lock() {
            visit.call(&*error)?;
        }
        if let Ok(calls) = self.calls.try_lock() {
            for call in &calls.on_done {
                visit.call(call)?;
            }
            visit.call(&calls.on_news)?;
            visit.call(&calls.resend)?;
            visit.call(&calls.retry)?;
            visit.call(&calls.about)?;
            visit.call(&calls.keywords)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = (error.take(), std::mem::take(&mut *calls));
        drop((error, calls)); // before any Python code runs
        drop(taken);
    }

    /// Answers one task, for good: it is not tried again.
    fn answer(
        &self,
        py: Python<'_>,
        index: usize,
        succeeded: bool,
        value: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.settle(py, index, succeeded || self.returns_errors, value, 0)
    }
}

impl Job {
    /// A job of one call, which nobody is told of.
    pub fn single(
        function: Py<PyAny>,
        arguments: Py<PyTuple>,
        keywords: Option<Py<PyDict>>,
    ) -> Self {
        Self {
            results: Results::One(Mutex::default()),
            left: AtomicUsize::new(1),
            delivered: AtomicUsize::new(0),
            is_done: AtomicBool::new(false),
            error: Mutex::new(None),
            calls: Mutex::new(Calls {
                about: Some(arguments.into_any()),
                keywords,
                ..Calls::default()
            }),
            function: Some(function),
            timeout: None,
            returns_errors: false,
            seed: None,
            is_repeatable: false,
            tag: AtomicU64::new(0),
            undecodable: Mutex::default(),
            is_withdrawn: AtomicBool::new(false),
            flow: Flow::default(),
        }
    }

    /// Adds a task to a stream; its number.
    pub fn begin_task(&self) -> usize {
        self.extend(1);
        self.flow.sent.fetch_add(1, Relaxed) // as in `sent`
    }

    /// Bytes of the messages of a stream's tasks that have no answer.
    #[inline]
    pub fn open_bytes(&self) -> usize {
        self.flow.open_bytes.load(Relaxed) // a bound, and no other memory follows from it
    }

    /// Notes that a task was handed out whose message has so many bytes.
    #[inline]
    pub fn note_open(&self, len: usize) {
        if matches!(self.results, Results::Stream(_)) {
            self.flow.open_bytes.fetch_add(len, Relaxed); // as in `open_bytes`
        }
    }

    /// Notes that such a task has its answer.
    #[inline]
    pub fn note_closed(&self, len: usize) {
        if matches!(self.results, Results::Stream(_)) {
            self.flow.open_bytes.fetch_sub(len, Relaxed); // as in `open_bytes`
        }
    }

    /// Whether every task has been answered.
    pub fn is_done(&self) -> bool {
        self.is_done.load(Acquire) // pairs with the Release in `deliver`
    }

    /// How many tasks have been answered.
    pub fn delivered_so_far(&self) -> usize {
        self.delivered.load(Acquire)
    }

    /// What the seeds of its tasks are made of.
    #[inline]
    pub fn seed(&self) -> Option<&Seed> {
        self.seed.as_ref()
    }

    /// Whether tasks of it may be handed out again.
    pub fn is_repeatable(&self) -> bool {
        self.is_repeatable
    }

    /// Nanoseconds that each task may run.
    pub fn timeout(&self) -> Option<u64> {
        self.timeout
    }

    /// Has the items after item number `item` of a task handed out again: nobody has run them.
    pub fn resend_after(&self, py: Python<'_>, task: usize, item: u64) -> PyResult<()> {
        match self.call(py, |calls| &calls.resend) {
            Some(_) if self.is_withdrawn.load(Acquire) => Ok(()), // nobody wants them any more
            Some(resend) => resend.call1(py, (task, item)).map(drop),
            None => Ok(()),
        }
    }

    /// What is to be called, without the lock: Python code runs in it.
    fn call(
        &self,
        py: Python<'_>,
        which: impl FnOnce(&Calls) -> &Option<Py<PyAny>>,
    ) -> Option<Py<PyAny>> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        which(&calls).as_ref().map(|it| it.clone_ref(py))
    }

    /// Whether a task that failed was handed out again.
    #[cold]
    fn is_tried_again(
        &self,
        py: Python<'_>,
        index: usize,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        match self.call(py, |calls| &calls.retry) {
            Some(_) if self.is_withdrawn.load(Acquire) => Ok(false),
            Some(retry) => retry.bind(py).call1((index, error))?.is_truthy(),
            None => Ok(false),
        }
    }

    /// Notes the tag of the one task that this job is.
    pub fn note_tag(&self, tag: u64) {
        self.tag.store(tag, Relaxed); // read by threads that were given the job after that
    }

    /// The tag of the one task that this job is, if it is one and was handed out.
    pub fn tag(&self) -> Option<u64> {
        let tag = self.tag.load(Relaxed);
        (tag != 0).then_some(tag)
    }

    /// Notes that an answer could not be decoded.
    pub fn note_undecodable(&self, error: Py<PyAny>) {
        let undecodable = self.undecodable.lock();
        let mut undecodable = undecodable.unwrap_or_else(PoisonError::into_inner);
        undecodable.push(error);
    }

    /// Notes that tasks of it will not be run, nor what is left of others whose workers die.
    pub fn note_withdrawn(&self) {
        self.is_withdrawn.store(true, Release);
    }

    /// Takes an answer of which no message came.
    pub fn deliver(
        &self,
        py: Python<'_>,
        index: usize,
        succeeded: bool,
        value: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.deliver_sized(py, index, succeeded, value, 0)
    }

    /// Takes the answer of task `index`, a message of `len` bytes, unless it has failed and is tried again.
    pub fn deliver_sized(
        &self,
        py: Python<'_>,
        index: usize,
        succeeded: bool,
        value: Bound<'_, PyAny>,
        len: usize,
    ) -> PyResult<()> {
        let (succeeded, value) = if succeeded {
            (true, value)
        } else {
            match self.is_tried_again(py, index, &value) {
                Ok(true) => return Ok(()),
                Ok(false) => (self.returns_errors, value),
                Err(error) => (
                    self.returns_errors,
                    error.into_value(py).into_bound(py).into_any(),
                ),
            }
        };
        self.settle(py, index, succeeded, value, len)
    }

    /// Takes the answer of task `index` for good.
    fn settle(
        &self,
        py: Python<'_>,
        index: usize,
        succeeded: bool,
        value: Bound<'_, PyAny>,
        len: usize,
    ) -> PyResult<()> {
        let stored = self.store(py, index, succeeded, value, len);
        self.delivered.fetch_add(1, Release);
        if self.left.fetch_sub(1, Release) == 1 {
            self.is_done.store(true, Release); // pairs with the Acquire in `is_done`
            self.finish(py);
        }
        if matches!(self.results, Results::Stream(_)) {
            self.tell_news(py);
        }
        stored
    }

    /// Calls and forgets what is to be called with the next answer.
    fn tell_news(&self, py: Python<'_>) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let on_news = calls.on_news.take();
        drop(calls); // before any Python code runs
        if let Some(on_news) = on_news {
            call(py, &on_news);
        }
    }

    /// Calls and forgets what is to be called when all tasks have been answered.
    fn finish(&self, py: Python<'_>) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let on_news = calls.on_news.take();
        let mut forgotten = std::mem::take(&mut *calls);
        calls.on_news = on_news; // which is called after these
        if matches!(self.results, Results::Stream(_)) {
            // It may go on.
            calls.retry = forgotten.retry.take();
            calls.about = forgotten.about.take();
        }
        drop(calls); // before any Python code runs
        for function in &forgotten.on_done {
            call(py, function);
        }
    }

    fn store(
        &self,
        py: Python<'_>,
        index: usize,
        succeeded: bool,
        value: Bound<'_, PyAny>,
        len: usize,
    ) -> PyResult<()> {
        if let Results::Stream(results) = &self.results {
            let answer = (index, succeeded, value, len).into_pyobject(py)?;
            return results.bind(py).append(answer.cast_into::<PyTuple>()?);
        }
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if !succeeded {
            if first.is_none() {
                *first = Some(value.unbind());
            }
            return Ok(());
        }
        if first.is_some() {
            return Ok(()); // nobody will see the results
        }
        drop(first);
        match &self.results {
            Results::One(place) => {
                let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
                *place = Some(value.unbind());
                Ok(())
            }
            Results::List(results, chunk) => fill(results.bind(py), index, *chunk, &value),
            Results::Stream(_) => Ok(()),
        }
    }
}

/// Puts the results of a task where they belong.
fn fill(
    results: &Bound<'_, PyList>,
    index: usize,
    chunk: usize,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if chunk == 1 {
        return results.set_item(index, value);
    }
    let start = index * chunk;
    if start >= results.len() {
        return Ok(()); // what was handed out again: the death before it may be noted only now
    }
    for (offset, item) in value.try_iter()?.enumerate() {
        results.set_item(start + offset, item?)?;
    }
    Ok(())
}

/// Calls what is to be called; what that raises is shown, since nobody could handle it.
fn call(py: Python<'_>, function: &Py<PyAny>) {
    if let Err(error) = function.bind(py).call0() {
        error.write_unraisable(py, Some(function.bind(py)));
    }
}
