//! Starting processes and joining them.

use manycore::error::JoinError;
use manycore::{Deadline, Exit, Process, Queue};
use serde::{Deserialize, Serialize};

use crate::house::{Test, tests, until_ended};

pub(crate) const TESTS: &[Test] = &tests![
    a_function_and_a_closure_return_their_results,
    a_panic_is_delivered_with_message_and_place,
    a_killed_process_is_told_by_its_signal,
    an_exit_is_told_by_its_status,
    large_arguments_and_results_arrive,
    a_result_that_cannot_be_encoded_says_so,
    arguments_that_cannot_be_decoded_say_so,
    waiting_keeps_the_result,
    a_dropped_child_goes_on,
    a_dropped_child_is_collected_by_the_next_start,
    a_child_may_have_children,
    a_result_outlives_the_kill_that_came_too_late,
    a_child_inherits_only_what_it_needs,
];

fn double(number: u64) -> u64 {
    number * 2
}

fn park_forever(ready: Queue<()>) {
    ready.send(&()).unwrap();
    loop {
        std::thread::park();
    }
}

fn a_function_and_a_closure_return_their_results() {
    let function = Process::spawn(double, 21).unwrap();
    let closure = Process::spawn(
        |(a, b): (String, char)| format!("{a}{b}"),
        ("x".into(), 'y'),
    );
    assert_eq!(function.join(), Ok(42));
    assert_eq!(closure.unwrap().join(), Ok("xy".to_owned()));
    assert_eq!(Process::spawn(|()| (), ()).unwrap().join(), Ok(()));
}

fn a_panic_is_delivered_with_message_and_place() {
    let line = line!() + 1;
    let child = Process::spawn(|number: u32| assert!(number != 7, "not {number}"), 7).unwrap();
    let error = child.join().unwrap_err();
    let text = error.to_string();
    let JoinError::Panicked { message, location } = error else {
        panic!("{text}")
    };
    assert_eq!(message, "not 7");
    assert!(
        location.unwrap().contains(&format!("processes.rs:{line}:")),
        "{text}"
    );
}

fn a_killed_process_is_told_by_its_signal() {
    let ready = Queue::new().unwrap();
    let mut child = Process::spawn(park_forever, ready.clone()).unwrap();
    ready.recv().unwrap();
    assert_eq!(child.try_wait(), None);
    child.kill().unwrap();
    assert_eq!(child.wait(), Exit::Signal(9));
    child
        .kill()
        .expect("a process that has ended is left alone");
    let error = child.join().unwrap_err();
    assert_eq!(error, JoinError::Killed { signal: 9 });
    assert!(error.to_string().contains("SIGKILL"));
}

fn an_exit_is_told_by_its_status() {
    let leave = |status: i32| -> u8 { std::process::exit(status) };
    for status in [0, 3] {
        let child = Process::spawn(leave, status).unwrap();
        assert_eq!(child.join(), Err(JoinError::Exited { code: status }));
    }
}

fn large_arguments_and_results_arrive() {
    let text = "0123456789".repeat(1 << 20);
    let child = Process::spawn(|text: String| text.replace('0', "ab"), text.clone()).unwrap();
    assert_eq!(child.join().unwrap(), text.replace('0', "ab"));
}

/// Encodes in the process that made it, and in no other.
#[derive(Deserialize)]
struct Local(u32);

impl Serialize for Local {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == std::process::id() {
            return Err(serde::ser::Error::custom("not from here"));
        }
        serializer.serialize_newtype_struct("Local", &self.0)
    }
}

fn a_result_that_cannot_be_encoded_says_so() {
    let child = Process::spawn(|()| Local(std::process::id()), ()).unwrap();
    let Err(error) = child.join() else {
        panic!("it was delivered")
    };
    let text = error.to_string();
    assert!(matches!(error, JoinError::Undelivered { .. }), "{text}");
    assert!(
        text.contains("Local") && text.contains("`Serialize`"),
        "{text}"
    );
    assert!(Process::spawn(|_: Local| (), Local(std::process::id())).is_err());
}

/// Encodes as less than it decodes from.
struct Short;

impl Serialize for Short {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Short {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(|_| Self)
    }
}

fn arguments_that_cannot_be_decoded_say_so() {
    let child = Process::spawn(|_: Short| (), Short).unwrap();
    let text = child.join().unwrap_err().to_string();
    assert!(
        text.contains("arguments") && text.contains("Short"),
        "{text}"
    );
}

fn waiting_keeps_the_result() {
    let mut child = Process::spawn(double, 4).unwrap();
    assert_eq!(child.wait_until(Deadline::NEVER), Some(Exit::Code(0)));
    assert_eq!(child.try_wait(), Some(Exit::Code(0)));
    assert_eq!(child.join(), Ok(8));
}

fn a_dropped_child_goes_on() {
    let (go, done) = (Queue::<()>::new().unwrap(), Queue::new().unwrap());
    let relay = |(go, done): (Queue<()>, Queue<u32>)| {
        go.recv().unwrap();
        done.send(&std::process::id()).unwrap();
    };
    let child = Process::spawn(relay, (go.clone(), done.clone())).unwrap();
    let id = child.id();
    drop(child);
    go.send(&()).unwrap();
    assert_eq!(done.recv().unwrap(), id);
    collect(id);
}

fn a_dropped_child_is_collected_by_the_next_start() {
    let ready = Queue::new().unwrap();
    let child = Process::spawn(park_forever, ready.clone()).unwrap();
    let id = child.id();
    drop(child);
    ready.recv().unwrap();
    manycore_os::process::kill(id).unwrap();
    collect(id);
    assert_eq!(manycore_os::process::state(id), None, "not even a zombie");
}

/// Waits for the end of a detached process; the start of another collects it.
fn collect(id: u32) {
    until_ended(id);
    assert_eq!(Process::spawn(double, 1).unwrap().join(), Ok(2));
}

fn a_child_may_have_children() {
    let nested = |depth: u64| Process::spawn(double, depth).unwrap().join().unwrap() + 1;
    assert_eq!(Process::spawn(nested, 5).unwrap().join(), Ok(11));
}

fn a_result_outlives_the_kill_that_came_too_late() {
    let mut child = Process::spawn(double, 3).unwrap();
    child.wait();
    child.kill().unwrap();
    assert_eq!(child.join(), Ok(6));
}

fn a_child_inherits_only_what_it_needs() {
    let _open = std::fs::File::open("/dev/zero").unwrap();
    let look = |()| {
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let open: Vec<String> = descriptors
            .filter_map(|it| Some(std::fs::read_link(it.path()).ok()?.to_str()?.to_owned()))
            .collect();
        let variables: Vec<String> = std::env::vars()
            .map(|(name, _)| name)
            .filter(|it| it.contains("MANYCORE"))
            .collect();
        (open, variables, std::env::args().next())
    };
    let (open, variables, name) = Process::spawn(look, ()).unwrap().join().unwrap();
    assert!(
        open.iter().any(|it| it.contains("manycore-heap")),
        "{open:?}"
    );
    assert!(!open.iter().any(|it| it == "/dev/zero"), "{open:?}");
    let mine = std::env::vars()
        .filter(|(name, _)| name.contains("MANYCORE"))
        .count();
    assert_eq!(variables.len(), mine, "{variables:?}");
    assert_eq!(name, std::env::args().next());
}
