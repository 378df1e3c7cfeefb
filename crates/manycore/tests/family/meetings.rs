//! Events, condition variables, semaphores and barriers, and those who die at them.

use std::time::Duration;

use manycore::sync::{
    AtomicU32, Barrier, BarrierError, Condvar, Event, LockError, Mutex, MutexGuard, Semaphore,
    SemaphoreError,
};
use manycore::{Deadline, Process, Queue};
use manycore_os::process::kill_self;

use crate::house::{Test, tests, until};

pub(crate) const TESTS: &[Test] = &tests![
    all_who_wait_for_an_event_go_on,
    an_event_is_given_up_at_the_deadline,
    two_processes_call_each_other_by_a_condition,
    a_notification_does_not_stay_with_a_killed_waiter,
    a_wait_that_is_given_up_has_the_mutex_again,
    a_waiter_learns_who_died_with_the_mutex,
    what_cannot_be_put_back_is_not_waited_with,
    permits_come_back_from_the_dead_and_signals_do_not,
    who_tries_gets_a_permit_or_none,
    parties_meet_again_and_again,
    a_barrier_breaks_when_a_party_is_killed,
    a_barrier_breaks_when_a_party_does_not_come,
];

fn soon() -> Deadline {
    Deadline::after(Duration::from_millis(5))
}

fn all_who_wait_for_an_event_go_on() {
    let (start, ready) = (Event::new().unwrap(), AtomicU32::new(0).unwrap());
    let wait = |(start, ready): (Event, AtomicU32)| {
        ready.fetch_add(1);
        start.wait().unwrap();
    };
    let children = [0; 3].map(|_| Process::spawn(wait, (start.clone(), ready.clone())).unwrap());
    until(|| ready.load() == 3);
    assert!(!start.is_set());
    start.set().unwrap();
    for child in children {
        child.join().unwrap();
    }
    start.clear().unwrap();
    assert!(!start.is_set());
}

fn an_event_is_given_up_at_the_deadline() {
    let event = Event::new().unwrap();
    assert_eq!(event.wait_until(Deadline::PASSED), Ok(false));
    assert_eq!(event.wait_until(soon()), Ok(false));
    event.set().unwrap();
    assert_eq!(event.wait_until(Deadline::PASSED), Ok(true));
}

fn two_processes_call_each_other_by_a_condition() {
    type Table = (Mutex<u32>, Condvar);
    fn answer((number, changed): Table) {
        for turn in 0..200 {
            let wanted = 2 * turn + 1;
            let guard = number.lock().unwrap();
            let mut guard = changed
                .wait_while(guard, |&number| number != wanted)
                .unwrap();
            *guard += 1;
            changed.notify_one().unwrap();
        }
    }
    let (number, changed): Table = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
    let child = Process::spawn(answer, (number.clone(), changed.clone())).unwrap();
    for turn in 0..200 {
        let guard = number.lock().unwrap();
        let mut guard = changed
            .wait_while(guard, |&number| number != 2 * turn)
            .unwrap();
        *guard += 1;
        changed.notify_one().unwrap();
    }
    child.join().unwrap();
    assert_eq!(*number.lock().unwrap(), 400);
}

fn a_notification_does_not_stay_with_a_killed_waiter() {
    type Table = (Mutex<u32>, Condvar, Queue<u32>);
    fn wait((waiting, changed, over): Table) {
        let mut guard = waiting.lock().unwrap();
        *guard += 1;
        let _guard = changed.wait(guard).unwrap();
        over.send(&std::process::id()).unwrap();
    }
    let (waiting, changed) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
    let table: Table = (waiting.clone(), changed.clone(), Queue::new().unwrap());
    let start = |count: u32| {
        let child = Process::spawn(wait, table.clone()).unwrap();
        until(|| *waiting.lock().unwrap() == count);
        child
    };
    let (mut first, second) = (start(1), start(2));
    first.kill().unwrap();
    changed.notify_one().unwrap();
    assert_eq!(table.2.recv(), Ok(second.id()));
    second.join().unwrap();
    first.join().unwrap_err();
}

fn a_wait_that_is_given_up_has_the_mutex_again() {
    let (number, changed) = (Mutex::new(1).unwrap(), Condvar::new().unwrap());
    let mut guard = number.lock().unwrap();
    *guard = 2;
    let (guard, is_notified) = changed.wait_until(guard, soon()).unwrap();
    assert_eq!((*guard, is_notified), (2, false));
    assert!(matches!(number.try_lock(), Err(LockError::Reentered)));
    let (guard, is_over) = changed.wait_while_until(guard, soon(), |_| true).unwrap();
    assert!(!is_over);
    let (_guard, is_over) = changed.wait_while_until(guard, soon(), |_| false).unwrap();
    assert!(is_over);
}

