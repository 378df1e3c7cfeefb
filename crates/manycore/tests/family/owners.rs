//! Processes and the one that started them.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use manycore::Process;
use manycore::error::{JoinError, SpawnError};

use crate::house::{Scenario, Test, is_scenario, play, tests, until_ended};

pub(crate) const TESTS: &[Test] = &tests![
    children_die_with_their_owner,
    a_program_without_init_starts_nothing,
    a_program_that_hides_init_is_told,
    a_forged_command_line_is_refused,
];

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("own-two-generations", own_two_generations),
    ("start-one", start_one),
];

/// Prints the ids of a child and of its child, both of which live as long as they may.
fn own_two_generations() -> ExitCode {
    let grandchild = |()| {
        println!("{}", std::process::id());
        park()
    };
    let _child = Process::spawn(
        move |()| {
            println!("{}", std::process::id());
            let _grandchild = Process::spawn(grandchild, ()).unwrap();
            park()
        },
        (),
    );
    park();
    ExitCode::SUCCESS
}

fn park() {
    loop {
        std::thread::park();
    }
}

fn children_die_with_their_owner() {
    let mut owner = play("own-two-generations")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let printed = BufReader::new(owner.stdout.take().unwrap());
    let ids = printed.lines().take(2);
    let family: Vec<u32> = ids.map(|id| id.unwrap().parse().unwrap()).collect();
    owner.kill().unwrap();
    owner.wait().unwrap();
    family.into_iter().for_each(until_ended);
}

const WITHOUT_INIT: &str = "without-init";
pub(crate) const HIDES_INIT: &str = "TEST_HIDES_INIT";

/// Whether this run of the program shall do without `init`.
pub(crate) fn is_asked_to_forget_init() -> bool {
    is_scenario(WITHOUT_INIT) || (std::env::var_os(HIDES_INIT).is_some() && is_child())
}

fn is_child() -> bool {
    std::env::args()
        .nth(1)
        .is_some_and(|argument| argument.starts_with("--manycore-child="))
}

/// Succeeds when nothing can be started.
pub(crate) fn spawn_without_init() -> ExitCode {
    let refused = matches!(Process::spawn(|()| (), ()), Err(SpawnError::NotInitialised));
    if refused {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn a_program_without_init_starts_nothing() {
    assert!(play(WITHOUT_INIT).status().unwrap().success());
}

fn a_program_that_hides_init_is_told() {
    let hidden = play("start-one").env(HIDES_INIT, "1").status().unwrap();
    assert!(hidden.success());
}

/// Starts a process that does not reach `init`.
fn start_one() -> ExitCode {
    let error = Process::spawn(|()| (), ()).unwrap().join();
    if error == Err(JoinError::NeverStarted) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn a_forged_command_line_is_refused() {
    for forged in ["", "1:2:3", "100000:100001:0:0:0:0"] {
        let mut run = Command::new(std::env::current_exe().unwrap());
        let output = run
            .arg(format!("--manycore-child={forged}"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(70));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains("manycore: cannot start this process: "),
            "{said}"
        );
    }
}
