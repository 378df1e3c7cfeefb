//! The copy of a value that a guard lends.

use std::ops::{Deref, DerefMut};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ValueError;
use crate::resident::Resident;

/// A decoded copy of a value, which goes back when it has been changed.
pub(super) struct Lent<'a, T> {
    resident: &'a Resident<T>,
    value: T,
    is_changed: bool,
    /// Whether a panic was under way already when this was made.
    was_panicking: bool,
}

impl<'a, T: DeserializeOwned> Lent<'a, T> {
    /// Under the lock of the value.
    pub(super) fn new(resident: &'a Resident<T>) -> Result<Self, ValueError> {
        Ok(Self {
            resident,
            value: resident.read()?,
            is_changed: false,
            was_panicking: std::thread::panicking(),
        })
    }
}

impl<T: Serialize> Lent<'_, T> {
    /// Puts back what was changed. Under the lock of the value.
    pub(super) fn commit(&mut self) -> Result<(), ValueError> {
        if self.is_changed {
            self.resident.write(&self.value)?;
            self.is_changed = false;
        }
        Ok(())
    }

    /// Puts back what was changed, at the end. `false`, and all is as it was before, when this thread panics over it
    /// or it cannot go back.
    pub(super) fn ends_well(&mut self) -> bool {
        let panics = std::thread::panicking() && !self.was_panicking;
        !panics && self.commit().is_ok()
    }
}

impl<T> Deref for Lent<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.is_changed = true;
        &mut self.value
    }
}
