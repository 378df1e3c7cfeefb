//! Forks at any time, by any thread, and processes that no hook has seen.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use manycore::family::{self, cut_lifeline, family, make_lifeline};
use manycore::{Process, Queue, Value};
use manycore_ipc::registry::Status;
use manycore_os::feature::ROBUST_LIST;
use manycore_os::fork::{By, in_child};
use manycore_os::process::{Exit, reap};
use manycore_os::{lifeline, process};

use crate::house::{Scenario, Test, play, tests, until};

pub(crate) const TESTS: &[Test] = &tests![
    two_threads_fork_while_others_are_inside_everything,
    a_child_outlives_the_thread_that_forked_it,
    a_process_outlives_the_thread_that_founded_its_family,
    what_a_thread_leaves_in_the_middle_stays_its_process_s,
    a_child_that_no_hook_saw_registers_by_itself,
    so_it_does_where_the_kernel_wipes_no_page,
    a_slot_is_free_again_when_its_process_has_become_another_program,
];

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("found-in-a-thread", found_in_a_thread),
    ("clone-without-hooks", clone_without_hooks),
];

/// A child that does not outlive this process, even if it hangs.
struct Forked {
    pid: u32,
    lifeline: i32,
}

fn child(by: By, body: impl FnOnce()) -> Forked {
    let (read_end, lifeline) = make_lifeline().unwrap();
    let pid = in_child(by, || {
        lifeline::arm(read_end).unwrap(); // in vain after a raw clone: the child has the other end, too
        body();
        0
    });
    let pid = pid.unwrap();
    Forked { pid, lifeline }
}

impl Forked {
    /// Waits for its end.
    fn collect(self) {
        self.expect(Exit::Code(0));
    }

    fn expect(self, exit: Exit) {
        assert_eq!(reap(self.pid, true).unwrap(), Some(exit));
        cut_lifeline(self.lifeline);
        family().unwrap().reap_dead(true);
    }
}

/// How many slots of the registry are taken.
fn members() -> usize {
    let registry = family().unwrap().registry();
    let is_free = |number: &usize| registry.tenancy(*number).unwrap().status == Status::Free;
    registry.used().filter(|number| !is_free(number)).count()
}

type Shared = (Queue<Vec<u8>>, Value<u64>, Queue<Queue<u8>>);

/// Uses what is shared, makes something of its own, and sends some of that.
fn use_everything((queue, value, handles): &Shared, bytes: usize) {
    queue.send(&vec![7; bytes]).unwrap();
    value.update(|count| *count += 1).unwrap();
    let own = Queue::new().unwrap();
    (0..50_u8).for_each(|number| own.send(&number).unwrap());
    handles.send(&own).unwrap();
    let other = handles.recv().unwrap();
    (0..50_u8).for_each(|number| assert_eq!(other.recv(), Ok(number)));
    assert!(queue.recv().unwrap().iter().all(|&byte| byte == 7));
    drop(Value::new([0_u64; 4]).unwrap());
}

fn two_threads_fork_while_others_are_inside_everything() {
    const ROUNDS: usize = 60;
    family().unwrap().reap_dead(true);
    let before = members();
    let shared: Shared = (
        Queue::new().unwrap(),
        Value::new(0).unwrap(),
        Queue::new().unwrap(),
    );
    let is_done = AtomicBool::new(false);
    let work = |bytes: usize| {
        while !is_done.load(Relaxed) {
            use_everything(&shared, bytes);
        }
    };
    let fork_often = || {
        for round in 0..ROUNDS {
            let child = child(By::Fork, || {
                use_everything(&shared, 10);
                if round % 4 == 0 {
                    child(By::Fork, || use_everything(&shared, 100_000)).collect();
                }
                use_everything(&shared, 300);
            });
            child.collect();
        }
    };
    let start_and_join = || {
        while !is_done.load(Relaxed) {
            assert_eq!(Process::spawn(|()| 7, ()).unwrap().join(), Ok(7));
        }
    };
    std::thread::scope(|scope| {
        for bytes in [10, 5_000, 200_000] {
            scope.spawn(move || work(bytes));
        }
        scope.spawn(start_and_join);
        let forkers = [scope.spawn(fork_often), scope.spawn(fork_often)];
        let outcomes = forkers.map(std::thread::ScopedJoinHandle::join);
        is_done.store(true, Relaxed);
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
    });
    assert!(shared.1.get().unwrap() >= 2 * (ROUNDS as u64 * 2 + ROUNDS as u64 / 4));
    family().unwrap().reap_dead(true);
    assert_eq!(members(), before);
}

fn a_child_outlives_the_thread_that_forked_it() {
    let (questions, answers) = (Queue::<u32>::new().unwrap(), Queue::<u32>::new().unwrap());
    let fork = || {
        child(By::Fork, || {
            while let Ok(question) = questions.recv() {
                answers.send(&(question + 1)).unwrap();
            }
        })
    };
    let child = std::thread::scope(|scope| scope.spawn(fork).join().unwrap());
    for question in 0..100 {
        questions.send(&question).unwrap();
        assert_eq!(answers.recv(), Ok(question + 1));
    }
    questions.close();
    child.collect();
}

