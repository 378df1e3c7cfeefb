//! Running the tests: each by its name, with a watchdog, and nothing left behind.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// A test and its name.
pub(crate) type Test = (&'static str, fn());

/// A list of tests, each with the name of its function.
macro_rules! tests {
    ($($test:ident,)*) => { [$((stringify!($test), $test as fn()),)*] };
}
pub(crate) use tests;

/// A test that takes longer than this hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Runs the tests whose names the command line asks for.
pub(crate) fn run(groups: &[&[Test]]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let tests = groups.iter().copied().flatten();
    let chosen = tests.filter(|(name, _)| {
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    });
    if arguments.iter().any(|argument| argument == "--list") {
        chosen.for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let watchdog = Watchdog::start();
    let failed: Vec<&str> = chosen
        .filter(|(name, test)| {
            watchdog.watch(name);
            !passes(name, *test)
        })
        .map(|(name, _)| *name)
        .collect();
    match failed.as_slice() {
        [] => ExitCode::SUCCESS,
        failed => {
            println!("\nfailed: {}", failed.join(", "));
            ExitCode::FAILURE
        }
    }
}

fn passes(name: &str, test: fn()) -> bool {
    let before = Belongings::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        test();
        before.assert_same_as_now();
    }));
    println!(
        "test {name} ... {}",
        if outcome.is_ok() { "ok" } else { "FAILED" }
    );
    outcome.is_ok()
}

/// Ends the program when a test takes too long; its children go with it.
struct Watchdog(Sender<String>);

impl Watchdog {
    fn start() -> Self {
        let (watch, watched) = channel();
        std::thread::spawn(move || Self::guard(&watched));
        Self(watch)
    }

    fn watch(&self, name: &str) {
        self.0
            .send(name.to_owned())
            .expect("the watchdog lives as long as this");
    }

    fn guard(watched: &Receiver<String>) {
        let Ok(mut name) = watched.recv() else { return };
        loop {
            match watched.recv_timeout(HANGS) {
                Ok(next) => name = next,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    eprintln!("test {name} hangs");
                    std::process::abort();
                }
            }
        }
    }
}

/// What a test must not leave behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Belongings {
    children: Vec<String>,
    descriptors: BTreeMap<String, String>,
    blocks: u64,
    objects: usize,
}

impl Belongings {
    pub(crate) fn now() -> Self {
        let family = manycore::family::family().unwrap();
        family.free_buried().unwrap();
        let mut objects = 0;
        family
            .objects()
            .unwrap()
            .for_each_live(|_, _| objects += 1)
            .unwrap();
        Self {
            children: children(),
            descriptors: descriptors(),
            blocks: family.blocks().unwrap().usage().unwrap().used_blocks,
            objects,
        }
    }

    fn assert_same_as_now(&self) {
        let now = Self::now();
        assert!(
            *self == now,
            "something is left\n before: {self:?}\n after:  {now:?}"
        );
    }

    /// A death may leave a handle counted that is in no message, and so an object and its block.
    pub(crate) fn assert_at_most_one_message_is_left(&self) {
        self.assert_is_left(1);
    }

    /// The same after several deaths.
    pub(crate) fn assert_is_left(&self, at_most: u64) {
        let now = Self::now();
        let is_same = (&self.children, &self.descriptors) == (&now.children, &now.descriptors);
        let lost = (
            now.objects as u64 - self.objects as u64,
            now.blocks - self.blocks,
        );
        assert!(
            is_same && lost.0 <= at_most && lost.1 <= at_most,
            "before: {self:?}\n after: {now:?}"
        );
    }
}

fn children() -> Vec<String> {
    let is_mine = |stat: &str| {
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        fields.split_ascii_whitespace().nth(1) == Some(std::process::id().to_string().as_str())
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = processes.filter_map(|it| std::fs::read_to_string(it.path().join("stat")).ok());
    stats.filter(|stat| is_mine(stat)).collect()
}

fn descriptors() -> BTreeMap<String, String> {
    let entries: Vec<_> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .collect();
    let name = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    entries // without the directory itself, which is closed by now
        .iter()
        .filter_map(|it| Some((name(it.path()), name(std::fs::read_link(it.path()).ok()?))))
        .collect()
}

/// The part that this run of the program plays in a test of another run.
pub(crate) type Scenario = fn() -> ExitCode;

const SCENARIO: &str = "--scenario=";

/// What this run was started for, if not for the tests.
pub(crate) fn scenario() -> Option<Scenario> {
    let argument = std::env::args().nth(1)?;
    let name = argument.strip_prefix(SCENARIO)?;
    let scenarios = [
        crate::owners::SCENARIOS,
        crate::values::SCENARIOS,
        crate::channels::SCENARIOS,
        crate::deaths::SCENARIOS,
        crate::pools::SCENARIOS,
        crate::pool_deaths::SCENARIOS,
        crate::pool_terms::SCENARIOS,
        crate::forks::SCENARIOS,
    ];
    let found = scenarios
        .into_iter()
        .flatten()
        .find(|(known, _)| *known == name);
    Some(found.unwrap_or_else(|| panic!("no scenario {name}")).1)
}

/// A run of this program for a scenario, to be started.
pub(crate) fn play(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(format!("{SCENARIO}{name}"));
    command
}

/// Whether this run was started for this scenario.
pub(crate) fn is_scenario(name: &str) -> bool {
    std::env::args()
        .nth(1)
        .is_some_and(|argument| argument == format!("{SCENARIO}{name}"))
}

/// Looks again until something is so. The watchdog ends it otherwise.
pub(crate) fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

/// Waits until a process has ended, whether or not it was collected yet.
pub(crate) fn until_ended(pid: u32) {
    until(|| matches!(manycore_os::process::state(pid), None | Some('Z' | 'X')));
}
