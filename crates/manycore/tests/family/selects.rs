//! Waiting for the first of several.

use std::time::Duration;

use manycore::error::RecvError;
use manycore::{Deadline, PipeEnd, Process, Queue, Select, Sender, channel, pipe};

use crate::house::{Test, tests, until};

pub(crate) const TESTS: &[Test] = &tests![
    those_that_are_ready_come_in_turn,
    a_message_to_any_of_them_wakes_who_waits,
    a_message_is_not_kept_from_who_waits_for_one_alone,
    a_death_is_news_too,
    more_than_the_kernel_waits_for_at_once,
];

fn those_that_are_ready_come_in_turn() {
    let queues = [(); 3].map(|()| Queue::new().unwrap());
    let mut select = Select::new();
    let numbers: Vec<usize> = queues.iter().map(|queue| select.recv(queue)).collect();
    assert_eq!(numbers, [0, 1, 2]);
    assert_eq!(select.try_ready(), None);
    let soon = Deadline::after(Duration::from_millis(1));
    assert_eq!(select.ready_until(soon), None);
    // Two that always have something, and one that has it once.
    (0..10_u8).for_each(|number| {
        [0, 1]
            .iter()
            .for_each(|&n| queues[n].send(&number).unwrap())
    });
    queues[2].send(&0).unwrap();
    let order: Vec<usize> = (0..9)
        .map(|_| {
            let ready = select.ready();
            queues[ready].try_recv().unwrap();
            ready
        })
        .collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 0, 1, 0, 1]);
}

fn a_message_to_any_of_them_wakes_who_waits() {
    let (words, (mine, theirs)) = (Queue::<String>::new().unwrap(), pipe::<u8, u8>().unwrap());
    let (sender, numbers) = channel::<u64>().unwrap();
    type Ends = (Queue<String>, PipeEnd<u8, u8>, Sender<u64>);
    let serve = |(words, pipe, sender): Ends| {
        for request in &pipe {
            match request.unwrap() {
                0 => words.send(&"word".to_owned()).unwrap(),
                1 => sender.send(&7).unwrap(),
                number => pipe.send(&number).unwrap(),
            }
        }
    };
    let child = Process::spawn(serve, (words.clone(), theirs, sender)).unwrap();
    let mut select = Select::new();
    let (of_words, of_numbers, of_pipe) = (
        select.recv(&words),
        select.recv(&numbers),
        select.recv(&mine),
    );
    for round in 0..60_u8 {
        let request = round % 3;
        until(|| manycore_os::process::state(child.id()) == Some('S'));
        mine.send(&request).unwrap();
        let ready = select.ready();
        match request {
            0 => assert_eq!((ready, words.recv().unwrap().as_str()), (of_words, "word")),
            1 => assert_eq!((ready, numbers.recv()), (of_numbers, Ok(7))),
            _ => assert_eq!((ready, mine.recv()), (of_pipe, Ok(request))),
        }
    }
    drop(mine);
    child.join().unwrap();
}

fn a_message_is_not_kept_from_who_waits_for_one_alone() {
    let (queue, other) = (Queue::<u8>::new().unwrap(), Queue::<u8>::new().unwrap());
    for _ in 0..200 {
        std::thread::scope(|scope| {
            let chooser = scope.spawn(|| {
                let mut select = Select::new();
                select.recv(&queue);
                select.recv(&other);
                select.ready() // and takes nothing
            });
            let receiver = scope.spawn(|| queue.recv());
            queue.send(&1).unwrap();
            assert_eq!(receiver.join().unwrap(), Ok(1));
            other.send(&2).unwrap();
            chooser.join().unwrap();
        });
        assert_eq!(other.recv(), Ok(2));
    }
}

fn a_death_is_news_too() {
    let (sender, receiver) = channel::<u8>().unwrap();
    let (kept, open) = channel::<u8>().unwrap();
    let wait = |(sender, queue): (Sender<u8>, Queue<u8>)| {
        drop(queue.recv());
        drop((sender, queue.recv()));
    };
    let queue = Queue::new().unwrap();
    let mut child = Process::spawn(wait, (sender, queue.clone())).unwrap();
    queue.send(&1).unwrap();
    until(|| queue.is_empty()); // it has them
    let mut select = Select::new();
    select.recv(&open);
    let of_receiver = select.recv(&receiver);
    child.kill().unwrap();
    assert_eq!(select.ready(), of_receiver);
    assert_eq!(receiver.recv(), Err(RecvError::Closed));
    assert!(child.join().is_err());
    drop(kept);
    assert_eq!(select.try_ready(), Some(0));
}

fn more_than_the_kernel_waits_for_at_once() {
    let queues: Vec<Queue<u8>> = (0..140).map(|_| Queue::new().unwrap()).collect();
    let mut select = Select::new();
    for (n, queue) in queues.iter().enumerate() {
        assert_eq!(select.recv(queue), n);
    }
    let last = queues[139].clone();
    let fill = |queue: Queue<u8>| queue.send(&1).unwrap();
    let child = Process::spawn(fill, last).unwrap();
    assert_eq!(select.ready(), 139);
    child.join().unwrap();
}
