//! What a family's processes are doing, for whoever looks from outside: at a program that lives, or hangs.
//!
//! | module | what it is |
//! |---|---|
//! | `report` | finding a family's heap, and looking at it |
//! | [`members`] | the processes, and what their threads sleep for |
//! | [`things`] | the shared objects |
//! | `text` | all of it in words |
//!
//! Nothing is written and no lock is taken, so that who looks can neither help nor harm. What is seen changes
//! meanwhile: each figure was true at some moment, not all of them at the same.

pub mod members;
mod report;
mod text;
pub mod things;

pub use members::{Asleep, Member};
pub use report::{InspectError, Report, inspect};
pub use things::{Detail, GONE, Holders, Place, Thing, Worker};

#[cfg(test)]
mod tests;
