//! The functions that a worker keeps.

use std::collections::BTreeMap;

use manycore_ipc::block::BlockRef;
use pyo3::prelude::*;

/// The most functions that are kept.
const MOST: usize = 256;
/// The most bytes that their pickles may have together. One is always kept.
const MOST_BYTES: u64 = 16 << 20;

/// Functions that were unpickled for earlier tasks, by where their pickles are, or were.
#[derive(Default)]
pub struct Kept {
    functions: BTreeMap<(u32, u64), Py<PyAny>>,
    bytes: u64,
}

impl Kept {
    #[inline]
    pub fn get(&self, pickle: BlockRef) -> Option<&Py<PyAny>> {
        self.functions.get(&(pickle.page, pickle.generation))
    }

    /// Adds one; returns those that are kept no more: to be dropped without the lock. They are all that there were:
    /// those that are needed are soon here again.
    pub fn insert(&mut self, pickle: BlockRef, function: Py<PyAny>) -> Self {
        let is_full = self.functions.len() == MOST || self.bytes + pickle.len > MOST_BYTES;
        let before = if is_full {
            std::mem::take(self)
        } else {
            Self::default()
        };
        self.bytes += pickle.len;
        self.functions
            .insert((pickle.page, pickle.generation), function);
        before
    }
}
