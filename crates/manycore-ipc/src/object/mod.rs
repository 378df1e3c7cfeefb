//! Shared objects and who holds them.
//!
//! | module | what it is |
//! |---|---|
//! | [`header`] | an object's slot: state, generation, holders, body |
//! | [`table`] | the object table: taking slots and returning them |
//! | `holders` | who holds an object |
//! | `burial` | from the last letting-go to the freeing |
//! | [`holding`] | which objects this process holds, and how often |
//! | [`memory`] | the body of a piece of shared memory (`Value`, `Array`) |
//! | [`cell`] | a value in shared memory, never seen half-written |
//! | [`integer`] | an integer in shared memory, which changes by single instructions |
//! | [`group`] | the body of a group of workers (a pool): one bell and a row for each worker |

mod burial;
pub mod cell;
pub mod group;
pub mod header;
pub(crate) mod holders;
pub mod holding;
pub mod integer;
pub mod memory;
pub mod table;

#[cfg(test)]
mod models;
#[cfg(test)]
mod tests;

pub use header::{Handle, Kind};
pub use holding::Holdings;
pub use table::Objects;
