//! Named places at which a real process can be made to die, or to stop.
//!
//! `MANYCORE_FAULT=ring.put.written:3` kills the process with `SIGKILL` when it passes that place for
//! the third time; `+file` after the count makes it die only if it can create that file, so that one
//! process of a family dies and its replacement lives. `stop@` before the place stops the process there, as `SIGSTOP`
//! does, in place of killing it. Several plans are separated by `;`: the passings of a later one count from when
//! the file of the one before is there. The places are compiled into every build, so
//! what is tested is what ships: an unarmed place is one predictable branch.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

static ARMED: AtomicBool = AtomicBool::new(false);

struct Plan {
    stops: bool,
    place: String,
    count: u64,
    /// The file of the plan before.
    after: Option<String>,
    once: Option<String>,
    passed: AtomicU64,
}

impl Plan {
    fn new(text: &str, before: Option<&Self>) -> Self {
        let (text, once) = match text.split_once('+') {
            Some((text, file)) => (text, Some(file.to_owned())),
            None => (text, None),
        };
        let (stops, text) = match text.strip_prefix("stop@") {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (place, count) = text.rsplit_once(':').unwrap_or((text, "1"));
        Self {
            stops,
            place: place.to_owned(),
            count: count.parse().unwrap_or(1),
            after: before.and_then(|before| before.once.clone()),
            once,
            passed: AtomicU64::new(0),
        }
    }

    /// Whether this passing of a place is the one that is meant.
    fn is_meant(&self, place: &str) -> bool {
        let counts = |file: &String| Path::new(file).exists();
        self.place == place
            && self.after.as_ref().is_none_or(counts)
            && self.passed.fetch_add(1, Relaxed) + 1 == self.count
    }

    fn carry_out(&self) {
        if let Some(file) = &self.once {
            if std::fs::File::create_new(file).is_err() {
                return;
            }
        }
        if self.stops {
            manycore_os::process::stop_self();
        } else {
            manycore_os::process::kill_self();
        }
    }
}

fn plans() -> &'static [Plan] {
    static PLANS: OnceLock<Vec<Plan>> = OnceLock::new();
    PLANS.get_or_init(|| {
        let mut plans: Vec<Plan> = Vec::new();
        for text in std::env::var("MANYCORE_FAULT")
            .iter()
            .flat_map(|it| it.split(';'))
        {
            plans.push(Plan::new(text, plans.last()));
        }
        plans
    })
}

/// Reads the plans from the environment. Called once when a process joins its family.
pub fn arm_from_environment() {
    ARMED.store(!plans().is_empty(), Relaxed);
}

/// Lets this process live, whatever is planned for those that it starts.
pub fn disarm() {
    ARMED.store(false, Relaxed);
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
    // Every plan counts, also after one that is carried out and leaves the process alive.
    for plan in plans() {
        if plan.is_meant(place) {
            plan.carry_out();
        }
    }
}
