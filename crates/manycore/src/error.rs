//! What can go wrong, one type for each operation.

use std::time::Duration;

use manycore_ipc::ring::record::MOST_HANDLES;
use manycore_ipc::{Corrupted, FamilyError, HandleError};

use crate::pool::ledger::MOST_OPEN;
use crate::transport;

pub use crate::pool::Run;

/// A value could not be turned into bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot encode a `{what}`: {why}")]
pub struct EncodeError {
    pub(crate) what: &'static str,
    pub(crate) why: String,
}

/// Bytes could not be turned into a value. The message is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode a `{what}`: {why}")]
pub struct DecodeError {
    pub(crate) what: &'static str,
    pub(crate) why: String,
}

/// Why no process was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The new process would run `main` from its beginning and never reach the function.
    #[error(
        "`manycore::init()` was not called in this process: call it first in `main` (the default test \
         harness has a `main` of its own: set `harness = false` for tests that start processes)"
    )]
    NotInitialised,
    /// The function is in a shared library, which another process may have elsewhere.
    #[error(
        "the function is in a shared library: only functions of the program itself can be called"
    )]
    NotInProgram,
    /// See [`EncodeError`].
    #[error("the arguments cannot travel: {0}")]
    Arguments(#[from] EncodeError),
    /// The arguments could not be put where the process would find them.
    #[error("the arguments cannot travel: {0}")]
    Send(#[from] SendError),
    /// There is no shared memory.
    #[error(transparent)]
    Family(#[from] FamilyError),
    /// There is no room in shared memory.
    #[error(transparent)]
    Heap(#[from] HandleError),
    /// The system refused.
    #[error("cannot start a process: {0}")]
    Os(#[from] std::io::Error),
}

/// Why a process has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Its function panicked. The panic was printed to the process's standard error, too.
    #[error("the process panicked{}: {message}", at(location.as_deref()))]
    Panicked {
        /// What the panic said.
        message: String,
        /// `file:line:column`, unless the program replaced the panic hook.
        location: Option<String>,
    },
    /// A signal ended it before its function returned.
    #[error("the process was killed by signal {}{}", name_of(*signal), hint_about(*signal))]
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// It exited before its function returned.
    #[error("the process exited with status {code} before its function returned")]
    Exited {
        /// The exit status.
        code: i32,
    },
    /// It ended without taking its call.
    #[error(
        "the process ended before it reached `manycore::init()`: call it first in `main`, in every run \
         of the program; its standard error may say more"
    )]
    NeverStarted,
    /// Its function returned, but the result could not be brought here.
    #[error("the function returned, but its result was not delivered: {why}")]
    Undelivered {
        /// The reason.
        why: String,
    },
    /// It ended without a result, and other code of this program has collected its exit status.
    #[error("the process ended without a result; its exit status was collected by somebody else")]
    Vanished,
    /// The shared memory is corrupted.
    #[error(transparent)]
    Heap(#[from] HandleError),
}

fn at(location: Option<&str>) -> String {
    location.map_or_else(String::new, |location| format!(" at {location}"))
}

fn name_of(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        _ => return signal.to_string(),
    };
    format!("{signal} ({name})")
}

fn hint_about(signal: i32) -> &'static str {
    match signal {
        9 => {
            ": by `kill`, by a person or a program, or by the kernel for want of memory, which \
             `dmesg` would tell"
        }
        6 => ": it was aborted, as by a panic in a program built with `panic = \"abort\"`",
        4 | 7 | 8 | 11 => ": `unsafe` or foreign code in it went wrong",
        _ => "",
    }
}

/// Why there is no pool. Nothing was started, or it was ended again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// A pool of no workers was asked for.
    #[error(
        "a pool of 0 workers would never run a task: ask for at least 1, or for one for each CPU by \
         `Pool::with_available_cpus`"
    )]
    NoWorkers,
    /// There is no shared memory.
    #[error(transparent)]
    Family(#[from] FamilyError),
    /// There is no room in shared memory.
    #[error(transparent)]
    Heap(#[from] HandleError),
    /// A worker could not be started.
    #[error("a worker of the pool: {0}")]
    Spawn(#[from] SpawnError),
}

/// Why a task has no result. No other task is affected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// Its function panicked. The panic was printed to the worker's standard error, too; the worker
    /// lives.
    #[error("the task panicked{}: {message}", at(location.as_deref()))]
    Panicked {
        /// What the panic said.
        message: String,
        /// `file:line:column`, unless the program replaced the panic hook.
        location: Option<String>,
    },
    /// A signal ended the worker that ran it.
    #[error(
        "the worker of this task was killed by signal {}{}; {run}",
        name_of(*signal), hint_about(*signal)
    )]
    Killed {
        /// The signal's number.
        signal: i32,
        /// What it was running.
        run: Run,
    },
    /// The worker that ran it exited.
    #[error(
        "the worker of this task exited with status {code} before the function returned; {run}"
    )]
    Exited {
        /// The exit status.
        code: i32,
        /// What it was running.
        run: Run,
    },
    /// The worker that ran it ended, and other code of this program has collected its exit status.
    #[error("the worker of this task ended, and somebody else collected its exit status; {run}")]
    Vanished {
        /// What it was running.
        run: Run,
    },
    /// It ran longer than it may, and was ended with its worker.
    #[error("the task may run for {limit:?} and was ended; {run}")]
    TimedOut {
        /// How long it may run.
        limit: Duration,
        /// What its worker was running.
        run: Run,
    },
    /// Its arguments could not be put where a worker would find them: it was not run.
    #[error("the task was not run: its arguments cannot travel: {0}")]
    Unsent(#[from] SendError),
    /// Its function is in a shared library, which another process may have elsewhere: it was not run.
    #[error(
        "the task was not run: its function is in a shared library, and only functions of the program \
         itself can be called"
    )]
    NotInProgram,
    /// More tasks are open than a pool can count: it was not run.
    #[error(
        "the task was not run: {MOST_OPEN} tasks of this pool have no answer yet: join some of them first"
    )]
    TooMany,
    /// Its function returned, but the result could not be brought here, or its arguments did not
    /// arrive there.
    #[error("the task's result was not delivered: {why}")]
    Undelivered {
        /// The reason.
        why: String,
    },
    /// The workers end before they can take a task, one after the other.
    #[error("the pool has no workers: {why}")]
    NoWorkers {
        /// Why the last one ended, or none was started.
        why: String,
    },
    /// The pool was dropped before the task had its answer.
    #[error(
        "the pool was dropped before this task was answered: join the task first, or the pool by \
         `Pool::join`"
    )]
    Dropped,
    /// The pool is that of the process of which this one is a fork.
    #[error(
        "the pool belongs to the process that made it, of which this one is a fork: make one here, after the \
         fork"
    )]
    OtherProcess,
    /// The shared memory is corrupted.
    #[error(transparent)]
    Heap(#[from] HandleError),
}

