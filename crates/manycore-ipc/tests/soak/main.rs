//! Real deaths: processes at work on one queue, killed at random instructions, and an account of every
//! message afterwards.
//!
//! | module | what it is |
//! |---|---|
//! | [`campaign`] | what is done: which shapes of queue and crew, which deaths, without which kernel features |
//! | [`round`] | one queue, its members, and their deaths |
//! | [`member`] | a producer or a consumer: another run of this program |
//! | [`errand`] | what members do beside the queue: objects that come and go, a lock |
//! | [`parcel`] | messages of which every byte is known |
//! | [`journal`] | what each member did, written where no signal can undo it |
//! | [`execution`] | the ways in which a process is stopped and killed |
//! | [`places`] | windows of a few instructions, at which a member dies by itself |
//! | [`account`] | nothing lost, nothing twice, nothing left |
//! | [`burden`] | deaths that take long: much memory, a core dump |
//! | [`report`] | how long the others stood still |
//! | [`watchdog`] | what everybody was doing when nothing moved any more |
//!
//! `cargo test` runs a short cut; `MANYCORE_SOAK=long` runs all of it. Each campaign is a run of this
//! program of its own, because a process asks only once which kernel features are denied.
#![allow(clippy::unwrap_used)] // all of this is a test, though not one that clippy knows as such

mod account;
mod burden;
mod campaign;
mod errand;
mod execution;
mod journal;
mod member;
mod parcel;
mod places;
mod report;
mod round;
mod watchdog;

use std::os::fd::AsFd;
use std::process::{Command, ExitCode, Stdio};

use campaign::Campaign;

const CAMPAIGN: &str = "--campaign=";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == member::FLAG) {
        die_with_who_started_this();
        return member::run(&arguments[1..]);
    }
    let campaigns = campaign::all();
    if let Some(name) = arguments
        .first()
        .and_then(|first| first.strip_prefix(CAMPAIGN))
    {
        die_with_who_started_this();
        campaigns.iter().find(|it| it.name == name).unwrap().run();
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let is_chosen = |it: &&Campaign| {
        filters.is_empty()
            || filters
                .iter()
                .any(|filter| it.name.contains(filter.as_str()))
    };
    let chosen = campaigns.iter().filter(is_chosen);
    if arguments.iter().any(|argument| argument == "--list") {
        chosen.for_each(|it| println!("{}: test", it.name));
        return ExitCode::SUCCESS;
    }
    let failed = chosen.filter(|it| !passes(it)).count();
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs a campaign in a process and a family of its own.
fn passes(campaign: &Campaign) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .arg(format!("{CAMPAIGN}{}", campaign.name))
        .env("MANYCORE_DENY", campaign.deny)
        .stdin(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            let lifeline = child.stdin.take(); // which `wait` would cut
            let status = child.wait();
            drop(lifeline);
            status
        })
        .unwrap();
    println!(
        "test {} ... {}",
        campaign.name,
        if status.success() { "ok" } else { "FAILED" }
    );
    status.success()
}

/// The standard input is a pipe that ends with whoever started this process, and so does this process.
fn die_with_who_started_this() {
    let pipe = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    manycore_os::lifeline::arm(pipe).unwrap();
}
