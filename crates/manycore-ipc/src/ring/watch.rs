//! A descriptor for `select` and its kin.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use manycore_os::channel::Lent;
use manycore_os::{incarnation, token};

use super::outgoing::PutError;
use super::pollers::{Event, Poller};
use super::region::Ring;
use crate::wait::Patience;

/// A socket of this process that is readable while a ring has what it is for. It may be readable once too often.
/// Whoever takes from the ring, or finds nothing there, calls [`Watch::renew`].
#[derive(Debug)]
pub struct Watch {
    socket: Lent,
    event: Event,
    poller: Poller,
    name: String,
    incarnation: u64,
}

/// Why a ring cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The system refuses the socket, or the program closed it.
    #[error(transparent)]
    Os(#[from] io::Error),
    /// The ring cannot be asked.
    #[error(transparent)]
    Ring(#[from] PutError),
}

impl Watch {
    /// A socket that is readable while the event is true. Call [`Watch::renew`] before it is used.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn new(ring: &Ring, event: Event) -> Result<Self, WatchError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed); // only has to be another one each time
        let poller = Poller::new(ring.me(), number);
        let name = poller.name(ring.blocks.heap.header().family());
        Ok(Self {
            socket: Lent::new(token::receiver(name.as_bytes())?)?,
            event,
            poller,
            name,
            incarnation: incarnation::id(),
        })
    }

    /// The socket's number, for a program to poll.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.socket.number()
    }

    /// The socket itself.
    ///
    /// # Errors
    /// When the program closed it.
    pub fn socket(&self) -> io::Result<BorrowedFd<'_>> {
        self.socket.get()
    }

    /// Whether this process made it: a forked child needs its own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.incarnation == incarnation::id()
    }

    /// Whether the socket is readable now.
    ///
    /// # Errors
    /// When the program closed it.
    pub fn is_readable(&self) -> io::Result<bool> {
        token::is_readable(self.socket.get()?)
    }

    /// Makes the socket readable if the event is true now, and asks for a token if it is not.
    ///
    /// # Errors
    /// When that is impossible. If it is the ring that cannot be asked, the socket is readable.
    pub fn renew(&self, ring: &Ring, patience: &mut Patience<'_>) -> Result<(), WatchError> {
        let socket = self.socket.get()?;
        // Before it is asked for: a token that comes now is for what is found in the ring.
        token::drain(socket)?;
        let is_true = ring.arm(self.event, self.poller, patience);
        // Whoever cannot ask looks again: better once too often than never.
        if is_true != Ok(false) {
            let _ = token::send(socket, self.name.as_bytes())?; // this socket is there
        }
        Ok(is_true.map(drop)?)
    }
}
