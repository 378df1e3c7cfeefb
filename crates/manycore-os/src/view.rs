//! Private, writable views of ranges of the memory file.
//!
//! A view begins as the file's own pages, and no byte is copied to make it. A page that this process
//! writes becomes its own first (copy on write), so that writes are seen by nobody else, and a forked child has
//! a view that is private to it in turn. What the *file* is written meanwhile shows in pages that are
//! not written yet: whoever makes a view sees to it that nobody writes there while it lasts.
//!
//! The pages are not populated: a fault maps the neighbours, too, so that reading all of 64 MiB takes as long
//! either way, and who writes, or reads a part, is faster without.

use std::io;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::mapping::{Mapping, PAGE};

/// A view; dropping it takes it out of this process's memory.
pub struct PrivateView {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: the struct is an address and a length; what is at the address belongs to this value alone and is
// reached only by those whom its owner gives the address to.
unsafe impl Send for PrivateView {}
// SAFETY: as for `Send`; no method writes.
unsafe impl Sync for PrivateView {}

impl Mapping {
    /// A private view of `len` bytes from `offset` on, which is where a page begins. The pages have memory, and
    /// nobody writes them as long as the view lasts, in this process or in a child that is forked meanwhile.
    ///
    /// # Errors
    /// When the program has closed the descriptor, and when the system refuses: more memory than this process may
    /// have, or more mappings.
    pub fn private_view(&self, offset: usize, len: usize) -> io::Result<PrivateView> {
        let end = offset.checked_add(len).filter(|&end| end <= self.len());
        if end.is_none() || len == 0 || !offset.is_multiple_of(PAGE) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let fd = self.descriptor().ok_or(io::ErrorKind::NotFound)?;
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing in this process. The range
        // lies inside the file (checked above), which is sealed, so it stays there.
        let address = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
                fd,
                offset as u64,
            )
        }?;
        let address = NonNull::new(address.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(PrivateView { address, len })
    }
}

impl PrivateView {
    /// The first byte. Valid, for reading and writing, for [`PrivateView::len`] bytes as long as this value lives.
    #[must_use]
    pub fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a view has at least a byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for PrivateView {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping that `private_view` made for this value, which nobody uses any more:
        // whoever has the address keeps the value.
        let unmapped = unsafe { munmap(self.address.as_ptr().cast(), self.len) };
        debug_assert_eq!(unmapped, Ok(()), "a mapping of our own");
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{FromRawFd, OwnedFd};

    use super::*;
    use crate::fork::{By, in_child};
    use crate::process::{Exit, reap};

    const LEN: usize = 2 * PAGE + 1;

    fn written() -> Mapping {
        let map = Mapping::create(1 << 16).expect("a small file");
        map.back(0, 4 * PAGE).expect("four pages");
        assert!(map.write_fresh(PAGE, &[1; 3 * PAGE]));
        map
    }

    fn get(view: &PrivateView, at: usize) -> u8 {
        assert!(at < view.len());
        // SAFETY: inside the view, as was checked; nobody writes now.
        unsafe { view.address().as_ptr().wrapping_add(at).read_volatile() }
    }

    fn set(view: &PrivateView, at: usize, byte: u8) {
        assert!(at < view.len());
        // SAFETY: inside the view, as was checked; nobody reads now.
        unsafe {
            view.address()
                .as_ptr()
                .wrapping_add(at)
                .write_volatile(byte)
        }
    }

    #[test]
    fn what_is_written_to_a_view_is_seen_by_nobody_else() {
        let map = written();
        let (one, other) = (map.private_view(PAGE, LEN), map.private_view(PAGE, LEN));
        let (one, other) = (one.expect("room"), other.expect("room"));
        set(&one, LEN - 1, 2);
        assert_eq!((get(&one, LEN - 1), get(&other, LEN - 1)), (2, 1));
        drop(one);
        let again = map.private_view(PAGE, LEN).expect("room");
        assert_eq!(get(&again, LEN - 1), 1);
    }

    #[test]
    fn a_view_is_private_across_a_fork() {
        let map = written();
        let view = map.private_view(PAGE, LEN).expect("room");
        set(&view, 0, 2);
        let child = in_child(By::Fork, || {
            let found = (get(&view, 0), get(&view, PAGE));
            set(&view, 0, 3);
            i32::from(found == (2, 1) && get(&view, 0) == 3)
        });
        let exit = reap(child.expect("a process"), true).expect("ours");
        assert_eq!((exit, get(&view, 0)), (Some(Exit::Code(1)), 2));
    }

    #[test]
    fn a_view_of_what_is_no_part_of_the_file_is_refused() {
        let map = written();
        for (offset, len) in [(1, PAGE), (0, 0), (1 << 16, 1), (PAGE, usize::MAX)] {
            let kind = map
                .private_view(offset, len)
                .map(|_| ())
                .map_err(|e| e.kind());
            assert_eq!(kind, Err(io::ErrorKind::InvalidInput), "{offset} {len}");
        }
    }

    #[test]
    fn there_is_no_view_without_the_descriptor() {
        let map = written();
        // SAFETY: the number belongs to this test alone.
        drop(unsafe { OwnedFd::from_raw_fd(map.fd().expect("open")) });
        let kind = map
            .private_view(PAGE, LEN)
            .map(|_| ())
            .map_err(|e| e.kind());
        assert_eq!(kind, Err(io::ErrorKind::NotFound));
    }
}
