//! Queues between processes.

use std::collections::BTreeSet;
use std::time::Duration;

use manycore::error::{RecvError, SendError};
use manycore::{Deadline, Process, Queue, Value};
use manycore_os::process;
use serde::{Deserialize, Serialize};

use crate::house::{Test, tests, until};

pub(crate) const TESTS: &[Test] = &tests![
    messages_arrive_in_order_until_the_queue_is_closed,
    who_tries_does_not_wait,
    a_bounded_queue_holds_its_sender_up,
    every_message_is_received_once,
    large_messages_leave_no_memory_taken,
    a_queue_travels_in_a_message,
    a_queue_lives_in_a_message_alone,
    a_queue_travels_in_a_result,
    queues_nest_in_collections,
    a_queue_does_not_travel_outside_messages,
    too_many_queues_in_a_message_are_refused,
    closing_wakes_a_receiver_in_another_process,
    closing_wakes_a_sender_in_another_process,
    a_killed_receiver_takes_nothing_along,
    a_message_that_cannot_be_decoded_is_lost_alone,
];

fn messages_arrive_in_order_until_the_queue_is_closed() {
    let queue = Queue::new().unwrap();
    let count = |queue: Queue<u32>| {
        for number in 0..10_000 {
            queue.send(&number).unwrap();
        }
        queue.close();
    };
    let child = Process::spawn(count, queue.clone()).unwrap();
    let received: Result<Vec<u32>, RecvError> = queue.iter().collect();
    assert_eq!(received.unwrap(), (0..10_000).collect::<Vec<_>>());
    assert_eq!(queue.send(&1), Err(SendError::Closed));
    child.join().unwrap();
}

fn who_tries_does_not_wait() {
    let queue = Queue::bounded(2).unwrap();
    let soon = || Deadline::after(Duration::from_millis(1));
    assert_eq!(queue.try_recv(), Err(RecvError::Empty));
    assert_eq!(queue.recv_until(soon()), Err(RecvError::Empty));
    queue.try_send(&1).unwrap();
    queue.send_until(&2, Deadline::NEVER).unwrap();
    assert_eq!(queue.try_send(&3), Err(SendError::Full));
    assert_eq!(queue.send_until(&3, soon()), Err(SendError::Full));
    assert_eq!((queue.len(), queue.is_empty()), (2, false));
    assert_eq!(queue.try_recv(), Ok(1));
    queue.close();
    assert!(queue.is_closed());
    assert_eq!(queue.try_send(&3), Err(SendError::Closed));
    assert_eq!(queue.try_recv(), Ok(2));
    assert_eq!(queue.try_recv(), Err(RecvError::Closed));
    assert_eq!(queue.recv(), Err(RecvError::Closed));
    assert!(queue.is_empty());
}

/// Waits until a process that has nothing else to sleep for sleeps.
fn until_it_sleeps(pid: u32) {
    until(|| process::state(pid) == Some('S'));
}

fn a_bounded_queue_holds_its_sender_up() {
    let (queue, sent) = (Queue::bounded(1).unwrap(), Value::new(0_u32).unwrap());
    let send_all = |(queue, sent): (Queue<u32>, Value<u32>)| {
        for number in 1..=3 {
            queue.send(&number).unwrap();
            sent.set(&number).unwrap();
        }
    };
    let child = Process::spawn(send_all, (queue.clone(), sent.clone())).unwrap();
    for number in 1..=3 {
        until(|| sent.get().unwrap() == number);
        if number < 3 {
            until_it_sleeps(child.id());
        }
        assert_eq!(
            (queue.len(), sent.get().unwrap()),
            (1, number),
            "it does not overtake"
        );
        assert_eq!(queue.recv(), Ok(number));
    }
    child.join().unwrap();
}

fn every_message_is_received_once() {
    const EACH: u64 = 5_000;
    let (queue, received) = (Queue::bounded(64).unwrap(), Queue::new().unwrap());
    let produce = |(queue, from): (Queue<u64>, u64)| {
        (from..from + EACH).for_each(|number| queue.send(&number).unwrap());
    };
    let consume = |(queue, received): (Queue<u64>, Queue<Vec<u64>>)| {
        let mine: Result<Vec<u64>, RecvError> = queue.iter().collect();
        received.send(&mine.unwrap()).unwrap();
    };
    let producers = [0, EACH].map(|from| Process::spawn(produce, (queue.clone(), from)).unwrap());
    let consumers =
        [0; 2].map(|_| Process::spawn(consume, (queue.clone(), received.clone())).unwrap());
    producers
        .into_iter()
        .for_each(|child| child.join().unwrap());
    queue.close();
    consumers
        .into_iter()
        .for_each(|child| child.join().unwrap());
    let all = [received.recv().unwrap(), received.recv().unwrap()].concat();
    assert_eq!(all.len(), 2 * EACH as usize);
    assert_eq!(BTreeSet::from_iter(all), (0..2 * EACH).collect());
}

