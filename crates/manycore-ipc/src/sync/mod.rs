//! Waiting for what others say: the objects behind `Event`, `Condition` and `Barrier`.
//!
//! | module | what it is |
//! |---|---|
//! | [`event`] | a flag; who waits for it has a word to sleep on |
//! | [`roll`] | who waits, in the order in which they came, each at a word of its own |
//! | [`condition`] | those who wait to be notified: a roll |
//! | [`barrier`] | a place where parties meet: a roll, and a phase |
//!
//! `PROTOCOL.md` beside this file proves them.

pub mod barrier;
pub mod condition;
pub mod event;
pub mod roll;

#[cfg(test)]
mod models;
#[cfg(test)]
mod tests;

pub use barrier::{Action, Arrival, Barrier, BarrierBody, Met};
pub use condition::{Condition, ConditionBody};
pub use event::EventBody;
pub use roll::Place;
