//! How a stage is made, and what comes out of it.

use super::outlet::Weigh;
use super::parcel::Parcel;

/// How a stage is made.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many workers it has at a time.
    pub workers: usize,
    /// Whether its outputs leave in the order of its items.
    pub is_ordered: bool,
    /// The most items inside: those that wait, are worked on, or are done and cannot go on.
    pub most_items: usize,
    /// The most bytes of such items.
    pub most_bytes: u64,
    /// How often a task whose worker died is run again.
    pub retries: u32,
    /// What becomes of a task that failed.
    pub on_error: OnError,
}

/// What becomes of a task that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// It ends the pipeline.
    Raise,
    /// Nothing goes on in its place.
    Skip,
    /// The error goes on in its place, past all further stages.
    Return,
}

/// What leaves a stage. `E` is an error that the pipeline's owner has made.
pub enum Piece<E> {
    /// Something for the next stage to work on.
    Value(Parcel),
    /// What a worker said of its failure at the item of this number.
    Error(usize, u64, Parcel),
    /// What the owner said about a death.
    Made(E),
}

impl<E> Weigh for Piece<E> {
    fn bytes(&self) -> u64 {
        match self {
            Self::Value(parcel) | Self::Error(_, _, parcel) => parcel.bytes(),
            Self::Made(_) => 0,
        }
    }
}

/// Why a pipeline ends early.
pub struct Failure {
    /// The item's number in its stage; none if it is the worker's own trouble.
    pub number: Option<u64>,
    /// What the worker said.
    pub error: Parcel,
}

/// A task whose worker died and that is not run again.
pub struct Lost {
    /// The item's number in its stage.
    pub number: u64,
    /// How often a worker died of it.
    pub deaths: u32,
    /// How the item was encoded, if that is short.
    pub item: Option<(u8, Vec<u8>)>,
}

/// What a stage has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Items that it was given.
    pub items_in: u64,
    /// Outputs that went on.
    pub items_out: u64,
    /// Items that failed.
    pub failures: u64,
    /// Workers that died with an item.
    pub deaths: u64,
    /// Nanoseconds of work.
    pub worked: u64,
    /// Items inside, and their bytes.
    pub inside: (usize, u64),
}
