//! What only a thread that holds the interpreter touches, and so without a lock of its own.
#![allow(unsafe_code)] // the interpreter's lock is not one that Rust knows

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use pyo3::Python;
use pyo3::gc::PyVisit;

/// A value that the interpreter's lock guards. A fork finds it whole: it is made by a thread that holds that lock.
pub struct GilCell<T> {
    is_in_use: Cell<bool>,
    value: UnsafeCell<T>,
}

// SAFETY: both fields are touched by callers that hold the interpreter. It has a lock: one without loads no module of the
// stable ABI, and this one says besides that it needs the lock. And the binding loads it into one interpreter only.
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
        self.use_now().map(|mut value| use_it(&mut value))
    }

    /// The value, for as long as what this returns is kept: neither Python code may run meanwhile that comes back here,
    /// nor may the interpreter be let go of.
    ///
    /// # Panics
    /// When the value is in use.
    #[inline]
    pub fn lock(&self, _held: Python<'_>) -> Use<'_, T> {
        self.use_now().expect("in use while no Python code runs")
    }

    /// The value, unless it is in use, for the collector, which holds the interpreter.
    pub fn seen_by(&self, _collector: &PyVisit<'_>) -> Option<Use<'_, T>> {
        self.use_now()
    }

    /// The interpreter is held, as all callers know.
    #[inline]
    fn use_now(&self) -> Option<Use<'_, T>> {
        if self.is_in_use.replace(true) {
            return None;
        }
        Some(Use {
            cell: self,
            stays: PhantomData,
        })
    }
}

impl<T: Default> Default for GilCell<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// The one reference to a value; see [`GilCell::lock`].
pub struct Use<'a, T> {
    cell: &'a GilCell<T>,
    /// It stays in the thread that holds the interpreter.
    stays: PhantomData<*mut T>,
}

impl<T> Deref for Use<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: there is no other reference: nobody else has got past the flag, which one thread at a time can see.
        unsafe { &*self.cell.value.get() }
    }
}

impl<T> DerefMut for Use<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.cell.value.get() }
    }
}

impl<T> Drop for Use<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.cell.is_in_use.set(false);
    }
}
