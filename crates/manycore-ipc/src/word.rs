//! Words in shared memory.
//!
//! Everything that processes change together is made of these two types. They are atomics and
//! nothing else: any bit pattern is a value, so foreign bytes are never undefined behaviour, only
//! wrong. All stores go through the methods here, which is what lets the crash tests of this crate
//! stop a process for good after any store it makes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(test)]
use crate::{
    crash,
    model::{
        self,
        memory::Access::{Change, Look},
    },
};

/// Changes a word by one exchange; in tests, not at all if the process has died, and in `loom`'s word if a
/// model runs. `$found` is what the word holds where nothing is changed.
macro_rules! exchange {
    ($self:ident, $order:ident, $found:ident => $dead:expr, $word:ident => $change:expr) => {{
        #[cfg(test)]
        {
            $self.show();
            if crash::is_dead_at_store($order) {
                let $found = $self.load(Ordering::Relaxed);
                return $dead;
            }
            if let Some($word) = $self.modelled(Change) {
                return $change;
            }
        }
        let $word = &$self.0;
        $change
    }};
}

macro_rules! word {
    ($name:ident, $atomic:ident, $int:ty, $find:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name($atomic);

        impl $name {
            /// A word with this value, for memory that is not shared yet.
            #[must_use]
            pub const fn new(value: $int) -> Self {
                Self(<$atomic>::new(value))
            }

            /// The word as a model knows it, while one runs.
            #[cfg(test)]
            fn modelled(
                &self,
                access: model::memory::Access,
            ) -> Option<std::rc::Rc<loom::sync::atomic::$atomic>> {
                let address = std::ptr::from_ref(self).addr();
                let value = || self.0.load(Ordering::Relaxed);
                let is_used = model::is_active() && !model::is_over();
                is_used.then(|| model::memory::$find(address, access, value))
            }

            /// Reads the word.
            #[inline]
            pub fn load(&self, order: Ordering) -> $int {
                #[cfg(test)]
                crash::at_load();
                #[cfg(test)]
                if let Some(value) = crash::kept_back(self.address()) {
                    return value as $int;
                }
                #[cfg(test)]
                if let Some(word) = self.modelled(Look) {
                    return word.load(order);
                }
                self.0.load(order)
            }

            /// Writes the word.
            #[inline]
            pub fn store(&self, value: $int, order: Ordering) {
                #[cfg(test)]
                if crash::is_dead_or_late_at_store(order, self.address(), value.into()) {
                    return;
                }
                #[cfg(test)]
                if let Some(word) = self.modelled(Change) {
                    return word.store(value, order);
                }
                self.0.store(value, order);
            }

            /// Writes the word and returns what it held.
            #[inline]
            pub fn swap(&self, value: $int, order: Ordering) -> $int {
                exchange!(self, order, dead => dead, word => word.swap(value, order))
            }

            /// Writes `new` if the word holds `old`; returns what it held.
            ///
            /// # Errors
            /// The value found, when it was not `old`.
            #[inline]
            pub fn compare_exchange(
                &self,
                old: $int,
                new: $int,
                order: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                exchange!(self, order, dead => Err(dead),
                    word => word.compare_exchange(old, new, order, failure))
            }

            /// Sets bits; returns what the word held.
            #[inline]
            pub fn fetch_or(&self, bits: $int, order: Ordering) -> $int {
                exchange!(self, order, dead => dead, word => word.fetch_or(bits, order))
            }

            /// Keeps only these bits; returns what the word held.
            #[inline]
            pub fn fetch_and(&self, bits: $int, order: Ordering) -> $int {
                exchange!(self, order, dead => dead, word => word.fetch_and(bits, order))
            }

            /// Adds, wrapping; returns what the word held.
            #[inline]
            pub fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                exchange!(self, order, dead => dead, word => word.fetch_add(value, order))
            }

            /// Subtracts, stopping at zero; returns what the word held.
            pub fn saturating_sub(&self, value: $int, order: Ordering) -> $int {
                let mut held = self.load(Ordering::Relaxed);
                loop {
                    let less = held.saturating_sub(value);
                    match self.compare_exchange(held, less, order, Ordering::Relaxed) {
                        Ok(_) => return held,
                        #[cfg(test)]
                        Err(_) if crash::is_dead() => return held,
                        Err(found) => held = found,
                    }
                }
            }
        }
    };
}

word!(
    Word32,
    AtomicU32,
    u32,
    narrow,
    "A shared 32-bit word, as the kernel's futex calls want it."
);
word!(Word64, AtomicU64, u64, wide, "A shared 64-bit word.");

/// Orders what this thread did before against what it does after, for all others.
#[inline]
pub fn fence(order: Ordering) {
    #[cfg(test)]
    if model::is_active() && !model::is_over() {
        return loom::sync::atomic::fence(order);
    }
    std::sync::atomic::fence(order);
}

#[cfg(test)]
macro_rules! kept_back {
    ($name:ident, $int:ty) => {
        impl $name {
            fn address(&self) -> usize {
                std::ptr::from_ref(self).addr()
            }

            /// Makes a store of the calling process visible that was kept back.
            fn show(&self) {
                if let Some(value) = crash::shown(self.address()) {
                    self.0.store(value as $int, Ordering::Relaxed);
                }
            }
        }
    };
}

#[cfg(test)]
kept_back!(Word32, u32);
#[cfg(test)]
kept_back!(Word64, u64);

impl Word32 {
    /// The word as the system-call layer takes it.
    #[inline]
    #[must_use]
    pub fn as_futex(&self) -> &AtomicU32 {
        &self.0
    }
}
