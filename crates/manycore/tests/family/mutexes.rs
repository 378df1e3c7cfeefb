//! Mutexes and reader-writer locks, and holders that die.

use std::process::id;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use manycore::error::ValueError;
use manycore::sync::{
    Condvar, Event, LockError, LockResult, Mutex, MutexGuard, RwLock, RwLockWriteGuard, Semaphore,
};
use manycore::{Process, Queue};
use manycore_os::process::kill_self;

use crate::house::{Test, tests, until};

pub(crate) const TESTS: &[Test] = &tests![
    four_processes_change_what_a_mutex_guards_without_loss,
    everybody_is_told_of_a_killed_holder_until_one_has_repaired,
    who_only_tries_finds_out_that_the_holder_was_killed,
    a_panic_in_a_guard_is_told_like_a_death,
    a_holder_whose_process_ends_in_order_is_told_too,
    a_guard_that_was_forgotten_counts_as_held,
    a_thread_does_not_wait_for_a_mutex_of_its_own,
    what_no_longer_fits_is_said_by_commit_and_told_otherwise,
    what_was_committed_stays_when_its_holder_is_killed,
    readers_read_beside_each_other_and_keep_writers_out,
    everybody_is_told_of_a_killed_writer_until_one_has_repaired,
    a_panic_of_a_writer_is_told_and_one_of_a_reader_is_not,
    killed_readers_keep_nobody_out,
    what_a_reader_cannot_decode_leaves_the_lock_free,
    code_of_the_values_that_panics_leaves_the_lock_free,
    a_waiter_whose_value_panics_keeps_no_notification,
];

/// The guard, and who has died.
fn died<G>(locked: LockResult<G>) -> (G, u32) {
    match locked {
        Err(LockError::OwnerDied(died)) => {
            let pid = died.pid();
            (died.into_inner(), pid)
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("nobody died"),
    }
}

fn panic_in(run: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(run).join().unwrap_err());
}

fn four_processes_change_what_a_mutex_guards_without_loss() {
    let total = Mutex::new((0_u32, String::new())).unwrap();
    let count = |total: Mutex<(u32, String)>| {
        for _ in 0..1_000 {
            let mut total = total.lock().unwrap();
            total.0 += 1;
            total.1 = total.0.to_string();
        }
    };
    let children = [0; 4].map(|_| Process::spawn(count, total.clone()).unwrap());
    for child in children {
        child.join().unwrap();
    }
    assert_eq!(*total.lock().unwrap(), (4_000, "4000".to_owned()));
}

fn everybody_is_told_of_a_killed_holder_until_one_has_repaired() {
    let number = Mutex::new(1).unwrap();
    fn die(number: Mutex<i32>) {
        let mut number = number.lock().unwrap();
        *number = 2;
        kill_self();
    }
    let child = Process::spawn(die, number.clone()).unwrap();
    let pid = child.id();
    until(|| number.is_poisoned() || matches!(number.try_lock(), Err(LockError::OwnerDied(_))));
    child.join().unwrap_err();
    for round in 0..2 {
        let (mut guard, who) = died(number.lock());
        assert_eq!((*guard, who), (1 + round, pid), "as it was before");
        *guard += 1; // changed, but not repaired
    }
    let told = |number: Mutex<i32>| died(number.lock()).1;
    assert_eq!(
        Process::spawn(told, number.clone()).unwrap().join(),
        Ok(pid)
    );
    assert!(number.is_poisoned());
    let (mut guard, _) = died(number.lock());
    MutexGuard::clear_poison(&mut guard);
    drop(guard);
    assert_eq!((number.is_poisoned(), *number.lock().unwrap()), (false, 3));
}

fn who_only_tries_finds_out_that_the_holder_was_killed() {
    let number = Mutex::new(1).unwrap();
    fn hold((number, held): (Mutex<i32>, Event)) {
        let _guard = number.lock().unwrap();
        held.set().unwrap();
        std::thread::park();
    }
    let held = Event::new().unwrap();
    let mut child = Process::spawn(hold, (number.clone(), held.clone())).unwrap();
    held.wait().unwrap();
    assert!(matches!(number.try_lock(), Err(LockError::TimedOut)));
    child.kill().unwrap();
    until(|| !matches!(number.try_lock(), Err(LockError::TimedOut)));
    let (mut guard, who) = died(number.try_lock());
    assert_eq!(who, child.id());
    MutexGuard::clear_poison(&mut guard);
}

fn a_panic_in_a_guard_is_told_like_a_death() {
    let number = Mutex::new(1).unwrap();
    panic_in(|| {
        let mut number = number.lock().unwrap();
        *number = 2;
        panic!("half way");
    });
    let (mut guard, who) = died(number.lock());
    assert_eq!((*guard, who), (1, id()));
    MutexGuard::clear_poison(&mut guard);
    drop(guard);
    // A guard that is made and dropped while a panic passes by has not panicked.
    struct AtTheEnd<'a>(&'a Mutex<i32>);
    impl Drop for AtTheEnd<'_> {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = 7;
        }
    }
    panic_in(|| {
        let _guard = AtTheEnd(&number);
        panic!("elsewhere");
    });
    assert_eq!(*number.lock().unwrap(), 7);
}

