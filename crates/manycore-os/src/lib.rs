//! The system calls of manycore.
//!
//! This is the only crate of the workspace that talks to the kernel. What it offers upwards is safe
//! to call: each `unsafe` operation stands alone in its block, with the argument beside it.
//!
//! | module | what it is |
//! |---|---|
//! | [`affinity`] | how many CPUs this process may use |
//! | [`cache`] | hints about cache lines |
//! | [`channel`] | pipes and other plain descriptors |
//! | [`clock`] | monotonic time and [`Deadline`] |
//! | [`ending`] | how a process ended, and the most memory that it had |
//! | [`feature`] | kernel features that may be missing: noticed once, deniable for tests |
//! | [`fork`] | hooks that run around every `fork` |
//! | [`futex`] | sleeping and waking on a word in shared memory |
//! | [`image`] | naming a function of this executable so that another process of it can call it |
//! | [`incarnation`] | a page that the kernel wipes on `fork`: how a process notices that it is a new one |
//! | [`life`] | the kernel's mark that a process's main thread has ended |
//! | [`lifeline`] | a pipe that kills its reader when its writer is gone |
//! | [`limits`] | how much memory this process may still use |
//! | [`mapped`] | whether another process still has a file mapped, and where |
//! | [`mapping`] | the one sealed, sparse, shared mapping of a family |
//! | [`onlooker`] | what can be learned of another process without touching it |
//! | [`process`] | identity, death and signals of processes |
//! | [`robust`] | telling the kernel which lock word to mark when this thread dies |
//! | [`spawn`] | starting a fresh program with chosen descriptors |
//! | [`token`] | making a socket of another process readable |
//! | [`view`] | private, copy-on-write views of parts of that mapping's file |
#![cfg_attr(not(target_os = "linux"), allow(unused))]

#[cfg(not(target_os = "linux"))]
compile_error!("manycore runs on Linux only: it is built on memfd, futex and pidfd");

pub mod affinity;
pub mod cache;
pub mod channel;
pub mod clock;
pub mod ending;
pub mod feature;
pub mod fork;
pub mod futex;
pub mod image;
pub mod incarnation;
pub mod life;
pub mod lifeline;
pub mod limits;
pub mod mapped;
pub mod mapping;
pub mod onlooker;
pub mod process;
pub mod robust;
pub mod spawn;
pub mod token;
pub mod view;

pub use clock::Deadline;
