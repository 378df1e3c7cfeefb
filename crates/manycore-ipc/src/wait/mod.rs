//! Waiting for other processes.
//!
//! | module | what it is |
//! |---|---|
//! | [`bell`] | a word to sleep on: the waker clears the flag, so a burst costs one system call |
//! | [`several`] | sleeping at several bells |
//! | [`search`] | who looks anyway need not be woken |
//! | [`spin`] | how long to look again before sleeping |
//! | [`beside`] | who was woken on the core of its waker lets that one go on |
//! | [`patience`] | until when to wait, and what to do in between |
//!
//! `PROTOCOL.md` beside this file proves that no wake-up is lost.

pub mod bell;
pub mod beside;
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

/// What is waited for.
pub(crate) trait Sought {
    /// Whether there is any.
    fn is_there(&self) -> bool;

    /// Whether there is as much as comes in some milliseconds when it comes quickly.
    fn is_much(&self) -> bool;

    /// Lets some gather, where it comes quickly.
    fn gather(&self);
}

#[cfg(test)]
impl<F: Fn() -> bool> Sought for F {
    fn is_there(&self) -> bool {
        self()
    }

    fn is_much(&self) -> bool {
        false
    }

    fn gather(&self) {}
}
