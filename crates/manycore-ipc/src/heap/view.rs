//! References to shared words and copies of shared bytes, by checked offset.

#![allow(unsafe_code)] // the one module that dereferences shared bytes, see SAFETY.md

use std::mem::MaybeUninit;

use manycore_os::mapping::Mapping;

use super::Header;
use super::layout::Layout;
use super::shared::Shared;
use crate::error::Corrupted;

/// A mapped heap. It is never unmapped, so what it lends lives as long as the process.
pub struct Heap {
    mapping: Mapping,
    layout: Layout,
}

impl Heap {
    pub(crate) fn new(mapping: Mapping, layout: Layout) -> &'static Self {
        // Leaked on purpose: the mapping is permanent, see `manycore_os::mapping`.
        Box::leak(Box::new(Self { mapping, layout }))
    }

    /// The mapping behind it.
    #[must_use]
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// What lies where.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The first page.
    #[must_use]
    pub fn header(&'static self) -> &'static Header {
        self.at(0).expect("a heap is longer than its header")
    }

    /// The shared object at an offset.
    ///
    /// # Errors
    /// When the offset is misaligned or outside the heap.
    #[inline]
    pub fn at<T: Shared>(&'static self, offset: usize) -> Result<&'static T, Corrupted> {
        let end = offset.checked_add(size_of::<T>());
        if end.is_none_or(|end| end > self.layout.len) || !offset.is_multiple_of(align_of::<T>()) {
            return Err(Corrupted::new("an offset points outside the heap"));
        }
        let address = self
            .mapping
            .base()
            .as_ptr()
            .wrapping_add(offset)
            .cast::<T>();
        // SAFETY: `offset .. offset + size` lies inside the mapping, which lasts for ever, and is
        // aligned (the base is page-aligned). `T: Shared` has no invalid values and is made of atomics,
        // so that other processes write there is no data race.
        Ok(unsafe { &*address })
    }

    /// A range of payload bytes.
    ///
    /// # Errors
    /// When the range is outside the heap.
    #[inline]
    pub fn bytes(&'static self, offset: usize, len: usize) -> Result<Bytes, Corrupted> {
        if offset
            .checked_add(len)
            .is_none_or(|end| end > self.layout.len)
        {
            return Err(Corrupted::new("a block reaches outside the heap"));
        }
        Ok(Bytes {
            heap: self,
            offset,
            len,
        })
    }
}

/// Payload bytes in the heap. They are only ever copied in or out: another process may write them at
/// any time, so no slice of them exists.
#[derive(Clone, Copy)]
pub struct Bytes {
    heap: &'static Heap,
    offset: usize,
    len: usize,
}

impl Bytes {
    /// How many.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where they lie in the heap.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Their address in this process, for those who hand the memory to a program: valid for
    /// [`Bytes::len`] bytes for the life of the process.
    #[must_use]
    pub fn address(&self) -> *mut u8 {
        self.heap.mapping.base().as_ptr().wrapping_add(self.offset)
    }

    /// Copies `from` to position `at`; what would not fit is a bug of the caller and not copied.
    #[inline]
    pub fn write(&self, at: usize, from: &[u8]) {
        if at.checked_add(from.len()).is_none_or(|end| end > self.len) {
            debug_assert!(
                false,
                "write of {} bytes at {at} into {} bytes",
                from.len(),
                self.len
            );
            return;
        }
        #[cfg(test)]
        if crate::crash::is_dead_or_late_at_copy(|| self.write(at, &from[..from.len() / 2])) {
            return;
        }
        #[cfg(test)]
        if crate::model::is_active() {
            return crate::model::memory::write(self.address().addr() + at, from, |at| {
                self.unit(at)
            });
        }
        let to = self.address().wrapping_add(at);
        // SAFETY: `at .. at + len` lies inside this range (checked above) and so inside the mapping;
        // `from` is private memory of this process, so the two do not overlap. By protocol nobody else
        // writes there now; if somebody does all the same, bytes are wrong, and all are checked when
        // they are read.
        unsafe { copy(from.as_ptr(), to, from.len()) };
    }

    /// Sets all bytes to zero.
    pub fn clear(&self) {
        #[cfg(test)]
        if crate::crash::is_dead_or_late_at_copy(|| ()) {
            return;
        }
        #[cfg(test)]
        if crate::model::is_active() {
            let zeros = vec![0; self.len];
            return crate::model::memory::write(self.address().addr(), &zeros, |at| self.unit(at));
        }
        // SAFETY: the range lies inside the mapping (checked when it was made); as in `write`, nobody
        // else uses it now by protocol.
        unsafe { self.address().write_bytes(0, self.len) };
    }

    /// Appends `len` bytes from position `at` to `to`.
    ///
    /// # Errors
    /// When the range reaches outside, or is longer than this process's memory.
    #[inline]
    pub fn append_to(&self, at: usize, len: usize, to: &mut Vec<u8>) -> Result<(), Corrupted> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Corrupted::new("a record reaches outside its region"));
        }
        #[cfg(test)]
        if crate::model::is_active() {
            let mut bytes = vec![0; len];
            self.read(at, &mut bytes)?;
            to.extend_from_slice(&bytes);
            return Ok(());
        }
        to.try_reserve(len)
            .map_err(|_| Corrupted::new("a record is longer than memory"))?;
        let from = self.address().wrapping_add(at);
        let end = to.len();
        let space = to.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        // SAFETY: the source lies inside the mapping (checked above), the target is `len` bytes of
        // spare capacity (reserved above) of a private vector; they do not overlap.
        unsafe { copy(from, space, len) };
        // SAFETY: the `len` bytes after `end` were written by the line above and are within capacity.
        unsafe { to.set_len(end + len) };
        Ok(())
    }

    /// Copies bytes from position `at` into `to`.
    ///
    /// # Errors
    /// When the range reaches outside.
    #[inline]
    pub fn read(&self, at: usize, to: &mut [u8]) -> Result<(), Corrupted> {
        if at.checked_add(to.len()).is_none_or(|end| end > self.len) {
            return Err(Corrupted::new("a record reaches outside its region"));
        }
        #[cfg(test)]
        if crate::model::is_active() {
            crate::model::memory::read(self.address().addr() + at, to, |at| self.unit(at));
            return Ok(());
        }
        self.copy_to(at, to);
        Ok(())
    }

    /// Copies bytes from position `at` into memory that has not been written yet, and fills all of it.
    ///
    /// # Errors
    /// When the range reaches outside.
    pub fn read_new(&self, at: usize, to: &mut [MaybeUninit<u8>]) -> Result<(), Corrupted> {
        if at.checked_add(to.len()).is_none_or(|end| end > self.len) {
            return Err(Corrupted::new("a record reaches outside its region"));
        }
        let (from, space) = (self.address().wrapping_add(at), to.as_mut_ptr().cast());
        // SAFETY: the source lies inside the mapping (checked above); `to` is private memory.
        unsafe { std::ptr::copy_nonoverlapping(from, space, to.len()) };
        Ok(())
    }

    fn copy_to(&self, at: usize, to: &mut [u8]) {
        let from = self.address().wrapping_add(at);
        // SAFETY: the source lies inside the mapping (checked by the callers); `to` is private memory.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    }

    /// For a model: what the memory holds at an address.
    #[cfg(test)]
    fn unit<const N: usize>(&self, address: usize) -> [u8; N] {
        let offset = address - self.heap.mapping.base().as_ptr().addr();
        let mut bytes = [0; N];
        let unit = self.heap.bytes(offset, N).expect("around a checked range");
        unit.copy_to(0, &mut bytes);
        bytes
    }
}

/// Copies bytes that do not overlap; a few of them without a call.
///
/// # Safety
/// As for `copy_nonoverlapping`.
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    if !(8..=16).contains(&len) {
        // SAFETY: the caller's promise.
        return unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
    }
    // Two words, which overlap where there are fewer than sixteen bytes.
    let last = len - 8;
    // SAFETY: `len` bytes can be read at `from` (the caller's promise), which are at least eight.
    let head = unsafe { from.cast::<u64>().read_unaligned() };
    // SAFETY: as above; these are the last eight of them.
    let tail = unsafe { from.wrapping_add(last).cast::<u64>().read_unaligned() };
    // SAFETY: `len` bytes can be written at `to` (the caller's promise).
    unsafe { to.cast::<u64>().write_unaligned(head) };
    // SAFETY: as above.
    unsafe { to.wrapping_add(last).cast::<u64>().write_unaligned(tail) };
}
