//! The shared objects of a family.

use std::mem::offset_of;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use manycore_os::clock;

use crate::block::Blocks;
use crate::error::Corrupted;
use crate::lock::{Shares, UserLock};
use crate::object::group::{GroupBody, Row};
use crate::object::header::{Object, Stage};
use crate::object::memory::MemoryBody;
use crate::object::{Kind, Objects};
use crate::registry::{OwnerId, Registry};
use crate::ring::layout::{RingBody, Side};
use crate::ring::{Ring, Stats};
use crate::sync::{self, EventBody};
use crate::word::fence;

/// A shared object.
#[derive(Clone, Debug)]
pub struct Thing {
    /// Its place in the table.
    pub index: u32,
    /// Tells it from those that were there before.
    pub generation: u32,
    /// Slots of the processes that hold it.
    pub holders: Vec<usize>,
    /// Messages that it is in, or more after a crash.
    pub in_flight: u64,
    /// What it is.
    pub detail: Detail,
}

/// What an object is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Detail {
    /// A queue, or one way of a pipe, or of a pool.
    Queue(Queue),
    /// A lock.
    Lock(Lock),
    /// So many bytes of memory.
    Memory(u64),
    /// The workers of a pool: those that have a seat.
    Group(Vec<Worker>),
    /// An event, and whether it is set.
    Event(bool),
    /// A condition: the slots of the processes that wait for it, each once.
    Condition(Vec<usize>),
    /// A barrier.
    Barrier(Barrier),
    /// A semaphore.
    Semaphore(Semaphore),
    /// A reader-writer lock.
    RwLock(RwLock),
    /// A map.
    Map,
    /// Something that has nothing to tell.
    Other(Kind),
}

/// What is seen of a queue.
#[derive(Clone, Debug)]
pub struct Queue {
    /// What was put and got.
    pub stats: Stats,
    /// The most messages at a time; zero for any number.
    pub max_messages: u64,
    /// Whether it was shut down.
    pub is_closed: bool,
    /// The threads that are putting and getting right now.
    pub busy: [Option<u32>; 2],
}

/// What is seen of a lock.
#[derive(Clone, Copy, Debug)]
pub struct Lock {
    /// The slot of the process that holds it; [`GONE`] if that has left.
    pub holder: Option<usize>,
    /// The pid of the last holder, if that was killed and nobody has had it since.
    pub dead_holder: Option<u32>,
    /// Whether what it guards is to be repaired.
    pub is_to_be_repaired: bool,
    /// Whether somebody waits for it.
    pub is_awaited: bool,
    /// For how long it has been held at least.
    pub held_for: Option<Duration>,
    /// Of a recursive lock: the thread that holds it, and how often it was acquired.
    pub owner: Option<(u32, u64)>,
}

/// What is seen of a worker of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    /// The slot of its process.
    pub slot: usize,
    /// For how long it has run the task that it runs.
    pub runs_for: Option<Duration>,
}

/// What is seen of a barrier.
#[derive(Clone, Debug)]
pub struct Barrier {
    /// How many have to come.
    pub parties: u32,
    /// How many have.
    pub come: u32,
    /// Whether it is broken.
    pub is_broken: bool,
    /// The slots of the processes that wait at it, or run its action, each once.
    pub waiting: Vec<usize>,
}

/// What is seen of a semaphore.
#[derive(Clone, Debug)]
pub struct Semaphore {
    /// How many tokens are free.
    pub tokens: u32,
    /// Who has tokens that come back.
    pub holders: Holders,
}

/// What is seen of a reader-writer lock.
#[derive(Clone, Debug)]
pub struct RwLock {
    /// How many times it is held to read.
    pub readers: u32,
    /// Whether somebody writes.
    pub is_written: bool,
    /// The pid of the last writer, if that was killed and no other has come since.
    pub dead_writer: Option<u32>,
    /// Who holds it; who writes has all tokens.
    pub holders: Holders,
}

/// In place of the slot of a process that has left what it holds behind.
pub const GONE: usize = 0;