fn a_holder_whose_process_ends_in_order_is_told_too() {
    let number = Mutex::new(5).unwrap();
    fn leave_amid(number: Mutex<i32>) {
        let (inside, entered) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _guard = number.lock().unwrap();
            inside.send(()).unwrap();
            loop {
                std::thread::park();
            }
        });
        entered.recv().unwrap();
    }
    let child = Process::spawn(leave_amid, number.clone()).unwrap();
    let pid = child.id();
    child.join().unwrap();
    let (mut guard, who) = died(number.lock());
    assert_eq!((*guard, who), (5, pid));
    MutexGuard::clear_poison(&mut guard);
}

fn a_guard_that_was_forgotten_counts_as_held() {
    let (number, seats) = (Mutex::new(5).unwrap(), Semaphore::new(1).unwrap());
    let forget = |(number, seats): (Mutex<i32>, Semaphore)| {
        std::mem::forget(number.lock().unwrap());
        std::mem::forget(seats.acquire().unwrap());
    };
    let child = Process::spawn(forget, (number.clone(), seats.clone())).unwrap();
    child.join().unwrap();
    let (mut guard, _) = died(number.lock());
    MutexGuard::clear_poison(&mut guard);
    drop(seats.acquire().unwrap());
}

fn a_thread_does_not_wait_for_a_mutex_of_its_own() {
    let number = Mutex::new(1).unwrap();
    let guard = number.lock().unwrap();
    for other in [number.lock(), number.try_lock(), number.clone().lock()] {
        assert!(matches!(other, Err(LockError::Reentered)));
    }
    std::thread::scope(|scope| {
        let tries = || matches!(number.try_lock(), Err(LockError::TimedOut));
        assert!(scope.spawn(tries).join().unwrap());
    });
    drop(guard);
    assert_eq!(*number.lock().unwrap(), 1);
}

fn what_no_longer_fits_is_said_by_commit_and_told_otherwise() {
    let text = Mutex::new("short".to_owned()).unwrap();
    let mut guard = text.lock().unwrap();
    *guard = "x".repeat(1_000);
    let error = MutexGuard::commit(&mut guard).unwrap_err();
    assert!(
        matches!(error, ValueError::TooLarge { len: 1_002, .. }),
        "{error}"
    );
    *guard = "mended".to_owned();
    MutexGuard::commit(&mut guard).unwrap();
    drop(guard);
    *text.lock().unwrap() = "y".repeat(1_000);
    let (mut guard, who) = died(text.lock());
    assert_eq!((guard.as_str(), who), ("mended", id()));
    MutexGuard::clear_poison(&mut guard);
}

fn what_was_committed_stays_when_its_holder_is_killed() {
    let (number, both) = (Mutex::new(1).unwrap(), RwLock::new(1).unwrap());
    fn die((number, both): (Mutex<i32>, RwLock<i32>)) {
        let mut number = number.lock().unwrap();
        let mut both = both.write().unwrap();
        (*number, *both) = (2, 2);
        MutexGuard::commit(&mut number).unwrap();
        RwLockWriteGuard::commit(&mut both).unwrap();
        (*number, *both) = (3, 3);
        kill_self();
    }
    let child = Process::spawn(die, (number.clone(), both.clone())).unwrap();
    child.join().unwrap_err();
    assert_eq!((*died(number.lock()).0, *died(both.write()).0), (2, 2));
}

fn readers_read_beside_each_other_and_keep_writers_out() {
    let words = RwLock::new(vec!["one".to_owned()]).unwrap();
    let first = words.read().unwrap();
    let second = words.read().unwrap();
    assert!(matches!(words.try_write(), Err(LockError::TimedOut)));
    let read = |words: RwLock<Vec<String>>| words.read().unwrap().len();
    assert_eq!(Process::spawn(read, words.clone()).unwrap().join(), Ok(1));
    let write = |(words, asked): (RwLock<Vec<String>>, Queue<()>)| {
        asked.send(&()).unwrap();
        words.write().unwrap().push("two".to_owned());
    };
    let asked = Queue::new().unwrap();
    let child = Process::spawn(write, (words.clone(), asked.clone())).unwrap();
    asked.recv().unwrap();
    assert_eq!(*first, *second);
    drop((first, second));
    child.join().unwrap();
    assert_eq!(*words.read().unwrap(), ["one", "two"]);
    let writer = words.write().unwrap();
    assert!(matches!(words.try_read(), Err(LockError::TimedOut)));
    drop(writer);
}

fn everybody_is_told_of_a_killed_writer_until_one_has_repaired() {
    let number = RwLock::new(1).unwrap();
    fn die(number: RwLock<i32>) {
        let mut number = number.write().unwrap();
        *number = 2;
        kill_self();
    }
    let child = Process::spawn(die, number.clone()).unwrap();
    let pid = child.id();
    child.join().unwrap_err();
    for _ in 0..2 {
        let (guard, who) = died(number.read());
        assert_eq!((*guard, who), (1, pid));
    }
    let (guard, who) = died(number.write());
    assert_eq!((*guard, who), (1, pid));
    drop(guard); // not repaired
    let (mut guard, who) = died(number.write());
    assert_eq!((*guard, who), (1, pid));
    RwLockWriteGuard::clear_poison(&mut guard);
    drop(guard);
    assert_eq!((number.is_poisoned(), *number.read().unwrap()), (false, 1));
}

