//! Starting processes and watching them, below the types of the public interface. `PROTOCOL.md` beside
//! this file has the steps of both sides.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manycore_ipc::ring::{Message, Shape};
use manycore_ipc::wait::Patience;
use manycore_ipc::{Family, Handle, HandleError, Hold, Kind};
use manycore_os::image::{self, Entry};
use manycore_os::process::{self, Exit, Identity};
use manycore_os::{Deadline, lifeline, spawn};

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
        Ok(pid) => {
            let starting = Starting {
                pid,
                ring: ring.handle(),
            };
            children().starting.push(starting);
            Ok(Launched {
                pid,
                lifeline,
                ring,
                exit: None,
            })
        }
        Err(error) => {
            cut_lifeline(lifeline);
            Err(error.into())
        }
    }
}

fn start(family: &Family, ring: &Hold, lifeline: &OwnedFd) -> std::io::Result<u32> {
    let heap = family.heap().mapping().duplicate()?;
    let start = Start {
        heap: heap.as_raw_fd(),
        lifeline: lifeline.as_raw_fd(),
        build: image::build_id(),
        ring: ring.handle(),
    };
    let name = std::env::args_os()
        .next()
        .unwrap_or_else(|| OsString::from("manycore"));
    let program = Path::new("/proc/self/exe");
    let pid = spawn::spawn(
        program,
        &[name, start.to_argument()],
        &[heap.as_raw_fd(), lifeline.as_raw_fd()],
    )?;
    // The child does so itself in `init`, and says so when it cannot; until then it has to load its program.
    let _ = lifeline::arm_for(lifeline.as_fd(), pid);
    Ok(pid)
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
                take_call_back(&self.ring);
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

/// Takes the call of a process that has ended out of its ring, if it is still there: what is in it would count
/// as in flight for as long as the ring is held, and a channel whose end is in it would stay open. An empty one is
/// put in its place first, which says that the process never took its call.
fn take_call_back(ring: &Hold) {
    if ring.ring().is_ok_and(|ring| ring.taken() == 0) {
        let mut go_on = || true;
        let mut patience = Patience::new(Deadline::PASSED, &mut go_on);
        // For who finds an answer in its place nothing changes: it stays in front.
        let _ = transport::send(ring, kind::CALL, 0, &[], &[], &mut patience);
        let _ = transport::recv(ring, &mut Message::default(), None, &mut patience);
    }
}

/// A process that had not taken its call when somebody looked last.
pub(crate) struct Starting {
    pid: u32,
    ring: Handle,
}

impl Starting {
    /// Whether the process has taken its call or never will. If it never will, the call is taken back.
    fn is_over(&self) -> bool {
        let held = family::existing().map(|family| family.hold(self.ring, Kind::Ring));
        let Some(Ok(ring)) = held else {
            return true; // it was joined
        };
        let is_taken = ring.ring().map_or(true, |ring| ring.taken() > 0);
        let (pid, start) = (self.pid, 0); // a later process under this number only hides the end of this one
        let is_over = is_taken || process::has_ended(Identity { pid, start });
        if is_over {
            take_call_back(&ring);
        }
        is_over
    }
}

/// The processes that this one has started, as far as the process itself has to look after them.
#[derive(Default)]
pub(crate) struct Children {
    /// Those that nobody will join. They stay on their lifelines until they have ended.
    detached: Vec<Launched>,
    starting: Vec<Starting>,
}

static CHILDREN: Mutex<Children> = Mutex::new(Children {
    detached: Vec::new(),
    starting: Vec::new(),
});

/// The children, locked; also from before a fork until after it.
pub(crate) fn children() -> MutexGuard<'static, Children> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets a process go on by itself.
pub(crate) fn detach(mut launched: Launched) {
    if launched.wait_until(Deadline::PASSED).is_none() {
        children().detached.push(launched);
    }
}

/// Collects detached processes that have ended.
pub(crate) fn collect_detached() {
    let mut children = children();
    let is_running = |launched: &mut Launched| launched.wait_until(Deadline::PASSED).is_none();
    children.detached.retain_mut(is_running);
    children.starting.retain(|starting| !starting.is_over());
}

/// Takes back the calls of processes that have ended before they took them. For who waits for the end of a
/// channel, and may be the one who would join them.
pub(crate) fn look_after_starting() {
    children().starting.retain(|starting| !starting.is_over());
}
