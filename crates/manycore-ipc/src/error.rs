//! What can go wrong in shared memory.

use thiserror::Error;

/// Bytes in the heap are not what this engine writes there: another process scribbled on them, or
/// runs another version. The operation changed nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "shared memory is corrupted: {what}; restart the program, and look for native code that writes out of bounds"
)]
pub struct Corrupted {
    /// What was found to be wrong.
    pub what: &'static str,
}

impl Corrupted {
    /// Something that was found to be wrong.
    #[must_use]
    pub const fn new(what: &'static str) -> Self {
        Self { what }
    }
}

/// Why memory could not be had.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocError {
    /// The heap may not grow by that much.
    #[error(
        "the shared heap is full: {wanted} bytes more would exceed its limit of {limit} bytes ({used} in use); \
         raise MANYCORE_HEAP_LIMIT or the memory limit of this container, or send less at a time"
    )]
    HeapFull {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes backed by memory now.
        used: u64,
        /// The most that may be.
        limit: u64,
    },
    /// An object has no place for one more who waits.
    #[error(
        "as many wait as can: there is place for {most} at one condition or barrier; let fewer wait at a time"
    )]
    TooManyWait {
        /// How many there is place for.
        most: usize,
    },
    /// The heap cannot grow without its descriptor.
    #[error(
        "the shared heap cannot grow: this program has closed the heap's descriptor, and this kernel gives the \
         heap no memory without; leave open what the program did not open itself"
    )]
    NoDescriptor,
    /// See [`Corrupted`].
    #[error(transparent)]
    Corrupted(#[from] Corrupted),
}

impl AllocError {
    /// Whether there may be room once somebody has cleaned up behind the dead.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::HeapFull { .. } | Self::NoDescriptor)
    }
}

/// Why a handle does not lead to an object.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// Made by a process that is not related to this one.
    #[error(
        "this handle belongs to another family of processes: queues, locks and values can only be used by \
         the process that made them and by processes started through manycore from it"
    )]
    OtherFamily,
    /// The object was freed.
    #[error(
        "the object of this handle is gone: nobody held it any more; keep the original alive until the \
         handle has been unpickled"
    )]
    Gone,
    /// The handle is of another kind of object.
    #[error("this handle leads to an object of another kind")]
    OtherKind,
    /// A forked child has no part in it.
    #[error(
        "this end of a channel belongs to the process that this one was forked from, which has to send a forked \
         process an end of its own"
    )]
    NotInherited,
    /// There is no room for one more process.
    #[error("the family has no room for another process: {0} are registered")]
    FamilyFull(u32),
    /// This process has left the PID namespace of its family.
    #[error(
        "this process lives in another PID namespace than the rest of its family, which could not tell whether \
         it is alive; start processes of a new namespace with a program of their own"
    )]
    OtherNamespace,
    /// There is no room for one more object, or its memory.
    #[error(transparent)]
    Alloc(#[from] AllocError),
    /// See [`Corrupted`].
    #[error(transparent)]
    Corrupted(#[from] Corrupted),
}

/// Why a process cannot use a heap.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FamilyError {
    /// The system refused.
    #[error("cannot set up the shared heap: {0}")]
    Os(#[from] std::io::Error),
    /// What was inherited is not a heap of this version.
    #[error("cannot join the family: {0}; all its processes must run the same version of manycore")]
    Foreign(&'static str),
    /// Its processes are in another PID namespace.
    #[error(
        "this family of processes lives in another PID namespace, where processes have other numbers; \
         use it, or look at it, from inside"
    )]
    OtherNamespace,
    /// See [`HandleError`].
    #[error(transparent)]
    Handle(#[from] HandleError),
}
