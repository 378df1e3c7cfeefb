//! The beginning of every process.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use manycore_ipc::ring::Message;
use manycore_ipc::wait::Patience;
use manycore_ipc::{FamilyError, HandleError, Hold, Kind};
use manycore_os::{Deadline, channel, image, lifeline};

use crate::call;
use crate::codec::{self, Encoded};
use crate::family;
use crate::launch::kind;
use crate::start::Start;
use crate::sync;
use crate::transport::{self, SendError};

static WAS_CALLED: AtomicBool = AtomicBool::new(false);

/// What a Rust program exits with when its main thread has panicked.
const PANICKED: i32 = 101;
/// `EX_SOFTWARE` of `<sysexits.h>`: the process could not begin.
const NOT_STARTED: i32 = 70;

/// Makes this program one that manycore can start processes of. Call it first in `main`.
///
/// A process that [`Process::spawn`](crate::Process::spawn) starts is another run of this program. In
/// such a process `init` calls the function that was passed to `spawn`, delivers what it returned and
/// ends the process: it does not return, and nothing after it in `main` runs there. What stands before
/// it runs in every process. In an ordinary run of the program it does nothing but remember that it
/// was called.
///
/// Under `cargo test` the program is the test's, and its `main` that of the harness, which does not know of this: tests
/// that start processes have a `main` of their own, by `harness = false` in their `[[test]]` section.
///
/// ```
/// use manycore::Process;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let other = Process::spawn(|()| std::process::id(), ())?;
///     assert_ne!(other.join()?, std::process::id());
///     Ok(())
/// }
/// ```
pub fn init() {
    WAS_CALLED.store(true, Relaxed); // a flag that guards no other memory
    match std::env::args_os()
        .nth(1)
        .as_deref()
        .and_then(Start::from_argument)
    {
        None => {}
        Some(Some(start)) => serve(start),
        Some(None) => give_up(&"the command line is not one that manycore has written"),
    }
}

/// Whether [`init`] was called in this process.
pub(crate) fn was_called() -> bool {
    WAS_CALLED.load(Relaxed)
}

/// The life of a started process.
fn serve(start: Start) -> ! {
    match begin(start) {
        Ok(beginning) => {
            let status = beginning.serve();
            // Without goodbye it counts as killed, and what a thread of it still holds is handed on.
            if let Some(family) = family::existing().filter(|_| !sync::are_any_held()) {
                family.leave();
            }
            std::process::exit(status) // flushes standard output
        }
        Err(error) => give_up(&error),
    }
}

fn give_up(why: &dyn std::fmt::Display) -> ! {
    eprintln!("manycore: cannot start this process: {why}");
    std::process::exit(NOT_STARTED)
}

/// Why a started process cannot do what it was started for.
#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error("a descriptor was not inherited: {0}")]
    Descriptor(#[from] std::io::Error),
    #[error("the program's file was replaced by another build")]
    OtherBuild,
    #[error("the process that started it left no call")]
    NoCall,
    #[error(transparent)]
    Family(#[from] FamilyError),
    #[error(transparent)]
    Handle(#[from] HandleError),
}

/// A process that has what it needs.
struct Beginning {
    ring: Hold,
    entry: image::Entry,
    arguments: Encoded,
}

fn begin(start: Start) -> Result<Beginning, BeginError> {
    lifeline::arm(channel::inherited(start.lifeline)?)?;
    let family = family::join(channel::inherited(start.heap)?)?;
    if start.build != image::build_id() {
        return Err(BeginError::OtherBuild);
    }
    let ring = family.hold(start.ring, Kind::Ring)?;
    let mut message = Message::default();
    let mut go_on = || true;
    // It was there before this process was.
    let mut patience = Patience::new(Deadline::PASSED, &mut go_on);
    let holds = transport::recv(&ring, &mut message, None, &mut patience)
        .map_err(|_| BeginError::NoCall)?;
    let entry = image::resolve(message.header.tag).filter(|_| message.header.kind == kind::CALL);
    let entry = entry.ok_or(BeginError::NoCall)?;
    let bytes = std::mem::take(&mut message.payload);
    Ok(Beginning {
        ring,
        entry,
        arguments: Encoded { bytes, holds },
    })
}

impl Beginning {
    /// Calls the function and delivers what came of it; returns the exit status.
    fn serve(self) -> i32 {
        let Self {
            ring,
            entry,
            arguments,
        } = self;
        match call::run(entry, arguments) {
            Ok(answer) => {
                deliver_answer(&ring, &answer);
                0
            }
            Err(panic) => {
                let panic = codec::encode(&panic).expect("two texts can always be encoded");
                let _ = deliver(&ring, kind::PANIC, &panic); // standard error has it all the same
                PANICKED
            }
        }
    }
}

fn deliver_answer(ring: &Hold, answer: &Encoded) {
    if let Err(error) = deliver(ring, kind::ANSWER, answer) {
        let why = crate::error::SendError::from(error).to_string();
        // A short text needs no new memory. If it does not arrive either, the exit status is zero, and
        // that is what the other side is told.
        let _ = deliver(ring, kind::ANSWER, &call::refusal(why));
    }
}

fn deliver(ring: &Hold, kind: u8, message: &Encoded) -> Result<(), SendError> {
    let mut go_on = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
    transport::send(
        ring,
        kind,
        0,
        &message.handles(),
        &message.bytes,
        &mut patience,
    )
}
