//! The functions that the workers of a crew know.

use std::collections::BTreeMap;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::Crew;
use crate::task::HEAD;

/// Functions that are recognised by their identity, and the heads of their tasks: by address, mostly a few.
#[derive(Default)]
pub(super) struct Heads(BTreeMap<usize, (Py<PyAny>, [u8; HEAD])>);

impl Heads {
    /// Adds one, which thus keeps its address; returns what was known of it before.
    pub(super) fn insert(
        &mut self,
        function: Py<PyAny>,
        head: [u8; HEAD],
    ) -> Option<(Py<PyAny>, [u8; HEAD])> {
        self.0.insert(function.as_ptr() as usize, (function, head))
    }

    #[inline]
    pub(super) fn get(&self, function: &Bound<'_, PyAny>) -> Option<[u8; HEAD]> {
        let (_, head) = self.0.get(&(function.as_ptr() as usize))?;
        Some(*head)
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut functions = self.0.values();
        functions.try_for_each(|(function, _)| visit.call(function))
    }

    /// Takes out those with this head: to be dropped without the lock.
    pub(super) fn remove(&mut self, head: [u8; HEAD]) -> Vec<Py<PyAny>> {
        let (with_it, others) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(_, (_, other))| *other == head);
        self.0 = others;
        let with_it: BTreeMap<_, (Py<PyAny>, _)> = with_it;
        with_it
            .into_values()
            .map(|(function, _)| function)
            .collect()
    }
}

impl Crew {
    /// The head of the tasks of a function, if it is known.
    #[inline]
    pub fn head_of(&self, function: &Bound<'_, PyAny>) -> Option<[u8; HEAD]> {
        self.heads(function.py()).get(function)
    }
}
