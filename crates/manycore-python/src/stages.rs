//! The owner's side of a pipeline.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use manycore::pipeline::{Hub, Lost, OnError, Parcel, Piece, Plan};
use manycore_ipc::wait::GaveUp;
use manycore_os::clock::now_ns;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};

use crate::calling;
use crate::errors::{self, Error, interrupted};
use crate::family::{self, Parts};
use crate::message::{self, Encoded, NATIVE};
use crate::wait::{deadline, detached};

/// What a result is.
const VALUE: u8 = 0;
const FAILED: u8 = 1;
const UNREADABLE: u8 = 2;

type SeatParts = (Parts, Parts, Parts, Parts, usize);
/// Workers, whether ordered, most items, most bytes, retries, what becomes of errors.
type PlanParts = (usize, bool, usize, u64, u32, u8);
/// Items in, out, failed; deaths; nanoseconds of work; items and bytes inside.
type CountParts = (u64, u64, u64, u64, u64, usize, u64);

/// Stage, number of the item, what the worker said.
type FailureParts<'py> = (usize, Option<u64>, Bound<'py, PyAny>);

/// The stages of a pipeline: moves what each has made to the next one.
///
/// `hub` is only locked while the interpreter is held, and no Python code runs meanwhile.
#[pyclass(frozen, module = "manycore._engine")]
pub struct Stages {
    hub: Mutex<Hub<Py<PyAny>>>,
    family: &'static manycore_ipc::Family,
    /// How often somebody has rung.
    rung: AtomicUsize,
}

impl Stages {
    fn feed_encoded(&self, py: Python<'_>, encoded: Encoded) -> PyResult<()> {
        let parcel = encoded.into_parcel(py, self.family)?;
        let fed = self.hub().feed(parcel);
        fed.map_err(|error| errors::from_put(error, None))
    }

    fn hub(&self) -> MutexGuard<'_, Hub<Py<PyAny>>> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decode<'py>(&self, py: Python<'py>, parcel: Parcel) -> PyResult<Bound<'py, PyAny>> {
        message::decode(py, self.family, &parcel.into_message(), 0)
    }

    /// A result and what it is: a value, what a worker said of an item of a stage, or why the result cannot
    /// be decoded.
    fn result<'py>(
        &self,
        py: Python<'py>,
        piece: Piece<Py<PyAny>>,
    ) -> PyResult<(u8, Bound<'py, PyAny>)> {
        let decoded = match piece {
            Piece::Made(error) => Ok((VALUE, error.into_bound(py))),
            Piece::Value(parcel) => self.decode(py, parcel).map(|value| (VALUE, value)),
            Piece::Error(stage, number, parcel) => self.decode(py, parcel).and_then(|failed| {
                let told = (stage, number, failed).into_pyobject(py)?;
                Ok((FAILED, told.into_any()))
            }),
        };
        match decoded {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                Ok((UNREADABLE, error.into_value(py).into_bound(py).into_any()))
            }
            decoded => decoded,
        }
    }
}

#[pymethods]
impl Stages {
    /// Stages without workers yet.
    #[new]
    fn new(plans: Vec<PlanParts>) -> Result<Self, Error> {
        let plan =
            |&(workers, is_ordered, most_items, most_bytes, retries, on_error): &PlanParts| Plan {
                workers,
                is_ordered,
                most_items,
                most_bytes,
                retries,
                on_error: match on_error {
                    0 => OnError::Raise,
                    1 => OnError::Skip,
                    _ => OnError::Return,
                },
            };
        let plans: Vec<Plan> = plans.iter().map(plan).collect();
        let family = family::family()?;
        Ok(Self {
            hub: Mutex::new(Hub::new(family, &plans)?),
            family,
            rung: AtomicUsize::new(0),
        })
    }

    /// What the worker of a row of a stage needs to take its seat.
    fn seat(&self, stage: usize, row: usize) -> PyResult<SeatParts> {
        let hub = self.hub();
        let seat = hub.stages().get(stage).and_then(|stage| stage.seat(row));
        let seat = seat.ok_or_else(|| PyValueError::new_err("no such row"))?;
        let parts = message::note_handle;
        Ok((
            parts(hub.handle()),
            parts(seat.group),
            parts(seat.tasks),
            parts(seat.answers),
            row,
        ))
    }

