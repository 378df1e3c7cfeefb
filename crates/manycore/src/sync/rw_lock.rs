//! A value for many readers or one writer.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::process;

use manycore_ipc::lock::{Access, Acquired};
use manycore_ipc::{Hold, Kind};
use manycore_os::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::died::{LockError, LockResult, told};
use super::held::{Held, in_turn, until};
use super::lent::Lent;
use crate::error::{CreateError, ValueError};
use crate::resident::Resident;
use crate::{family, handle};

/// A value that many read at a time, or one changes.
///
/// As [`std::sync::RwLock`], across processes: each guard has a decoded copy of the value, and what a writer has
/// changed goes back, whole, when its guard is dropped. A writer that waits comes before new readers. A thread that
/// reads and asks to write waits for itself.
///
/// A writer that is killed, or panics, has changed nothing; all who come after it are told by
/// [`OwnerDied`](super::OwnerDied), until a writer has called [`RwLockWriteGuard::clear_poison`]. A reader that dies
/// is no loss.
///
/// ```
/// use manycore::Process;
/// use manycore::sync::RwLock;
///
/// fn longest(words: RwLock<Vec<String>>) -> usize {
///     let words = words.read().expect("no writer is killed");
///     words.iter().map(String::len).max().unwrap_or(0)
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let words = RwLock::new(vec!["one".to_owned(), "three".to_owned()])?;
///     let _reading = words.read().expect("no writer is killed");
///     let child = Process::spawn(longest, words.clone())?;
///     assert_eq!(child.join()?, 5, "both read");
///     Ok(())
/// }
/// ```
pub struct RwLock<T> {
    lock: Hold,
    resident: Resident<T>,
}

/// The value of a [`RwLock`], to read.
#[must_use = "a guard that is not kept unlocks at once"]
pub struct RwLockReadGuard<'a, T> {
    value: T,
    _turn: Turn<'a>,
}

/// The value of a [`RwLock`], to read and change. What was changed goes back when this is dropped, as with
/// [`MutexGuard`](super::MutexGuard).
#[must_use = "a guard that is not kept unlocks at once"]
pub struct RwLockWriteGuard<'a, T: Serialize> {
    value: Lent<'a, T>,
    turn: Turn<'a>,
}

/// That this thread reads or writes, which it ends when this is dropped.
struct Turn<'a> {
    lock: &'a Hold,
    access: Access,
    held: Held,
    /// The writer of whose death the next ones are to be told.
    died: Option<u32>,
}

impl<T: Serialize> RwLock<T> {
    /// Makes a lock with this value. Room is set aside for values of twice its encoded size, 160 bytes at least;
    /// [`RwLock::with_capacity`] sets aside more.
    ///
    /// # Errors
    /// When the value cannot be encoded, or there is no shared memory.
    pub fn new(value: T) -> Result<Self, CreateError> {
        Self::with_capacity(value, 0)
    }

    /// Makes a lock whose value may later take up to `capacity` bytes, encoded.
    ///
    /// # Errors
    /// As [`RwLock::new`].
    pub fn with_capacity(value: T, capacity: usize) -> Result<Self, CreateError> {
        let family = family::family()?;
        Ok(Self {
            lock: family.make_rw_lock()?,
            resident: Resident::new(family, &value, capacity)?,
        })
    }
}

impl<T: DeserializeOwned> RwLock<T> {
    /// Waits until nobody writes.
    ///
    /// # Errors
    /// When a writer has died ([`LockError::OwnerDied`] has the guard), or the value cannot be decoded.
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.read_until(Deadline::NEVER)
    }

    /// Reads if nobody writes, or waits to.
    ///
    /// # Errors
    /// As [`RwLock::read`], and [`LockError::TimedOut`].
    pub fn try_read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.read_until(Deadline::PASSED)
    }

    /// Waits until nobody writes, or the deadline.
    ///
    /// # Errors
    /// As [`RwLock::read`], and [`LockError::TimedOut`].
    pub fn read_until(&self, deadline: Deadline) -> LockResult<RwLockReadGuard<'_, T>> {
        let turn = self.enter(Access::Read, deadline)?;
        let died = turn.died;
        let guard = RwLockReadGuard {
            value: self.resident.read()?,
            _turn: turn,
        };
        told(guard, died)
    }
}

