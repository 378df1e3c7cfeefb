//! What only a thread that holds the interpreter touches, and so without a lock of its own.
#![allow(unsafe_code)] // the interpreter's lock is not one that Rust knows

use std::cell::{Cell, UnsafeCell};

use pyo3::Python;

/// A value that the interpreter's lock guards. A fork finds it whole: it is made by a thread that holds that lock.
pub struct GilCell<T> {
    is_in_use: Cell<bool>,
    value: UnsafeCell<T>,
}

// SAFETY: both fields are touched in `with` only, whose caller holds the interpreter: this module is loaded into no
// interpreter without a lock (it says that it needs one), and into one interpreter of a process only.
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub const fn new(value: T) -> Self {
        Self {
            is_in_use: Cell::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Calls `use_it` with the value; returns `None` if it is in use: if that lets go of the interpreter, or runs Python
    /// code that comes back here.
    #[inline]
    pub fn with<R>(&self, _held: Python<'_>, use_it: impl FnOnce(&mut T) -> R) -> Option<R> {
        struct Use<'a>(&'a Cell<bool>);
        impl Drop for Use<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        if self.is_in_use.replace(true) {
            return None;
        }
        let _use = Use(&self.is_in_use);
        // SAFETY: there is no other reference: nobody has got past the flag, which one thread at a time can see.
        Some(use_it(unsafe { &mut *self.value.get() }))
    }
}
