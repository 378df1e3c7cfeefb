//! The side table of state words: the truth about every block.
//!
//! The payload area is tiled by *runs* of pages. The entry of a run's first page says how long it is
//! and what state it is in; entries of its other pages mean nothing. Walking from entry to entry
//! visits every run, which is how the free lists are rebuilt.
//!
//! | state         | owner       | meaning                                                     |
//! |---------------|-------------|-------------------------------------------------------------|
//! | `Hollow`      | -           | no memory behind it                                         |
//! | `Backing(p)`  | grower      | p is asking the kernel for memory                           |
//! | `Fresh`       | -           | memory reserved, never touched; free                        |
//! | `Free`        | -           | touched before; free                                        |
//! | `Filling(p)`  | writer      | p writes the payload                                        |
//! | `InFlight(p)` | sender or 0 | belongs to a message, a ring or a shared object             |
//! | `Held(c)`     | receiver    | c reads the payload                                         |
//! | `Returned(p)` | who freed   | free, but not listed yet                                    |
//! | `Punching(p)` | puncher     | p is giving the memory back                                 |
//!
//! Runs are split, merged and taken only under the allocator's lock. The changes
//! `Filling -> InFlight -> Held -> Returned` are single compare-and-swaps by anyone who may make them.

use crate::block::class::CLASSES;
use crate::lock::EngineLock;
use crate::registry::OwnerId;
use crate::word::{Word32, Word64};

/// What a run of pages is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// No memory behind it.
    Hollow = 1,
    /// Its owner is asking the kernel for memory.
    Backing = 2,
    /// Memory reserved, never touched; free.
    Fresh = 3,
    /// Touched before; free.
    Free = 4,
    /// Its owner writes the payload.
    Filling = 5,
    /// Belongs to a message, a ring or a shared object.
    InFlight = 6,
    /// Its owner reads the payload.
    Held = 7,
    /// Free, but not listed yet.
    Returned = 8,
    /// Its owner is giving the memory back.
    Punching = 9,
}

impl State {
    fn decode(bits: u64) -> Option<Self> {
        use State::{Backing, Filling, Free, Fresh, Held, Hollow, InFlight, Punching, Returned};
        [
            Hollow, Backing, Fresh, Free, Filling, InFlight, Held, Returned, Punching,
        ]
        .into_iter()
        .find(|state| *state as u64 == bits)
    }
}

/// One state word, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// What it is used for.
    pub state: State,
    /// Who changes it, where the state says so.
    pub owner: OwnerId,
    /// How long it is.
    pub pages: u64,
}

/// `pages:28 | owner:32 | state:4`
const PAGES_SHIFT: u32 = 36;
const OWNER_SHIFT: u32 = 4;
/// More pages than this do not fit into a state word.
pub const MOST_PAGES: u64 = (1 << 28) - 1;

impl Run {
    /// A run without an owner.
    #[must_use]
    pub fn unowned(state: State, pages: u64) -> Self {
        Self {
            state,
            owner: OwnerId::NOBODY,
            pages,
        }
    }

    /// The word.
    #[must_use]
    pub fn encode(self) -> u64 {
        debug_assert!(self.pages >= 1 && self.pages <= MOST_PAGES);
        (self.pages << PAGES_SHIFT)
            | (u64::from(self.owner.bits()) << OWNER_SHIFT)
            | self.state as u64
    }

    /// What a word says, if it says anything.
    #[must_use]
    pub fn decode(word: u64) -> Option<Self> {
        let state = State::decode(word & 0xf)?;
        let owner = OwnerId::from_bits((word >> OWNER_SHIFT) as u32);
        let pages = word >> PAGES_SHIFT;
        (pages > 0).then_some(Self {
            state,
            owner,
            pages,
        })
    }
}

/// The table entry of a page.
#[repr(C, align(32))]
pub struct Entry {
    /// A [`Run`].
    pub state: Word64,
    /// Counts how often a block began here, so that an old reference does not lead to a new block.
    pub generation: Word64,
    /// `InFlight`: the ring position of its message. Free: the next free run's page + 1.
    pub link: Word64,
    /// `InFlight` and `Held`: the object that its message went through.
    pub object: Word64,
}

const _: () = assert!(size_of::<Entry>() == 32);

/// The allocator's part of the heap header.
#[repr(C, align(64))]
pub struct AllocatorHeader {
    /// Guards everything here but `returned`, and all splitting, merging and taking of runs.
    pub lock: EngineLock,
    pub(crate) spare: Word32,
    /// Pages whose table entries are backed by memory.
    pub table_backed: Word64,
    /// Pages backed by memory, as of the last rebuild plus what changed since.
    pub committed: Word64,
    /// Of these, pages of listed runs, `Free` and `Fresh`.
    pub idle: Word64,
    /// Blocks freed since the last rebuild.
    pub frees: Word64,
    /// Runs seen by the last rebuild.
    pub runs: Word64,
    /// Pages of `Backing` runs: they may have memory any moment.
    pub backing: Word64,
    pub(crate) spare_line: Word64,
    /// Stack of `Returned` runs: page + 1 of the top. Anyone pushes, the lock's owner pops.
    pub returned: Word64,
    pub(crate) spare_line_2: [Word64; 7],
    /// Page + 1 of the first listed run by class: `Free`, `Fresh`, `Hollow`.
    pub bins: [[Word32; CLASSES]; 3],
}

/// A block as a message names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Its first page.
    pub page: u32,
    /// Bytes of it that are in use.
    pub len: u64,
    /// The generation of its entry.
    pub generation: u64,
}

impl BlockRef {
    /// Bytes of the encoded form.
    pub const SIZE: usize = 24;

    /// As stored in a record.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (head, rest) = bytes.split_at_mut(8);
        let (len, generation) = rest.split_at_mut(8);
        head.copy_from_slice(&u64::from(self.page).to_le_bytes());
        len.copy_from_slice(&self.len.to_le_bytes());
        generation.copy_from_slice(&self.generation.to_le_bytes());
        bytes
    }

    /// From a record; what it says is checked when it is used.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Self {
            page: word(0) as u32,
            len: word(8),
            generation: word(16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_word_says_what_was_stored() {
        let owner = OwnerId::from_bits(0xdead_beef);
        for state in [State::Hollow, State::Held, State::Punching] {
            let run = Run {
                state,
                owner,
                pages: MOST_PAGES,
            };
            assert_eq!(Run::decode(run.encode()), Some(run));
        }
        assert_eq!(Run::decode(0), None);
        assert_eq!(Run::decode(0xf), None);
    }

    #[test]
    fn a_reference_survives_its_bytes() {
        let block = BlockRef {
            page: 7,
            len: 1 << 40,
            generation: u64::MAX,
        };
        assert_eq!(BlockRef::from_bytes(block.to_bytes()), block);
    }
}
