//! Numbers that change by single instructions.

use std::fmt;
use std::marker::PhantomData;

use manycore_ipc::object::integer::Integer;
use manycore_ipc::{Corrupted, HandleError, Hold, Kind};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::CreateError;
use crate::{family, handle};

mod sealed {
    pub trait Sealed {}
}

/// What an [`Atomic`] may be: an integer, or `bool`.
pub trait Bits: Copy + fmt::Debug + sealed::Sealed {
    /// Its bits, those that it does not have zero.
    #[doc(hidden)]
    fn to_bits(self) -> u64;
    /// The one with these bits.
    #[doc(hidden)]
    fn from_bits(bits: u64) -> Self;
}

/// An integer in an [`Atomic`].
pub trait Number: Bits + Ord {
    #[doc(hidden)]
    fn negated_bits(self) -> u64;
}

macro_rules! numbers {
    ($($number:ty, $bits:ty;)*) => {$(
        impl sealed::Sealed for $number {}

        impl Bits for $number {
            fn to_bits(self) -> u64 {
                u64::from(self as $bits)
            }

            fn from_bits(bits: u64) -> Self {
                bits as Self
            }
        }

        impl Number for $number {
            fn negated_bits(self) -> u64 {
                self.wrapping_neg().to_bits()
            }
        }
    )*};
}

numbers! {
    u8, u8; i8, u8;
    u16, u16; i16, u16;
    u32, u32; i32, u32;
    u64, u64; i64, u64;
    usize, u64; isize, u64;
}

impl sealed::Sealed for bool {}

impl Bits for bool {
    fn to_bits(self) -> u64 {
        u64::from(self)
    }

    fn from_bits(bits: u64) -> Self {
        bits != 0
    }
}

/// A number that any number of processes and threads change, each time by a single instruction.
///
/// As those of [`std::sync::atomic`], across processes. Every access is sequentially consistent
/// ([`SeqCst`](std::sync::atomic::Ordering::SeqCst)). Arithmetic wraps.
///
/// ```
/// use manycore::Process;
/// use manycore::sync::AtomicU64;
///
/// fn count(total: AtomicU64) {
///     for _ in 0..1_000 {
///         total.fetch_add(1);
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let total = AtomicU64::new(0)?;
///     let children = [0; 3].map(|_| Process::spawn(count, total.clone()));
///     for child in children {
///         child?.join()?;
///     }
///     assert_eq!(total.load(), 3_000);
///     Ok(())
/// }
/// ```
pub struct Atomic<T> {
    /// Keeps the word alive.
    hold: Hold,
    word: Integer,
    number: PhantomData<fn(T) -> T>,
}

impl<T: Bits> Atomic<T> {
    /// Makes one.
    ///
    /// # Errors
    /// When there is no shared memory.
    pub fn new(value: T) -> Result<Self, CreateError> {
        let hold = family::family()?.make_memory(size_of::<T>() as u64)?;
        let this = Self::of(hold)?;
        this.store(value);
        Ok(this)
    }

    fn of(hold: Hold) -> Result<Self, HandleError> {
        let (heap, bytes) = (hold.family().heap(), hold.memory()?);
        let word = Integer::new(heap, bytes, 0, size_of::<T>())
            .ok_or(Corrupted::new("the memory of an atomic is too short"))?;
        Ok(Self {
            hold,
            word,
            number: PhantomData,
        })
    }

    /// What it is.
    #[must_use]
    pub fn load(&self) -> T {
        T::from_bits(self.word.load())
    }

    /// Makes it `value`.
    pub fn store(&self, value: T) {
        self.word.exchange(value.to_bits());
    }

    /// Makes it `value`; what it was.
    pub fn swap(&self, value: T) -> T {
        T::from_bits(self.word.exchange(value.to_bits()))
    }

    /// Makes it `new` if it is `current`; what it was.
    ///
    /// # Errors
    /// What it is, if that is something else.
    pub fn compare_exchange(&self, current: T, new: T) -> Result<T, T> {
        let expected = current.to_bits();
        let found = self.word.compare_exchange(expected, new.to_bits());
        if found == expected {
            Ok(current)
        } else {
            Err(T::from_bits(found))
        }
    }

    /// Makes it what `change` returns, which is called again if others have changed it meanwhile; what it was.
    ///
    /// # Errors
    /// What it is, if `change` returns `None`.
    pub fn fetch_update(&self, mut change: impl FnMut(T) -> Option<T>) -> Result<T, T> {
        let mut found = self.load();
        while let Some(new) = change(found) {
            match self.compare_exchange(found, new) {
                Ok(was) => return Ok(was),
                Err(other) => found = other,
            }
        }
        Err(found)
    }
}

impl<T: Number> Atomic<T> {
    /// Adds; what it was.
    pub fn fetch_add(&self, summand: T) -> T {
        T::from_bits(self.word.fetch_add(summand.to_bits()))
    }

    /// Subtracts; what it was.
    pub fn fetch_sub(&self, subtrahend: T) -> T {
        T::from_bits(self.word.fetch_add(subtrahend.negated_bits()))
    }

    /// Makes it `other` if that is larger; what it was.
    pub fn fetch_max(&self, other: T) -> T {
        let larger = self.fetch_update(|number| (other > number).then_some(other));
        larger.unwrap_or_else(|is| is)
    }

    /// Makes it `other` if that is smaller; what it was.
    pub fn fetch_min(&self, other: T) -> T {
        let smaller = self.fetch_update(|number| (other < number).then_some(other));
        smaller.unwrap_or_else(|is| is)
    }
}

/// A `bool` that processes share.
pub type AtomicBool = Atomic<bool>;
/// An `i8` that processes share.
pub type AtomicI8 = Atomic<i8>;
/// An `i16` that processes share.
pub type AtomicI16 = Atomic<i16>;
/// An `i32` that processes share.
pub type AtomicI32 = Atomic<i32>;
/// An `i64` that processes share.
pub type AtomicI64 = Atomic<i64>;
/// An `isize` that processes share.
pub type AtomicIsize = Atomic<isize>;
/// A `u8` that processes share.
pub type AtomicU8 = Atomic<u8>;
/// A `u16` that processes share.
pub type AtomicU16 = Atomic<u16>;
/// A `u32` that processes share.
pub type AtomicU32 = Atomic<u32>;
/// A `u64` that processes share.
pub type AtomicU64 = Atomic<u64>;
/// A `usize` that processes share.
pub type AtomicUsize = Atomic<usize>;

impl<T> Clone for Atomic<T> {
    fn clone(&self) -> Self {
        Self {
            hold: self.hold.clone(),
            word: self.word,
            number: PhantomData,
        }
    }
}

impl<T> Serialize for Atomic<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handle::depart(&self.hold)?.serialize(serializer)
    }
}

impl<'de, T: Bits> Deserialize<'de> for Atomic<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hold = handle::arrive(&Deserialize::deserialize(deserializer)?, Kind::Memory)?;
        Self::of(hold).map_err(|error| de::Error::custom(handle::refuse(error)))
    }
}

impl<T: Bits> fmt::Debug for Atomic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}