    /// Gives up to `most` items of an iterator to the first stage while there is room; whether there may be more.
    /// Of one that cannot be encoded, `refuse` is told why: it raises, or returns what is to be its result, or `None`.
    fn feed(
        &self,
        py: Python<'_>,
        source: &Bound<'_, PyIterator>,
        most: usize,
        refuse: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        for _ in 0..most {
            if !self.hub().has_room() {
                break;
            }
            let Some(item) = calling::next(source) else {
                return Ok(false);
            };
            let item = item?;
            let mut encoded = Encoded::new();
            match encoded.object(&item) {
                Ok(()) => self.feed_encoded(py, encoded)?,
                Err(error) if !error.is_instance_of::<PyException>(py) => return Err(error),
                Err(error) => {
                    let made = calling::call(refuse, (error.into_value(py), item))?;
                    if let Some(first) = self.hub().stage(0) {
                        first.refuse((!made.is_none()).then(|| made.unbind()));
                    }
                }
            }
        }
        Ok(true)
    }

    /// Gives one item to the first stage.
    fn feed_one(&self, py: Python<'_>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut encoded = Encoded::new();
        encoded.object(item)?;
        self.feed_encoded(py, encoded)
    }

    /// Whether the first stage takes one more item.
    #[getter]
    fn has_room(&self) -> bool {
        self.hub().has_room()
    }

    /// There will be no more items for the first stage.
    fn end_input(&self) {
        self.hub().end_input();
    }

    /// Moves all that can move; whether anything did.
    fn pump(&self) -> PyResult<bool> {
        let pumped = self.hub().pump();
        pumped.map_err(|error| errors::from_put(error, None))
    }