/// Which item of a [`Pool::map`](crate::Pool::map) failed first, in the order of the items, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("item {index}: {error}")]
pub struct MapError {
    /// The number of the item, from zero.
    pub index: usize,
    /// Why it has no result.
    #[source]
    pub error: TaskError,
}

/// Why a queue or a value could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// There is no shared memory.
    #[error(transparent)]
    Family(#[from] FamilyError),
    /// There is no room in shared memory.
    #[error(transparent)]
    Heap(#[from] HandleError),
    /// The first value of a `Value` does not fit, or cannot be encoded.
    #[error(transparent)]
    Value(#[from] ValueError),
}

/// Why a message was not sent. The queue is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The queue has a bound, and stayed full until the deadline. Not from [`Queue::send`], which
    /// waits.
    ///
    /// [`Queue::send`]: crate::Queue::send
    #[error("the queue is full")]
    Full,
    /// [`Queue::close`](crate::Queue::close) was called; or, of a channel, no receiver is left.
    #[error("the queue is closed")]
    Closed,
    /// See [`EncodeError`].
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// More queues and values than one message may have.
    #[error(
        "{count} queues and values in one message are over the limit of {MOST_HANDLES}: send them in several"
    )]
    TooManyHandles {
        /// How many there were.
        count: usize,
    },
    /// There is no room in shared memory.
    #[error(transparent)]
    Heap(#[from] HandleError),
}

/// Why no message was received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The queue stayed empty until the deadline. Not from [`Queue::recv`](crate::Queue::recv), which
    /// waits.
    #[error("the queue is empty")]
    Empty,
    /// [`Queue::close`](crate::Queue::close) was called, or, of a channel, no sender is left; and all messages
    /// have been received.
    #[error("the queue is closed and empty")]
    Closed,
    /// See [`DecodeError`].
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The shared memory is corrupted.
    #[error(transparent)]
    Heap(#[from] HandleError),
}

/// Why a shared value was not read or changed. It is what it was before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The new value is larger than the room that was set aside when the shared value was made.
    #[error(
        "the value takes {len} bytes, and {capacity} were set aside for it: make the shared value with \
         `with_capacity`"
    )]
    TooLarge {
        /// Bytes of the encoded value.
        len: usize,
        /// Bytes that there are.
        capacity: usize,
    },
    /// A function that was passed to [`Value::update`](crate::Value::update) used the same value.
    #[error("the value is being updated by this thread: use what `update` passes to the function")]
    Updating,
    /// See [`EncodeError`].
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// See [`DecodeError`].
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The shared memory is corrupted.
    #[error(transparent)]
    Heap(#[from] HandleError),
}

impl From<Corrupted> for ValueError {
    fn from(error: Corrupted) -> Self {
        Self::Heap(error.into())
    }
}

impl From<transport::SendError> for SendError {
    fn from(error: transport::SendError) -> Self {
        match error {
            transport::SendError::TooManyHandles(count) => Self::TooManyHandles { count },
            transport::SendError::Heap(error) => Self::Heap(error),
            transport::SendError::Closed => Self::Closed,
            // This interface has no way to interrupt a wait.
            transport::SendError::Full | transport::SendError::Interrupted => Self::Full,
        }
    }
}

impl From<transport::SendError> for SpawnError {
    fn from(error: transport::SendError) -> Self {
        Self::Send(error.into())
    }
}

impl From<transport::RecvError> for RecvError {
    fn from(error: transport::RecvError) -> Self {
        match error {
            transport::RecvError::Heap(error) => Self::Heap(error),
            transport::RecvError::Closed => Self::Closed,
            // As for sending.
            transport::RecvError::Empty | transport::RecvError::Interrupted => Self::Empty,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        let killed = JoinError::Killed { signal: 9 }.to_string();
        assert!(
            killed.starts_with("the process was killed by signal 9 (SIGKILL): by"),
            "{killed}"
        );
        let panicked = JoinError::Panicked {
            message: "boom".into(),
            location: Some("a.rs:1:2".into()),
        };
        assert_eq!(
            panicked.to_string(),
            "the process panicked at a.rs:1:2: boom"
        );
    }
}
