//! The shared words of a ring.

use crate::lock::EngineLock;
use crate::wait::{Bell, Search};
use crate::word::{Word32, Word64};

/// Which block a region is, and where it starts.
#[repr(C)]
pub struct RegionWords {
    /// `log2 of its bytes:32 | page of its block:32`.
    pub run: Word64,
    /// Generation of its block.
    pub generation: Word64,
    /// Position of its first byte.
    pub start: Word64,
}

/// One side of a ring: what its lock guards. The position commits everything else.
#[repr(C, align(64))]
pub struct Side {
    /// Held while a message is copied.
    pub lock: EngineLock,
    /// One while processes want a token in their sockets before anything is committed here; see `pollers`.
    pub polled: Word32,
    /// How far this side is. Written under the lock, read by the other side.
    pub position: Word64,
    /// The other side's position when this side last looked: it is looked at again only when this one
    /// says that there is nothing to do.
    pub peer: Word64,
    /// How many messages have passed; the position's parity says which counts.
    pub count: [Word64; 2],
    /// The other side's count when this side last looked.
    pub peer_count: Word64,
    /// Of the consumers: where they were when they found that the producers had left their region, plus
    /// one; the producers have left at most a region's bytes from there on.
    pub(crate) left_at: Word64,
    /// Of the producers: the consumers' volume when they last looked. Of the consumers: the most messages
    /// that they have ever found waiting.
    pub(crate) noted: Word64,
    /// The region; the position's epoch says which counts.
    pub region: [RegionWords; 2],
    /// Bytes of all blocks that have passed with messages; the position's parity says which counts.
    pub block_bytes: [Word64; 2],
}

const _: () = assert!(size_of::<Side>() == 128);

/// See the module. Both sides have cache lines of their own.
#[repr(C, align(64))]
pub struct RingBody {
    /// The producers' side.
    pub put: Side,
    /// The consumers' side.
    pub get: Side,
    /// Consumers sleep here, unless `items_at` says where else.
    pub items: Bell,
    /// Producers sleep here, unless `space_at` says where else.
    pub space: Bell,
    /// One when closed: no more messages are accepted.
    pub closed: Word32,
    /// One when the ring may chain larger regions.
    pub grows: Word32,
    /// Offset of the bell that is rung when a message is there; zero for `items`.
    pub items_at: Word64,
    /// Offset of the bell that is rung when space is free; zero for `space`.
    pub space_at: Word64,
    /// The most messages at a time; zero for any number.
    pub max_messages: Word64,
    /// Of a joinable queue: messages marked done. How many were put, the producers' side says.
    pub done: Word64,
    /// Threads in `join` sleep here.
    pub finished: Bell,
    /// Index + 1 of the group whose workers consume here and keep rows; zero for none.
    pub group: Word32,
    /// Which of the groups at that index.
    pub(crate) group_generation: Word32,
    /// Which of the workers of the group looks before it sleeps.
    pub(crate) search: Search,
    /// The most bytes of messages at a time; zero for any number.
    pub max_bytes: Word64,
    /// Volume of both sides when the ring was made.
    pub(crate) first_volume: Word64,
    /// How often producers slept until there was room.
    pub(crate) put_sleeps: Word64,
    /// How often consumers slept until there was a message.
    pub(crate) get_sleeps: Word64,
    /// Page + 1 of the block with the pollers, zero for none, and its generation.
    pub(crate) pollers: [Word64; 2],
    /// `index + 1:32 | generation:32` of the source; zero as long as there was none. See `ending`.
    pub(crate) source: Word64,
}

const _: () = assert!(size_of::<RingBody>() <= crate::object::header::BODY_WORDS * 8);

/// How a ring is made.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes of the first region.
    pub capacity: u64,
    /// Whether it may chain larger ones.
    pub grows: bool,
    /// The most messages at a time; zero for any number.
    pub max_messages: u64,
    /// The most bytes of messages at a time, as they lie in shared memory; zero for any number. A message
    /// that is larger is put when the ring is empty.
    pub max_bytes: u64,
    /// Offset of the bell that is rung when a message is there; zero for the ring's own.
    pub items_at: u64,
    /// Offset of the bell that is rung when space is free; zero for the ring's own.
    pub space_at: u64,
    /// The group whose workers consume here and keep rows.
    pub group: Option<u32>,
}

impl Shape {
    /// A queue of any number of messages: starts small and grows.
    #[must_use]
    pub fn unbounded() -> Self {
        Self {
            capacity: FIRST,
            grows: true,
            max_messages: 0,
            max_bytes: 0,
            items_at: 0,
            space_at: 0,
            group: None,
        }
    }

    /// A queue of at most this many messages (zero: any number).
    #[must_use]
    pub fn of_messages(max_messages: u64) -> Self {
        Self {
            max_messages,
            ..Self::unbounded()
        }
    }
}

/// Bytes of a ring's first region.
pub const FIRST: u64 = 8 << 10;
/// Regions grow up to this many bytes.
pub const LARGEST: u64 = 1 << 20;
/// Half of the epochs that a position can tell apart.
pub const MANY_REGIONS: u64 = 1 << 15;
