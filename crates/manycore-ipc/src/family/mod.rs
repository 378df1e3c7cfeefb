//! A family from the point of view of one process: everything that the layers above need.
//!
//! | module | what it is |
//! |---|---|
//! | [`member`] | founding a family, joining it, leaving it |
//! | [`making`] | making objects |
//! | [`handles`] | handles that travel, and objects that nobody holds any more |
//! | [`hold`] | a reference to an object that keeps it alive |
//! | [`producing`] | who may still put into a ring |
//! | [`waiting`] | events, conditions and barriers, and those who wait at them and were killed |
//! | [`source_watch`] | whether anybody is left who holds a source |
//! | [`choosing`] | waiting for the first of several rings |
//! | [`reaping`] | cleaning up after dead processes |
//! | [`forking`] | what happens around a fork |
//!
//! `PROTOCOL.md` in the folder of the registry says what a death between any two steps leaves behind.

pub mod choosing;
pub mod forking;
pub mod handles;
pub mod hold;
pub mod making;
pub mod member;
pub mod producing;
pub mod reaping;
pub mod source_watch;
pub mod waiting;

#[cfg(test)]
mod tests;

pub use hold::Hold;
pub use member::Family;
pub use producing::Producer;
pub use reaping::Reaped;
pub use source_watch::SourceWatch;
pub use waiting::Meeting;
