//! Cases made up by chance, and those in the folder `scribbles`: what reached far into the engine, or was once
//! too much for it.

use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::input::Input;
use super::step::Process;
use super::world::World;
use super::{Running, run, value};

/// No case takes as long.
const ENDLESS: Duration = Duration::from_secs(20);

/// The running case, for the watchdog.
static RUNNING: Mutex<Option<(Instant, Vec<u8>)>> = Mutex::new(None);

/// Runs a case under the eyes of a thread that ends the process, and tells the case, if it does not return.
fn watched(case: &[u8], run: impl FnOnce(&[u8])) {
    static WATCHDOG: std::sync::Once = std::sync::Once::new();
    WATCHDOG.call_once(|| drop(std::thread::spawn(watch)));
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    *running() = Some((Instant::now(), case.to_vec()));
    run(case);
    *running() = None;
}

fn running() -> std::sync::MutexGuard<'static, Option<(Instant, Vec<u8>)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch() {
    loop {
        std::thread::sleep(Duration::from_millis(500));
        if let Some((since, case)) = &*running() {
            if since.elapsed() > ENDLESS {
                eprintln!("this case does not end: {}", hexadecimal(case));
                std::process::abort();
            }
        }
    }
}

fn hexadecimal(case: &[u8]) -> String {
    case.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Checks this many cases. They are the same each time: new ones are the fuzzer's.
fn for_cases(count: u32, check: impl Fn(Vec<u8>)) {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config {
        cases: count,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(&vec(any::<u8>(), 0..400), |case| {
        check(case);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn whatever_is_scribbled_a_process_gets_an_error_or_an_answer() {
    for_cases(2_000, |case| watched(&case, run));
}

/// Scribbles while the process is at work: what was checked may be something else when it is used.
fn run_beside_a_scribbler(case: &[u8]) {
    let mut world = World::lock();
    world.restore();
    let _running = Running::begin();
    let mut process = Process::new(&world);
    let outside = world.seen_from_outside();
    let (scribbles, steps) = case.split_at(case.len() / 2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut scribbles = Input::new(scribbles);
            while !scribbles.is_empty() {
                value::scribble(&mut scribbles, &outside);
            }
        });
        process.go_through(&mut Input::new(steps));
        process.finish();
    });
}

#[test]
fn whatever_is_scribbled_meanwhile_a_process_gets_an_error_or_an_answer() {
    for_cases(500, |case| watched(&case, run_beside_a_scribbler));
}

#[test]
fn what_the_fuzzer_has_kept_is_answered() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scribbles");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("a folder of cases") {
        let path = entry.expect("readable").path();
        let case = std::fs::read(&path).expect("readable");
        println!("{}", path.display());
        watched(&case, run);
        count += 1;
    }
    assert!(count > 0);
}
