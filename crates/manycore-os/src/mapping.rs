//! The one mapping of a family: an anonymous, sealed, sparse memory file, mapped shared.
//!
//! The mapping is made once per process and never undone, so addresses inside it stay valid for the
//! life of the process. The file cannot shrink or grow (it is sealed), so no access inside it is out of
//! range; a page that no memory can be found for would be `SIGBUS`, which is why [`Mapping::back`]
//! reserves memory before a page is first touched.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
    ftruncate, memfd_create,
};
use rustix::io::{Errno, pwrite};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};
use rustix::process::{Resource, getrlimit};

use crate::channel::Lent;
use crate::feature::{NOEXEC_SEAL, POPULATE_WRITE};

const NOEXEC_SEAL_FLAG: u32 = 8;

/// Bytes of a page; the unit in which memory is backed and given back.
pub const PAGE: usize = 4096;

/// What the kernel calls the file.
pub(crate) const NAME: &str = "manycore-heap";

/// The mapping and the descriptor behind it.
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    file: (u64, u64),
    fd: Option<Lent>,
}

// SAFETY: the struct is an address, a length and a descriptor number; what is at the address is
// shared with other processes anyway and reached only through the checked views of the layer above.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Makes a new file of `len` bytes, of which none is backed by memory yet, and maps it.
    ///
    /// # Errors
    /// When the address space or the system refuses; the caller may try a smaller `len`.
    pub fn create(len: usize) -> io::Result<Self> {
        if !is_within_file_limit(len as u64) {
            return Err(Errno::FBIG.into());
        }
        let fd = memory_file()?;
        ftruncate(&fd, len as u64)?;
        fcntl_add_seals(&fd, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Self::map(fd, len, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// Maps the file of an existing family.
    ///
    /// # Errors
    /// When the descriptor is not a sealed memory file of this kind.
    pub fn attach(fd: OwnedFd) -> io::Result<Self> {
        let len = sealed_len(&fd)?;
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        Self::map(fd, len, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// Maps the file of another family to look at it. Whoever writes there ends with `SIGSEGV`. The descriptor is
    /// not needed afterwards.
    ///
    /// # Errors
    /// As [`Mapping::attach`].
    pub fn look_at(fd: OwnedFd) -> io::Result<Self> {
        let len = sealed_len(&fd)?;
        let mapping = Self::map(fd, len, ProtFlags::READ)?;
        Ok(Self {
            fd: None,
            ..mapping
        })
    }

    fn map(fd: OwnedFd, len: usize, protection: ProtFlags) -> io::Result<Self> {
        let fd = Lent::new(fd)?;
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing in this process.
        let address = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED | MapFlags::NORESERVE,
                fd.get()?,
                0,
            )
        }?;
        // SAFETY: the range is the mapping made above; leaving it out of core dumps touches no byte.
        let _ = unsafe { madvise(address, len, Advice::LinuxDontDump) };
        let base = NonNull::new(address.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            base,
            len,
            file: fd.file(),
            fd: Some(fd),
        })
    }

    /// The first byte. Valid for [`Mapping::len`] bytes, for the life of the process.
    #[inline]
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes mapped.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a mapping has at least a page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Device and inode of the file, as `/proc/PID/maps` has them.
    #[must_use]
    pub fn file(&self) -> (u64, u64) {
        self.file
    }

    /// The descriptor's number, if it still is this file: programs close and reuse descriptors.
    #[must_use]
    pub fn fd(&self) -> Option<RawFd> {
        self.descriptor().map(|fd| fd.as_raw_fd())
    }

    /// The descriptor, on the same condition.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref()?.get().ok()
    }

    fn range(&self, offset: usize, len: usize) -> io::Result<*mut std::ffi::c_void> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.base.as_ptr().wrapping_add(offset).cast())
    }

    /// Reserves memory for a range of pages, so that touching them cannot fail. Pages that have memory
    /// keep it.
    ///
    /// # Errors
    /// When there is not enough memory; a part of the range may have been backed then. And when there is no
    /// way, see [`Mapping::can_back`].
    pub fn back(&self, offset: usize, len: usize) -> io::Result<()> {
        let address = self.range(offset, len)?;
        if let Some(fd) = self.descriptor() {
            return back_in_pieces(fd, offset, len);
        }
        if !POPULATE_WRITE.is_present() {
            return Err(Errno::NOSYS.into());
        }
        // SAFETY: the range lies inside the mapping; populating changes no byte.
        let populated = unsafe { madvise(address, len, Advice::LinuxPopulateWrite) };
        Ok(populated.inspect_err(|&error| {
            POPULATE_WRITE.note(error);
        })?)
    }

    /// Whether [`Mapping::back`] has a way: older kernels need the descriptor, which the program may have
    /// closed.
    #[must_use]
    pub fn can_back(&self) -> bool {
        self.fd().is_some() || POPULATE_WRITE.is_present()
    }

    /// Touches every page of a backed range, so that later writes take no page fault.
    pub fn populate(&self, offset: usize, len: usize) {
        let Ok(address) = self.range(offset, len) else {
            return;
        };
        if !POPULATE_WRITE.is_present() {
            return;
        }
        // SAFETY: the range lies inside the mapping; populating changes no byte.
        if let Err(error) = unsafe { madvise(address, len, Advice::LinuxPopulateWrite) } {
            POPULATE_WRITE.note(error);
        }
    }

    /// Gives the memory of a range back to the system; its bytes read as zero afterwards.
    ///
    /// # Errors
    /// When the kernel cannot punch holes in this kind of file.
    pub fn punch(&self, offset: usize, len: usize) -> io::Result<()> {
        let address = self.range(offset, len)?;
        // SAFETY: the range lies inside the mapping, and the caller owns its bytes (an allocator state
        // that nobody else takes) and does not need them any more.
        Ok(unsafe { madvise(address, len, Advice::LinuxRemove) }?)
    }

    /// Writes bytes into pages that nobody has touched yet: about three times as fast as storing
    /// there, which faults and clears each page first. `false` when the descriptor is gone.
    #[must_use]
    pub fn write_fresh(&self, mut offset: usize, mut bytes: &[u8]) -> bool {
        let Some(fd) = self.descriptor() else {
            return false;
        };
        if !is_within_file_limit((offset + bytes.len()) as u64) {
            return false;
        }
        while !bytes.is_empty() {
            match pwrite(fd, bytes, offset as u64) {
                Ok(0) => return false,
                Ok(n) => {
                    offset += n;
                    bytes = bytes.get(n..).unwrap_or_default();
                }
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// A duplicate of the descriptor for a child; closed on `exec` unless the spawner keeps it.
    ///
    /// # Errors
    /// When the program has closed the family's descriptor.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        let fd = self.descriptor().ok_or_else(|| {
            io::Error::other(
                "the descriptor of the shared heap was closed by this program, and a fresh process needs it: \
                 leave open what the program did not open itself, or start processes by fork",
            )
        })?;
        fd.as_fd().try_clone_to_owned()
    }
}

