//! The class behind `SharedDict`.
//!
//! | module | what it is |
//! |---|---|
//! | [`class`] | the class |
//! | [`key`] | keys as bytes: those of equal keys are equal |
//! | [`walk`] | going through keys, values or items |

mod class;
mod key;
mod walk;

pub use class::SharedMap;
pub use walk::MapIterator;
