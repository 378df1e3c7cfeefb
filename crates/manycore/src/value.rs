//! A value that processes share.

use std::fmt;

use manycore_ipc::lock::UserLock;
use manycore_ipc::registry::OwnerId;
use manycore_ipc::wait::Patience;
use manycore_ipc::{Family, Hold, Kind};
use manycore_os::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{CreateError, ValueError};
use crate::resident::Resident;
use crate::thread::this_thread;
use crate::{codec, family, handle};

/// A value that any number of processes and threads read and change, one at a time.
///
/// Reading decodes a copy, changing encodes one: meant for counters, settings and states rather than
/// for large data. A value travels inside arguments, results and messages and lives as long as a
/// process or a message has it; a clone is the same value.
///
/// A process that is killed while it changes the value leaves it as it was before; the next one goes on
/// within a tenth of a second.
///
/// ```
/// use manycore::{Process, Value};
///
/// fn count(total: Value<u64>) {
///     for _ in 0..100 {
///         total.update(|total| *total += 1).expect("it fits");
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let total = Value::new(0)?;
///     let children = [0; 3].map(|_| Process::spawn(count, total.clone()));
///     for child in children {
///         child?.join()?;
///     }
///     assert_eq!(total.get()?, 300);
///     Ok(())
/// }
/// ```
pub struct Value<T> {
    lock: Hold,
    resident: Resident<T>,
}

impl<T: Serialize> Value<T> {
    /// Makes a shared value. Room is set aside for values of twice its encoded size, 160 bytes at
    /// least; [`Value::with_capacity`] sets aside more.
    ///
    /// # Errors
    /// When the value cannot be encoded, or there is no shared memory.
    pub fn new(value: T) -> Result<Self, CreateError> {
        Self::with_capacity(value, 0)
    }

    /// Makes a shared value that may later take up to `capacity` bytes, encoded.
    ///
    /// # Errors
    /// As [`Value::new`].
    pub fn with_capacity(value: T, capacity: usize) -> Result<Self, CreateError> {
        let family = family::family()?;
        Ok(Self {
            lock: family.make_lock()?,
            resident: Resident::new(family, &value, capacity)?,
        })
    }

    /// Changes the value to `value`, waiting while another process or thread uses it.
    ///
    /// # Errors
    /// When `value` cannot be encoded or is larger than the room for it. Nothing was changed then.
    pub fn set(&self, value: &T) -> Result<(), ValueError> {
        let encoded = codec::encode_resting(value)?; // before anybody has to wait for it
        let _guard = self.acquire()?;
        self.resident.write_encoded(&encoded.bytes)
    }
}

impl<T: DeserializeOwned> Value<T> {
    /// A copy of the value. Waits while another process or thread changes it.
    ///
    /// # Errors
    /// When this thread is just updating the value.
    pub fn get(&self) -> Result<T, ValueError> {
        let guard = self.acquire()?;
        let bytes = self.resident.read_encoded()?;
        drop(guard);
        Resident::decode(bytes)
    }
}

impl<T: Serialize + DeserializeOwned> Value<T> {
    /// Changes the value by `change`; nobody else reads or changes it meanwhile. Returns what `change`
    /// returned.
    ///
    /// Should `change` panic, or its process be killed inside it, the value stays as it was.
    ///
    /// # Errors
    /// When the changed value cannot be encoded or is larger than the room for it, or when this thread
    /// is just updating the value. Nothing was changed then.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, ValueError> {
        let _guard = self.acquire()?;
        let mut value = self.resident.read()?;
        let result = change(&mut value);
        self.resident.write(&value)?;
        Ok(result)
    }
}

impl<T> Value<T> {
    fn acquire(&self) -> Result<Guard, ValueError> {
        let (family, thread) = (self.lock.family(), this_thread());
        let (lock, me) = (self.lock.lock()?, family.me()?);
        if lock.is_held_by(me, thread) {
            return Err(ValueError::Updating);
        }
        let mut go_on = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
        // That a holder was killed needs no mention: the value is as it was before that holder came.
        let _acquired = lock
            .acquire(me, &mut patience, |holder| take_over(family, lock, holder))
            .expect("this patience never ends");
        lock.enter(thread);
        Ok(Guard { lock, me, thread })
    }
}

/// Frees the lock if its holder has ended. Also one that ended in order: a thread of it may have been
/// at work when its process exited, and no half-done work is visible.
fn take_over(family: &Family, lock: &UserLock, holder: u32) {
    let owner = OwnerId::from_bits(holder);
    let _ = family.reap(owner.slot()); // does nothing unless that process is confirmed to have ended
    if family.registry().has_holder_ended(holder) {
        lock.hand_over(owner, 0);
    }
}

/// Releases the lock when dropped, also by a panic.
struct Guard {
    lock: &'static UserLock,
    me: OwnerId,
    thread: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.lock.leave(self.me, self.thread);
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self {
            lock: self.lock.clone(),
            resident: self.resident.clone(),
        }
    }
}

impl<T> Serialize for Value<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (handle::depart(&self.lock)?, &self.resident).serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (lock, resident) = Deserialize::deserialize(deserializer)?;
        Ok(Self {
            lock: handle::arrive(&lock, Kind::Lock)?,
            resident,
        })
    }
}

impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").finish_non_exhaustive()
    }
}
