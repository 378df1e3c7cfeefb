//! What a ring has done so far.

use std::sync::atomic::Ordering::Relaxed;

use super::passed::volume_since;
use super::region::Ring;

/// Counts since the ring was made, at some moment during the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages that were put.
    pub put: u64,
    /// Messages that were got.
    pub got: u64,
    /// Bytes that they took in shared memory, modulo 2^48.
    pub put_bytes: u64,
    /// Likewise.
    pub got_bytes: u64,
    /// How often producers slept until there was room.
    pub put_sleeps: u64,
    /// How often consumers slept until there was a message.
    pub get_sleeps: u64,
    /// The most messages that were ever found waiting: consumers look each time they have taken what they
    /// knew of.
    pub high_water: u64,
}

impl Ring {
    /// What the ring has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let body = self.body;
        let got = self.passed_of(&body.get); // first, as in `len`
        let put = self.passed_of(&body.put);
        let first = body.first_volume.load(Relaxed); // set once
        // The others are counts that order nothing.
        let high_water = body.get.noted.load(Relaxed);
        Stats {
            put: put.messages,
            got: got.messages,
            put_bytes: volume_since(put.volume(), first),
            got_bytes: volume_since(got.volume(), first),
            put_sleeps: body.put_sleeps.load(Relaxed),
            get_sleeps: body.get_sleeps.load(Relaxed),
            high_water: high_water.max(put.messages.saturating_sub(got.messages)),
        }
    }
}
