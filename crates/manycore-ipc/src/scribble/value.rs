//! What a scribble writes.

use manycore_os::robust::{Holder, OWNER_DIED, WAITERS};

use super::input::Input;
use super::place;
use super::world::World;
use crate::block::State;
use crate::block::table::{MOST_PAGES, Run};
use crate::object::Kind;
use crate::object::header::{Phase, Stage};
use crate::registry::OwnerId;
use crate::registry::slot::{Status, Tenancy};
use crate::ring::record::{Header, LINK};
use crate::word::{Word32, Word64};

/// Scribbles once.
pub(super) fn scribble(input: &mut Input<'_>, world: &World) {
    let at = place::choose(input, world);
    let heap = world.family.heap();
    let is_short = !at.is_multiple_of(8);
    let present: u64 = if is_short {
        heap.at(at)
            .map_or(0, |word: &Word32| u64::from(world.load(word)))
    } else {
        heap.at(at).map_or(0, |word: &Word64| world.load_long(word))
    };
    let value = choose(input, world, present);
    let half = input.byte() & 1 != 0;
    if is_short || half {
        world.store(at, value as u32);
    } else {
        world.store_long(at, value);
    }
}

fn choose(input: &mut Input<'_>, world: &World, present: u64) -> u64 {
    match input.below(16) {
        0 => input.word(),
        1 => u64::from(input.byte()),
        2 => u64::from(input.short()),
        3 => present ^ (1 << (input.byte() % 64)),
        4 => u64::MAX,
        5 => 0,
        6 => copied(input, world),
        7 => {
            let limit = limit(input, world);
            near(input, limit)
        }
        8 => near(input, present),
        9 => near_position(input, present),
        10 => run(input, world),
        11 => stage(input, world),
        12 => tenancy(input, world),
        13 => lock_word(input),
        14 => record(input),
        _ => u64::from(input.byte()) << (8 * (input.byte() % 8)),
    }
}

/// A word from elsewhere, which is a good one there.
fn copied(input: &mut Input<'_>, world: &World) -> u64 {
    let from = place::choose(input, world) & !7;
    let word = world.family.heap().at(from);
    word.map_or(0, |word: &Word64| world.load_long(word))
}

fn near(input: &mut Input<'_>, value: u64) -> u64 {
    let delta = i64::from(input.byte().cast_signed());
    value.wrapping_add_signed(delta)
}

/// Some bytes or regions on or back from a position.
fn near_position(input: &mut Input<'_>, present: u64) -> u64 {
    let bytes = i64::from(input.short().cast_signed()) << (4 + input.byte() % 28);
    let epochs = match input.byte() {
        few @ 0..8 => u64::from(few) << 48,
        _ => 0,
    };
    present.wrapping_add_signed(bytes).wrapping_add(epochs)
}

fn limit(input: &mut Input<'_>, world: &World) -> u64 {
    let layout = world.family.heap().layout();
    let limits = [
        layout.len as u64,
        layout.pages as u64,
        layout.max_objects as u64,
        layout.payload as u64,
        layout.table as u64,
        layout.objects as u64,
        world.pages as u64,
        MOST_PAGES,
        1 << 16,
        1 << 31,
        1 << 32,
        1 << 44,
        1 << 48,
        1 << 63,
    ];
    input.one_of(&limits).unwrap_or_default()
}

fn owner(input: &mut Input<'_>, world: &World) -> OwnerId {
    match input.below(4) {
        0 => world.me,
        1 => world.dead,
        2 => OwnerId::NOBODY,
        _ => OwnerId::from_bits(u32::from(input.short())),
    }
}

fn run(input: &mut Input<'_>, world: &World) -> u64 {
    let states = [
        State::Hollow,
        State::Backing,
        State::Fresh,
        State::Free,
        State::Filling,
        State::InFlight,
        State::Held,
        State::Returned,
        State::Punching,
    ];
    let state = input.one_of(&states).unwrap_or(State::Free);
    let pages = match input.below(4) {
        0 => 1,
        1 => u64::from(input.byte()) + 1,
        2 => u64::from(input.short()) + 1,
        _ => MOST_PAGES,
    };
    Run {
        state,
        owner: owner(input, world),
        pages,
    }
    .encode()
}

fn stage(input: &mut Input<'_>, world: &World) -> u64 {
    let phases = [
        Phase::Free,
        Phase::Making,
        Phase::Live,
        Phase::Buried,
        Phase::Freeing,
        Phase::Condemned,
    ];
    Stage {
        phase: input.one_of(&phases).unwrap_or(Phase::Free),
        kind: input.one_of(Kind::ALL),
        owner: owner(input, world),
        generation: u32::from(input.byte() % 4),
    }
    .encode()
}

fn tenancy(input: &mut Input<'_>, world: &World) -> u64 {
    let statuses = [
        Status::Free,
        Status::Reserved,
        Status::Alive,
        Status::Left,
        Status::Killed,
        Status::Gone,
    ];
    let pids = [0, world.pid_of_dead(), std::process::id(), 1];
    Tenancy {
        status: input.one_of(&statuses).unwrap_or(Status::Free),
        by: input.below(place::SLOTS_HIT),
        generation: u32::from(input.byte() % 4),
        pid: input.one_of(&pids).unwrap_or_default(),
    }
    .encode()
}

fn lock_word(input: &mut Input<'_>) -> u64 {
    let tids = [0, 1, Holder::current().tid(), 0x3fff_fffe];
    let bits = [0, WAITERS, OWNER_DIED, WAITERS | OWNER_DIED];
    let tid = input.one_of(&tids).unwrap_or_default();
    u64::from(tid | input.one_of(&bits).unwrap_or_default())
}

/// The first half of a record's header.
fn record(input: &mut Input<'_>) -> u64 {
    let header = Header {
        len: u32::from(input.short()),
        kind: if input.byte() & 1 != 0 { LINK } else { 1 },
        blocks: input.byte() % 4,
        handles: u16::from(input.byte() % 4),
        tag: 0,
    };
    let bytes = header.to_bytes();
    let mut half = [0; 8];
    half.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(half)
}
