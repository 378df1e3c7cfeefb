//! Tests across processes. They have a `main` of their own, because every process that they start is
//! another run of this program.
#![allow(clippy::unwrap_used)] // all of this is a test, though not one that clippy knows as such

mod atomics;
mod backlogs;
mod channels;
mod deaths;
mod forks;
mod house;
mod meetings;
mod mutexes;
mod owners;
mod pool_awaited;
mod pool_deaths;
mod pool_terms;
mod pools;
mod processes;
mod queues;
mod selects;
mod values;

use std::process::ExitCode;

fn main() -> ExitCode {
    if owners::is_asked_to_forget_init() {
        return owners::spawn_without_init();
    }
    manycore::init();
    if let Some(scenario) = house::scenario() {
        return scenario();
    }
    house::run(&[
        processes::TESTS,
        queues::TESTS,
        channels::TESTS,
        selects::TESTS,
        values::TESTS,
        mutexes::TESTS,
        meetings::TESTS,
        atomics::TESTS,
        owners::TESTS,
        pools::TESTS,
        backlogs::TESTS,
        pool_terms::TESTS,
        pool_awaited::TESTS,
        pool_deaths::TESTS,
        deaths::TESTS,
        forks::TESTS,
    ])
}
