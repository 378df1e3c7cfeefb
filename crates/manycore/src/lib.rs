//! Process-based parallelism that is fast and cannot hang.
#![forbid(unsafe_code)]

pub mod pool;
mod call;
mod codec;
pub mod error;
pub mod family;
mod handle;
mod init;
mod launch;
mod panic;
// pool
mod process;
mod queue;
mod start;
mod transport;
mod value;

pub use init::init;
pub use manycore_os::Deadline;
pub use manycore_os::process::Exit;
pub use process::{Child, Process};
pub use queue::{Iter, Queue};
pub use value::Value;
