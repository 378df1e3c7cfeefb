//! Tests of the ring, by what they are about.
//!
//! | module | what it is |
//! |---|---|
//! | [`model`] | sequences against a simple model, threads against each other |
//! | [`deaths`] | death at every store |
//! | [`edges`] | limits, scribbled bytes, and races that have to be met by hand |
//! | [`limits`] | how much may be in a ring, and what is counted |
//! | [`pace`] | how a consumer looks for messages |
//! | [`watching`] | tokens for those who poll |
//! | [`scribbles`] | words and records that were scribbled on |

mod deaths;
mod edges;
mod limits;
mod model;
mod pace;
mod scribbles;
mod watching;

use std::sync::atomic::Ordering::Relaxed;

use manycore_os::Deadline;

use super::*;
use crate::block::{BlockRef, Blocks};
use crate::family::Family;
use crate::heap::layout::LEAST;
use crate::object::Objects;
use crate::registry::OwnerId;
use crate::wait::Patience;

const DEAD: u32 = 0x77_0005;

fn family() -> &'static Family {
    Family::create_with(LEAST * 4).expect("a small heap")
}

/// The same ring on behalf of another, imaginary process.
fn on_behalf_of(ring: &Ring, owner: OwnerId) -> Ring {
    let heap = ring.blocks.heap;
    Ring::new(
        ring.index,
        Blocks::new(heap, owner),
        Objects::new(heap, owner),
    )
    .expect("it exists")
}

fn put(ring: &Ring, tag: u64, payload: &[u8], blocks: &[BlockRef]) -> Result<(), PutError> {
    let mut tick = || true;
    let message = Outgoing {
        kind: 1,
        tag,
        blocks,
        handles: &[],
        payload,
    };
    ring.put(&message, &mut Patience::new(Deadline::PASSED, &mut tick))
}

/// Empty messages with these tags.
fn several(tags: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = Outgoing<'static>> {
    tags.map(|tag| Outgoing {
        kind: 1,
        tag,
        ..Outgoing::default()
    })
}

/// The tags of all messages that are there, which are taken.
fn tags_of(ring: &Ring) -> Vec<u64> {
    std::iter::from_fn(|| get(ring))
        .map(|message| message.header.tag)
        .collect()
}

fn get(ring: &Ring) -> Option<Message> {
    get_until(ring, Deadline::PASSED)
}

fn get_until(ring: &Ring, until: Deadline) -> Option<Message> {
    let mut tick = || true;
    let mut message = Message::default();
    ring.get(&mut message, None, &mut Patience::new(until, &mut tick))
        .ok()?;
    Some(message)
}

fn block_with(ring: &Ring, bytes: &[u8]) -> BlockRef {
    let taken = ring.blocks.take(bytes.len() as u64).expect("memory");
    ring.blocks.fill(&taken, 0, bytes).expect("a good block");
    taken.block
}

fn read_block(ring: &Ring, block: BlockRef) -> Vec<u8> {
    let mut bytes = Vec::new();
    let view = ring.blocks.bytes(block).expect("a good block");
    view.append_to(0, view.len(), &mut bytes).expect("in range");
    ring.blocks.free(block);
    bytes
}
