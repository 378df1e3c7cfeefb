//! The engine of a pool: bytes in, bytes out, every task gets exactly one answer.
//!
//! | module | what it is |
//! |---|---|
//! | [`ledger`] | which tasks have no answer yet |
//! | [`crew`] | the owner's side: hands out tasks, collects answers, buries workers |
//! | [`seat`] | a worker's side: takes a task, notes it in its row, answers |
//!
//! One task ring is shared by all workers: a worker takes one task per lock, so load balances itself
//! and a long task holds no other hostage. Each worker answers into a ring of its own. A worker notes
//! the task in its row under the task ring's get lock, before the take is committed; so when it dies,
//! the row says which task it had, if any, and that one fails. All other tasks are still in the ring or
//! have their answers. The owner sleeps on one bell for all of its conditions.

pub mod crew;
pub mod ledger;
pub mod seat;

pub use crew::Crew;
pub use ledger::Ledger;
pub use seat::Seat;
