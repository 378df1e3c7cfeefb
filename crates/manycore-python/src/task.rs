//! How a task and its answer look as messages.
//!
//! ```text
//! task:   function (a block reference, 24 bytes) | mode (1 byte) | arguments, encoded
//! answer: the value, encoded; the message's kind says whether it is a result or an error
//! ```
//!
//! The arguments of a task with a seed are a tuple: the seed, the number of its first item, the arguments. Before
//! an answer of a worker that measures stands how many nanoseconds the task took.

use manycore_ipc::block::BlockRef;
use pyo3::prelude::*;

use crate::errors;

/// Bytes before the arguments.
pub const HEAD: usize = BlockRef::SIZE + 1;
/// Added to an answer's kind: the task raised, and the value is the exception.
pub const ERROR: u8 = 0x08;

/// Added to an answer's kind: its first 8 bytes are the nanoseconds that the task took.
pub const TIMED: u8 = 0x10;

/// Set in a mode: workers keep the function for later tasks.
pub const KEEP: u8 = 0x80;
/// Set in a mode: the arguments come with a seed.
pub const SEEDED: u8 = 0x40;
/// Set in a mode: a worker that has run for long leaves the rest of the items to others. Its answer has fewer results
/// than there were items.
pub const SHARED: u8 = 0x20;

/// What the arguments of a task are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// A tuple of positional arguments.
    Call = 0,
    /// A tuple of positional arguments and a dict of keyword arguments.
    CallWithKeywords = 1,
    /// One argument.
    Item = 2,
    /// One tuple of arguments.
    StarItem = 3,
    /// A list, each item one argument; the answer is the list of results.
    Chunk = 4,
    /// A list, each item a tuple of arguments; the answer is the list of results.
    StarChunk = 5,
}

impl Mode {
    /// That of a task of one item, or of a list of them.
    pub fn of_items(star: bool, chunked: bool) -> Self {
        match (star, chunked) {
            (false, false) => Self::Item,
            (true, false) => Self::StarItem,
            (false, true) => Self::Chunk,
            (true, true) => Self::StarChunk,
        }
    }

    fn decode(byte: u8) -> Option<Self> {
        use Mode::{Call, CallWithKeywords, Chunk, Item, StarChunk, StarItem};
        [Call, CallWithKeywords, Item, StarItem, Chunk, StarChunk]
            .into_iter()
            .find(|mode| *mode as u8 == byte)
    }
}

/// What stands before a task's arguments.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Where the pickled function is.
    pub function: BlockRef,
    /// Whether workers keep the function.
    pub keep: bool,
    /// Whether the arguments come with a seed.
    pub seeded: bool,
    /// Whether the rest of the items may be left to others.
    pub shared: bool,
}

impl Head {
    /// As stored.
    pub fn to_bytes(self, mode: Mode) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let (block, last) = bytes.split_at_mut(BlockRef::SIZE);
        block.copy_from_slice(&self.function.to_bytes());
        let keep = if self.keep { KEEP } else { 0 };
        let seeded = if self.seeded { SEEDED } else { 0 };
        let shared = if self.shared { SHARED } else { 0 };
        last.copy_from_slice(&[mode as u8 | keep | seeded | shared]);
        bytes
    }

    /// From a task's bytes.
    pub fn from_bytes(bytes: &[u8]) -> PyResult<(Self, Mode)> {
        let damaged = || errors::corrupted("a task's head is damaged");
        let (block, rest) = bytes
            .split_first_chunk::<{ BlockRef::SIZE }>()
            .ok_or_else(damaged)?;
        let byte = *rest.first().ok_or_else(damaged)?;
        let mode = Mode::decode(byte & !(KEEP | SEEDED | SHARED)).ok_or_else(damaged)?;
        Ok((
            Self {
                function: BlockRef::from_bytes(*block),
                keep: byte & KEEP != 0,
                seeded: byte & SEEDED != 0,
                shared: byte & SHARED != 0,
            },
            mode,
        ))
    }
}
