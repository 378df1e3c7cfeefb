//! Locks and tokens when holders, waiters and reapers die or meet.
//!
//! | module | what it is |
//! |---|---|
//! | [`engine`] | the lock inside the engine |
//! | [`user`] | the lock of the user's |
//! | [`shares`] | tokens, and who has how many |
//! | [`read_write`] | reading beside others, writing alone |

mod engine;
mod read_write;
pub(crate) mod shares;
mod user;
