//! What a dead process leaves behind is found and repaired, whatever it was doing, and whoever dies
//! over the repair.
//!
//! | module | what it is |
//! |---|---|
//! | [`choosers`] | waiting for several rings; watching a source |
//! | [`deaths`] | death in place of every store |
//! | [`exhaustive`] | two deaths in a row, in every operation |
//! | [`faults`] | real processes that are killed at every named place |
//! | [`handovers`] | locks whose holder was killed |
//! | [`maps`] | changes of a map |
//! | [`producers`] | the end of a stream |
//! | [`places`] | joining, forking, and slots that change hands |
//! | [`scribbles`] | words that were scribbled on |
//! | [`tokens`] | more holders of tokens than an object's body has room for |

mod choosers;
mod deaths;
mod exhaustive;
mod faults;
mod handovers;
mod maps;
mod places;
mod producers;
mod scribbles;
mod tokens;

use std::sync::atomic::Ordering::Relaxed;

use manycore_os::Deadline;

use super::Family;
use crate::crash::{Corpse, interrupted, run_until_death};
use crate::error::HandleError;
use crate::heap::layout::LEAST;
use crate::lock::{Acquired, UserLock};
use crate::object::{Handle, Kind};
use crate::registry::{OwnerId, Status};
use crate::ring::{Get, GetError, Message, Outgoing, Ring, Shape};
use crate::wait::Patience;

/// Makes an object.
type Maker = fn(&'static Family) -> Result<super::Hold, HandleError>;
/// What a process does with a lock and a queue.
type Operation = fn(&'static Family, Handle, Handle);

/// A family as seen by this process, and ways to play processes that die.
struct World {
    me: &'static Family,
    corpse: Corpse,
}

impl World {
    fn new() -> Self {
        Self::of(LEAST * 4)
    }

    fn of(len: usize) -> Self {
        let me = Family::create_with(len).expect("a small heap");
        me.me().expect("room");
        Self {
            me,
            corpse: Corpse::new(),
        }
    }

    /// Plays a process that has just started, until it dies in place of a store.
    fn play<R>(&self, stores: u64, operation: impl FnOnce(&'static Family) -> R) -> Option<R> {
        let family = Family::on(self.me.heap());
        self.corpse
            .play(|| run_until_death(stores, || operation(family)))
    }

    /// The same with a process that has joined already.
    fn play_member<R>(
        &self,
        stores: u64,
        operation: impl FnOnce(&'static Family) -> R,
    ) -> Option<R> {
        let family = Family::on(self.me.heap());
        let _ = self.corpse.play(|| family.me().expect("room"));
        self.corpse
            .play(|| run_until_death(stores, || operation(family)))
    }

    /// Cleans up and checks that only what this process holds is left.
    fn check(&self, objects: usize, blocks: usize, what: &str) {
        self.me.reap_dead(true);
        self.me.free_buried().expect("sound");
        let registry = self.me.registry();
        let own = self.me.me().expect("registered");
        for number in registry.used() {
            let status = registry.tenancy(number).expect("sound").status;
            let expected = if number == own.slot() {
                Status::Alive
            } else {
                Status::Free
            };
            assert_eq!(status, expected, "slot {number} {what}");
        }
        assert_eq!(
            self.me.objects().expect("registered").audit().len(),
            objects,
            "objects {what}"
        );
        let left = self.me.blocks().expect("registered").audit();
        assert_eq!(left.len(), blocks, "blocks {what}: {left:?}");
    }
}

impl Drop for World {
    /// Gives its memory back: heaps are never unmapped, and there are many in a run.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.me.blocks().expect("registered").make_hollow();
        }
    }
}

fn put(ring: &Ring, tag: u64, bytes: usize, handles: &[Handle]) {
    let mut tick = || true;
    let message = Outgoing {
        kind: 1,
        tag,
        blocks: &[],
        handles,
        payload: &vec![tag as u8; bytes],
    };
    ring.put(&message, &mut Patience::new(Deadline::PASSED, &mut tick))
        .expect("room");
}

/// Whether the queue is empty and will stay so because all producers are gone.
fn end_of(queue: &super::Hold) -> Option<()> {
    let mut tick = || true;
    let mut message = Message::default();
    let mut patience = Patience::new(Deadline::PASSED, &mut tick);
    match queue.get(&mut message, None, &mut patience).expect("held") {
        Err(GetError::Ended) => Some(()),
        Err(GetError::Empty) => None,
        other => panic!("{other:?}"),
    }
}

fn get(ring: &Ring) -> Option<Message> {
    let mut message = Message::default();
    (ring.try_get(&mut message, None) == Ok(Get::Done)).then_some(message)
}

/// Visits living objects that nobody holds: a count that a death has left too high keeps them.
fn for_every_leaked_count(family: &Family, mut visit: impl FnMut(u32)) {
    let objects = family.objects().expect("registered");
    for index in objects.audit() {
        let object = objects.object(index).expect("inside");
        let is_counted_only = object.holders.iter().all(|word| word.load(Relaxed) == 0);
        if is_counted_only {
            visit(index);
        }
    }
}
