//! Who belongs to the family.
//!
//! | module | what it is |
//! |---|---|
//! | [`owner`] | the 32 bits by which a word names a process: slot and generation |
//! | [`slot`] | what is known about one process |
//! | [`membership`] | joining, leaving, and being forked |
//! | [`claims`] | who has ended, and who cleans up after it |
//! | `ownership` | which threads can be the owner of an engine lock |
//!
//! Cleaning up after a dead process is in [`crate::family`], which knows all parts. `PROTOCOL.md` beside
//! this file proves both.

pub mod claims;
pub mod membership;
pub mod owner;
mod ownership;
pub mod slot;

#[cfg(test)]
mod models;
#[cfg(test)]
mod tests;

pub use membership::Registry;
pub use owner::OwnerId;
pub use slot::{Slot, Status};
