//! Messages of which every byte is known: all of it follows from the tag.

use std::sync::OnceLock;

/// One message: who made it, and which of its maker's it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parcel {
    pub(crate) seat: usize,
    pub(crate) number: u32,
}

/// Sizes of payloads, each equally often: mostly small, some near the most that travels inside.
const INLINE: [usize; 16] = [
    0, 8, 8, 24, 60, 60, 100, 200, 300, 300, 700, 1_500, 2_000, 5_000, 12_000, 32_000,
];
/// Sizes of blocks: travel outside of the ring.
const OUTSIDE: [usize; 4] = [32 << 10, 40_000, 100_000, 300_000];
/// One message in this many has blocks.
const WITH_BLOCKS: u64 = 24;
/// Where pieces of the noise may begin.
const NOISE_LEN: usize = 1 << 20;

impl Parcel {
    pub(crate) fn from_tag(tag: u64) -> Self {
        Self {
            seat: (tag >> 32) as usize,
            number: tag as u32,
        }
    }

    pub(crate) fn tag(self) -> u64 {
        (self.seat as u64) << 32 | u64::from(self.number)
    }

    /// What travels inside the ring.
    pub(crate) fn payload(self) -> Vec<u8> {
        let size = INLINE[(self.draw(0) % INLINE.len() as u64) as usize];
        self.bytes(0, size)
    }

    /// What travels beside it.
    pub(crate) fn blocks(self) -> Vec<Vec<u8>> {
        let draw = self.draw(1);
        if !draw.is_multiple_of(WITH_BLOCKS) {
            return Vec::new();
        }
        let count = 1 + (draw >> 8) % 3;
        let size = |n: u64| OUTSIDE[((draw >> (16 + 2 * n)) % OUTSIDE.len() as u64) as usize];
        (1..=count).map(|n| self.bytes(n, size(n))).collect()
    }

    /// A piece of the noise that begins with a number of its own.
    fn bytes(self, part: u64, len: usize) -> Vec<u8> {
        let draw = self.draw(2 + part);
        let at = (draw % NOISE_LEN as u64) as usize;
        let mut bytes = noise()[at..at + len].to_vec();
        let own = len.min(8);
        bytes[..own].copy_from_slice(&draw.to_le_bytes()[..own]);
        bytes
    }

    /// A number that looks random; another one for each use.
    fn draw(self, used_for: u64) -> u64 {
        scramble(self.tag() ^ used_for << 56)
    }
}

/// Bytes that look random, and then enough of them for the largest part. Copied, so that members spend
/// their time in the queue.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let words = (NOISE_LEN + OUTSIDE[OUTSIDE.len() - 1]) as u64 / 8;
        (0..words).flat_map(|n| scramble(n).to_le_bytes()).collect()
    })
}

/// One step of the generator `splitmix64`.
pub(crate) fn scramble(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
