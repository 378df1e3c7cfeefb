//! Pools of worker processes: every task gets exactly one answer.
//!
//! The engine, bytes in and bytes out, which the Python pool is built on, too:
//!
//! | module | what it is |
//! |---|---|
//! | [`ledger`] | which tasks have no answer yet |
//! | [`crew`] | the owner's side: hands out tasks, collects answers, buries workers |
//! | [`seat`] | a worker's side: takes a task, notes it in its row, answers |
//! | [`backlog`] | tasks that wait at the owner: to be withdrawn, or by priority |
//!
//! The pool for functions of this program:
//!
//! | module | what it is |
//! |---|---|
//! | `typed` | [`Pool`] |
//! | `task` | [`Task`]: one call |
//! | `flow` | many calls, handed out ahead of their answers |
//! | `job` | what one caller waits for |
//! | `owner` | hands out, collects, buries |
//! | `staff` | the worker processes |
//! | `worker` | what each of them does |
//!
//! One task ring is shared by all workers: a worker takes one task per lock, so load balances itself
//! and a long task holds no other hostage. Each worker answers into a ring of its own. A worker notes
//! the task in its row under the task ring's get lock, before the take is committed; so when it dies,
//! the row says which task it had, if any, and that one fails. All other tasks are still in the ring or
//! have their answers. The owner sleeps on one bell for all of its conditions. `PROTOCOL.md`
//! beside this file has the steps of both sides.

pub mod backlog;
pub mod crew;
mod flow;
mod job;
pub mod ledger;
mod owner;
pub mod seat;
mod staff;
mod task;
mod typed;
mod worker;

pub use backlog::Backlog;
pub use crew::Crew;
pub use ledger::Ledger;
pub use seat::Seat;
pub use task::Task;
pub use typed::{Pool, Unordered};
