//! Locks and tokens in every order of two or three threads' steps.
//!
//! | module | what it is |
//! |---|---|
//! | [`locks`] | the engine's lock and the user's |
//! | [`tokens`] | semaphores, and reader-writer locks |

mod locks;
mod tokens;
