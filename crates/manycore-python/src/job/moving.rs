//! The answers of a stream, on their way to who fetches them.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::Job;
use super::plan::Results;

type Answer<'py> = (Bound<'py, PyAny>, bool, Bound<'py, PyAny>, usize);

/// Where the results of a stream go, and what is noted of that.
pub(super) struct Moving<'a, 'py> {
    /// What may be fetched: a deque of pairs, whether it succeeded and the result.
    pub(super) items: &'a Bound<'py, PyAny>,
    /// Counts what was `answered` and `fetched`, and the bytes of what is `early`.
    pub(super) ahead: &'a Bound<'py, PyAny>,
    /// What the tasks consist of that were not answered.
    pub(super) open: &'a Bound<'py, PyDict>,
    /// Answers that came before their turn, where there are turns.
    pub(super) early: Option<&'a Bound<'py, PyDict>>,
    /// Whether a result is a list of those of several items.
    pub(super) are_lists: bool,
}

impl<'py> Moving<'_, 'py> {
    fn count(&self, name: &str) -> PyResult<usize> {
        self.ahead.getattr(name)?.extract()
    }

    fn run(&self, answers: &Bound<'py, PyList>) -> PyResult<usize> {
        let py = answers.py();
        let (mut fetched, mut early_bytes) = (self.count("fetched")?, self.count("early")?);
        let mut longest = 0;
        let delivered = Delivered {
            items: PyList::empty(py),
            are_lists: self.are_lists,
        };
        let mut forgotten = Vec::new(); // only in the end: that may run code of the program
        for answer in answers {
            let (task, succeeded, value, size): Answer<'_> = answer.extract()?;
            forgotten.push(self.open.get_item(&task)?);
            self.open.del_item(&task)?;
            longest = longest.max(size);
            let Some(early) = self.early else {
                delivered.add(succeeded, &value)?;
                fetched += 1;
                continue;
            };
            if task.extract::<usize>()? != fetched {
                early.set_item(task, (succeeded, value, size))?;
                early_bytes += size;
                continue;
            }
            delivered.add(succeeded, &value)?;
            fetched += 1;
            while !early.is_empty()
                && let Some(next) = early.get_item(fetched)?
            {
                early.del_item(fetched)?;
                let (succeeded, value, size): (bool, Bound<'_, PyAny>, usize) = next.extract()?;
                early_bytes = early_bytes.saturating_sub(size);
                delivered.add(succeeded, &value)?;
                fetched += 1;
            }
        }
        self.items
            .call_method1(intern!(py, "extend"), (delivered.items,))?;
        self.ahead.setattr(intern!(py, "fetched"), fetched)?;
        self.ahead.setattr(intern!(py, "early"), early_bytes)?;
        let answered = self.count("answered")? + answers.len();
        self.ahead.setattr(intern!(py, "answered"), answered)?;
        Ok(longest)
    }
}

/// Pairs that may be fetched.
struct Delivered<'py> {
    items: Bound<'py, PyList>,
    are_lists: bool,
}

impl<'py> Delivered<'py> {
    fn add(&self, succeeded: bool, value: &Bound<'py, PyAny>) -> PyResult<()> {
        if !(succeeded && self.are_lists) {
            return self.items.append((succeeded, value));
        }
        for item in value.try_iter()? {
            self.items.append((true, item?))?;
        }
        Ok(())
    }
}

impl Job {
    /// Moves what has come; how many answers, and how long the longest message was.
    pub(super) fn move_answers(&self, moving: &Moving<'_, '_>) -> PyResult<(usize, usize)> {
        let Results::Stream(ready) = &self.plan().results else {
            return Ok((0, 0));
        };
        let ready = ready.bind(moving.ahead.py());
        let count = ready.len();
        if count == 0 {
            return Ok((0, 0));
        }
        let answers = ready.get_slice(0, count);
        ready.del_slice(0, count)?;
        Ok((count, moving.run(&answers)?))
    }
}
