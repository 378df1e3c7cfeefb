//! What is known of a job from its beginning on.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use manycore::pool::Cuts;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::gil_cell::GilCell;

/// What a job is, which never changes.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) results: Results,
    /// The function, or its name.
    pub(super) function: Option<Py<PyAny>>,
    pub(super) pool: Option<Py<PyAny>>,
    /// Where it is not as usual.
    pub(super) terms: Option<Box<Terms>>,
}

/// What is asked of the tasks of a job.
#[derive(Default)]
pub(super) struct Terms {
    /// Nanoseconds that each task may run.
    pub(super) timeout: Option<u64>,
    /// Errors are results.
    pub(super) returns_errors: bool,
    /// What the seeds of its tasks are made of, where they have any.
    pub(super) seed: Option<Seed>,
    /// Tasks of it may be handed out again.
    pub(super) is_repeatable: bool,
    pub(super) flow: Flow,
}

/// What a job of several tasks has handed out.
#[derive(Default)]
pub struct Flow {
    /// Tasks, of a stream.
    pub(super) sent: AtomicUsize,
    /// Those that have no answer.
    pub(super) open: AtomicUsize,
    /// Bytes of the messages of those.
    pub(super) open_bytes: AtomicUsize,
    /// Whether there may be more of them, though all have answers.
    pub(super) is_held: AtomicBool,
}

/// What the seeds of a job's tasks are made of, beside the numbers of their items.
pub struct Seed {
    /// The call's.
    pub of_call: Py<PyAny>,
    /// How many items each task of a stream has.
    pub items: usize,
}

/// The results of a map, and how its items are tasks.
pub(super) struct Places {
    pub(super) results: Py<PyList>,
    pub(super) cuts: GilCell<Cuts>,
    /// What workers have left of tasks, and was not handed out yet.
    pub(super) rests: GilCell<Vec<Range<usize>>>,
    /// Whether tasks are lists of items, and their results lists, also those of one item.
    pub(super) are_lists: bool,
    /// Whether a worker may leave the rest of a list to others.
    pub(super) are_shared: bool,
}

/// Where the results of a job go.
#[derive(Default)]
pub(super) enum Results {
    /// To the one place of a single call.
    #[default]
    One,
    /// Into a list with a place for each item.
    List(Places),
    /// To the end of a list, with the task's number, whether it succeeded, and how long the message was.
    Stream(Py<PyList>),
}

impl Plan {
    /// That of a job which was not told.
    pub(super) const NONE: Self = Self {
        results: Results::One,
        function: None,
        pool: None,
        terms: None,
    };

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.results {
            Results::One => {}
            Results::List(Places { results, .. }) | Results::Stream(results) => {
                visit.call(results)?;
            }
        }
        visit.call(&self.function)?;
        visit.call(&self.pool)
    }
}