fn large_messages_leave_no_memory_taken() {
    let (there, back) = (
        Queue::<String>::new().unwrap(),
        Queue::<String>::new().unwrap(),
    );
    let echo = |(there, back): (Queue<String>, Queue<String>)| {
        for text in there.iter() {
            back.send(&text.unwrap()).unwrap();
        }
    };
    let child = Process::spawn(echo, (there.clone(), back.clone())).unwrap();
    // Around the size up to which messages travel inside the ring, and far above.
    for len in [32_765, 32_766, 32_768, 32_769, 100_000, 5_000_000] {
        let text = "x".repeat(len);
        there.send(&text).unwrap();
        assert!(back.recv().unwrap() == text, "{len}");
    }
    there.close();
    child.join().unwrap();
}

fn a_queue_travels_in_a_message() {
    let requests = Queue::new().unwrap();
    let serve = |requests: Queue<(u64, Queue<u64>)>| {
        for request in requests.iter() {
            let (number, reply) = request.unwrap();
            reply.send(&(number + 1)).unwrap();
        }
    };
    let child = Process::spawn(serve, requests.clone()).unwrap();
    for number in 0..500 {
        let reply = Queue::new().unwrap();
        requests.send(&(number, reply.clone())).unwrap();
        assert_eq!(reply.recv(), Ok(number + 1));
    }
    requests.close();
    child.join().unwrap();
}

fn a_queue_lives_in_a_message_alone() {
    let outer = Queue::new().unwrap();
    let inner = Queue::new().unwrap();
    inner.send(&"still here".to_owned()).unwrap();
    outer.send(&inner).unwrap();
    drop(inner);
    let inner: Queue<String> = outer.recv().unwrap();
    assert_eq!(inner.recv().unwrap(), "still here");
    // And one that is never received goes with the queue that it is in.
    outer.send(&inner).unwrap();
}

fn a_queue_travels_in_a_result() {
    let make = |number: u8| {
        let queue = Queue::new().unwrap();
        queue.send(&number).unwrap();
        queue
    };
    let queue = Process::spawn(make, 9).unwrap().join().unwrap();
    assert_eq!(queue.recv(), Ok(9));
}

fn queues_nest_in_collections() {
    let queues: Vec<Queue<u8>> = (0..3).map(|_| Queue::new().unwrap()).collect();
    let fill = |queues: Vec<Queue<u8>>| {
        for (queue, number) in queues.iter().zip(1..) {
            queue.send(&number).unwrap();
        }
    };
    Process::spawn(fill, queues.clone())
        .unwrap()
        .join()
        .unwrap();
    assert!(queues.iter().map(|queue| queue.recv().unwrap()).eq(1..=3));
}

fn a_queue_does_not_travel_outside_messages() {
    let queue = Queue::<u8>::new().unwrap();
    assert!(postcard::to_stdvec(&queue).is_err());
    let error = Value::new(queue).unwrap_err().to_string();
    assert!(
        error.contains("queues and values travel only in"),
        "{error}"
    );
}

fn too_many_queues_in_a_message_are_refused() {
    let outer = Queue::new().unwrap();
    let inner = Queue::<u8>::new().unwrap();
    assert_eq!(
        outer.send(&vec![inner; 1001]),
        Err(SendError::TooManyHandles { count: 1001 })
    );
    assert!(outer.is_empty());
}

fn closing_wakes_a_receiver_in_another_process() {
    let queue = Queue::<u8>::new().unwrap();
    let child = Process::spawn(|queue: Queue<u8>| queue.iter().count(), queue.clone()).unwrap();
    until_it_sleeps(child.id());
    queue.close();
    assert_eq!(child.join(), Ok(0));
}

fn closing_wakes_a_sender_in_another_process() {
    let queue = Queue::bounded(1).unwrap();
    queue.send(&0_u8).unwrap();
    let send = |queue: Queue<u8>| queue.send(&1) == Err(SendError::Closed);
    let child = Process::spawn(send, queue.clone()).unwrap();
    until_it_sleeps(child.id());
    queue.close();
    assert_eq!(child.join(), Ok(true));
    assert_eq!(queue.len(), 1);
}

fn a_killed_receiver_takes_nothing_along() {
    let (ready, queue) = (Queue::new().unwrap(), Queue::<u32>::new().unwrap());
    let receive = |(ready, queue): (Queue<()>, Queue<u32>)| {
        ready.send(&()).unwrap();
        queue.recv().unwrap()
    };
    let mut child = Process::spawn(receive, (ready.clone(), queue.clone())).unwrap();
    ready.recv().unwrap();
    until_it_sleeps(child.id());
    child.kill().unwrap();
    assert!(child.join().is_err());
    queue.send(&5).unwrap();
    assert_eq!(queue.recv(), Ok(5));
}

/// Decodes from anything but seven.
#[derive(Debug, PartialEq, Serialize)]
struct Picky(u8);

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            7 => Err(serde::de::Error::custom("not seven")),
            number => Ok(Self(number)),
        }
    }
}

fn a_message_that_cannot_be_decoded_is_lost_alone() {
    let queue = Queue::new().unwrap();
    queue.send(&Picky(7)).unwrap();
    queue.send(&Picky(8)).unwrap();
    let error = queue.recv().unwrap_err();
    assert!(matches!(error, RecvError::Decode(_)), "{error}");
    assert_eq!(queue.recv(), Ok(Picky(8)));
}