    /// Up to `most` results of the last stage, each a pair: 0 and a value, 1 and stage, number and failure, or
    /// 2 and why it cannot be decoded.
    fn results<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Bound<'py, PyList>> {
        let results = PyList::empty(py);
        while results.len() < most {
            let piece = self.hub().pop();
            let Some(piece) = piece else {
                break;
            };
            results.append(self.result(py, piece)?)?;
        }
        Ok(results)
    }

    /// Drops the results of the last stage; how many there were.
    fn drop_results(&self) -> u64 {
        let mut count = 0;
        loop {
            let piece = self.hub().pop();
            if piece.is_none() {
                return count;
            }
            count += 1;
        }
    }

    /// Whether all has been done and fetched.
    #[getter]
    fn is_over(&self) -> bool {
        self.hub().is_over()
    }

    /// Whether there are results of the last stage.
    #[getter]
    fn has_results(&self) -> bool {
        self.hub().has_results()
    }

    /// What has to end the pipeline, if anything has: the stage, the number of the item or none if it is the
    /// worker's own trouble, and what the worker said.
    fn failure<'py>(&self, py: Python<'py>) -> PyResult<Option<FailureParts<'py>>> {
        let failure = self.hub().take_failure();
        let Some((stage, failure)) = failure else {
            return Ok(None);
        };
        Ok(Some((
            stage,
            failure.number,
            self.decode(py, failure.error)?,
        )))
    }

    /// Sleeps until something may move, or somebody calls `ring`, at most `timeout` seconds. Workers that
    /// have tasks left ring with so many answers.
    fn wait(&self, py: Python<'_>, answers: usize, timeout: f64) -> PyResult<()> {
        let watch = self.hub().watch(answers);
        let Some(watch) = watch else {
            return Ok(());
        };
        let rung = self.rung.load(SeqCst);
        let (result, raised) = detached(py, deadline(true, Some(timeout)), |patience| {
            // Pairs with the step in `ring`, before the bell.
            watch.wait(patience, || self.rung.load(SeqCst) != rung)
        });
        match result {
            Err(GaveUp::Interrupted) => Err(interrupted(raised)),
            Ok(()) | Err(GaveUp::TimedOut) => Ok(()),
        }
    }

    /// Ends the waiting of a thread that is in `wait`.
    fn ring(&self) {
        self.rung.fetch_add(1, SeqCst); // pairs with the look of who waits
        let watch = self.hub().watch(1);
        if let Some(watch) = watch {
            watch.ring();
        }
    }

    /// Whether the workers of a stage were told to leave.
    fn is_dismissed(&self, stage: usize) -> bool {
        let hub = self.hub();
        hub.stages()
            .get(stage)
            .is_none_or(|stage| stage.is_dismissed())
    }

    /// How many tasks the worker of a row has taken.
    fn taken(&self, stage: usize, row: usize) -> u64 {
        let hub = self.hub();
        hub.stages()
            .get(stage)
            .map_or(0, |stage| stage.crew().taken(row))
    }

    /// The tag of the item that the worker of a row works on, and for how many seconds it has.
    fn running(&self, stage: usize, row: usize) -> Option<(u64, f64)> {
        let hub = self.hub();
        let (tag, began) = hub.stages().get(stage)?.crew().running(row)?;
        Some((tag, now_ns().saturating_sub(began) as f64 / 1e9))
    }

    /// Asks the worker of a row to give up this item, if it still works on it. It looks when it is told to.
    fn interrupt(&self, stage: usize, row: usize, tag: u64) {
        if let Some(stage) = self.hub().stages().get(stage) {
            stage.crew().interrupt(row, tag);
        }
    }

    /// Decides that the worker of a row is to be killed for this item, unless it is done with that.
    fn doom(&self, stage: usize, row: usize, tag: u64) -> bool {
        let hub = self.hub();
        let crew = hub.stages().get(stage).map(|stage| stage.crew());
        crew.is_some_and(|crew| {
            let running = crew.running(row);
            running.is_some_and(|(runs, began)| runs == tag && crew.doom(row, began))
        })
    }

    /// Whether the kernel has marked any worker as ending: a hint.
    fn seems_dead(&self) -> bool {
        let hub = self.hub();
        hub.stages().iter().any(|stage| stage.crew().seems_dead())
    }

    /// Makes a row ready for a new worker.
    fn clear_row(&self, stage: usize, row: usize) {
        if let Some(stage) = self.hub().stages().get(stage) {
            stage.crew().clear_row(row);
        }
    }

    /// Whether workers of a stage that have ended may be buried; as `Crew.settle`.
    fn settle(&self, py: Python<'_>, stage: usize) -> PyResult<bool> {
        let tasks = self.hub().stage(stage).map(|stage| stage.crew().tasks());
        match tasks.transpose().map_err(Error::from)? {
            Some(tasks) => Ok(py.detach(|| tasks.settle_get_soon())),
            None => Ok(true),
        }
    }

    /// After the worker of a row has ended: takes its last answers. If an item died with it and is not run
    /// again, as none is that was given up: what to call with the error, or with none.
    #[pyo3(signature = (stage, row, is_given_up = false))]
    fn bury(&self, stage: usize, row: usize, is_given_up: bool) -> PyResult<Option<LostItem>> {
        let lost = match self.hub().stage(stage) {
            Some(stage) => stage.bury(row, is_given_up),
            None => Ok(None),
        };
        let lost = lost.map_err(|error| errors::from_put(error, None))?;
        Ok(lost.map(|lost| LostItem { stage, lost }))
    }

    /// Answers a lost item with an error that goes on in its place, or with nothing.
    #[pyo3(signature = (lost, error))]
    fn lose(&self, lost: &LostItem, error: Option<Py<PyAny>>) {
        if let Some(stage) = self.hub().stage(lost.stage) {
            stage.lose(&lost.lost, error);
        }
    }

    /// Drops what nobody has begun, and has the workers leave when they are done with what they have.
    fn abandon(&self) -> PyResult<()> {
        Ok(self.hub().abandon().map_err(Error::from)?)
    }

    /// How many items of a stage have no answer yet: they wait, or a worker has them.
    fn open(&self, stage: usize) -> usize {
        self.hub()
            .stages()
            .get(stage)
            .map_or(0, |stage| stage.open_tasks())
    }

    /// What a stage has done so far.
    fn counts(&self, stage: usize) -> Option<CountParts> {
        let hub = self.hub();
        let counts = hub.stages().get(stage)?.counts();
        Some((
            counts.items_in,
            counts.items_out,
            counts.failures,
            counts.deaths,
            counts.worked,
            counts.inside.0,
            counts.inside.1,
        ))
    }
}

/// An item whose worker died and that is not run again.
#[pyclass(frozen, module = "manycore._engine")]
pub struct LostItem {
    stage: usize,
    lost: Lost,
}

#[pymethods]
impl LostItem {
    /// Its number in its stage.
    #[getter]
    fn number(&self) -> u64 {
        self.lost.number
    }

    /// How many workers died of it.
    #[getter]
    fn deaths(&self) -> u32 {
        self.lost.deaths
    }

    /// The item, if it is short and plain, in a tuple.
    #[getter]
    fn item<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyAny>,)>> {
        match &self.lost.item {
            Some((NATIVE, payload)) => Ok(Some((crate::decoding::decode(py, payload, None)?,))),
            _ => Ok(None),
        }
    }
}
