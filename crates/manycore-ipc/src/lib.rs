//! What lives in the shared memory of a manycore family.
//!
//! | module | what it is |
//! |---|---|
//! | [`heap`] | one sparse shared mapping, and checked ways to look into it |
//! | [`registry`] | who belongs to the family, and who has died |
//! | [`block`] | payload memory: states, free lists, growth |
//! | [`object`] | shared objects and who holds them |
//! | [`lock`] | the engine's robust lock and the user's lock |
//! | [`map`] | maps from keys to values |
//! | [`ring`] | the one transport of queues and pools |
//! | [`sync`] | events, conditions and barriers |
//! | [`wait`] | sleeping and waking |
//! | [`family`] | all of it together, from the point of view of one process |
//! | [`inspect`] | what a family's processes are doing, for whoever looks from outside |
//! | [`word`] | the atomics that everything shared is made of |
//! | [`fault`] | named places at which a process can be made to die |
//! | [`stall`] | telling the program that a lock's holder does not move |
//! | `scribble` | what a process does while another one scribbles on the heap, for tests and the fuzzer |
//! | [`error`] | what can go wrong |
//!
//! In tests, `crash` stops the code at a chosen store, and `model` runs it in every order.
#![deny(unsafe_code)]

pub mod block;
#[cfg(test)]
pub(crate) mod crash;
pub mod error;
pub mod family;
pub mod fault;
pub mod heap;
pub mod inspect;
mod kernel;
pub mod lock;
pub mod map;
#[cfg(test)]
pub(crate) mod model;
pub mod object;
pub mod registry;
pub mod ring;
#[cfg(any(test, feature = "fuzzing"))]
pub mod scribble;
pub mod stall;
pub mod sync;
pub mod wait;
pub mod word;

pub use error::{AllocError, Corrupted, FamilyError, HandleError};
pub use family::{Family, Hold, Meeting, Producer, SourceWatch};
pub use object::{Handle, Kind};
