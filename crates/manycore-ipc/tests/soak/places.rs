//! The named places of the engine at which a member can be told to die: windows of a few instructions,
//! which a signal from outside hardly ever meets.

use crate::member::Role;

/// Passed with every message.
const OF_A_PRODUCER: &[&str] = &[
    "ring.put.binding",
    "ring.put.linked",
    "ring.put.written",
    "ring.put.committed",
    "ring.put.rung",
    "block.binding",
    "block.claimed",
];

/// The same of the other side.
const OF_A_CONSUMER: &[&str] = &[
    "ring.get.linked",
    "ring.get.followed",
    "ring.get.copied",
    "ring.get.committed",
    "block.returned",
];

/// Passed now and then by either, and on the way in, where a new member cleans up after the dead.
const OF_BOTH: &[&str] = &[
    "bell.cleared",
    "block.popped",
    "block.split",
    "lock.noted",
    "lock.handed",
    "object.taken",
    "object.making",
    "object.held",
    "object.attaching",
    "object.released",
    "object.buried",
    "object.condemned",
    "object.marked",
    "object.freeing",
    "object.emptied",
    "object.freed",
    "recover.locks",
    "recover.blocks",
    "recover.objects",
    "recover.done",
    "registry.taken",
    "registry.claimed",
];

/// A place that a member of this role passes, and at which passing: the plan for its death.
pub(crate) fn choose(role: Role, draw: u64) -> String {
    let own = match role {
        Role::Producer => OF_A_PRODUCER,
        Role::Consumer => OF_A_CONSUMER,
    };
    let places = if draw.is_multiple_of(2) { own } else { OF_BOTH };
    let place = places[(draw / 2 % places.len() as u64) as usize];
    let is_passed_once = ["registry.", "recover.", "lock."]
        .iter()
        .any(|it| place.starts_with(it));
    let passing = if is_passed_once {
        1
    } else {
        1 + (draw >> 32) % 20
    };
    format!("{place}:{passing}")
}
