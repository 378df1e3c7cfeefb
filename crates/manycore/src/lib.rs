//! Process-based parallelism that is fast and cannot hang.
//!
//! Functions run in processes of their own, which share queues and values. A process that crashes, is
//! killed or runs out of memory takes nothing along but itself: whoever waits for it is told, and
//! everybody else goes on. Linux only.
//!
//! # The smallest program
//!
//! ```
//! use manycore::Process;
//!
//! fn sum(numbers: Vec<u64>) -> u64 {
//!     numbers.iter().sum()
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     manycore::init(); // first in `main`
//!     let child = Process::spawn(sum, vec![1, 2, 3])?;
//!     assert_eq!(child.join()?, 6);
//!     Ok(())
//! }
//! ```
//!
//! A process that this program starts is another run of it. It begins in `main` as well, and [`init`]
//! is where it turns off: it calls the function there and never comes back.
//!
//! # Concepts
//!
//! * A **function** travels by its type, so it is a plain `fn` or a closure that captures nothing.
//!   What it needs are its **arguments**, one value or a tuple; they and its result are copied, by
//!   [`serde`]. See [`Process::spawn`].
//! * A **pool** ([`Pool`]) has worker processes that run many such calls, one after the other. See
//!   below.
//! * A **queue** ([`Queue`]) carries messages from any process or thread to any other, each to one
//!   receiver. A bounded one holds fast senders up.
//! * A **channel** ([`channel()`]) is a queue with two kinds of ends, [`Sender`] and [`Receiver`], each of which
//!   is told when there is no other end any more, because it was dropped or its process has died. A
//!   [`pipe()`] is one in each direction. [`Select`] waits for the first of several.
//! * A **value** ([`Value`]) is one that processes read and change in turn. An array ([`SharedSlice`]) is written in
//!   place. Locks, condition variables, events, barriers, semaphores and atomics are in [`sync`], by the names of
//!   [`std::sync`].
//! * Processes that have one another's queues and values are a **family**: the first process and all
//!   that it has started, and that these have. Queues and values travel wherever other data does inside
//!   a family: as arguments, as results, through queues.
//!
//! ```
//! use manycore::{Process, Queue, Value};
//!
//! fn measure((words, longest): (Queue<String>, Value<usize>)) {
//!     for word in &words {
//!         let len = word.expect("words arrive whole").len();
//!         longest.update(|longest| *longest = len.max(*longest)).expect("a number fits");
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     manycore::init();
//!     let (words, longest) = (Queue::new()?, Value::new(0)?);
//!     let children = [0; 2].map(|_| Process::spawn(measure, (words.clone(), longest.clone())));
//!     for word in ["how", "much", "wood", "would", "a", "woodchuck", "chuck"] {
//!         words.send(&word.to_owned())?;
//!     }
//!     words.close(); // what is in it is still received
//!     for child in children {
//!         child?.join()?;
//!     }
//!     assert_eq!(longest.get()?, 9);
//!     Ok(())
//! }
//! ```
//!
//! `examples/pipeline.rs` joins three stages by queues, `examples/gather.rs` collects what several processes find.
//!
//! # Pools
//!
//! ```
//! use manycore::Pool;
//!
//! fn square(number: u64) -> u64 {
//!     number * number
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     manycore::init();
//!     let pool = Pool::with_available_cpus()?;
//!     assert_eq!(pool.map(square, 1..=5)?, [1, 4, 9, 16, 25]);
//!     Ok(())
//! }
//! ```
//!
//! [`Pool::map`] wants all results or the first error, [`Pool::try_map`] what came of each item,
//! [`Pool::map_unordered`] each result as soon as it is there, [`Pool::map_ordered`] the same in order, which
//! [`PoolMap`] has as a method of iterators; [`Pool::submit`] is one call, to be joined or awaited later. Each task
//! gets exactly one answer, and runs at most once unless it may be run again after the death of its worker:
//!
//! ```
//! use std::time::Duration;
//! use manycore::{Pool, PoolMap};
//!
//! fn length(word: String) -> usize {
//!     word.len()
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     manycore::init();
//!     let pool = Pool::builder().workers(2).retries(1).build()?;
//!     let words = "how much wood would a woodchuck chuck".split(' ').map(str::to_owned);
//!     let lengths = words.pool_map(pool.timeout(Duration::from_secs(5)), length);
//!     assert_eq!(lengths.collect::<Result<Vec<_>, _>>()?, [3, 4, 4, 5, 1, 9, 5]);
//!     Ok(())
//! }
//! ```
//!
//! `examples/monte_carlo.rs` takes results until they are enough, `examples/hash_files.rs` has limits and retries.
//!
//! # Failure
//!
//! | when a process | then |
//! |---|---|
//! | panics | [`Child::join`] returns what it said and where |
//! | is killed, at any instruction | [`Child::join`] names the signal; a queue that it was using is intact, a value is what it was before the change |
//! | is killed, or panics, with a lock | the next one gets the lock, and is told by [`sync::OwnerDied`]; what the lock guards is what it was before |
//! | is a worker of a pool and panics | that task fails and says why; the worker goes on |
//! | is a worker of a pool and dies | the task that it was running fails and names the signal or the exit status, no other does; another worker is started |
//! | is a worker of a pool whose task runs longer than it may | that task fails, the worker is killed and another one started |
//! | ends with others waiting for it | who joins it is told, and who waits for a channel of which it had the last other end; who waits at a queue goes on waiting until somebody closes it |
//! | ends with children of its own | these are killed, however it ended |
//! | sends what cannot be encoded | the sender gets the error, the queue is unchanged |
//! | runs out of shared memory | the operation says so, and what the limit is |
//!
//! Nothing is left on disk or in `/dev/shm`: the shared memory has no name, and goes with the last
//! process that has it.
//!
//! ```
//! use manycore::Process;
//! use manycore::error::JoinError;
//!
//! fn divide((a, b): (u32, u32)) -> u32 {
//!     a / b
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     manycore::init();
//!     match Process::spawn(divide, (1, 0))?.join() {
//!         Err(JoinError::Panicked { message, .. }) => assert!(message.contains("divide by zero")),
//!         other => panic!("{other:?}"),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # What a program is doing
//!
//! [`inspect()`] looks at a program from outside, also at one that hangs: who holds which lock, who waits for what,
//! how full the queues are.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let queue = manycore::Queue::new()?;
//! queue.send(&"a message")?;
//! let report = manycore::inspect(std::process::id())?;
//! assert!(report.to_string().contains("1 items"));
//! # Ok(())
//! # }
//! ```
//!
//! # Performance
//!
//! Starting a process takes about a millisecond, sending a small message about a tenth of a
//! microsecond, a round trip between two cores about half of one. A process that waits looks again for
//! some microseconds before it sleeps, and none for long. A task of a pool costs about half a
//! microsecond of processor time, both sides together: tasks of some microseconds are worth their while.
//!
//! * Messages of more than 32 KiB are copied into a block of shared memory and out again; few large
//!   messages are faster than many small ones of the same size together.
//! * `serde` takes a `Vec<u8>` byte by byte. Send large ones through a queue or channel of [`Bytes`], or wrap
//!   them by `serde_bytes`.
//! * A [`Value`], or what a [`Mutex`](sync::Mutex) guards, is decoded and encoded at each update. Let processes collect by themselves and add up
//!   at the end.
//! * Shared memory grows as it is needed, and what was freed is given back beyond 128 MiB.
//!   `MANYCORE_HEAP_LIMIT` sets a limit.
#![forbid(unsafe_code)]

mod bytes;
mod call;
mod channel;
mod codec;
pub mod error;
pub mod family;
mod handle;
mod init;
mod item;
mod launch;
mod panic;
pub mod pipeline;
pub mod pool;
mod process;
mod queue;
mod resident;
mod select;
mod slice;
mod start;
pub mod sync;
mod thread;
mod transport;
mod value;

pub use bytemuck::Pod;
pub use bytes::Bytes;
pub use channel::{Messages, Pipe, PipeEnd, Receiver, Sender, bounded_channel, channel, pipe};
pub use init::init;
pub use manycore_ipc::inspect::{self, InspectError, Report, inspect};
pub use manycore_os::Deadline;
pub use manycore_os::process::Exit;
pub use pool::{Calls, Pool, PoolBuilder, PoolMap, Task};
pub use process::{Child, Process};
pub use queue::{Iter, Queue};
pub use select::{Select, Selectable};
pub use slice::SharedSlice;
pub use value::Value;
