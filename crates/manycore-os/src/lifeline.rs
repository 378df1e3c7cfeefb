//! A lifeline: a pipe whose read end kills its holder when the last write end is gone.
//!
//! The write end is held by the owner process alone. The child arms the read end with
//! `O_ASYNC` and `F_SETSIG(SIGKILL)`: the hang-up that the kernel reports when the owner has ended,
//! however it ended, is delivered as `SIGKILL`, which neither blocked signals nor a loop in C stop.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_setfd};

/// Makes the calling process die when the last write end of this pipe is closed. The descriptor is
/// kept open for the life of the process, also as another program.
///
/// # Errors
/// When the kernel refuses asynchronous notification on the descriptor.
pub fn arm(read_end: OwnedFd) -> io::Result<()> {
    arm_for(read_end.as_fd(), std::process::id())?;
    fcntl_setfd(&read_end, FdFlags::empty())?;
    // The owner may have ended before the arming: then no notification comes, but a read says so.
    let mut byte = [0_u8];
    if matches!(rustix::io::read(&read_end, &mut byte), Ok(0)) {
        crate::process::kill_self();
    }
    std::mem::forget(read_end);
    Ok(())
}

/// Makes another process, which has inherited this read end, die in the same way: the arming is the pipe's
/// and not the descriptor's, so whoever has a copy can do it. For a child that cannot yet: the kernel is still
/// loading its program, or that does not know of lifelines.
///
/// # Errors
/// When the kernel refuses asynchronous notification on the descriptor.
pub fn arm_for(read_end: BorrowedFd<'_>, pid: u32) -> io::Result<()> {
    let fd = read_end.as_raw_fd();
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: a plain fcntl with an integer argument on a descriptor that is open.
    check(unsafe { libc::fcntl(fd, libc::F_SETOWN, pid) })?;
    // SAFETY: as above; F_SETSIG chooses the signal of the notification.
    check(unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGKILL) })?;
    let flags = fcntl_getfl(read_end)?;
    fcntl_setfl(
        read_end,
        flags | OFlags::from_bits_retain(libc::O_ASYNC as u32) | OFlags::NONBLOCK,
    )?;
    Ok(())
}

/// `F_SETSIG` of `<fcntl.h>`; the `libc` crate does not name it on every target.
const F_SETSIG: libc::c_int = 10;

fn check(rc: libc::c_int) -> io::Result<()> {
    if rc == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
