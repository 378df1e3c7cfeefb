//! The functions that the workers of a crew know.

use std::collections::{BTreeMap, VecDeque};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::Crew;
use crate::task::HEAD;

/// Functions with the same pickle that are recognised: a lambda in a loop is another one each time.
const MOST_ALIKE: usize = 8;

/// A function that is recognised by its identity.
pub(super) struct Known {
    pub(super) function: Py<PyAny>,
    /// The head of its tasks: as long as somebody has this object, the pickle is in the heap.
    pub(super) head: Py<PyBytes>,
    pub(super) bytes: [u8; HEAD],
}

/// Functions that are recognised, by address, which they keep as long as they are here; mostly a few.
#[derive(Default)]
pub(super) struct Heads {
    known: BTreeMap<usize, Known>,
    /// The addresses of those with the same head, the latest last.
    alike: BTreeMap<[u8; HEAD], VecDeque<usize>>,
}

impl Heads {
    /// Adds one; returns those that are recognised no more: to be dropped without the lock.
    pub(super) fn insert(&mut self, known: Known) -> [Option<Known>; 2] {
        let address = known.function.as_ptr() as usize;
        let before = self.known.remove(&address);
        if let Some(before) = &before
            && let Some(alike) = self.alike.get_mut(&before.bytes)
        {
            alike.retain(|other| *other != address);
        }
        let alike = self.alike.entry(known.bytes).or_default();
        alike.push_back(address);
        let first = (alike.len() > MOST_ALIKE).then(|| alike.pop_front());
        let oldest = first.flatten().and_then(|first| self.known.remove(&first));
        self.known.insert(address, known);
        [before, oldest]
    }

    #[inline]
    pub(super) fn get(&self, function: &Bound<'_, PyAny>) -> Option<&Known> {
        self.known.get(&(function.as_ptr() as usize))
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.known.values().try_for_each(|known| {
            visit.call(&known.function)?;
            visit.call(&known.head)
        })
    }

    /// Takes out those with this head: to be dropped without the lock.
    pub(super) fn remove(&mut self, head: [u8; HEAD]) -> Vec<Known> {
        let alike = self.alike.remove(&head).unwrap_or_default();
        let known = alike
            .iter()
            .filter_map(|address| self.known.remove(address));
        known.collect()
    }
}

impl Crew {
    /// The head of the tasks of a function, if it is known.
    #[inline]
    pub fn head_of(&self, function: &Bound<'_, PyAny>) -> Option<(Py<PyBytes>, [u8; HEAD])> {
        let py = function.py();
        let heads = self.heads(py);
        let known = heads.get(function)?;
        Some((known.head.clone_ref(py), known.bytes))
    }
}