fn a_process_outlives_the_thread_that_founded_its_family() {
    assert!(play("found-in-a-thread").status().unwrap().success());
}

/// The family's first thread ends, and no other process takes this one for dead.
fn found_in_a_thread() -> ExitCode {
    assert!(family::existing().is_none());
    let found = || (Queue::<u32>::new().unwrap(), Value::new(1).unwrap());
    let founder = std::thread::spawn(found);
    let (queue, value) = founder.join().unwrap();
    let me = family().unwrap().me().unwrap();
    assert!(!family().unwrap().registry().seems_dead(me.slot()));
    let slot = me.slot();
    let visit = |(queue, value, slot): (Queue<u32>, Value<u32>, usize)| {
        let family = family().unwrap();
        assert!(!family.registry().seems_dead(slot));
        assert_eq!(family.reap_dead(false), []);
        assert_eq!(family.reap_dead(true), []);
        value.update(|number| *number += 1).unwrap();
        queue.send(&7).unwrap();
    };
    let visitor = Process::spawn(visit, (queue.clone(), value.clone(), slot)).unwrap();
    visitor.join().unwrap();
    assert_eq!((queue.recv(), value.get()), (Ok(7), Ok(2)));
    // A forked child is all one thread, whichever thread of its parent that was: it has a life word.
    let child = std::thread::spawn(|| child(By::Fork, link_is_alive));
    child.join().unwrap().collect();
    ExitCode::SUCCESS
}

fn link_is_alive() {
    let family = family().unwrap();
    if !ROBUST_LIST.is_present() {
        return;
    }
    let slot = family.registry().slot(family.me().unwrap().slot()).unwrap();
    assert_eq!(slot.has_life.load(Relaxed), 1);
    assert!(slot.life.is_linked() && !slot.life.seems_dead());
}

fn what_a_thread_leaves_in_the_middle_stays_its_process_s() {
    let family = family().unwrap();
    let taken = std::thread::spawn(move || {
        let blocks = family.blocks().unwrap();
        blocks.take(100_000).unwrap().block // in state `Filling`, and nobody's hands
    });
    let block = taken.join().unwrap();
    Process::spawn(|()| drop(family::family().unwrap().reap_dead(true)), ())
        .unwrap()
        .join()
        .unwrap();
    let bytes = family.blocks().unwrap().bytes(block).unwrap();
    bytes.write(0, &[1; 100_000]);
    family.blocks().unwrap().free(block);
}

fn a_child_that_no_hook_saw_registers_by_itself() {
    assert!(play("clone-without-hooks").status().unwrap().success());
}

fn so_it_does_where_the_kernel_wipes_no_page() {
    let mut clone = play("clone-without-hooks");
    assert!(
        clone
            .env("MANYCORE_DENY", "wipe_on_fork")
            .status()
            .unwrap()
            .success()
    );
}

/// In a run of its own, which has no thread in the middle of anything.
fn clone_without_hooks() -> ExitCode {
    let shared: Shared = (
        Queue::new().unwrap(),
        Value::new(0).unwrap(),
        Queue::new().unwrap(),
    );
    let only_ours = Queue::<u8>::new().unwrap();
    let me = family().unwrap().me().unwrap();
    for round in 0..20 {
        let clone = child(By::RawClone, || {
            let other = family().unwrap().me().unwrap();
            assert_ne!(other, me);
            (0..20).for_each(|_| use_everything(&shared, 50_000));
            drop(only_ours.clone());
            // And its children are what children are.
            let child = child(By::Fork, || {
                assert!(![me, other].contains(&family().unwrap().me().unwrap()));
                use_everything(&shared, 10);
            });
            child.collect();
        });
        (0..20).for_each(|_| use_everything(&shared, 50_000));
        clone.collect();
        assert_eq!(family().unwrap().me(), Ok(me));
        only_ours.send(&round).unwrap();
        assert_eq!(only_ours.recv(), Ok(round));
    }
    assert_eq!(shared.1.get(), Ok(20 * 41));
    family().unwrap().reap_dead(true);
    assert_eq!(members(), 1);
    ExitCode::SUCCESS
}

/// `exec` leaves pid and start time as they are; the kernel has marked the life word all the same.
fn a_slot_is_free_again_when_its_process_has_become_another_program() {
    use std::os::unix::process::CommandExt;
    if !ROBUST_LIST.is_present() {
        return; // its slot is free when that program has ended
    }
    let family = family().unwrap();
    let before = members();
    let shared = Queue::<Vec<u8>>::new().unwrap();
    let child = child(By::Fork, || {
        let block = family.blocks().unwrap().take(100_000).unwrap();
        std::mem::forget((block, Queue::<u8>::new().unwrap(), shared.clone()));
        panic!("{}", std::process::Command::new("sleep").arg("1000").exec());
    });
    // Only a hint is needed, no end of a process.
    until(|| !family.reap_dead(false).is_empty());
    assert_eq!(members(), before);
    let state = process::state(child.pid);
    assert!(matches!(state, Some('S' | 'R' | 'D')), "it runs");
    process::kill(child.pid).unwrap();
    child.expect(Exit::Signal(9));
}
