//! Payload blocks: runs of pages that messages, ring regions and shared values are kept in.
//!
//! | module | what it is |
//! |---|---|
//! | [`table`] | the side table of state words: the truth about every block |
//! | [`class`] | sizes in pages, four to a doubling |
//! | [`allocator`] | taking and returning blocks; its free lists are a cache of the table |
//! | [`growth`] | backing pages with memory, and giving memory back |
//!
//! `PROTOCOL.md` beside this file says what a death between any two steps leaves behind.

pub mod allocator;
pub mod class;
pub mod growth;
pub mod table;

pub use allocator::{Blocks, initialise};
pub use table::{BlockRef, State};
