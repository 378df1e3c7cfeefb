//! Pipelines: stages of worker processes, each of which works on what the one before it has made.
//!
//! The engine, bytes in and bytes out:
//!
//! | module | what it is |
//! |---|---|
//! | [`parcel`] | a message on its way from one stage to the next |
//! | [`outlet`] | what a stage has made, in the order in which it may go on |
//! | [`plan`] | how a stage is made, and what comes out of it |
//! | [`stage`] | the workers of one stage: hands out, collects, buries |
//! | [`hub`] | all stages of a pipeline, in the process that made it: moves parcels on |
//! | `answer` | what a worker says about a task |
//!
//! Each stage is the crew of a pool: a task ring, rows that name the task in hand, a ring for the answers of
//! each worker. The hub takes answers and hands them out as tasks to the next stage, without decoding
//! them: blocks change their place, not their content. `PROTOCOL.md` beside this file says why it goes
//! through the hub and what a death leaves behind.

mod answer;
pub mod hub;
pub mod outlet;
pub mod parcel;
pub mod plan;
pub mod stage;

pub use answer::{ERROR, MORE, NOTHING};
pub use hub::{Hub, Watch};
pub use outlet::{Outlet, Weigh};
pub use parcel::Parcel;
pub use plan::{Counts, Failure, Lost, OnError, Piece, Plan};
pub use stage::Stage;
