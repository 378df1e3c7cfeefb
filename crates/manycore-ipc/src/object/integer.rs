//! An integer of the program's in a piece of shared memory, which changes by single instructions.
//!
//! The word is the program's: no protocol of the engine rests on it, and a process that dies has either
//! changed it or not.

use std::sync::atomic::{
    AtomicU8, AtomicU16, AtomicU32, AtomicU64,
    Ordering::{Release, SeqCst},
};

use crate::heap::{Bytes, Heap};

/// An integer of one, two, four or eight bytes, as bits: those that it does not have are cut off what goes in, and
/// zero in what comes out. It wraps.
///
/// All but `put` is `SeqCst`: programs order their own memory by it, and who asks for less does not do so from Python.
#[derive(Clone, Copy)]
pub enum Integer {
    /// One byte.
    Byte(&'static AtomicU8),
    /// Two bytes.
    Short(&'static AtomicU16),
    /// Four bytes.
    Word(&'static AtomicU32),
    /// Eight bytes.
    Long(&'static AtomicU64),
}

macro_rules! each {
    ($self:ident, $word:ident => $result:expr) => {
        match $self {
            Self::Byte($word) => u64::from($result),
            Self::Short($word) => u64::from($result),
            Self::Word($word) => u64::from($result),
            Self::Long($word) => $result,
        }
    };
}

impl Integer {
    /// The integer of `size` bytes at position `at` of some memory; `None` when it does not lie inside, is not
    /// aligned, or there are none of that size.
    #[must_use]
    pub fn new(heap: &'static Heap, bytes: Bytes, at: usize, size: usize) -> Option<Self> {
        if at.checked_add(size).is_none_or(|end| end > bytes.len()) {
            return None;
        }
        let offset = bytes.offset() + at;
        match size {
            1 => heap.at(offset).ok().map(Self::Byte),
            2 => heap.at(offset).ok().map(Self::Short),
            4 => heap.at(offset).ok().map(Self::Word),
            8 => heap.at(offset).ok().map(Self::Long),
            _ => None,
        }
    }

    /// What it is.
    #[inline]
    #[must_use]
    pub fn load(self) -> u64 {
        each!(self, word => word.load(SeqCst))
    }

    /// Makes it `new`, in no order to anything but what this process did before: a lock orders the rest.
    #[inline]
    pub fn put(self, new: u64) {
        match self {
            // Release pairs with the loads of whoever uses the integer without the lock.
            Self::Byte(word) => word.store(new as _, Release),
            Self::Short(word) => word.store(new as _, Release),
            Self::Word(word) => word.store(new as _, Release),
            Self::Long(word) => word.store(new, Release),
        }
    }

    /// Makes it `new`; what it was.
    #[inline]
    pub fn exchange(self, new: u64) -> u64 {
        each!(self, word => word.swap(new as _, SeqCst))
    }

    /// Adds; what it was. To subtract, add the complement.
    #[inline]
    pub fn fetch_add(self, summand: u64) -> u64 {
        each!(self, word => word.fetch_add(summand as _, SeqCst))
    }

    /// Makes it `new` if it is `expected`; what it was, which is `expected` if and only if it has changed.
    #[inline]
    pub fn compare_exchange(self, expected: u64, new: u64) -> u64 {
        each!(self, word => {
            match word.compare_exchange(expected as _, new as _, SeqCst, SeqCst) {
                Ok(was) | Err(was) => was,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::header::create_with;
    use crate::heap::layout::LEAST;

    fn memory(len: usize) -> (&'static Heap, Bytes) {
        let heap = create_with(LEAST).expect("a small heap");
        let start = heap.layout().payload;
        heap.mapping().back(start, len).expect("a page");
        (heap, heap.bytes(start, len).expect("inside"))
    }

    #[test]
    fn an_integer_wraps_at_its_size_and_touches_no_neighbour() {
        for size in [1, 2, 4, 8] {
            let (heap, bytes) = memory(24);
            let integer = Integer::new(heap, bytes, 8, size).expect("it fits");
            let mask = u64::MAX >> (64 - 8 * size);
            assert_eq!(integer.exchange(u64::MAX), 0);
            assert_eq!(integer.fetch_add(2), mask, "what it was");
            assert_eq!(integer.load(), 1, "over the end");
            assert_eq!(integer.fetch_add(2_u64.wrapping_neg()), 1);
            assert_eq!(integer.load(), mask, "and back");
            integer.put(u64::MAX - 1);
            assert_eq!(integer.fetch_add(1), mask - 1);
            let mut all = [0; 24];
            bytes.read(0, &mut all).expect("inside");
            assert!(all[8..8 + size].iter().all(|&byte| byte == 0xff));
            assert_eq!(all.iter().filter(|&&byte| byte != 0).count(), size);
        }
    }

    #[test]
    fn an_exchange_happens_only_if_it_is_what_was_expected() {
        let (heap, bytes) = memory(8);
        let integer = Integer::new(heap, bytes, 4, 2).expect("it fits");
        assert_eq!(integer.compare_exchange(1, 5), 0);
        assert_eq!(integer.load(), 0, "it was not 1");
        assert_eq!(integer.compare_exchange(0x1_0000, 5), 0, "of two bytes");
        assert_eq!(integer.load(), 5);
    }

    #[test]
    fn an_integer_that_is_not_in_its_memory_is_none() {
        let (heap, bytes) = memory(12);
        assert!(Integer::new(heap, bytes, 8, 4).is_some());
        for (at, size) in [
            (9, 4),
            (8, 8),
            (12, 1),
            (usize::MAX, 1),
            (2, 4),
            (0, 3),
            (0, 0),
        ] {
            assert!(Integer::new(heap, bytes, at, size).is_none(), "{at} {size}");
        }
    }
}
