//! An object's slot.

use super::super::heap::layout::SLOTS;
use crate::lock::EngineLock;
use crate::registry::OwnerId;
use crate::word::{Word32, Word64};

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A queue's ring.
    Ring = 1,
    /// A lock of the user's.
    Lock = 2,
    /// Shared memory.
    Memory = 3,
    /// A group of workers.
    Group = 4,
    /// Those who put into a ring: without a body, it is there for who holds it.
    Source = 5,
    /// The same for the end of a pipe, which forked children have too.
    End = 6,
    /// A semaphore.
    Semaphore = 7,
    /// A reader-writer lock.
    RwLock = 12,
    /// A flag to wait for.
    Event = 8,
    /// Those who wait to be notified.
    Condition = 9,
    /// A place where processes meet.
    Barrier = 10,
    /// A map.
    Map = 11,
}

/// Kinds count from one; lists by kind have this many heads.
pub const KINDS: usize = 13;

impl Kind {
    pub(crate) const ALL: &[Self] = &[
        Self::Ring,
        Self::Lock,
        Self::Memory,
        Self::Group,
        Self::Source,
        Self::End,
        Self::Semaphore,
        Self::RwLock,
        Self::Event,
        Self::Condition,
        Self::Barrier,
        Self::Map,
    ];

    pub(crate) fn decode(bits: u64) -> Option<Self> {
        Self::ALL.iter().copied().find(|k| *k as u64 == bits)
    }

    /// Whether a forked child holds what its parent held.
    pub(crate) fn is_inherited(self) -> bool {
        !matches!(self, Self::Source)
    }
}

/// Where an object is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not in use.
    Free = 0,
    /// Being made by the owner.
    Making = 1,
    /// In use.
    Live = 2,
    /// Nobody seems to hold it; the owner looks once more. Who attaches it now makes it live again.
    Buried = 3,
    /// The owner is freeing it.
    Freeing = 4,
    /// Nobody holds it, and nobody will; the owner is putting it on the list of those to be freed.
    Condemned = 5,
}

/// The state word, decoded: `generation:24 | owner:32 | kind:4 | phase:4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// See [`Phase`].
    pub phase: Phase,
    /// See [`Kind`]; `None` for a slot that was never used.
    pub kind: Option<Kind>,
    /// Who is changing it. While it is `Buried`: the slot of who buries it and, in place of a
    /// generation, the number of that burial.
    pub owner: OwnerId,
    /// Grows with every object that lived here.
    pub generation: u32,
}

impl Stage {
    /// Whether somebody has it, or may yet have it again.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self.phase, Phase::Live | Phase::Buried)
    }

    /// The word.
    #[must_use]
    pub fn encode(self) -> u64 {
        let kind = self.kind.map_or(0, |kind| kind as u64);
        (u64::from(self.generation & 0xff_ffff) << 40)
            | (u64::from(self.owner.bits()) << 8)
            | (kind << 4)
            | self.phase as u64
    }

    /// What a word says, if it says anything.
    #[must_use]
    pub fn decode(word: u64) -> Option<Self> {
        let phase = match word & 0xf {
            0 => Phase::Free,
            1 => Phase::Making,
            2 => Phase::Live,
            3 => Phase::Buried,
            4 => Phase::Freeing,
            5 => Phase::Condemned,
            _ => return None,
        };
        let kind = match (word >> 4) & 0xf {
            0 => None,
            bits => Some(Kind::decode(bits)?), // else the word could not be told from another's by an exchange
        };
        let owner = OwnerId::from_bits((word >> 8) as u32);
        Some(Self {
            phase,
            kind,
            owner,
            generation: (word >> 40) as u32,
        })
    }
}

/// Words of a body.
pub const BODY_WORDS: usize = 56;

/// See the module.
#[repr(C, align(64))]
pub struct Object {
    /// A [`Stage`].
    pub state: Word64,
    /// Handles inside messages. May be too high after a crash, never too low.
    pub in_flight: Word64,
    /// Index + 1 of the next object on the list that this one is on.
    pub next: Word64,
    /// How often its burial was begun: tells one burial from the next.
    pub(crate) burials: Word64,
    pub(crate) spare: [Word64; 4],
    /// One bit for each process slot that holds the object.
    pub holders: [Word64; SLOTS / 64],
    /// What the kind makes of it.
    pub body: [Word64; BODY_WORDS],
}

const _: () = assert!(size_of::<Object>() == 1024);

/// The object table's part of the heap header.
#[repr(C, align(64))]
pub struct ObjectsHeader {
    /// Guards the free lists and the popping of the buried.
    pub lock: EngineLock,
    /// Object slots that are backed by memory.
    pub backed: Word32,
    /// Index + 1 of the first free object by kind. An object slot keeps its kind for ever, so that a
    /// lock word is never anything else.
    pub free: [Word32; KINDS],
    /// Object slots that were ever given a kind.
    pub used: Word32,
    /// Index + 1 of the object that was condemned last. Anyone pushes, the lock's owner pops.
    pub buried: Word64,
    pub(crate) spare_line: [Word64; 7],
}

/// How an object is named inside messages and pickles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    /// The family's number.
    pub family: u64,
    /// The object's slot.
    pub index: u32,
    /// Which of the objects that lived there.
    pub generation: u32,
}

impl Handle {
    /// Bytes of the part that travels in a record: inside a family its number goes without saying.
    pub const RECORD_SIZE: usize = 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_word_says_what_was_stored() {
        let stage = Stage {
            phase: Phase::Buried,
            kind: Some(Kind::Group),
            owner: OwnerId::from_bits(u32::MAX),
            generation: 0xff_ffff,
        };
        assert_eq!(Stage::decode(stage.encode()), Some(stage));
        assert_eq!(Stage::decode(0xf), None);
        assert_eq!(Stage::decode(0xf3), None, "a kind that there is not");
    }
}
