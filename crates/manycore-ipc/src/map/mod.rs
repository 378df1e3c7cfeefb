//! Maps: keys and values that all processes of a family share, as bytes.
//!
//! | module | what it is |
//! |---|---|
//! | [`layout`] | the shared words of a map, and what it is made of |
//! | `hash` | which stripe and slot a key belongs to |
//! | `record` | a key and its value as they lie in a table |
//! | `table` | slots that lead to records, in a block |
//! | `stripe` | one of a map's parts: its lock and its table |
//! | `get` | copying a value out |
//! | [`set`] | putting a value in |
//! | `remove` | taking one out |
//! | `rebuild` | a larger table, or one without gaps |
//! | [`scan`] | going through all entries |
//! | `repair` | what a dead process has left |
//!
//! `PROTOCOL.md` beside this file proves it.

mod get;
mod hash;
pub mod layout;
mod rebuild;
mod record;
mod remove;
mod repair;
pub mod scan;
pub mod set;
mod stripe;
mod table;

#[cfg(test)]
mod tests;

pub use get::Got;
pub use layout::MapBody;
pub use rebuild::{Shape, Spare};
pub use scan::{Cursor, Entry};
pub use set::{Set, When};
pub use stripe::{Freed, Key, Map, MapError};
