//! What a worker process of a [`Pool`](crate::Pool) does. The other side is in `owner.rs`, the steps of
//! both in `PROTOCOL.md`.

use manycore_ipc::ring::{GetError, Message, Outgoing};
use manycore_ipc::wait::Patience;
use manycore_ipc::{Family, Handle, HandleError};
use manycore_os::image::{self, Entry};
use manycore_os::{Deadline, process};
use serde::{Deserialize, Serialize};

use super::Seat;
use super::crew::SeatHandles;
use super::seat::LEAVE;
use crate::codec::{self, Encoded};
use crate::panic::Panic;
use crate::transport::SendError;
use crate::{call, family, transport};

/// Kinds of messages between a pool and its workers.
pub(super) mod kind {
    /// Encoded arguments, and behind them the place of the entry to call.
    pub(crate) const TASK: u8 = 1;
    /// A task's answer.
    pub(crate) const ANSWER: u8 = 2;
    /// A task has panicked.
    pub(crate) const PANIC: u8 = 3;
}

/// Index and generation of an object of the family. The owner keeps it while it has workers.
type Object = (u32, u32);

/// Where a worker works: [`SeatHandles`] as they travel.
#[derive(Serialize, Deserialize)]
pub(super) struct Seating {
    group: Object,
    tasks: Object,
    answers: Object,
    row: usize,
}

impl From<SeatHandles> for Seating {
    fn from(seat: SeatHandles) -> Self {
        let object = |handle: Handle| (handle.index, handle.generation);
        Self {
            group: object(seat.group),
            tasks: object(seat.tasks),
            answers: object(seat.answers),
            row: seat.row,
        }
    }
}

impl Seating {
    fn handles(&self, family: &Family) -> SeatHandles {
        let handle = |(index, generation): Object| Handle {
            family: family.number(),
            index,
            generation,
        };
        SeatHandles {
            group: handle(self.group),
            tasks: handle(self.tasks),
            answers: handle(self.answers),
            row: self.row,
        }
    }
}

