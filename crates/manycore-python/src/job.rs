//! What a call to the pool waits for: one or many tasks, and their results so far.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire};
use std::sync::atomic::{Ordering::Relaxed, Ordering::Release};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};

/// A call to the pool.
///
/// A *stream* delivers `(index, succeeded, value)` tuples, one for each task, as they come. Any other
/// job fills a list with the results of its tasks, `chunk` of them for each, and remembers the first
/// error.
#[pyclass(frozen, module = "manycore._engine")]
pub struct Job {
    results: Py<PyList>,
    is_stream: bool,
    chunk: usize,
    left: AtomicUsize,
    delivered: AtomicUsize,
    is_done: AtomicBool,
    error: Mutex<Option<Py<PyAny>>>,
    /// What to call: forgotten once it is done, since most of it refers to this job.
    calls: Mutex<Calls>,
    name: Option<Py<PyString>>,
    /// Of a job that is one task: its tag, once it was handed out.
    tag: AtomicU64,
    /// Errors of answers that could not be decoded here.
    undecodable: Mutex<Vec<Py<PyAny>>>,
    is_withdrawn: AtomicBool,
}

#[derive(Default)]
struct Calls {
    on_done: Vec<Py<PyAny>>,
    on_news: Option<Py<PyAny>>,
    resend: Option<Py<PyAny>>,
}

#[pymethods]
impl Job {
    /// A job of `tasks` tasks. `results` is the list to fill, or, for a stream, to append to.
    #[new]
    ///
    /// `on_done()` is called with the last answer. `resend(task, item)` is called when a worker died at
    /// an item of a task: to hand out the items after it. `name` is the function's, for messages.
    #[pyo3(signature = (results, tasks, chunk=1, *, stream=false, on_done=None, resend=None, name=None))]
    #[allow(clippy::too_many_arguments)] // a constructor with defaults
    fn new(
        results: Py<PyList>,
        tasks: usize,
        chunk: usize,
        stream: bool,
        on_done: Option<Py<PyAny>>,
        resend: Option<Py<PyAny>>,
        name: Option<Py<PyString>>,
    ) -> Self {
        let is_done = tasks == 0;
        // Of one that is done already nobody would forget them.
        let calls = if is_done && !stream {
            Calls::default()
        } else {
            Calls {
                on_done: on_done.into_iter().collect(),
                on_news: None,
                resend,
            }
        };
        Self {
            results,
            is_stream: stream,
            chunk,
            left: AtomicUsize::new(tasks),
            delivered: AtomicUsize::new(0),
            is_done: AtomicBool::new(is_done),
            error: Mutex::new(None),
            calls: Mutex::new(calls),
            name,
            tag: AtomicU64::new(0),
            undecodable: Mutex::default(),
            is_withdrawn: AtomicBool::new(false),
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

    /// The results so far.
    #[getter]
    fn results(&self, py: Python<'_>) -> Py<PyList> {
        self.results.clone_ref(py)
    }

    /// Adds tasks to a stream whose length was not known.
    fn extend(&self, tasks: usize) {
        self.left.fetch_add(tasks, Release);
        self.is_done.store(false, Release);
    }

    /// The name of the function that its tasks call, where known.
    #[getter]
    fn name(&self, py: Python<'_>) -> Option<Py<PyString>> {
        self.name.as_ref().map(|name| name.clone_ref(py))
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
        if self.is_done() || !self.results.bind(py).is_empty() {
            return false;
        }
        let before = calls.on_news.replace(on_news);
        drop(calls); // before any Python code runs
        drop(before);
        true
    }

    /// Has the items after item number `item` of a task handed out again: nobody has run them.
    fn resend_after(&self, py: Python<'_>, task: usize, item: u64) -> PyResult<()> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let resend = calls.resend.as_ref().map(|it| it.clone_ref(py));
        drop(calls); // before any Python code runs
        match resend {
            Some(_) if self.is_withdrawn.load(Acquire) => Ok(()), // nobody wants them any more
            Some(resend) => resend.call1(py, (task, item)).map(drop),
            None => Ok(()),
        }
    }

    /// Answers one task.
    fn answer(
        &self,
        py: Python<'_>,
        index: usize,
        succeeded: bool,
        value: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.deliver(py, index, succeeded, value)
    }
}

impl Job {
    /// A job of one task.
    pub fn single(py: Python<'_>, name: Option<Py<PyString>>) -> PyResult<Self> {
        let results = PyList::new(py, [py.None()])?.unbind();
        Ok(Self::new(results, 1, 1, false, None, None, name))
    }

    /// Whether every task has been answered.
    pub fn is_done(&self) -> bool {
        self.is_done.load(Acquire) // pairs with the Release in `deliver`
    }

    /// How many tasks have been answered.
    pub fn delivered_so_far(&self) -> usize {
        self.delivered.load(Acquire)
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

    /// Takes the answer of task `index`.
    pub fn deliver(
        &self,
        py: Python<'_>,
        index: usize,
        succeeded: bool,
        value: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let stored = self.store(py, index, succeeded, value);
        self.delivered.fetch_add(1, Release);
        if self.left.fetch_sub(1, Release) == 1 {
            self.is_done.store(true, Release); // pairs with the Acquire in `is_done`
            self.finish(py);
        }
        if self.is_stream {
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
        let on_done = std::mem::take(&mut calls.on_done);
        let resend = calls.resend.take();
        drop(calls); // before any Python code runs
        drop(resend);
        for function in on_done {
            call(py, &function);
        }
    }

    fn store(
        &self,
        py: Python<'_>,
        index: usize,
        succeeded: bool,
        value: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let results = self.results.bind(py);
        if self.is_stream {
            let triple = (index, succeeded, value).into_pyobject(py)?;
            return results.append(triple.cast_into::<PyTuple>()?);
        }
        if !succeeded {
            let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
            if first.is_none() {
                *first = Some(value.unbind());
            }
            return Ok(());
        }
        if self
            .error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
        {
            return Ok(()); // nobody will see the results
        }
        if self.chunk == 1 {
            return results.set_item(index, value);
        }
        let start = index * self.chunk;
        if start >= results.len() {
            return Ok(()); // what was handed out again: the death before it may be noted only now
        }
        for (offset, item) in value.try_iter()?.enumerate() {
            results.set_item(start + offset, item?)?;
        }
        Ok(())
    }
}

/// Calls what is to be called; what that raises is shown, since nobody could handle it.
fn call(py: Python<'_>, function: &Py<PyAny>) {
    if let Err(error) = function.bind(py).call0() {
        error.write_unraisable(py, Some(function.bind(py)));
    }
}
