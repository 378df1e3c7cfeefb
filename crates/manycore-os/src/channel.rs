//! Plain descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::pipe::{PipeFlags, pipe_with};

/// A pipe: its read end and its write end, both closed on `exec`.
///
/// # Errors
/// When the process or the system is out of descriptors.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

/// Two connected sockets, both closed on `exec`: each says when the other is closed in all processes.
///
/// # Errors
/// As for [`pipe`].
pub fn line() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

/// Whether the other end of a [`line()`] is closed in all processes.
pub fn is_hung_up(line: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&line, PollFlags::empty())];
    let found = poll(&mut polled, Some(&Timespec::default()));
    found.is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

/// A descriptor that is readable when the first of these is, or when the second, a [`line()`], is hung up.
///
/// # Errors
/// As for [`pipe`], and when one of them is closed.
pub fn gather(readable: impl AsFd, line: impl AsFd) -> io::Result<OwnedFd> {
    let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64(0); // nobody asks which it was
    epoll::add(&both, readable, data, epoll::EventFlags::IN)?;
    epoll::add(&both, line, data, epoll::EventFlags::RDHUP)?;
    Ok(both)
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

/// A descriptor that a program is given the number of, so that it may close it and reuse the number.
#[derive(Debug)]
pub struct Lent {
    fd: RawFd,
    file: (u64, u64),
}

impl Lent {
    /// Lends a descriptor out.
    ///
    /// # Errors
    /// When the system does not say which file it is.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let file = identity(&fd)?;
        Ok(Self {
            fd: fd.into_raw_fd(),
            file,
        })
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.fd
    }

    /// Device and inode of its file.
    #[must_use]
    pub fn file(&self) -> (u64, u64) {
        self.file
    }

    /// The descriptor, if its number still is that file.
    ///
    /// # Errors
    /// When it was closed.
    pub fn get(&self) -> io::Result<BorrowedFd<'_>> {
        // SAFETY: the number came from an open descriptor, so it is not -1; the borrow is used only if an
        // `fstat` finds the same file under it.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        match identity(fd) {
            Ok(file) if file == self.file => Ok(fd),
            _ => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.get().is_ok() {
            // SAFETY: the descriptor is open and the very one that was lent out (the line above).
            drop(unsafe { OwnedFd::from_raw_fd(self.fd) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_line_says_when_its_other_end_is_closed_everywhere() {
        let (ours, theirs) = line().expect("descriptors");
        let (silent, _talks) = pipe().expect("descriptors");
        let both = gather(&silent, &ours).expect("open");
        let copy = theirs.try_clone().expect("a descriptor");
        drop(theirs);
        assert!(!is_hung_up(&ours) && !crate::token::is_readable(&both).expect("open"));
        drop(copy);
        assert!(is_hung_up(&ours) && crate::token::is_readable(&both).expect("open"));
    }

    #[test]
    fn a_lent_descriptor_that_was_closed_is_not_used() {
        let (read, _write) = pipe().expect("descriptors");
        let lent = Lent::new(read).expect("open");
        assert_eq!(lent.get().expect("open").as_raw_fd(), lent.number());
        // SAFETY: it is open, and nobody uses it any more: the program that was lent the number closes it.
        drop(unsafe { OwnedFd::from_raw_fd(lent.number()) });
        assert!(lent.get().is_err());
    }
}
