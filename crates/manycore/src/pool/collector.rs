//! Who collects answers for tasks that are awaited: nobody waits in a call for those.
//!
//! A pool has a thread for it from the first such task on, and for a while after the last. A forked child
//! does not have it, and cannot await its parent's tasks.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use manycore_os::Deadline;

use super::owner::Owner;

/// The thread, while it runs, and for whom.
#[derive(Default)]
pub(super) struct Collector {
    /// Tasks that have a waker.
    awaited: AtomicUsize,
    thread: Mutex<Thread>,
    is_over: AtomicBool,
}

#[derive(Default)]
struct Thread {
    is_running: bool,
    handle: Option<JoinHandle<()>>,
}

impl Collector {
    fn thread(&self) -> MutexGuard<'_, Thread> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more task may have a waker. False when there is no thread for it, and none can be started.
    pub(super) fn begin(&self, owner: &Arc<Owner>) -> bool {
        // Before the thread is looked for: it looks at the count under the same lock before it ends.
        self.awaited.fetch_add(1, SeqCst);
        let mut thread = self.thread();
        if !thread.is_running {
            if let Some(ended) = thread.handle.take() {
                let _ = ended.join(); // it has nothing left to do but to return
            }
            let owner = Arc::clone(owner);
            let builder = thread::Builder::new().name("manycore-collector".to_owned());
            thread.handle = builder.spawn(move || collect(&owner)).ok();
            thread.is_running = thread.handle.is_some();
        }
        thread.is_running
    }

    /// A task has a waker no more.
    pub(super) fn end_one(&self) {
        self.awaited.fetch_sub(1, SeqCst);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    /// Whether the thread ends now.
    fn ends(&self) -> bool {
        let mut thread = self.thread();
        let ends = self.is_over() || self.awaited.load(SeqCst) == 0;
        thread.is_running = !ends;
        ends
    }

    /// Ends the thread for good. Every task has its answer.
    pub(super) fn end(&self, owner: &Owner) {
        self.is_over.store(true, SeqCst);
        owner.ring();
        let handle = self.thread().handle.take();
        // A waker may have dropped the pool in the thread itself.
        if let Some(handle) = handle.filter(|it| it.thread().id() != thread::current().id()) {
            let _ = handle.join();
        }
    }
}

fn collect(owner: &Owner) {
    let collector = &owner.collector;
    let mut quiet_rounds = 0;
    loop {
        if owner.collect() {
            quiet_rounds = 0;
            continue;
        }
        quiet_rounds += 1;
        // A program that awaits one task after the other keeps the thread.
        if (quiet_rounds > 2 || collector.is_over()) && collector.ends() {
            return;
        }
        owner.pause(1, Deadline::NEVER, || collector.is_over());
    }
}
