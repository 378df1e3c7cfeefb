//! A value in a piece of shared memory, of which a half-written state is never visible.
//!
//! ```text
//! head (64 bytes) | half 0 | half 1
//! ```
//!
//! One word says which half counts and how many bytes of it. A writer fills the *other* half and then
//! switches by one store of that word. A writer that dies before the store has changed nothing that
//! anybody reads; one that dies after it has written everything.
//!
//! Two writers, or a reader and two writes, would meet in one half: all calls are made under a lock of
//! the user's, which is handed over when its holder dies.

use std::sync::atomic::Ordering::{Acquire, Release};

use crate::error::Corrupted;
use crate::fault;
use crate::heap::{Bytes, Heap};
use crate::word::Word64;

/// `len:63 | half:1`; see the module.
#[repr(C, align(64))]
pub struct CellHead {
    current: Word64,
    spare: [Word64; 7],
}

const HEAD: usize = size_of::<CellHead>();

/// A cell, as a view of the memory that it lies in.
#[derive(Clone, Copy)]
pub struct Cell {
    head: &'static CellHead,
    bytes: Bytes,
}

impl Cell {
    /// Bytes of memory that a cell needs whose value has up to `capacity` bytes.
    #[must_use]
    pub fn bytes_for(capacity: usize) -> u64 {
        (HEAD as u64).saturating_add((capacity as u64).saturating_mul(2))
    }

    /// The cell in this memory. Memory that is all zero is a cell with an empty value.
    ///
    /// # Errors
    /// When the memory is too short for a cell.
    pub fn new(heap: &'static Heap, bytes: Bytes) -> Result<Self, Corrupted> {
        if bytes.len() < HEAD {
            return Err(Corrupted::new("a value's memory is too short"));
        }
        Ok(Self {
            head: heap.at(bytes.offset())?,
            bytes,
        })
    }

    /// The most bytes that a value may have here.
    #[must_use]
    pub fn capacity(&self) -> usize {
        (self.bytes.len() - HEAD) / 2 // at least HEAD bytes, checked by `new`
    }

    /// Appends the present value to `to`. Under the lock only.
    ///
    /// # Errors
    /// When the head makes no sense.
    pub fn read(&self, to: &mut Vec<u8>) -> Result<(), Corrupted> {
        let (half, len) = self.current()?;
        self.bytes.append_to(self.start_of(half), len, to)
    }

    /// Makes `value` the present value; `false`, and nothing changed, when it is too long. Under the
    /// lock only.
    ///
    /// # Errors
    /// When the head makes no sense.
    pub fn write(&self, value: &[u8]) -> Result<bool, Corrupted> {
        if value.len() > self.capacity() {
            return Ok(false);
        }
        let (half, _) = self.current()?;
        let other = half ^ 1;
        self.bytes.write(self.start_of(other), value);
        fault::point("cell.written");
        // Release pairs with the Acquire in `current`: the bytes are there before they count.
        self.head
            .current
            .store((value.len() as u64) << 1 | other as u64, Release);
        fault::point("cell.switched");
        Ok(true)
    }

    fn current(&self) -> Result<(usize, usize), Corrupted> {
        let word = self.head.current.load(Acquire);
        let len = usize::try_from(word >> 1).unwrap_or(usize::MAX);
        if len > self.capacity() {
            return Err(Corrupted::new("a value is longer than its memory"));
        }
        Ok(((word & 1) as usize, len))
    }

    fn start_of(&self, half: usize) -> usize {
        HEAD + half * self.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::run_until_death;
    use crate::heap::header::create_with;
    use crate::heap::layout::LEAST;

    fn cell(capacity: usize) -> Cell {
        let heap = create_with(LEAST).expect("a small heap");
        let len = usize::try_from(Cell::bytes_for(capacity)).expect("small");
        // Payload that nobody allocates from this heap: backed, aligned and zero.
        heap.mapping()
            .back(heap.layout().payload, len)
            .expect("a page");
        let bytes = heap.bytes(heap.layout().payload, len).expect("inside");
        Cell::new(heap, bytes).expect("long enough")
    }

    fn value_of(cell: &Cell) -> Vec<u8> {
        let mut value = Vec::new();
        cell.read(&mut value).expect("a sane head");
        value
    }

    #[test]
    fn a_cell_holds_what_was_written_last() {
        let cell = cell(5);
        assert_eq!(value_of(&cell), b"");
        for value in [&b"one"[..], b"", b"three", b"4"] {
            assert_eq!(cell.write(value), Ok(true));
            assert_eq!(value_of(&cell), value);
        }
    }

    #[test]
    fn a_value_that_does_not_fit_changes_nothing() {
        let cell = cell(3);
        assert_eq!(cell.write(b"abc"), Ok(true));
        assert_eq!(cell.write(b"abcd"), Ok(false));
        assert_eq!(value_of(&cell), b"abc");
    }

    #[test]
    fn a_writer_that_dies_leaves_the_old_value_or_the_new_one() {
        let cell = cell(8);
        assert_eq!(cell.write(b"old"), Ok(true));
        for (stores, value) in [(0, &b"old"[..]), (1, b"old"), (2, b"new")] {
            let finished = run_until_death(stores, || cell.write(b"new"));
            assert_eq!(
                finished.is_some(),
                stores == 2,
                "it writes the bytes and switches"
            );
            assert_eq!(value_of(&cell), value);
        }
    }

    #[test]
    fn a_head_that_claims_too_much_is_refused() {
        let cell = cell(8);
        cell.head.current.store(9 << 1, Release);
        assert!(cell.read(&mut Vec::new()).is_err());
    }
}
