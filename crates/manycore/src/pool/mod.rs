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
//! | [`cuts`] | how the items of a map are tasks |
//!
//! The pool for functions of this program:
//!
//! | module | what it is |
//! |---|---|
//! | `typed`, `builder` | [`Pool`], [`PoolBuilder`] |
//! | `calls`, `terms` | [`Calls`]: what may be asked of the tasks of a call |
//! | `task` | [`Task`]: one call |
//! | `flow` | many calls, handed out ahead of their answers |
//! | `mapping` | iterators over their results |
//! | `job` | what one caller waits for |
//! | `owner`, `state` | hands out and collects; what has no answer yet |
//! | `tending` | ends, buries and starts workers |
//! | `run` | [`Run`]: what a task was doing when its worker ended |
//! | `collector` | the thread that collects while tasks are awaited |
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
mod builder;
mod calls;
mod collector;
pub mod crew;
pub mod cuts;
mod flow;
mod job;
pub mod ledger;
mod mapping;
mod owner;
mod run;
pub mod seat;
mod staff;
mod state;
mod task;
mod tending;
mod terms;
mod typed;
mod worker;

pub use backlog::Backlog;
pub use builder::PoolBuilder;
pub use calls::Calls;
pub use crew::Crew;
pub use cuts::Cuts;
pub use ledger::Ledger;
pub use mapping::{Ordered, PoolMap, Unordered};
pub use run::Run;
pub use seat::Seat;
pub use task::Task;
pub use typed::Pool;
