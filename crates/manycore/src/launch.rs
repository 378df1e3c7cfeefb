//! Starting processes and watching them, below the types of the public interface. `PROTOCOL.md` beside
//! this file has the steps of both sides.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manycore_ipc::ring::{Message, Shape};
use manycore_ipc::wait::Patience;
use manycore_ipc::{Family, HandleError, Hold};
use manycore_os::image::{self, Entry};
use manycore_os::process::{self, Exit};
use manycore_os::{Deadline, spawn};

use crate::codec::Encoded;
use crate::error::SpawnError;
use crate::family::{self, cut_lifeline, make_lifeline};
use crate::start::Start;
use crate::{init, transport};

/// Kinds of messages in the ring between a process and the one that started it.
pub(crate) mod kind {
    /// What to call: the tag is the entry's place, the payload its arguments.
    pub(crate) const CALL: u8 = 1;
    /// The call's answer.
    pub(crate) const ANSWER: u8 = 2;
    /// The call panicked.
    pub(crate) const PANIC: u8 = 3;
}

/// Between two looks at a process that the kernel offers no descriptor for.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A process that was started, and the ring between it and this one.
#[derive(Debug)]
pub(crate) struct Launched {
    pid: u32,
    lifeline: i32,
    ring: Hold,
    exit: Option<Exit>,
}

/// What is in the ring of a process that has ended.
#[derive(Debug)]
pub(crate) struct Left {
    /// See [`kind`].
    pub(crate) kind: u8,
    /// The message.
    pub(crate) message: Encoded,
}

/// Starts a process of this program that calls `entry`.
///
/// # Errors
/// When this program has not called `init`, or there is no room for one more process.
pub(crate) fn launch(entry: Entry, arguments: &Encoded) -> Result<Launched, SpawnError> {
    if !init::was_called() {
        return Err(SpawnError::NotInitialised);
    }
    collect_detached();
    let place = image::offset_of(entry).ok_or(SpawnError::NotInProgram)?;
    let family = family::family()?;
    let ring = family.make_ring(Shape::unbounded())?;
    let mut go_on = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
    let handles = arguments.handles();
    transport::send(
        &ring,
        kind::CALL,
        place,
        &handles,
        &arguments.bytes,
        &mut patience,
    )?;
    let (read_end, lifeline) = make_lifeline()?;
    match start(family, &ring, &read_end) {
        Ok(pid) => Ok(Launched {
            pid,
            lifeline,
            ring,
            exit: None,
        }),
        Err(error) => {
            cut_lifeline(lifeline);
            Err(error.into())
        }
    }
}

fn start(family: &Family, ring: &Hold, lifeline: &OwnedFd) -> std::io::Result<u32> {
    let heap = family.heap().mapping().duplicate()?;
    let (heap, lifeline) = (heap.as_raw_fd(), lifeline.as_raw_fd());
    let start = Start {
        heap,
        lifeline,
        build: image::build_id(),
        ring: ring.handle(),
    };
    let name = std::env::args_os()
        .next()
        .unwrap_or_else(|| OsString::from("manycore"));
    let program = Path::new("/proc/self/exe");
    spawn::spawn(program, &[name, start.to_argument()], &[heap, lifeline])
}

impl Launched {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends `SIGKILL`, unless the process is known to have ended.
    pub(crate) fn kill(&mut self) -> std::io::Result<()> {
        match self.exit {
            Some(_) => Ok(()), // its number may be another's by now
            None => process::kill(self.pid),
        }
    }

    /// Waits for the end of the process. What it left in shared memory is cleaned up then.
    pub(crate) fn wait_until(&mut self, until: Deadline) -> Option<Exit> {
        if self.exit.is_none() {
            self.exit = wait_for(self.pid, until);
            if self.exit.is_some() {
                cut_lifeline(self.lifeline);
                self.ring.family().reap_dead(true);
            }
        }
        self.exit
    }

    /// What the process, which has ended, left in the ring: its answer, or the call if it never took
    /// it.
    pub(crate) fn take_left(&self) -> Result<Option<Left>, HandleError> {
        let mut message = Message::default();
        let mut go_on = || true;
        let mut patience = Patience::new(Deadline::PASSED, &mut go_on);
        match transport::recv(&self.ring, &mut message, None, &mut patience) {
            Ok(holds) => {
                let bytes = std::mem::take(&mut message.payload);
                let kind = message.header.kind;
                Ok(Some(Left {
                    kind,
                    message: Encoded { bytes, holds },
                }))
            }
            Err(transport::RecvError::Heap(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }
}

fn wait_for(pid: u32, until: Deadline) -> Option<Exit> {
    if until == Deadline::NEVER {
        return collect(pid, true);
    }
    let mut pidfd = None;
    loop {
        let exit = collect(pid, false);
        if exit.is_some() || until.has_passed() {
            return exit;
        }
        match pidfd.get_or_insert_with(|| process::open(pid).ok()) {
            Some(pidfd) => {
                process::ended_within(pidfd, until.remaining_within(Duration::from_secs(1)));
            }
            None => std::thread::sleep(until.remaining_within(LOOK_AGAIN)),
        }
    }
}

fn collect(pid: u32, block: bool) -> Option<Exit> {
    process::reap(pid, block).unwrap_or(Some(Exit::Unknown))
}

/// Processes that nobody will join. They stay on their lifelines until they have ended.
static DETACHED: Mutex<Vec<Launched>> = Mutex::new(Vec::new());

/// The detached processes, locked; also from before a fork until after it.
pub(crate) fn detached() -> MutexGuard<'static, Vec<Launched>> {
    DETACHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets a process go on by itself.
pub(crate) fn detach(mut launched: Launched) {
    if launched.wait_until(Deadline::PASSED).is_none() {
        detached().push(launched);
    }
}

/// Collects detached processes that have ended.
pub(crate) fn collect_detached() {
    detached().retain_mut(|launched| launched.wait_until(Deadline::PASSED).is_none());
}