/// Who has tokens, and who waits for them.
#[derive(Clone, Debug)]
pub struct Holders {
    /// The slots of the processes that have some, and how many each.
    pub shares: Vec<(usize, u32)>,
    /// Whether somebody waits.
    pub is_awaited: bool,
    /// For how long somebody has waited at least, and nobody has got on.
    pub awaited_for: Option<Duration>,
}

/// What a thread sleeps for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A message of the queue with this index.
    Message(u32),
    /// Room in the queue with this index.
    Room(u32),
    /// That all messages of the queue with this index are done.
    Done(u32),
    /// Its turn to put into, or get from, the queue with this index: somebody is at it.
    Turn(u32),
    /// The lock with this index.
    Lock(u32),
    /// A task for the pool with this index, or an answer from it.
    Pool(u32),
    /// Something else that belongs to the object with this index.
    Object(u32),
    /// The engine's own tables.
    Tables,
}

/// All objects that somebody holds.
pub(super) fn things(objects: &Objects, blocks: &Blocks) -> Result<Vec<Thing>, Corrupted> {
    let mut found = Vec::new();
    objects.for_each_live(|index, stage| found.push((index, stage)))?;
    let things = found
        .into_iter()
        .filter_map(|(index, stage)| thing(objects, blocks, index, stage).transpose());
    things.collect()
}

/// An object that was found at this stage; `None` if it has been given up since, for what was seen of it may be half
/// emptied, or another's.
pub(super) fn thing(
    objects: &Objects,
    blocks: &Blocks,
    index: u32,
    stage: Stage,
) -> Result<Option<Thing>, Corrupted> {
    let seen = look_at(objects, blocks, index, stage);
    // What was read above was read before the stage is, whose change comes before that of the body.
    fence(Acquire);
    let now = objects.stage(index)?;
    if now.is_live() && now.generation == stage.generation {
        seen.map(Some)
    } else {
        Ok(None)
    }
}

fn look_at(
    objects: &Objects,
    blocks: &Blocks,
    index: u32,
    stage: Stage,
) -> Result<Thing, Corrupted> {
    let Some(kind) = stage.kind else {
        return Err(Corrupted::new("an object is of no kind"));
    };
    Ok(Thing {
        index,
        generation: stage.generation,
        holders: objects.holder_slots(index)?.collect(),
        in_flight: objects.in_flight(index)?,
        detail: detail(objects, blocks, index, kind)?,
    })
}

/// Who has the seat of a row; of a process that is gone not what it last did.
fn worker(objects: &Objects, row: &Row) -> Option<Worker> {
    let owner = row.worker();
    let slot = slot_of(objects, owner.slot(), |present| present == owner);
    let began = row.running().map(|(_, began)| began);
    let began = began.filter(|_| slot != GONE);
    (!owner.is_nobody()).then(|| Worker {
        slot,
        runs_for: began.map(|began| Duration::from_nanos(clock::now_ns().saturating_sub(began))),
    })
}

fn detail(objects: &Objects, blocks: &Blocks, index: u32, kind: Kind) -> Result<Detail, Corrupted> {
    Ok(match kind {
        Kind::Ring => {
            let ring = Ring::new(index, *blocks, *objects)?;
            let body = ring.body();
            Detail::Queue(Queue {
                stats: ring.stats(),
                max_messages: ring.max_messages(),
                is_closed: ring.is_closed(),
                busy: [&body.put, &body.get].map(|side| side.lock.owner()),
            })
        }
        Kind::Lock => {
            let lock: &UserLock = objects.body(index)?;
            Detail::Lock(Lock {
                holder: lock.holder().map(|name| slot_of_holder(objects, name)),
                dead_holder: lock.dead_holder(),
                is_to_be_repaired: lock.is_to_be_repaired(),
                is_awaited: lock.is_awaited(),
                held_for: lock.held_for(),
                owner: lock.owner(),
            })
        }
        Kind::Memory => Detail::Memory(objects.body::<MemoryBody>(index)?.len()),
        Kind::Group => {
            let workers = objects.rows(index, blocks)?.into_iter();
            Detail::Group(workers.filter_map(|row| worker(objects, row)).collect())
        }
        Kind::Event => Detail::Event(objects.body::<EventBody>(index)?.is_set()),
        Kind::Condition => {
            let condition = sync::Condition::of(objects, index)?;
            Detail::Condition(slots(condition.waiters()?))
        }
        Kind::Barrier => {
            let barrier = sync::Barrier::of(objects, index)?;
            Detail::Barrier(Barrier {
                parties: barrier.parties(),
                come: barrier.waiting()?,
                is_broken: barrier.is_broken()?,
                waiting: slots(barrier.needed()?),
            })
        }
        Kind::Semaphore => {
            let shares = Shares::new(objects.body(index)?, index, *blocks);
            Detail::Semaphore(Semaphore {
                tokens: shares.tokens().value(),
                holders: holders(objects, shares),
            })
        }
        Kind::RwLock => {
            let shares = Shares::new(objects.body(index)?, index, *blocks);
            let (readers, is_written) = shares.readers_and_writer();
            Detail::RwLock(RwLock {
                readers,
                is_written,
                dead_writer: shares.dead_writer(),
                holders: holders(objects, shares),
            })
        }
        Kind::Map => Detail::Map,
        other => Detail::Other(other),
    })
}

