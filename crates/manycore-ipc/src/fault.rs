//! Named places at which a real process can be made to die, or to stop.
//!
//! `MANYCORE_FAULT=ring.put.written:3` kills the process with `SIGKILL` when it passes that place for
//! the third time; `+file` after the count makes it die only if it can create that file, so that one
//! process of a family dies and its replacement lives. `stop@` before the place stops the process there, as `SIGSTOP`
//! does, in place of killing it. The places are compiled into every build, so
//! what is tested is what ships: an unarmed place is one predictable branch.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

static ARMED: AtomicBool = AtomicBool::new(false);
static PASSED: AtomicU64 = AtomicU64::new(0);

struct Plan {
    stops: bool,
    place: String,
    count: u64,
    once: Option<String>,
}

fn plan() -> Option<&'static Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    PLAN.get_or_init(|| {
        let text = std::env::var("MANYCORE_FAULT").ok()?;
        let (text, once) = match text.split_once('+') {
            Some((text, file)) => (text.to_owned(), Some(file.to_owned())),
            None => (text, None),
        };
        let (stops, text) = match text.strip_prefix("stop@") {
            Some(text) => (true, text.to_owned()),
            None => (false, text),
        };
        let (place, count) = text.rsplit_once(':').unwrap_or((&text, "1"));
        Some(Plan {
            stops,
            place: place.to_owned(),
            count: count.parse().unwrap_or(1),
            once,
        })
    })
    .as_ref()
}

/// Reads the plan from the environment. Called once when a process joins its family.
pub fn arm_from_environment() {
    ARMED.store(plan().is_some(), Relaxed);
}

/// Whether this process shall die somewhere.
fn is_armed() -> bool {
    ARMED.load(Relaxed)
}

/// A place where this process may be told to die.
#[inline]
pub fn point(place: &str) {
    if is_armed() {
        passed(place);
    }
}

#[cold]
fn passed(place: &str) {
    let Some(plan) = plan() else { return };
    if plan.place != place || PASSED.fetch_add(1, Relaxed) + 1 != plan.count {
        return;
    }
    if let Some(file) = &plan.once {
        if std::fs::File::create_new(file).is_err() {
            return;
        }
    }
    if plan.stops {
        manycore_os::process::stop_self();
    } else {
        manycore_os::process::kill_self();
    }
}
