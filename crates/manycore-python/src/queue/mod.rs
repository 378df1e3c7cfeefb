//! Queues.
//!
//! | module | what it is |
//! |---|---|
//! | [`class`] | the class behind `Queue`, `JoinableQueue` and `SimpleQueue` |
//! | [`passing`] | its putting and getting |
//! | [`handed_out`] | its iterator and its producers |
//! | [`incoming`] | space to receive into, for all that receives |

mod class;
mod handed_out;
mod incoming;
mod passing;

pub use class::RingQueue;
pub use handed_out::{OpenProducer, QueueIterator};
pub use incoming::with_message;