/// The slot of the process that a lock's word names, if that is there.
fn slot_of_holder(objects: &Objects, name: u32) -> usize {
    slot_of(objects, UserLock::slot_of(name), |present| {
        UserLock::name_of(present) == name
    })
}

/// A slot, if the process is meant that has it now.
fn slot_of(objects: &Objects, slot: usize, is_meant: impl Fn(OwnerId) -> bool) -> usize {
    let tenancy = Registry::new(objects.heap()).tenancy(slot);
    let present = tenancy.map(|tenancy| OwnerId::new(slot, tenancy.generation));
    if present.is_ok_and(is_meant) {
        slot
    } else {
        GONE
    }
}

fn holders(objects: &Objects, shares: Shares) -> Holders {
    let slot = |owner: OwnerId| slot_of_holder(objects, UserLock::name_of(owner));
    let shares_of = shares.holders().into_iter();
    Holders {
        shares: shares_of
            .map(|(owner, count)| (slot(owner), count))
            .collect(),
        is_awaited: shares.tokens().is_awaited(),
        awaited_for: shares.tokens().awaited_for(),
    }
}

fn slots(owners: Vec<OwnerId>) -> Vec<usize> {
    owners.into_iter().map(OwnerId::slot).collect()
}

/// The object at which a word is one of those that do not fit into its body, at which they wait who came late.
fn roll_at(objects: &Objects, offset: usize) -> Option<u32> {
    (0..objects.used()).find(|&index| {
        let roll = match objects.stage(index).ok().and_then(|stage| stage.kind) {
            Some(Kind::Condition) => sync::Condition::of(objects, index).map(|it| it.0),
            Some(Kind::Barrier) => sync::Barrier::of(objects, index).map(|it| it.roll),
            _ => return false,
        };
        roll.and_then(|roll| roll.has_block_at(offset)) == Ok(true)
    })
}

/// What a word at this place of the heap is there for.
pub(super) fn place_at(objects: &Objects, offset: usize) -> Option<Place> {
    let Some(from_first) = offset.checked_sub(objects.offset_of(0)) else {
        return Some(Place::Tables);
    };
    let index = u32::try_from(from_first / size_of::<Object>()).ok()?;
    if index >= objects.used() {
        return Some(roll_at(objects, offset).map_or(Place::Tables, Place::Object));
    }
    let within = (from_first % size_of::<Object>()).checked_sub(offset_of!(Object, body))?;
    const TURNS: [usize; 2] = [
        offset_of!(RingBody, put) + offset_of!(Side, lock),
        offset_of!(RingBody, get) + offset_of!(Side, lock),
    ];
    Some(match objects.stage(index).ok()?.kind? {
        Kind::Ring if within == offset_of!(RingBody, items) => Place::Message(index),
        Kind::Ring if within == offset_of!(RingBody, space) => Place::Room(index),
        Kind::Ring if within == offset_of!(RingBody, finished) => Place::Done(index),
        Kind::Ring if TURNS.contains(&within) => Place::Turn(index),
        Kind::Lock if within == 0 => Place::Lock(index),
        Kind::Group if within == offset_of!(GroupBody, bell) => Place::Pool(index),
        _ => Place::Object(index),
    })
}
