//! Values that processes share.

use std::process::ExitCode;

use manycore::error::{CreateError, JoinError, ValueError};
use manycore::{Process, Queue, Value};
use manycore_os::process;

use crate::house::{Scenario, Test, play, tests};

pub(crate) const TESTS: &[Test] = &tests![
    four_processes_update_a_value_without_loss,
    threads_share_a_value_too,
    a_value_survives_a_killed_updater,
    a_value_survives_death_between_write_and_switch,
    a_value_survives_an_exit_during_an_update,
    a_panic_in_an_update_changes_nothing,
    an_update_within_an_update_is_refused,
    a_value_that_does_not_fit_is_refused,
    a_value_travels_in_messages_and_results,
];

pub(crate) const SCENARIOS: &[(&str, Scenario)] =
    &[("die-before-the-switch", die_before_the_switch)];

fn four_processes_update_a_value_without_loss() {
    let total = Value::new((0_u64, String::new())).unwrap();
    let count = |total: Value<(u64, String)>| {
        for _ in 0..1_000 {
            let change = |(number, text): &mut (u64, String)| {
                *number += 1;
                *text = number.to_string();
            };
            total.update(change).unwrap();
        }
    };
    let children = [0; 4].map(|_| Process::spawn(count, total.clone()).unwrap());
    for child in children {
        child.join().unwrap();
    }
    assert_eq!(total.get().unwrap(), (4_000, "4000".to_owned()));
}

fn threads_share_a_value_too() {
    let total = Value::new(0_u32).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| total.update(|total| *total += 1).unwrap()));
        }
    });
    assert_eq!(total.get(), Ok(2_000));
}

fn a_value_survives_a_killed_updater() {
    let value = Value::new("before".to_owned()).unwrap();
    let die = |value: Value<String>| {
        let half_way = |text: &mut String| {
            text.push_str(", half changed");
            process::kill_self();
        };
        let _: Result<(), ValueError> = value.update(half_way);
    };
    let child = Process::spawn(die, value.clone()).unwrap();
    // Not joined first: whoever wants the value finds out by itself that its user has died.
    value.update(|text| text.push_str(" and after")).unwrap();
    assert_eq!(child.join(), Err(JoinError::Killed { signal: 9 }));
    let text = value.get().unwrap();
    assert_eq!(text, "before and after");
}

fn a_value_survives_death_between_write_and_switch() {
    // Every process of that run dies at its second write, until one has.
    let once = std::env::temp_dir().join(format!("manycore-once-{}", std::process::id()));
    let mut run = play("die-before-the-switch");
    run.env(
        "MANYCORE_FAULT",
        format!("cell.written:2+{}", once.display()),
    );
    let status = run.status().unwrap();
    std::fs::remove_file(&once).expect("a process has died there");
    assert!(status.success());
}

fn die_before_the_switch() -> ExitCode {
    let value = Value::new(1_u64).unwrap();
    let set_twice = |value: Value<u64>| {
        value.set(&2).unwrap();
        value.set(&3).unwrap();
    };
    let child = Process::spawn(set_twice, value.clone()).unwrap();
    assert_eq!(child.join(), Err(JoinError::Killed { signal: 9 }));
    assert_eq!(
        value.get(),
        Ok(2),
        "the second value was written but never counted"
    );
    value.set(&4).unwrap();
    Process::spawn(set_twice, value.clone())
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(value.get(), Ok(3));
    ExitCode::SUCCESS
}

fn a_value_survives_an_exit_during_an_update() {
    let value = Value::new(5_u8).unwrap();
    let leave_amid = |value: Value<u8>| {
        let (inside, entered) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            value.update(|_| {
                inside.send(()).unwrap();
                loop {
                    std::thread::park();
                }
            })
        });
        entered.recv().unwrap();
    };
    Process::spawn(leave_amid, value.clone())
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(value.update(|number| *number += 1), Ok(()));
    assert_eq!(value.get(), Ok(6));
}

fn a_panic_in_an_update_changes_nothing() {
    let value = Value::new(1_u8).unwrap();
    let child = Process::spawn(|value: Value<u8>| panic_in(&value), value.clone()).unwrap();
    assert!(matches!(child.join(), Err(JoinError::Panicked { .. })));
    assert_eq!(value.get(), Ok(1));
    assert_eq!(value.set(&3), Ok(()));
}

fn panic_in(value: &Value<u8>) {
    let change = |number: &mut u8| {
        *number = 2;
        panic!("half way")
    };
    let _: Result<(), ValueError> = value.update(change);
}

fn an_update_within_an_update_is_refused() {
    let value = Value::new(1_u8).unwrap();
    let other = Value::new(10_u8).unwrap();
    let inner = value.update(|number| {
        other.update(|ten| *number += *ten).unwrap();
        (value.get(), value.set(&9))
    });
    assert_eq!(
        inner,
        Ok((Err(ValueError::Updating), Err(ValueError::Updating)))
    );
    assert_eq!(value.get(), Ok(11));
}

fn a_value_that_does_not_fit_is_refused() {
    let value = Value::new("x".repeat(100)).unwrap();
    value.set(&"y".repeat(200)).unwrap();
    let error = value.set(&"z".repeat(300)).unwrap_err();
    assert_eq!(
        error,
        ValueError::TooLarge {
            len: 302,
            capacity: 202
        }
    );
    let grown = value.update(|text| text.push_str(&"z".repeat(100)));
    assert!(matches!(grown, Err(ValueError::TooLarge { .. })));
    assert_eq!(value.get().unwrap(), "y".repeat(200));
    let large = Value::with_capacity(String::new(), 1 << 20).unwrap();
    large.set(&"z".repeat(1 << 19)).unwrap();
    assert_eq!(large.get().unwrap().len(), 1 << 19);
    let held = Value::new(Queue::<u8>::new().unwrap());
    assert!(matches!(
        held,
        Err(CreateError::Value(ValueError::Encode(_)))
    ));
}

fn a_value_travels_in_messages_and_results() {
    let queue = Queue::new().unwrap();
    let fill = |queue: Queue<Value<u8>>| {
        let mine = Value::new(1).unwrap();
        queue.send(&mine).unwrap();
        mine
    };
    let mine = Process::spawn(fill, queue.clone()).unwrap().join().unwrap();
    let same = queue.recv().unwrap();
    same.set(&2).unwrap();
    assert_eq!(mine.get(), Ok(2));
}