fn a_waiter_learns_who_died_with_the_mutex() {
    let (number, changed) = (Mutex::new(1).unwrap(), Condvar::new().unwrap());
    fn die((number, changed): (Mutex<i32>, Condvar)) {
        let _guard = number.lock().unwrap();
        changed.notify_all().unwrap();
        kill_self();
    }
    let guard = number.lock().unwrap();
    let child = Process::spawn(die, (number.clone(), changed.clone())).unwrap();
    let Err(LockError::OwnerDied(died)) = changed.wait(guard) else {
        panic!("a process died with it")
    };
    assert_eq!(died.pid(), child.id());
    MutexGuard::clear_poison(&mut died.into_inner());
    child.join().unwrap_err();
    drop(number.lock().unwrap());
}

fn what_cannot_be_put_back_is_not_waited_with() {
    let (text, changed) = (Mutex::new(String::new()).unwrap(), Condvar::new().unwrap());
    let mut guard = text.lock().unwrap();
    *guard = "x".repeat(1_000);
    assert!(matches!(changed.wait(guard), Err(LockError::Value(_))));
    assert!(
        text.is_poisoned(),
        "the change is lost, which the next one has to know"
    );
}

fn permits_come_back_from_the_dead_and_signals_do_not() {
    let seats = Semaphore::new(2).unwrap();
    fn die(seats: Semaphore) {
        let _seat = seats.acquire().unwrap();
        assert!(seats.take_until(Deadline::NEVER).unwrap());
        kill_self();
    }
    Process::spawn(die, seats.clone())
        .unwrap()
        .join()
        .unwrap_err();
    let seat = seats.acquire().unwrap();
    assert!(
        seats.try_acquire().unwrap().is_none(),
        "the other one was taken for good"
    );
    seats.release().unwrap();
    drop((seat, seats.acquire().unwrap()));
    assert_eq!(seats.available_permits(), 2);
}

fn who_tries_gets_a_permit_or_none() {
    let seats = Semaphore::new(1).unwrap();
    let seat = seats.try_acquire().unwrap().unwrap();
    assert!(seats.acquire_until(soon()).unwrap().is_none());
    assert!(!seats.take_until(Deadline::PASSED).unwrap());
    drop(seat);
    assert_eq!(seats.available_permits(), 1);
    let many = Semaphore::new(i32::MAX as u32).unwrap();
    assert_eq!(many.release(), Err(SemaphoreError::Full));
}

fn parties_meet_again_and_again() {
    let (barrier, sum) = (Barrier::new(3).unwrap(), AtomicU32::new(0).unwrap());
    let meet = |(barrier, sum): (Barrier, AtomicU32)| {
        let mut led = 0;
        for turn in 1..=50 {
            sum.fetch_add(1);
            led += u32::from(barrier.wait().unwrap().is_leader());
            assert_eq!(sum.load(), 3 * turn);
            barrier.wait().unwrap();
        }
        led
    };
    let children = [0; 3].map(|_| Process::spawn(meet, (barrier.clone(), sum.clone())).unwrap());
    let led = children.map(|child| child.join().unwrap());
    assert_eq!(led.iter().sum::<u32>(), 50);
    assert_eq!(
        (barrier.parties(), barrier.waiting(), barrier.is_broken()),
        (3, 0, false)
    );
}

fn a_barrier_breaks_when_a_party_is_killed() {
    let barrier = Barrier::new(3).unwrap();
    let meet = |barrier: Barrier| barrier.wait().is_err_and(|it| it == BarrierError::Broken);
    let mut first = Process::spawn(meet, barrier.clone()).unwrap();
    until(|| barrier.waiting() == 1);
    let second = Process::spawn(meet, barrier.clone()).unwrap();
    until(|| barrier.waiting() == 2);
    first.kill().unwrap();
    assert_eq!(second.join(), Ok(true));
    first.join().unwrap_err();
    assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    barrier.reset().unwrap();
    assert!(!barrier.is_broken());
}

fn a_barrier_breaks_when_a_party_does_not_come() {
    let barrier = Barrier::new(2).unwrap();
    assert_eq!(barrier.wait_until(soon()), Err(BarrierError::Broken));
    assert!(barrier.is_broken());
    barrier.reset().unwrap();
    barrier.abort().unwrap();
    assert_eq!(barrier.wait(), Err(BarrierError::Broken));
}
