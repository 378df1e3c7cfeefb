//! Locks.
//!
//! | module | what it is |
//! |---|---|
//! | [`engine`] | the robust lock inside the engine: held for well under a microsecond, never nested |
//! | [`user`] | the lock behind `multiprocessing.Lock` and `RLock`: any thread of any process may release it |
//! | `since` | since when somebody waits for one of them |
//! | [`tokens`] | what semaphores count and reader-writer locks hand out |
//! | [`shares`] | which process has how many of them |
//! | `semaphore`, [`read_write`] | what the two make of that |
//!
//! `PROTOCOL.md` beside this file proves them.

pub mod engine;
pub mod read_write;
mod semaphore;
pub mod shares;
pub(crate) mod since;
pub mod tokens;
pub mod user;

#[cfg(test)]
mod models;
#[cfg(test)]
pub(crate) mod tests;

pub use engine::{EngineLock, Guard, Locked};
pub use read_write::Access;
pub use shares::Shares;
pub use tokens::Tokens;
pub use user::{Acquired, UserLock};
