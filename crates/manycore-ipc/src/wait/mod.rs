//! Waiting for other processes.
//!
//! | module | what it is |
//! |---|---|
//! | [`bell`] | a word to sleep on: the waker clears the flag, so a burst costs one system call |
//! | [`several`] | sleeping at several bells |
//! | [`search`] | who looks anyway need not be woken |
//! | [`spin`] | how long to look again before sleeping |
//! | [`patience`] | until when to wait, and what to do in between |
//!
//! `PROTOCOL.md` beside this file proves that no wake-up is lost.

pub mod bell;
pub mod patience;
pub mod search;
pub mod several;
pub mod spin;

#[cfg(test)]
mod models;

pub use bell::Bell;
pub use patience::{GaveUp, Patience};
pub use search::Search;
pub(crate) use search::Waited;