/// Why a worker stopped working. Its owner is told, and starts another.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("a worker found no seat: {0}")]
    Family(#[from] manycore_ipc::FamilyError),
    #[error("a worker found no seat: {0}")]
    Seat(#[from] HandleError),
    #[error("a worker could not take a task: {0}")]
    Take(#[from] GetError),
    #[error("a worker could not answer: {0}")]
    Answer(crate::error::SendError),
}

/// The entry of a worker process.
pub(super) fn entry() -> Entry {
    call::entry_of(work)
}

/// The life of a worker: runs tasks until the pool is closed. Returns why it stopped before that.
fn work(seating: Seating) -> Result<(), String> {
    process::volunteer_for_oom();
    run_tasks(&seating).map_err(|stopped| stopped.to_string())
}

fn run_tasks(seating: &Seating) -> Result<(), Stopped> {
    let family = family::family()?;
    let seat = Seat::new(family, seating.handles(family))?;
    let mut task = Message::default();
    while take(&seat, &mut task)? {
        let tag = task.header.tag;
        if tag == LEAVE {
            break;
        }
        seat.begin();
        let (kind, answer) = match run(family, &mut task) {
            Ok(answer) => (kind::ANSWER, answer),
            Err(panic) => {
                let panic = codec::encode(&panic).expect("two texts can always be encoded");
                (kind::PANIC, panic)
            }
        };
        answer_to(&seat, tag, kind, &answer)?;
        let goes_on = seat.finish();
        seat.answered();
        if !goes_on {
            break; // to be killed, for a task that has its answer
        }
    }
    Ok(())
}

/// Takes a task, waiting for one; false when there will be none.
fn take(seat: &Seat, into: &mut Message) -> Result<bool, GetError> {
    into.payload = codec::spare();
    if seat.try_take(into)? {
        return Ok(true);
    }
    let mut go_on = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
    match seat.take(into, &mut patience) {
        Ok(()) => Ok(true),
        Err(GetError::Closed) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Runs a task. The answer of one that cannot be run says why.
fn run(family: &'static Family, task: &mut Message) -> Result<Encoded, Panic> {
    let holds = match transport::unpack(family, task) {
        Ok(holds) => holds,
        Err(error) => return Ok(call::refusal(error.to_string())),
    };
    let mut bytes = std::mem::take(&mut task.payload);
    let Some(entry) = take_entry(&mut bytes) else {
        return Ok(call::refusal("the task names no function".to_owned()));
    };
    call::run(entry, Encoded { bytes, holds })
}

/// Takes the place of the entry from behind the arguments; see [`put_place`].
fn take_entry(bytes: &mut Vec<u8>) -> Option<Entry> {
    let at = bytes.len().checked_sub(size_of::<u64>())?;
    let place = bytes.get(at..)?.try_into().ok()?;
    bytes.truncate(at);
    image::resolve(u64::from_le_bytes(place))
}

/// Puts the place of the entry behind the arguments, where it can be taken off without moving them.
pub(super) fn put_place(bytes: &mut Vec<u8>, place: u64) {
    bytes.extend_from_slice(&place.to_le_bytes());
}

fn answer_to(seat: &Seat, tag: u64, kind: u8, answer: &Encoded) -> Result<(), Stopped> {
    if let Err(error) = send(seat, tag, kind, answer) {
        // A short text needs no new memory. If it does not arrive either, this worker ends, and its
        // task with it.
        let refusal = call::refusal(crate::error::SendError::from(error).to_string());
        let sent = send(seat, tag, kind::ANSWER, &refusal);
        sent.map_err(|error| Stopped::Answer(error.into()))?;
    }
    Ok(())
}

fn send(seat: &Seat, tag: u64, kind: u8, answer: &Encoded) -> Result<(), SendError> {
    let mut go_on = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
    let message = Outgoing {
        kind,
        tag,
        handles: &answer.handles(),
        ..Outgoing::default()
    };
    transport::send_through(
        seat.family(),
        seat.answers(),
        message,
        &answer.bytes,
        &mut patience,
    )
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use crate::pool::Crew;

    static CREW: OnceLock<Crew> = OnceLock::new();

    /// Is doomed by its owner while it runs.
    fn is_doomed(number: u8) -> u8 {
        let crew = CREW.get().unwrap();
        let (tag, began) = crew.running(0).unwrap();
        assert_eq!(tag, u64::from(number));
        assert!(crew.doom(0, began) && !crew.doom(0, began));
        number
    }

    #[test]
    fn a_doomed_worker_answers_and_takes_nothing_else() {
        let family = family::family().unwrap();
        let crew = CREW.get_or_init(|| Crew::new(family, 1, 1).unwrap());
        let mut go_on = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
        for number in 1..=2_u8 {
            let mut arguments = codec::encode(&number).unwrap();
            let entry = call::entry_of(is_doomed);
            put_place(&mut arguments.bytes, image::offset_of(entry).unwrap());
            let task = Outgoing {
                kind: kind::TASK,
                tag: number.into(),
                ..Outgoing::default()
            };
            let (ring, bytes) = (crew.tasks().unwrap(), &arguments.bytes);
            transport::send_through(family, &ring, task, bytes, &mut patience).unwrap();
        }
        crew.dismiss(); // or a worker that goes on would wait for a third one
        run_tasks(&Seating::from(crew.seat(0).unwrap())).unwrap();
        assert_eq!((crew.pending(), crew.queued()), (1, 1));
        assert_eq!(crew.last_taken(0), Ok(Some(1)));
    }

    #[test]
    fn the_place_comes_off_again_whole() {
        let entry = entry();
        let mut bytes = vec![1, 2, 3];
        put_place(&mut bytes, image::offset_of(entry).unwrap());
        assert_eq!(
            take_entry(&mut bytes).map(|it| it as usize),
            Some(entry as usize)
        );
        assert_eq!(bytes, [1, 2, 3]);
        assert!(
            take_entry(&mut bytes).is_none(),
            "too short to have a place"
        );
    }
}
