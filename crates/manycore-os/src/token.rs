//! Tokens: empty datagrams that make a socket of another process readable.
//!
//! A socket that others can find has a name in the kernel's abstract namespace, which leaves nothing on disk and
//! ends with the socket. Only processes in the same network namespace find it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, recv,
    sendto, socket_with,
};

/// What became of a token.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The socket is readable.
    Arrived,
    /// There is no socket of that name any more.
    Nowhere,
}

fn datagrams() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        flags,
        None,
    )?)
}

/// A socket that becomes readable when somebody sends a token to `name`.
///
/// # Errors
/// When the process is out of descriptors, or the system refuses such sockets.
pub fn receiver(name: &[u8]) -> io::Result<OwnedFd> {
    let socket = datagrams()?;
    bind(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
    Ok(socket)
}

/// A socket to send tokens from.
///
/// # Errors
/// As for [`receiver`].
pub fn sender() -> io::Result<OwnedFd> {
    datagrams()
}

/// Makes the socket `name` readable. Does not wait.
///
/// # Errors
/// When the system refuses it.
pub fn send(from: impl AsFd, name: &[u8]) -> io::Result<Sent> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match sendto(from, &[0], flags, &SocketAddrUnix::new_abstract_name(name)?) {
        // Full: there are tokens in it already.
        Ok(_) | Err(Errno::AGAIN) => Ok(Sent::Arrived),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(Sent::Nowhere),
        Err(error) => Err(error.into()),
    }
}

/// Takes all tokens out of a socket.
///
/// # Errors
/// When it is none.
pub fn drain(socket: impl AsFd) -> io::Result<()> {
    loop {
        match recv(&socket, &mut [0; 1], RecvFlags::DONTWAIT) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a descriptor is readable now.
///
/// # Errors
/// When it is closed.
pub fn is_readable(fd: impl AsFd) -> io::Result<bool> {
    let mut polled = [PollFd::new(&fd, PollFlags::IN)];
    Ok(poll(&mut polled, Some(&Timespec::default()))? == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(what: &str) -> Vec<u8> {
        format!("manycore-test-{}-{what}", std::process::id()).into_bytes()
    }

    #[test]
    fn a_token_makes_a_socket_readable_until_it_is_taken() {
        let socket = receiver(&name("readable")).expect("a free name");
        let from = sender().expect("a descriptor");
        assert!(!is_readable(&socket).expect("open"));
        for _ in 0..1000 {
            assert_eq!(
                send(&from, &name("readable")).expect("allowed"),
                Sent::Arrived
            );
        }
        assert!(is_readable(&socket).expect("open"));
        drain(&socket).expect("a socket");
        assert!(!is_readable(&socket).expect("open"));
    }

    #[test]
    fn a_socket_that_is_gone_is_no_error() {
        drop(receiver(&name("gone")).expect("a free name"));
        let from = sender().expect("a descriptor");
        assert_eq!(send(&from, &name("gone")).expect("allowed"), Sent::Nowhere);
    }
}
