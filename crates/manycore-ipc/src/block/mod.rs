//! Payload blocks: runs of pages that messages, ring regions and shared values are kept in.
//!
//! | module | what it is |
//! |---|---|
//! | [`table`] | the side table of state words: the truth about every block |
//! | [`class`] | sizes in pages, four to a doubling |
//! | [`allocator`] | taking and returning blocks |
//! | `binding` | which object a block belongs to |
//! | [`lists`] | the free lists: a cache of the table |
//! | [`growth`] | backing pages with memory |
//! | `trimming` | giving it back |
//! | `room` | how much the heap may grow |
//!
//! `PROTOCOL.md` beside this file says what a death between any two steps leaves behind.

pub mod allocator;
mod binding;
pub mod class;
pub mod growth;
pub mod lists;
mod room;
pub mod table;
mod trimming;

#[cfg(test)]
mod models;
#[cfg(test)]
mod tests;

pub use allocator::{Blocks, initialise};
pub use lists::Usage;
pub use table::{BlockRef, State};
