//! The family's heap: one sparse shared mapping, and checked ways to look into it.
//!
//! | module | what it is |
//! |---|---|
//! | [`layout`] | what lies where |
//! | [`header`] | the first page: what makes a mapping a heap of this family and version |
//! | [`view`] | references to shared words and copies of shared bytes, by checked offset |
//! | [`shared`] | the list of types that may be looked at in place |

pub mod header;
pub mod layout;
pub mod shared;
pub mod view;

pub use header::Header;
pub use layout::Layout;
pub use view::{Bytes, Heap};