/// The length of a memory file that nobody can make shorter or longer any more.
///
/// # Errors
/// When it is another kind of file.
pub fn sealed_len(fd: &OwnedFd) -> io::Result<usize> {
    let seals = fcntl_get_seals(fd)?;
    if !seals.contains(SealFlags::GROW | SealFlags::SHRINK) {
        return Err(io::Error::other("not a sealed memory file"));
    }
    usize::try_from(fstat(fd)?.st_size).map_err(io::Error::other)
}

/// The kernel undoes an interrupted allocation as a whole, so a long one would never end in a program
/// with a fast interval timer: pieces of this size end between two signals.
const PIECE: usize = 2 << 20;

fn back_in_pieces(fd: BorrowedFd<'_>, offset: usize, len: usize) -> io::Result<()> {
    let (mut at, end) = (offset as u64, (offset + len) as u64);
    while at < end {
        let piece = (end - at).min(PIECE as u64);
        match fallocate(fd, FallocateFlags::KEEP_SIZE, at, piece) {
            Ok(()) => at += piece,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether a file may be written up to `end`. The kernel does not only refuse what lies beyond the limit:
/// it sends `SIGXFSZ`, which ends a program that does not expect it.
fn is_within_file_limit(end: u64) -> bool {
    let limit = getrlimit(Resource::Fsize).current;
    limit.is_none_or(|most| end <= most)
}

fn memory_file() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    if NOEXEC_SEAL.is_present() {
        let sealed = flags | MemfdFlags::from_bits_retain(NOEXEC_SEAL_FLAG);
        match memfd_create(NAME, sealed) {
            Ok(fd) => return Ok(above_standard(fd)),
            Err(error) if NOEXEC_SEAL.note(error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(above_standard(memfd_create(NAME, flags)?))
}

/// Moves a descriptor out of the low numbers, where programs that shuffle descriptors look first.
fn above_standard(fd: OwnedFd) -> OwnedFd {
    // SAFETY: a plain fcntl on an open descriptor.
    let moved = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 100) };
    if moved >= 0 {
        // SAFETY: `moved` is no error (checked above), so it is a descriptor that the kernel has just
        // opened for this call: nothing else owns it.
        unsafe { OwnedFd::from_raw_fd(moved) }
    } else {
        fd
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::Rlimit;

    use super::*;
    use crate::fork::{By, in_child};
    use crate::process::{Exit, reap};

    #[test]
    fn two_mappings_of_one_file_share_their_bytes() {
        let a = Mapping::create(1 << 20).expect("a small file");
        let b = Mapping::attach(a.duplicate().expect("open")).expect("sealed");
        a.back(0, PAGE).expect("one page");
        assert!(a.write_fresh(8, b"hello"));
        let mut seen = [0_u8; 5];
        for (i, byte) in seen.iter_mut().enumerate() {
            // SAFETY: inside the mapping, backed above; nobody writes now.
            *byte = unsafe { b.base().as_ptr().wrapping_add(8 + i).read_volatile() };
        }
        assert_eq!(&seen, b"hello");
        a.punch(0, PAGE).expect("memory files have holes");
        // SAFETY: as above; a hole reads as zeros.
        let byte = unsafe { b.base().as_ptr().wrapping_add(8).read_volatile() };
        assert_eq!(byte, 0);
    }

    #[test]
    fn a_range_outside_is_refused() {
        let map = Mapping::create(1 << 16).expect("a small file");
        assert!(map.back(1 << 16, PAGE).is_err());
        assert!(map.punch(usize::MAX, 2).is_err());
    }

    #[test]
    fn a_closed_descriptor_is_noticed_and_memory_is_backed_without_it_where_the_kernel_can() {
        let map = Mapping::create(1 << 16).expect("a small file");
        let fd = map.fd().expect("open");
        // SAFETY: the number belongs to this test alone.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        assert_eq!(map.fd(), None);
        let is_backed = map.back(0, PAGE).is_ok(); // populated through the mapping
        assert_eq!(map.can_back(), is_backed);
        assert!(map.duplicate().is_err());
    }

    #[test]
    fn signals_do_not_keep_memory_from_being_backed() {
        extern "C" fn ignore(_: libc::c_int) {}
        let interval = |microseconds| libc::itimerval {
            it_interval: libc::timeval {
                tv_sec: 0,
                tv_usec: microseconds,
            },
            it_value: libc::timeval {
                tv_sec: 0,
                tv_usec: microseconds,
            },
        };
        let handler: extern "C" fn(libc::c_int) = ignore;
        // SAFETY: the handler does nothing; no other test of this crate uses the signal.
        unsafe { libc::signal(libc::SIGALRM, handler as libc::sighandler_t) };
        // SAFETY: a timer of this process, stopped below.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &interval(500), std::ptr::null_mut()) };
        let map = Mapping::create(256 << 20).expect("address space");
        let outcome = map.back(0, 128 << 20);
        // SAFETY: as above.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &interval(0), std::ptr::null_mut()) };
        map.punch(0, 128 << 20).expect("memory files have holes");
        outcome.expect("interrupted, but not for ever");
    }

    #[test]
    fn a_limit_on_file_sizes_is_an_error_and_no_signal() {
        let child = in_child(By::Fork, || {
            let map = Mapping::create(1 << 16).expect("a small file");
            let limit = getrlimit(Resource::Fsize);
            let current = Some(1 << 15);
            rustix::process::setrlimit(Resource::Fsize, Rlimit { current, ..limit })
                .expect("lower than it was");
            let beyond = Mapping::create(1 << 16)
                .err()
                .and_then(|e| e.raw_os_error());
            map.back(0, 1 << 16).expect("the file has that length");
            let fresh = (
                map.write_fresh(0, &[1; PAGE]),
                map.write_fresh(1 << 15, &[1]),
            );
            i32::from((beyond, fresh) == (Some(libc::EFBIG), (true, false)))
        });
        let exit = reap(child.expect("a process"), true).expect("ours");
        assert_eq!(exit, Some(Exit::Code(1)));
    }

    #[test]
    fn any_other_file_is_refused() {
        let (read, _write) = crate::channel::pipe().expect("two descriptors");
        assert!(Mapping::attach(read).is_err());
    }

    #[test]
    fn a_file_that_may_still_shrink_is_refused_also_by_who_only_looks() {
        let unsealed = memory_file().expect("a small file");
        ftruncate(&unsealed, 1 << 16).expect("it has no seals");
        let again = unsealed.try_clone().expect("open");
        assert!(Mapping::look_at(again).is_err());
        assert!(Mapping::attach(unsealed).is_err());
    }
}