fn a_panic_of_a_writer_is_told_and_one_of_a_reader_is_not() {
    let number = RwLock::new(1).unwrap();
    panic_in(|| {
        let _guard = number.read().unwrap();
        panic!("a reader");
    });
    assert_eq!(*number.write().unwrap(), 1);
    panic_in(|| {
        *number.write().unwrap() = 2;
        let mut guard = number.write().unwrap();
        *guard = 3;
        panic!("a writer");
    });
    let (mut guard, who) = died(number.write());
    assert_eq!((*guard, who), (2, id()));
    RwLockWriteGuard::clear_poison(&mut guard);
}

fn killed_readers_keep_nobody_out() {
    let number = RwLock::new(1).unwrap();
    fn read((number, reading): (RwLock<i32>, Event)) {
        let _guard = number.read().unwrap();
        reading.set().unwrap();
        loop {
            std::thread::park();
        }
    }
    let reading = Event::new().unwrap();
    let mut child = Process::spawn(read, (number.clone(), reading.clone())).unwrap();
    reading.wait().unwrap();
    assert!(matches!(number.try_write(), Err(LockError::TimedOut)));
    child.kill().unwrap();
    *number.write().unwrap() = 2;
    assert_eq!(*number.read().unwrap(), 2);
}

fn what_a_reader_cannot_decode_leaves_the_lock_free() {
    #[derive(serde::Serialize)]
    struct Even(u8);
    impl<'de> serde::Deserialize<'de> for Even {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            match u8::deserialize(deserializer)? {
                number if number % 2 == 0 => Ok(Self(number)),
                _ => Err(serde::de::Error::custom("odd")),
            }
        }
    }
    let (mutex, both) = (Mutex::new(Even(1)).unwrap(), RwLock::new(Even(1)).unwrap());
    for _ in 0..2 {
        let refused =
            |error: &LockError<()>| matches!(error, LockError::Value(ValueError::Decode(_)));
        let errors = [
            mutex.lock().map(drop).map_err(LockError::without_guard),
            both.read().map(drop).map_err(LockError::without_guard),
            both.write().map(drop).map_err(LockError::without_guard),
        ];
        assert!(
            errors.iter().all(|it| it.as_ref().is_err_and(refused)),
            "{errors:?}"
        );
    }
}

static PANICS: AtomicBool = AtomicBool::new(false);

/// Encoding and decoding it panics while [`PANICS`].
struct Touchy(u8);

impl serde::Serialize for Touchy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!PANICS.load(Relaxed), "encoding");
        self.0.serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Touchy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        assert!(!PANICS.load(Relaxed), "decoding");
        u8::deserialize(deserializer).map(Self)
    }
}

fn while_it_panics(run: impl FnOnce() + Send) {
    PANICS.store(true, Relaxed);
    panic_in(run);
    PANICS.store(false, Relaxed);
}

fn code_of_the_values_that_panics_leaves_the_lock_free() {
    let (mutex, both) = (
        Mutex::new(Touchy(1)).unwrap(),
        RwLock::new(Touchy(1)).unwrap(),
    );
    while_it_panics(|| drop(mutex.lock()));
    while_it_panics(|| drop(both.read()));
    while_it_panics(|| drop(both.write()));
    let (mut one, mut other) = (mutex.try_lock().unwrap(), both.try_write().unwrap());
    (one.0, other.0) = (2, 2);
    drop((one, other));
    panic_in(|| {
        mutex.lock().unwrap().0 = 3;
        let mut guard = mutex.lock().unwrap();
        guard.0 = 4;
        PANICS.store(true, Relaxed);
    });
    PANICS.store(false, Relaxed);
    panic_in(|| {
        let mut guard = both.write().unwrap();
        guard.0 = 4;
        PANICS.store(true, Relaxed);
    });
    PANICS.store(false, Relaxed);
    assert_eq!(died(mutex.try_lock()).0.0, 3, "its encoding was half done");
    assert_eq!(died(both.try_write()).0.0, 2);
}

fn a_waiter_whose_value_panics_keeps_no_notification() {
    let (value, changed) = (Mutex::new(Touchy(0)).unwrap(), Condvar::new().unwrap());
    let waiting = || value.lock().unwrap().0;
    let join = || {
        let mut guard = value.lock().unwrap();
        guard.0 += 1;
        guard
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| drop(changed.wait(join())));
        until(|| waiting() == 1);
        let second = scope.spawn(|| drop(changed.wait(join()).unwrap()));
        until(|| waiting() == 2);
        PANICS.store(true, Relaxed);
        changed.notify_one().unwrap();
        first.join().unwrap_err();
        // The second has the notification by now, or gets it: with a value that it can decode.
        PANICS.store(false, Relaxed);
        let _ = second.join();
    });
    drop(value.try_lock().unwrap());
}
