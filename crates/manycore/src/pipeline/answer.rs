//! What a worker says about a task, in the kind of its messages.

use super::parcel::Parcel;

/// The task failed, and the value says why. As in a pool.
pub const ERROR: u8 = 0x08;
/// One of several outputs of a task; the worker goes on with it.
pub const MORE: u8 = 0x10;
/// The end of a task, and no output.
pub const NOTHING: u8 = 0x20;

const ALL: u8 = ERROR | MORE | NOTHING;

/// A message of a worker.
pub(super) struct Answer {
    /// Names the task; zero when it is about the worker itself.
    pub tag: u64,
    pub parcel: Parcel,
    flags: u8,
}

impl Answer {
    pub fn new(tag: u64, mut parcel: Parcel) -> Self {
        let flags = parcel.kind & ALL;
        parcel.kind &= !ALL;
        Self { tag, parcel, flags }
    }

    pub fn is_error(&self) -> bool {
        self.flags & ERROR != 0
    }

    /// Whether the worker is done with the task.
    pub fn is_last(&self) -> bool {
        self.flags & MORE == 0
    }

    pub fn has_output(&self) -> bool {
        self.flags & NOTHING == 0
    }
}
