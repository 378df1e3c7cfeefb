//! A value for one at a time.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::process;

use manycore_ipc::lock::Acquired;
use manycore_ipc::{Hold, Kind};
use manycore_os::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::died::{LockError, LockResult, told};
use super::held::{Held, until};
use super::lent::Lent;
use crate::error::{CreateError, ValueError};
use crate::resident::Resident;
use crate::thread::this_thread;
use crate::{family, handle};

/// A value that one process or thread has at a time, and a promise about all that belongs to it.
///
/// As [`std::sync::Mutex`], across processes: [`Mutex::lock`] waits, then lends a decoded copy of the value; what was
/// changed goes back, whole, when the guard is dropped. A holder that is killed, or panics, has changed nothing, but
/// may have left other things half done: the next one is told by [`OwnerDied`](super::OwnerDied), which has the guard
/// in it. For a value that stands for itself alone, [`Value`](crate::Value) is simpler.
///
/// ```
/// use manycore::Process;
/// use manycore::sync::Mutex;
///
/// fn deposit(account: Mutex<(u64, Vec<String>)>) {
///     let mut account = account.lock().expect("nobody is killed");
///     account.0 += 10;
///     let line = format!("{} after a deposit", account.0);
///     account.1.push(line);
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let account = Mutex::with_capacity((0, Vec::new()), 1_000)?;
///     let children = [0; 2].map(|_| Process::spawn(deposit, account.clone()));
///     for child in children {
///         child?.join()?;
///     }
///     let account = account.lock().map_err(|error| error.without_guard())?;
///     assert_eq!(account.1, ["10 after a deposit", "20 after a deposit"]);
///     Ok(())
/// }
/// ```
pub struct Mutex<T> {
    pub(super) lock: Hold,
    resident: Resident<T>,
}

/// The value of a [`Mutex`], while one has it. What was changed goes back when this is dropped.
///
/// What cannot go back then, since it has become too large or cannot be encoded, is lost, and the next one is told
/// as if this one had died: [`MutexGuard::commit`] says it at once.
#[must_use = "a guard that is not kept unlocks the mutex at once"]
pub struct MutexGuard<'a, T: Serialize + DeserializeOwned> {
    mutex: &'a Mutex<T>,
    value: Lent<'a, T>,
    turn: Turn<'a>,
}

/// That this thread has the lock, which it releases when this is dropped.
struct Turn<'a> {
    lock: &'a Hold,
    held: Held,
    /// Whether what it was taken for has not come to its end.
    is_unfinished: bool,
}

impl<T: Serialize> Mutex<T> {
    /// Makes a mutex with this value. Room is set aside for values of twice its encoded size, 160 bytes at least;
    /// [`Mutex::with_capacity`] sets aside more.
    ///
    /// # Errors
    /// When the value cannot be encoded, or there is no shared memory.
    pub fn new(value: T) -> Result<Self, CreateError> {
        Self::with_capacity(value, 0)
    }

    /// Makes a mutex whose value may later take up to `capacity` bytes, encoded.
    ///
    /// # Errors
    /// As [`Mutex::new`].
    pub fn with_capacity(value: T, capacity: usize) -> Result<Self, CreateError> {
        let family = family::family()?;
        Ok(Self {
            lock: family.make_refusing_lock()?,
            resident: Resident::new(family, &value, capacity)?,
        })
    }
}

impl<T: Serialize + DeserializeOwned> Mutex<T> {
    /// Waits for the value.
    ///
    /// # Errors
    /// When somebody has died with it ([`LockError::OwnerDied`] has the guard), when this thread has it already, or
    /// when it cannot be decoded.
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.lock_until(Deadline::NEVER)
    }

    /// Takes the value if nobody has it.
    ///
    /// # Errors
    /// As [`Mutex::lock`], and [`LockError::TimedOut`].
    pub fn try_lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.lock_until(Deadline::PASSED)
    }

    /// Waits for the value until the deadline.
    ///
    /// # Errors
    /// As [`Mutex::lock`], and [`LockError::TimedOut`].
    pub fn lock_until(&self, deadline: Deadline) -> LockResult<MutexGuard<'_, T>> {
        let (turn, died) = self.acquire(deadline)?;
        let guard = MutexGuard {
            mutex: self,
            value: Lent::new(&self.resident)?,
            turn,
        };
        told(guard, died)
    }

    /// Takes the lock: and who has died with it, if somebody has.
    fn acquire<G>(&self, deadline: Deadline) -> Result<(Turn<'_>, Option<u32>), LockError<G>> {
        let held = Held::new(&self.lock)?;
        let (lock, thread) = (self.lock.lock()?, this_thread());
        if lock.is_held_by(held.me(), thread) {
            return Err(LockError::Reentered);
        }
        let acquired = if lock.try_acquire_clean(held.me()) {
            Acquired::Clean
        } else {
            // Also where the deadline has passed: a holder that was killed is found out.
            until(deadline, |patience| self.lock.acquire_to_repair(patience))?
                .map_err(|_| LockError::TimedOut)?
        };
        lock.enter(thread);
        let died = match acquired {
            Acquired::HolderDied(pid) => Some(pid),
            _ => None, // no refusal: this repairs
        };
        if died.is_some() {
            lock.leave_unrepaired(); // until the guard's owner says otherwise
        }
        let turn = Turn {
            lock: &self.lock,
            held,
            is_unfinished: false,
        };
        Ok((turn, died))
    }
}

impl<T> Mutex<T> {
    /// Whether somebody has died with it, and nobody has repaired it since.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        // The object is held, so only corrupted memory can hide it; `lock` says so.
        self.lock
            .lock()
            .is_ok_and(|lock| lock.dead_holder().is_some())
    }
}

impl<'a, T: Serialize + DeserializeOwned> MutexGuard<'a, T> {
    /// Says that all is well again after a death: nobody else is told of it.
    pub fn clear_poison(guard: &mut Self) {
        if let (true, Ok(lock)) = (guard.turn.held.is_own(), guard.turn.lock.lock()) {
            lock.repaired();
        }
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

    pub(super) fn mutex(guard: &Self) -> &'a Mutex<T> {
        guard.mutex
    }
}

impl<T: Serialize + DeserializeOwned> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if self.turn.held.is_own() {
            self.turn.is_unfinished = true; // also if encoding the value panics
            self.turn.is_unfinished = !self.value.ends_well();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let (true, Ok(lock)) = (self.held.is_own(), self.lock.lock()) else {
            return;
        };
        if self.is_unfinished {
            lock.abandon(self.held.me(), process::id());
        }
        let _ = lock.leave(self.held.me(), this_thread());
    }
}

impl<T: Serialize + DeserializeOwned> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Serialize + DeserializeOwned> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Self {
        Self {
            lock: self.lock.clone(),
            resident: self.resident.clone(),
        }
    }
}

impl<T> Serialize for Mutex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (handle::depart(&self.lock)?, &self.resident).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Mutex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (lock, resident) = Deserialize::deserialize(deserializer)?;
        Ok(Self {
            lock: handle::arrive(&lock, Kind::Lock)?,
            resident,
        })
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("is_poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

impl<T: Serialize + DeserializeOwned + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
