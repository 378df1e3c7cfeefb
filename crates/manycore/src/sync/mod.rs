//! Locks, events and atomics that processes share, by the names that they have in [`std::sync`].
//!
//! All of them travel inside arguments, results and messages; a clone is the same lock. None of them can be left
//! locked by a process that is killed: the next one gets it within a tenth of a second, and is told.
//!
//! | | what it is | when its holder is killed, or panics |
//! |---|---|---|
//! | [`Mutex`] | a value for one at a time | the value is what it was before; the next one gets [`OwnerDied`] |
//! | [`RwLock`] | a value for many readers or one writer | the same after a writer; a reader was not there |
//! | [`Semaphore`] | so many permits | its permits are back |
//! | [`Condvar`] | waiting for a change of what a mutex guards | its notification goes to another |
//! | [`Event`] | a flag to wait for | nobody holds one |
//! | [`Barrier`] | a place where all meet | it breaks for the others, if it waited there |
//! | [`Atomic`] | a number that changes by single instructions | it has changed it or not |
//!
//! A process that ends while a thread of it still has a guard or a permit counts as killed, however it ends.

mod atomic;
mod barrier;
mod condvar;
mod died;
mod event;
mod held;
mod lent;
mod mutex;
mod rw_lock;
mod semaphore;

pub use atomic::{
    Atomic, AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8,
    AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Bits, Number,
};
pub use barrier::{Barrier, BarrierError, BarrierWaitResult};
pub use condvar::Condvar;
pub use died::{LockError, LockResult, OwnerDied};
pub use event::Event;
pub use mutex::{Mutex, MutexGuard};
pub use rw_lock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Semaphore, SemaphoreError, SemaphorePermit};

pub(crate) use held::are_any_held;
