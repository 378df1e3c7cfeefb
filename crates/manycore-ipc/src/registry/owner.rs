//! The 32 bits by which a word names a process.

use crate::heap::layout::SLOTS;

const SLOT_BITS: u32 = 12;
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;
/// Generations are compared in this many bits.
pub(crate) const GENERATION_BITS: u32 = 20;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

const _: () = assert!(SLOTS == 1 << SLOT_BITS);

/// `generation:20 | slot:12`. A slot's generation grows whenever it changes hands, so that a process
/// which takes over a dead one's slot inherits nothing. Slot 0 is never used: the zero word is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerId(u32);

impl OwnerId {
    /// No process.
    pub const NOBODY: Self = Self(0);

    pub(crate) fn new(slot: usize, generation: u32) -> Self {
        Self(((generation & GENERATION_MASK) << SLOT_BITS) | (slot as u32 & SLOT_MASK))
    }

    /// From a shared word.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// For a shared word.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The slot.
    #[must_use]
    pub fn slot(self) -> usize {
        (self.0 & SLOT_MASK) as usize
    }

    /// The generation.
    #[must_use]
    pub fn generation(self) -> u32 {
        self.0 >> SLOT_BITS
    }

    /// Whether this names nobody.
    #[must_use]
    pub fn is_nobody(self) -> bool {
        self.slot() == 0
    }
}