impl<T> RwLock<T> {
    fn enter<G>(&self, access: Access, deadline: Deadline) -> Result<Turn<'_>, LockError<G>> {
        let held = Held::new(&self.lock)?;
        let entered = until(deadline, |patience| self.lock.enter(access, patience))?;
        let died = match entered.map_err(|_| LockError::TimedOut)? {
            Acquired::HolderDied(pid) | Acquired::Refused(pid) => Some(pid),
            Acquired::Clean => None,
        };
        Ok(Turn {
            lock: &self.lock,
            access,
            held,
            died,
        })
    }
}

impl<T: Serialize + DeserializeOwned> RwLock<T> {
    /// Waits until nobody reads or writes.
    ///
    /// # Errors
    /// As [`RwLock::read`].
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Deadline::NEVER)
    }

    /// Writes if nobody reads or writes.
    ///
    /// # Errors
    /// As [`RwLock::read`], and [`LockError::TimedOut`].
    pub fn try_write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.write_until(Deadline::PASSED)
    }

    /// Waits until nobody reads or writes, or the deadline.
    ///
    /// # Errors
    /// As [`RwLock::read`], and [`LockError::TimedOut`].
    pub fn write_until(&self, deadline: Deadline) -> LockResult<RwLockWriteGuard<'_, T>> {
        let turn = self.enter(Access::Write, deadline)?;
        let died = turn.died;
        let guard = RwLockWriteGuard {
            value: Lent::new(&self.resident)?,
            turn,
        };
        told(guard, died)
    }
}

impl<T> RwLock<T> {
    /// Whether a writer has died, and none has repaired it since.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        // The object is held, so only corrupted memory can hide it; `read` says so.
        self.lock
            .rw_lock()
            .is_ok_and(|lock| lock.dead_writer().is_some())
    }
}

impl<T: Serialize> RwLockWriteGuard<'_, T> {
    /// Says that all is well again after a death: nobody else is told of it.
    pub fn clear_poison(guard: &mut Self) {
        guard.turn.died = None;
    }

    /// Puts back what was changed, now. Whoever is killed later has changed this much.
    ///
    /// # Errors
    /// When the value has become larger than the room for it, or cannot be encoded. It can still be mended.
    pub fn commit(guard: &mut Self) -> Result<(), ValueError> {
        if guard.turn.held.is_own() {
            guard.value.commit()?;
        }
        Ok(())
    }
}

impl<T: Serialize> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        if self.turn.held.is_own() {
            let before = self.turn.died.replace(process::id()); // also if encoding the value panics
            if self.value.ends_well() {
                self.turn.died = before;
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let (true, Ok(lock)) = (self.held.is_own(), self.lock.rw_lock()) else {
            return;
        };
        let _ = in_turn(|patience| match (self.access, self.died) {
            (Access::Write, Some(pid)) => lock.abandon(pid, patience),
            (access, _) => lock.leave(access, patience).map(|left| left.map(drop)),
        });
    }
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Serialize> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Serialize> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Clone for RwLock<T> {
    fn clone(&self) -> Self {
        Self {
            lock: self.lock.clone(),
            resident: self.resident.clone(),
        }
    }
}

impl<T> Serialize for RwLock<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (handle::depart(&self.lock)?, &self.resident).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for RwLock<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (lock, resident) = Deserialize::deserialize(deserializer)?;
        Ok(Self {
            lock: handle::arrive(&lock, Kind::RwLock)?,
            resident,
        })
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock")
            .field("is_poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Serialize + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
