//! Plain descriptors.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use rustix::pipe::{PipeFlags, pipe_with};

/// A pipe: its read end and its write end, both closed on `exec`.
///
/// # Errors
/// When the process or the system is out of descriptors.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

/// Device and inode of what an open descriptor refers to: the same numbers mean the same file.
///
/// # Errors
/// When the descriptor is closed.
pub fn identity(fd: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Takes over a descriptor that whoever started this program left open for it under this number. To
/// be called once for each number, before the program opens anything itself.
///
/// # Errors
/// When nothing is open under the number.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    use std::os::fd::{BorrowedFd, FromRawFd};
    if fd < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is not -1; the borrow is used for one `fcntl`, which refuses a closed one.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: the descriptor is open (the line above), and by the rule above nobody in this process
    // owns it yet: it came with `exec`.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes a descriptor by number, if it is still the file with this identity.
pub fn close_if_same(fd: RawFd, expected: (u64, u64)) {
    use std::os::fd::{BorrowedFd, FromRawFd};
    if fd < 0 {
        return;
    }
    // SAFETY: the number is not -1; the borrow is used for one `fstat`, which refuses a closed one.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    if identity(borrowed).is_ok_and(|found| found == expected) {
        // SAFETY: the descriptor is open and refers to the file that the caller owns under this number.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}
