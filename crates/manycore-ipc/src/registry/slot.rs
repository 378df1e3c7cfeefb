//! What is known about one process.
//!
//! One word says in which state the slot is, and changes by compare-and-swap only:
//!
//! | status     | BY          | PID | meaning                                                          |
//! |------------|-------------|-----|------------------------------------------------------------------|
//! | `Free`     | -           | -   | nobody                                                           |
//! | `Reserved` | parent slot | pid | for the child that the parent is just forking; its pid, once known |
//! | `Alive`    | -           | pid | a process, as far as is known                                    |
//! | `Left`     | -           | pid | it said goodbye: what it held stays held, as with `multiprocessing` |
//! | `Killed`   | reaper slot | pid | confirmed dead without goodbye; the reaper cleans up             |
//! | `Gone`     | reaper slot | pid | confirmed ended after its goodbye; the reaper cleans up          |
//!
//! A dead reaper is itself found dead, and the next one takes over: every step of cleaning up may be
//! done twice.

use std::sync::atomic::Ordering::{Acquire, Release};

use manycore_os::life::LifeWord;
use manycore_os::process::Identity;

use super::owner::GENERATION_BITS;
use crate::lock::EngineLock;
use crate::wait::Bell;
use crate::word::{Word32, Word64};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Nobody.
    Free = 0,
    /// For a child that is just being forked.
    Reserved = 1,
    /// A process, as far as is known.
    Alive = 2,
    /// It said goodbye.
    Left = 3,
    /// Confirmed dead without goodbye.
    Killed = 4,
    /// Confirmed ended after its goodbye.
    Gone = 5,
}

/// The state word, decoded: `pid:28 | generation:20 | by:12 | status:4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenancy {
    /// See [`Status`].
    pub status: Status,
    /// Slot of the parent or the reaper.
    pub by: usize,
    /// Grows whenever the slot changes hands.
    pub generation: u32,
    /// The process.
    pub pid: u32,
}

impl Tenancy {
    /// The word.
    #[must_use]
    pub fn encode(self) -> u64 {
        let generation = u64::from(self.generation) & ((1 << GENERATION_BITS) - 1);
        (u64::from(self.pid) << 36)
            | (generation << 16)
            | ((self.by as u64 & 0xfff) << 4)
            | self.status as u64
    }

    /// What a word says, if it says anything.
    #[must_use]
    pub fn decode(word: u64) -> Option<Self> {
        let status = match word & 0xf {
            0 => Status::Free,
            1 => Status::Reserved,
            2 => Status::Alive,
            3 => Status::Left,
            4 => Status::Killed,
            5 => Status::Gone,
            _ => return None,
        };
        let by = (word >> 4) as usize & 0xfff;
        let generation = (word >> 16) as u32 & ((1 << GENERATION_BITS) - 1);
        Some(Self {
            status,
            by,
            generation,
            pid: (word >> 36) as u32,
        })
    }
}

/// A process's place in the registry.
#[repr(C, align(256))]
pub struct Slot {
    /// Marked by the kernel when the process's main thread ends.
    pub life: LifeWord,
    /// A [`Tenancy`].
    pub state: Word64,
    /// When the process started: `generation:20 | ticks:44`. It counts only for the tenancy of that
    /// generation, so the start of an earlier tenant is never taken for the present one's.
    start: Word64,
    /// The slot of the process that started it.
    pub parent: Word32,
    /// One when `life` is linked to a thread that lives as long as the process.
    pub has_life: Word32,
    pub(crate) spare: [Word64; 5],
    /// For whoever waits in this process for several things at once.
    pub bell: Bell,
    pub(crate) spare_line: [Word32; 15],
    pub(crate) counters: [Word64; 8],
}

const _: () = assert!(size_of::<Slot>() == 256);

const TICKS: u64 = (1 << 44) - 1;

impl Slot {
    /// The process that the kernel is asked about. Its start is zero, for unknown, until it is written.
    pub(crate) fn identity(&self, tenancy: Tenancy) -> Identity {
        let start = self.start.load(Acquire); // pairs with the Release in `set_start`
        let is_its_own = start >> 44 == u64::from(tenancy.generation);
        Identity {
            pid: tenancy.pid,
            start: if is_its_own { start & TICKS } else { 0 },
        }
    }

    /// Says when the tenant of a generation started. By that tenant only, once it has the slot.
    pub(crate) fn set_start(&self, generation: u32, ticks: u64) {
        self.start
            .store(u64::from(generation) << 44 | (ticks & TICKS), Release);
    }
}

/// The registry's part of the heap header.
#[repr(C, align(64))]
pub struct RegistryHeader {
    /// One more than the highest slot that anybody has ever tried to take.
    pub high: Word32,
    /// How many processes were found dead.
    pub deaths: Word32,
    pub(crate) spare: [Word64; 7],
    pub(crate) lock: EngineLock,
    pub(crate) spare_line: [Word32; 15],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_word_says_what_was_stored() {
        let tenancy = Tenancy {
            status: Status::Killed,
            by: 4095,
            generation: 0xf_ffff,
            pid: 4_194_304,
        };
        assert_eq!(Tenancy::decode(tenancy.encode()), Some(tenancy));
        assert_eq!(Tenancy::decode(0xf), None);
    }
}
