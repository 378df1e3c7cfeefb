//! What is called for a job: when it is done, or a task of it has failed.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::due::Due;
use crate::task::HEAD;

#[derive(Default)]
pub(super) struct Calls {
    /// The positional arguments of a single call, or what tells those of each task.
    pub(super) about: Option<Py<PyAny>>,
    pub(super) keywords: Option<Py<PyDict>>,
    /// Of a single call: what its function is kept in the heap for.
    pub(super) head: Option<Py<PyBytes>>,
    /// Of a usual call there are none.
    others: Option<Box<Others>>,
}

#[derive(Default)]
pub(super) struct Others {
    /// What is to be called, and where that is noted, with the last answer, before the job is done.
    pub(super) on_answered: Option<(Py<Due>, Py<PyAny>)>,
    pub(super) on_done: Vec<Py<PyAny>>,
    pub(super) on_news: Option<Py<PyAny>>,
    /// Of a map whose tasks are lists: what they are lists of.
    pub(super) source: Option<Source>,
    pub(super) retry: Option<Py<PyAny>>,
}

/// The items of a map, and how they become tasks.
pub struct Source {
    /// A list, or a range.
    pub items: Py<PyAny>,
    /// That of its function.
    pub head: [u8; HEAD],
    /// Whether an item is a tuple of arguments.
    pub star: bool,
    pub priority: i64,
}

impl Source {
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            items: self.items.clone_ref(py),
            ..*self
        }
    }
}

impl Calls {
    pub(super) fn new(about: Option<Py<PyAny>>, others: Others) -> Self {
        let is_usual = others.on_answered.is_none() && others.retry.is_none();
        Self {
            about,
            keywords: None,
            head: None,
            others: (!is_usual).then(|| Box::new(others)),
        }
    }

    /// What is called besides, if anything is.
    pub(super) fn others(&self) -> Option<&Others> {
        self.others.as_deref()
    }

    /// What is called besides, to be changed.
    pub(super) fn others_mut(&mut self) -> &mut Others {
        self.others.get_or_insert_default()
    }

    /// Takes out what is to be called before the job is done.
    pub(super) fn take_on_answered(&mut self) -> Option<(Py<Due>, Py<PyAny>)> {
        self.others.as_mut()?.on_answered.take()
    }

    /// Takes out what is called with the next answer.
    pub(super) fn take_on_news(&mut self) -> Option<Py<PyAny>> {
        self.others.as_mut()?.on_news.take()
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(others) = &self.others {
            if let Some((due, on_answered)) = &others.on_answered {
                visit.call(due)?;
                visit.call(on_answered)?;
            }
            for call in &others.on_done {
                visit.call(call)?;
            }
            visit.call(&others.on_news)?;
            if let Some(source) = &others.source {
                visit.call(&source.items)?;
            }
            visit.call(&others.retry)?;
        }
        visit.call(&self.about)?;
        visit.call(&self.keywords)?;
        visit.call(&self.head)
    }
}
