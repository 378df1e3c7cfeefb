//! What a barrier consists of, and the phases that it goes through.

use std::sync::atomic::Ordering::Relaxed;

use crate::error::Corrupted;
use crate::sync::roll::RollBody;
use crate::wait::Bell;
use crate::word::{Word32, Word64};

pub(super) const PHASE: u32 = 7;
pub(super) const ONE: u32 = PHASE + 1;

/// See [`barrier`](super).
#[repr(C, align(64))]
pub struct BarrierBody {
    pub(crate) roll: RollBody,
    pub(super) parties: Word32,
    /// `turn:29 | phase:3`
    pub(super) phase: Word32,
    /// While it is Acting: whose action.
    pub(super) actor: Word32,
    /// Those who come while it is Acting sleep here.
    pub(super) bell: Bell,
    spare: [Word64; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Phase {
    Filling = 0,
    Acting = 1,
    Passing = 2,
    Broken = 3,
    Resetting = 4,
}

impl Phase {
    pub(super) fn of(word: u32) -> Result<Self, Corrupted> {
        use Phase::{Acting, Broken, Filling, Passing, Resetting};
        [Filling, Acting, Passing, Broken, Resetting]
            .into_iter()
            .find(|&phase| phase as u32 == word & PHASE)
            .ok_or(Corrupted::new("a barrier is in no phase"))
    }
}

impl BarrierBody {
    /// Makes it empty. For an object that is not live yet.
    pub(crate) fn initialise(&self, parties: u32) {
        self.roll.initialise();
        self.parties.store(parties, Relaxed); // published with the object
        self.phase.store(0, Relaxed);
        self.actor.store(0, Relaxed);
    }
}
