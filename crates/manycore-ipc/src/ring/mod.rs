//! Rings: the one transport of queues and pools.
//!
//! | module | what it is |
//! |---|---|
//! | [`layout`] | the shared words of a ring |
//! | [`position`] | one word that says how far a side is |
//! | [`record`] | a message as it lies in a region |
//! | [`region`] | the bytes of a ring: a block, addressed in a circle |
//! | [`outgoing`] | what is put into a ring, and how that ends |
//! | [`put`] | the producers' side |
//! | [`get`] | the consumers' side |
//! | `ahead` | how much there is for the consumers |
//! | `closing` | no more messages |
//! | `done` | what a joinable queue counts |
//! | [`pollers`] | processes that wait in `select` and its kin |
//! | [`watch`] | a descriptor for them |
//! | `limits` | how much a ring may hold |
//! | `pace` | not treading on the producers' heels |
//! | `passed` | what has passed a side: counters that are committed with its position |
//! | `stats` | what a ring has done so far |
//! | `ending` | whether anybody is left who would put something in |
//! | [`drain`] | emptying a ring that nobody holds any more |
//!
//! `PROTOCOL.md` beside this file proves it.

mod ahead;
mod closing;
mod done;
pub mod drain;
mod ending;
pub mod get;
pub mod layout;
mod limits;
pub mod outgoing;
pub(crate) mod pace;
mod passed;
pub mod pollers;
pub mod position;
pub mod put;
pub mod record;
pub mod region;
mod stats;
pub mod watch;

#[cfg(test)]
mod models;
#[cfg(test)]
mod tests;

pub use get::{Get, GetError, Message};
pub use layout::{RingBody, Shape};
pub use outgoing::{Outgoing, Put, PutError};
pub use region::Ring;
pub use stats::Stats;
pub use watch::Watch;
