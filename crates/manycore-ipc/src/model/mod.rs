//! The engine's own code under every order of its threads' steps that the memory model allows.
//!
//! A test that calls [`explore`] runs its threads under `loom`. While it does, the words and bytes of the
//! heap live in `loom`, which decides after each step who goes on and which of the values that a word
//! could have for the reader it has; the memory itself keeps what it held when the exploring began, and
//! every run starts from that. The kernel is played, too: who sleeps, who is woken, whom it knows to be
//! dead, and what it does for a thread that dies with a lock.
//!
//! | module | what it is |
//! |---|---|
//! | [`memory`] | words and bytes, as `loom` knows them |
//! | [`kernel`] | sleeping and waking, deaths and what is marked for the dead |
//! | [`exploring`] | running the threads of a model in every order |
//!
//! The models themselves are the files `models.rs` beside what they are about.

pub(crate) mod exploring;
pub(crate) mod kernel;
pub(crate) mod memory;

pub(crate) use exploring::{Model, is_active, is_over, notice_panic, pause, spawn};
