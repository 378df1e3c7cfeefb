//! Running the threads of a model in every order.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use loom::model::Builder;
use loom::thread::{self, JoinHandle};

use super::{kernel, memory};
use crate::crash;

thread_local! {
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
    /// Set once a run cannot go on: what its threads still do while they unwind is nothing.
    static OVER: Cell<bool> = const { Cell::new(false) };
    /// Threads of the run so far, without the one that `loom` began it with.
    static THREADS: Cell<usize> = const { Cell::new(0) };
}

/// Bytes of a thread's stack.
const STACK: usize = 1 << 19;
/// Steps of one run; one that makes more goes round in a circle.
const MOST_STEPS: usize = 20_000;

/// What ends a run that met an address which no run has met before.
pub(super) struct StartOver;

/// Whether a model runs on this thread.
#[inline]
pub(crate) fn is_active() -> bool {
    ACTIVE.get()
}

/// Whether the present run has failed and only unwinds.
pub(crate) fn is_over() -> bool {
    OVER.get()
}

/// Hears of every panic, before anything unwinds; whether it is one of a model's own.
pub(crate) fn notice_panic(payload: &dyn Any, is_death: bool) -> bool {
    if is_active() && !is_death {
        OVER.set(true);
    }
    payload.is::<StartOver>()
}

pub(super) fn has_threads() -> bool {
    THREADS.get() > 1
}

pub(super) fn start_over() -> ! {
    panic_any(StartOver)
}

/// A thread of a model.
pub(crate) struct Actor<R>(JoinHandle<R>);

impl<R: Send + 'static> Actor<R> {
    /// Waits for its end.
    pub(crate) fn join(self) -> R {
        self.0
            .join()
            .expect("a panic would have ended the exploring")
    }
}

/// Starts a thread of a model. At most three can run at a time.
pub(crate) fn spawn<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> Actor<R> {
    let number = THREADS.get();
    THREADS.set(number + 1);
    let thread = thread::Builder::new().stack_size(STACK / size_of::<usize>());
    let named = move || {
        kernel::be(number);
        body()
    };
    Actor(thread.spawn(named).expect("at most five"))
}

/// Lets others go on first: for who can only look again.
pub(crate) fn pause() {
    if is_active() {
        thread::yield_now();
    }
}

/// How far a model is explored.
#[derive(Clone, Copy, Default)]
pub(crate) struct Model {
    interruptions: Option<usize>,
}

impl Model {
    /// Every order.
    pub(crate) fn exhaustive() -> Self {
        Self::default()
    }

    /// Every order in which threads are interrupted at most this often. That they wait does not count.
    pub(crate) fn with_interruptions(most: usize) -> Self {
        Self {
            interruptions: Some(most),
        }
    }

    /// Runs `body`, which starts threads with [`spawn`], in every order. All that is in memory is as it is
    /// now at the beginning of each run.
    pub(crate) fn explore(self, body: impl Fn() + Send + Sync + 'static) {
        crash::quieten();
        memory::forget();
        let (body, runs) = (Arc::new(body), Arc::new(AtomicU64::new(0)));
        while let Err(reason) = self.try_explore(&body, &runs) {
            if !reason.is::<StartOver>() {
                eprintln!("in run {} of the model", runs.load(Relaxed));
                resume_unwind(reason);
            }
        }
        println!("{} runs", runs.load(Relaxed));
    }

    fn try_explore(
        self,
        body: &Arc<impl Fn() + Send + Sync + 'static>,
        runs: &Arc<AtomicU64>,
    ) -> Result<(), Box<dyn Any + Send>> {
        let mut loom = Builder::new();
        loom.preemption_bound = self.interruptions;
        loom.max_branches = MOST_STEPS;
        runs.store(0, Relaxed);
        let (body, runs) = (body.clone(), runs.clone());
        ACTIVE.set(true);
        OVER.set(false);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loom.check(move || {
                runs.fetch_add(1, Relaxed);
                THREADS.set(0);
                memory::begin();
                kernel::begin();
                let body = body.clone();
                spawn(move || body()).join(); // the stack of the first thread is small
                kernel::end();
            });
        }));
        ACTIVE.set(false);
        outcome
    }
}
