//! Locks.
//!
//! | module | what it is |
//! |---|---|
//! | [`engine`] | the robust lock inside the engine: held for well under a microsecond, never nested |
//! | [`user`] | the lock behind `multiprocessing.Lock` and `RLock`: any thread of any process may release it |
//!
//! `PROTOCOL.md` beside this file proves them.

pub mod engine;
pub mod user;

#[cfg(test)]
mod models;
#[cfg(test)]
mod tests;

pub use engine::{EngineLock, Guard, Locked};
pub use user::{Acquired, UserLock};
