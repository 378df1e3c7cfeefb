//! Which stripe and slot a key belongs to.
//!
//! The hash depends on the family, so that nobody can prepare keys that all fall together. Its bits have
//! different uses: the highest choose the slot, the lowest tell keys apart without a look at the record, and
//! those above them choose the stripe.

use super::layout::STRIPES;

/// Low bits of a hash that a slot has.
pub(super) const TAG_BITS: u32 = 24;

const FIRST: u64 = 0x9e37_79b9_7f4a_7c15;
const SECOND: u64 = 0xd6e8_feb8_6659_fd93;

/// The hash of a key's bytes in a family.
pub(super) fn hash(bytes: &[u8], family: u64) -> u64 {
    let mut state = mix(family ^ FIRST, bytes.len() as u64 ^ SECOND);
    for part in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        let turned = state.rotate_left(32) ^ SECOND;
        state = mix(state ^ u64::from_le_bytes(word), turned);
    }
    mix(state, SECOND)
}

/// Both halves of a product: each bit of the result depends on all of `a` and `b`.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ FIRST) * u128::from(b | 1);
    (product >> 64) as u64 ^ product as u64
}

/// Which stripe.
pub(super) fn stripe_of(hash: u64) -> usize {
    (hash >> TAG_BITS) as usize % STRIPES
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_that_differ_a_little_fall_far_apart() {
        let numbers: Vec<_> = (0_u64..4096).map(|n| hash(&n.to_le_bytes(), 7)).collect();
        let distinct = |of: fn(u64) -> u64| {
            let all: HashSet<_> = numbers.iter().map(|&it| of(it)).collect();
            all.len()
        };
        // As many as by chance: of so many balls in as many boxes, 63 % of the boxes have one.
        assert!(
            distinct(|it| it >> 52) > 2300,
            "the bits that choose a slot"
        );
        assert!(
            distinct(|it| it & 0xfff) > 2300,
            "the bits that tell keys apart"
        );
        let mut stripes = [0; STRIPES];
        numbers.iter().for_each(|&it| stripes[stripe_of(it)] += 1);
        assert!(stripes.iter().all(|&n| n > 400), "{stripes:?}");
    }

    #[test]
    fn the_length_and_the_family_count() {
        assert_ne!(hash(b"a", 1), hash(b"a\0", 1));
        assert_ne!(hash(b"", 1), hash(b"\0\0\0\0\0\0\0\0", 1));
        assert_ne!(hash(b"a", 1), hash(b"a", 2));
    }
}
