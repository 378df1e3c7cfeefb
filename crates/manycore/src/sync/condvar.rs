//! Waiting for a change of what a mutex guards.

use std::fmt;

use manycore_ipc::sync::Place;
use manycore_ipc::wait::GaveUp;
use manycore_ipc::{HandleError, Hold};
use manycore_os::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::died::{LockError, LockResult};
use super::held::{in_turn, until};
use super::mutex::MutexGuard;
use crate::error::CreateError;
use crate::family;
use crate::handle::travels;

/// Waiting for a change of what a [`Mutex`](super::Mutex) guards, and telling of it.
///
/// As [`std::sync::Condvar`], across processes. Those who wait are notified in the order in which they came. A
/// process that is killed while it waits, also after it was notified, costs nobody the notification: it goes to the
/// next one.
///
/// ```
/// use manycore::Process;
/// use manycore::sync::{Condvar, Mutex};
///
/// fn answer((number, changed): (Mutex<Option<u32>>, Condvar)) {
///     *number.lock().expect("nobody is killed") = Some(42);
///     changed.notify_all().expect("the memory is in order");
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let (number, changed) = (Mutex::new(None)?, Condvar::new()?);
///     let child = Process::spawn(answer, (number.clone(), changed.clone()))?;
///     let guard = number.lock().expect("nobody is killed");
///     let guard = changed.wait_while(guard, |number| number.is_none()).expect("nor meanwhile");
///     assert_eq!(*guard, Some(42));
///     child.join()?;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Condvar {
    hold: Hold,
}

travels!(Condvar as Condition);

impl Condvar {
    /// Makes one that nobody waits for.
    ///
    /// # Errors
    /// When there is no shared memory.
    pub fn new() -> Result<Self, CreateError> {
        Ok(Self {
            hold: family::family()?.make_condition()?,
        })
    }

    /// Unlocks the mutex, waits until notified, and locks it again.
    ///
    /// # Errors
    /// As [`Mutex::lock`](super::Mutex::lock); and when what was changed cannot be put back.
    pub fn wait<'a, T: Serialize + DeserializeOwned>(
        &self,
        guard: MutexGuard<'a, T>,
    ) -> LockResult<MutexGuard<'a, T>> {
        let waited = self.wait_until(guard, Deadline::NEVER);
        waited
            .map(|(guard, _)| guard)
            .map_err(|error| error.map(|(guard, _)| guard))
    }

    /// The same until the deadline: with the guard, whether it was notified.
    ///
    /// # Errors
    /// As [`Condvar::wait`].
    pub fn wait_until<'a, T: Serialize + DeserializeOwned>(
        &self,
        mut guard: MutexGuard<'a, T>,
        deadline: Deadline,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        MutexGuard::commit(&mut guard)?;
        let joined = in_turn(|patience| self.hold.join_condition(patience))?;
        let mut waiting = Waiting {
            condvar: self,
            place: Some(joined.expect("this patience never ends")),
        };
        let mutex = MutexGuard::mutex(&guard);
        drop(guard);
        let is_over = waiting.sleep(deadline)?;
        // With the notification still at its place: it goes to another if this process is killed meanwhile.
        let locked = mutex.lock();
        let has_lock = matches!(locked, Ok(_) | Err(LockError::OwnerDied(_)));
        let is_notified = is_over && has_lock && waiting.take()?;
        let with_news = |guard| (guard, is_notified);
        locked.map(with_news).map_err(|error| error.map(with_news))
    }

    /// Waits as long as `condition` holds for the value.
    ///
    /// # Errors
    /// As [`Condvar::wait`].
    pub fn wait_while<'a, T: Serialize + DeserializeOwned>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// The same until the deadline: with the guard, whether the condition has ended.
    ///
    /// # Errors
    /// As [`Condvar::wait`].
    pub fn wait_while_until<'a, T: Serialize + DeserializeOwned>(
        &self,
        mut guard: MutexGuard<'a, T>,
        deadline: Deadline,
        mut condition: impl FnMut(&T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        while condition(&guard) {
            let is_notified;
            (guard, is_notified) = self.wait_until(guard, deadline)?;
            if !is_notified {
                let is_over = !condition(&guard);
                return Ok((guard, is_over));
            }
        }
        Ok((guard, true))
    }

    /// Notifies the one that has waited longest, if any waits. Best with the mutex locked, or what was changed may
    /// be seen before.
    ///
    /// # Errors
    /// When the shared memory is corrupted.
    pub fn notify_one(&self) -> Result<(), HandleError> {
        self.notify(1)
    }

    /// Notifies all who wait.
    ///
    /// # Errors
    /// When the shared memory is corrupted.
    pub fn notify_all(&self) -> Result<(), HandleError> {
        self.notify(usize::MAX)
    }

    fn notify(&self, most: usize) -> Result<(), HandleError> {
        if self.hold.condition()?.waiting()? > 0 {
            let _never_gives_up = in_turn(|patience| self.hold.notify(most, patience))?;
        }
        Ok(())
    }
}

/// A place among those who wait. Who gives it up, also by a panic, gives a notification that it has to another.
struct Waiting<'a> {
    condvar: &'a Condvar,
    place: Option<Place>,
}

impl Waiting<'_> {
    /// Whether it was notified by the deadline.
    fn sleep(&mut self, deadline: Deadline) -> Result<bool, HandleError> {
        let Some(place) = self.place else {
            return Ok(false);
        };
        let hold = &self.condvar.hold;
        let slept = until(deadline, |patience| hold.wait_notified(place, patience))?;
        if slept == Err(GaveUp::TimedOut) {
            self.place = None; // it has left
        }
        Ok(slept.is_ok())
    }

    /// Takes the notification.
    fn take(mut self) -> Result<bool, HandleError> {
        let condition = self.condvar.hold.condition()?;
        Ok(self.place.take().is_some_and(|place| condition.take(place)))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let (Some(place), Ok(condition)) = (self.place, self.condvar.hold.condition()) {
            let _ = in_turn(|patience| condition.withdraw(place, patience));
        }
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
