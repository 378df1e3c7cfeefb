//! The extension module `manycore._engine`: bytes, numbers, deadlines and buffers.
//!
//! | module | what it is |
//! |---|---|
//! | [`codec`] | the native encoding of small plain values |
//! | [`decoding`] | and back |
//! | [`keys`] | keys of dicts, and names, that were received before |
//! | [`shapes`] | dicts with keys that were received before |
//! | [`array`] | NumPy's arrays in it |
//! | [`instance`] | instances of plain classes in it |
//! | [`layouts`] | classes whose instances consist of a dict |
//! | [`class_names`] | names of classes that were received before |
//! | [`attribute`] | whether an object has an attribute |
//! | [`slots`] | what the slots of a class say |
//! | [`method`] | methods whose call would take longer than their work |
//! | [`message`] | Python objects as messages |
//! | [`pickler`] | the pickler of each thread |
//! | [`reducers`] | what the program has registered for it |
//! | [`pieces`] | what it writes to |
//! | [`outside`] | what travels outside a message's payload |
//! | [`buffer`] | Python's buffers and the heap's bytes |
//! | [`queue`] | the class behind `Queue` |
//! | [`pipe`] | the class behind `Connection` |
//! | [`watching`] | descriptors by which a process polls a queue |
//! | [`integer`] | integers in shared memory that change by single instructions |
//! | [`guarded`] | the class behind `Synchronized`: a shared object and its lock |
//! | [`map`] | the class behind `SharedDict` |
//! | [`lock`] | the classes behind `Lock` and `RLock` |
//! | [`any_lock`] | the lock of a condition or a value |
//! | [`semaphore`] | the class behind `Semaphore` and `BoundedSemaphore` |
//! | [`rw_lock`] | the class behind `RWLock` |
//! | [`waiting`] | the classes behind `Event`, `Condition` and `Barrier` |
//! | [`task`] | how a task and its answer look as messages |
//! | [`job`] | what a call to the pool waits for |
//! | [`crew`] | the owner's side of a pool |
//! | [`worker`] | a worker's side of a pool |
//! | [`stages`] | the owner's side of a pipeline |
//! | [`stage_worker`] | a worker's side of a pipeline |
//! | [`ending`] | how children ended |
//! | [`family`] | the family of this process |
//! | [`doctor`] | looking at a program from outside |
//! | [`wait`] | waiting with the interpreter released |
//! | [`imported`] | Python objects that are looked up once |
//! | [`gil_cell`] | what the interpreter's lock guards |
//! | [`errors`] | how the engine's errors look in Python |
//!
//! Which modules have `unsafe` code, SAFETY.md says.
#![deny(unsafe_code)]

use pyo3::prelude::*;

mod any_lock;
mod array;
mod attribute;
mod buffer;
mod calling;
mod class_names;
mod codec;
mod crew;
mod decoding;
mod doctor;
mod due;
mod ending;
mod errors;
mod family;
mod forking;
mod gil_cell;
mod guarded;
mod imported;
mod instance;
mod integer;
mod job;
mod kept;
mod keys;
mod layouts;
mod lock;
mod map;
mod message;
mod method;
mod outside;
mod pickler;
mod pieces;
mod pipe;
mod queue;
mod recycled;
mod reducers;
mod result;
mod rw_lock;
mod semaphore;
mod shapes;
mod slots;
mod stage_worker;
mod stages;
mod submitting;
mod task;
mod tracking;
mod turn;
mod wait;
mod waiting;
mod watching;
mod worker;

/// The Rust engine behind `manycore`. Private: use `manycore`.
#[pymodule(gil_used = true)]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    family::initialise();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<buffer::Memory>()?;
    module.add_class::<buffer::PrivateView>()?;
    module.add_class::<recycled::Recycled>()?;
    module.add_class::<buffer::Shaped>()?;
    module.add_class::<integer::SharedInteger>()?;
    module.add_class::<guarded::Guarded>()?;
    module.add_class::<guarded::GuardedField>()?;
    module.add_function(wrap_pyfunction!(method::quick, module)?)?;
    module.add_function(wrap_pyfunction!(method::quick_value, module)?)?;
    module.add_class::<queue::RingQueue>()?;
    module.add_class::<queue::QueueIterator>()?;
    module.add_class::<queue::OpenProducer>()?;
    module.add_class::<pipe::PipeEnd>()?;
    module.add_class::<lock::PlainLock>()?;
    module.add_class::<lock::RecursiveLock>()?;
    module.add_class::<semaphore::CountingSemaphore>()?;
    module.add_class::<rw_lock::ReadWriteLock>()?;
    module.add_class::<waiting::EventFlag>()?;
    module.add_class::<waiting::WaitRoll>()?;
    module.add_class::<waiting::MeetingPoint>()?;
    module.add_class::<map::SharedMap>()?;
    module.add_class::<map::MapIterator>()?;
    module.add_class::<crew::Crew>()?;
    module.add_class::<job::Job>()?;
    module.add_class::<result::Call>()?;
    module.add_class::<result::Promise>()?;
    module.add_class::<submitting::PoolCalls>()?;
    module.add_class::<submitting::ExecutorCalls>()?;
    module.add_class::<worker::Seat>()?;
    module.add_class::<stages::Stages>()?;
    module.add_class::<stages::LostItem>()?;
    module.add_class::<stage_worker::StageSeat>()?;
    module.add_function(wrap_pyfunction!(family::has_family, module)?)?;
    module.add_function(wrap_pyfunction!(family::heap_fd, module)?)?;
    module.add_function(wrap_pyfunction!(family::join_family, module)?)?;
    module.add_function(wrap_pyfunction!(family::membership, module)?)?;
    module.add_function(wrap_pyfunction!(family::leave_family, module)?)?;
    module.add_function(wrap_pyfunction!(family::reap, module)?)?;
    module.add_function(wrap_pyfunction!(family::other_members, module)?)?;
    module.add_function(wrap_pyfunction!(family::make_lifeline, module)?)?;
    module.add_function(wrap_pyfunction!(family::cut_lifeline, module)?)?;
    module.add_function(wrap_pyfunction!(family::arm_lifeline, module)?)?;
    module.add_function(wrap_pyfunction!(family::arm_lifeline_of, module)?)?;
    module.add_class::<ending::ChildWatch>()?;
    module.add_function(wrap_pyfunction!(ending::look_at_child, module)?)?;
    module.add_function(wrap_pyfunction!(family::thread_name, module)?)?;
    module.add_function(wrap_pyfunction!(family::rename_thread, module)?)?;
    module.add_function(wrap_pyfunction!(family::volunteer_for_oom, module)?)?;
    module.add_function(wrap_pyfunction!(worker::serve_executor, module)?)?;
    module.add_function(wrap_pyfunction!(family::heap_usage, module)?)?;
    module.add_function(wrap_pyfunction!(family::permanent_fds, module)?)?;
    module.add_function(wrap_pyfunction!(forking::fork, module)?)?;
    module.add_function(wrap_pyfunction!(family::handles_arrived, module)?)?;
    module.add_function(wrap_pyfunction!(family::handles_sent, module)?)?;
    module.add_function(wrap_pyfunction!(family::receive_handles, module)?)?;
    module.add_function(wrap_pyfunction!(message::collect_handles, module)?)?;
    module.add_class::<reducers::Reducers>()?;
    module.add_class::<due::Due>()?;
    module.add_function(wrap_pyfunction!(errors::call_showing_errors, module)?)?;
    module.add_function(wrap_pyfunction!(turn::run_alone, module)?)?;
    module.add_function(wrap_pyfunction!(doctor::inspect, module)?)?;
    Ok(())
}
