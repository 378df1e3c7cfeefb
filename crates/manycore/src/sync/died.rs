//! What somebody is told who comes to a lock whose holder has died.

use std::error::Error;
use std::fmt;

use crate::error::ValueError;

/// A guard, or why there is none.
pub type LockResult<G> = Result<G, LockError<G>>;

/// Somebody died holding this lock: a process that was killed, or a thread that panicked.
///
/// What the lock guards is as that one found it; whatever else belongs to it, other values, files, may be half done.
/// The caller *has* the lock: [`OwnerDied::into_inner`] is the guard. Until
/// [`MutexGuard::clear_poison`](super::MutexGuard::clear_poison) everybody else who comes is told as well.
///
/// ```
/// use manycore::Process;
/// use manycore::sync::{LockError, Mutex, MutexGuard};
///
/// fn die(total: Mutex<u32>) {
///     let mut total = total.lock().expect("nobody has died yet");
///     *total += 1;
///     std::process::abort();
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let total = Mutex::new(5)?;
///     let child = Process::spawn(die, total.clone())?;
///     let pid = child.id();
///     child.join().unwrap_err();
///     let mut guard = match total.lock() {
///         Err(LockError::OwnerDied(died)) => {
///             assert_eq!(died.pid(), pid);
///             died.into_inner()
///         }
///         other => panic!("{other:?}"),
///     };
///     assert_eq!(*guard, 5, "as it was before");
///     MutexGuard::clear_poison(&mut guard);
///     Ok(())
/// }
/// ```
pub struct OwnerDied<G> {
    guard: G,
    pid: u32,
}

impl<G> OwnerDied<G> {
    /// The process that was killed, or of which a thread panicked.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The guard.
    #[must_use]
    pub fn into_inner(self) -> G {
        self.guard
    }

    /// The guard.
    #[must_use]
    pub fn get_ref(&self) -> &G {
        &self.guard
    }

    /// The guard.
    pub fn get_mut(&mut self) -> &mut G {
        &mut self.guard
    }
}

/// Why a lock was not simply acquired.
#[non_exhaustive]
pub enum LockError<G> {
    /// It was acquired, but somebody has died with it.
    OwnerDied(OwnerDied<G>),
    /// Others had it until the deadline.
    TimedOut,
    /// This thread has it already, and would wait for itself.
    Reentered,
    /// What it guards cannot be read or written. It was not acquired.
    Value(ValueError),
}

/// A guard, with who died before it was made, if somebody did.
pub(super) fn told<G>(guard: G, died: Option<u32>) -> LockResult<G> {
    match died {
        None => Ok(guard),
        Some(pid) => Err(LockError::OwnerDied(OwnerDied { guard, pid })),
    }
}

impl<G> LockError<G> {
    /// The guard, if there is one.
    ///
    /// # Errors
    /// This, if there is none.
    pub fn into_inner(self) -> Result<G, Self> {
        match self {
            Self::OwnerDied(died) => Ok(died.into_inner()),
            other => Err(other),
        }
    }

    /// The same without the guard, which is dropped: an error that may outlive the lock, as `?` needs it in functions
    /// that return a `Box<dyn Error>`.
    #[must_use]
    pub fn without_guard(self) -> LockError<()> {
        self.map(drop)
    }

    pub(super) fn map<H>(self, change: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            Self::OwnerDied(OwnerDied { guard, pid }) => {
                let guard = change(guard);
                LockError::OwnerDied(OwnerDied { guard, pid })
            }
            Self::TimedOut => LockError::TimedOut,
            Self::Reentered => LockError::Reentered,
            Self::Value(error) => LockError::Value(error),
        }
    }
}

impl<G, E> From<E> for LockError<G>
where
    ValueError: From<E>,
{
    fn from(error: E) -> Self {
        Self::Value(error.into())
    }
}

impl<G> fmt::Debug for OwnerDied<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerDied")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl<G> fmt::Display for OwnerDied<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "process {} died, or a thread of it panicked, while it had this lock: check what belongs to what it \
             guards, then clear the poison",
            self.pid
        )
    }
}

impl<G> Error for OwnerDied<G> {}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied(died) => fmt::Debug::fmt(died, f),
            Self::TimedOut => f.write_str("TimedOut"),
            Self::Reentered => f.write_str("Reentered"),
            Self::Value(error) => f.debug_tuple("Value").field(error).finish(),
        }
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied(died) => fmt::Display::fmt(died, f),
            Self::TimedOut => f.write_str("the lock was not free in time"),
            Self::Reentered => {
                f.write_str("this thread has the lock already: use the guard that it has")
            }
            Self::Value(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<G> Error for LockError<G> {}
