//! Channels and pipes: who learns of whose end.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use manycore::error::{JoinError, RecvError, SendError};
use manycore::{
    Bytes, Child, Deadline, PipeEnd, Process, Queue, Receiver, Select, Sender, bounded_channel,
    channel, pipe,
};
use manycore_ipc::HandleError;
use manycore_os::fork::{By, in_child};
use manycore_os::process::{Exit, reap};

use crate::house::{Belongings, Scenario, Test, play, tests, until};
use crate::owners::HIDES_INIT;

pub(crate) const TESTS: &[Test] = &tests![
    receivers_are_told_when_the_last_sender_is_gone,
    senders_are_told_when_the_last_receiver_is_gone,
    who_tries_to_receive_is_told_too,
    a_channel_ends_although_all_its_senders_are_killed,
    a_channel_ends_although_its_sender_only_returns,
    a_channel_ends_although_its_sender_never_arrived,
    a_sender_that_waits_for_room_is_told_of_the_death_of_the_last_receiver,
    a_sender_learns_that_the_receivers_were_killed_before,
    one_of_two_receivers_is_enough,
    a_sender_in_a_message_keeps_the_channel_open,
    a_receiver_in_a_message_keeps_the_channel_open,
    each_message_goes_to_one_receiver_until_all_senders_are_gone,
    a_pipe_goes_both_ways_until_one_end_is_gone,
    whoever_has_the_other_end_of_a_pipe_is_killed,
    half_a_pipe_is_given_away,
    bytes_travel_as_they_are,
    ends_do_not_travel_outside_messages,
    a_forked_child_has_no_part_in_the_channels_of_its_parent,
    a_sender_that_dies_anywhere_leaves_a_channel_that_ends,
    a_receiver_that_dies_anywhere_leaves_a_sender_that_is_told,
    a_peer_that_dies_anywhere_leaves_a_pipe_that_is_closed,
];

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("send-to-nobody", send_to_nobody),
    ("die-as-sender", die_as_sender),
    ("die-as-receiver", die_as_receiver),
    ("die-as-peer", die_as_peer),
];

fn all_of<T: serde::de::DeserializeOwned>(receiver: &Receiver<T>) -> Vec<T> {
    receiver.iter().map(Result::unwrap).collect()
}

/// Kills a child and collects it.
fn kill(mut child: Child<()>) {
    child.kill().unwrap();
    assert_eq!(child.join(), Err(JoinError::Killed { signal: 9 }));
}

/// Waits until a process that has nothing else to sleep for sleeps.
fn until_it_sleeps(pid: u32) {
    until(|| manycore_os::process::state(pid) == Some('S'));
}

fn receivers_are_told_when_the_last_sender_is_gone() {
    let (sender, receiver) = channel().unwrap();
    let other = sender.clone();
    sender.send(&1_u8).unwrap();
    drop(sender);
    assert_eq!((receiver.len(), receiver.recv()), (1, Ok(1)));
    let soon = Deadline::after(Duration::from_millis(1));
    assert_eq!(receiver.recv_until(soon), Err(RecvError::Empty));
    other.send(&2).unwrap();
    drop(other);
    assert_eq!(all_of(&receiver), [2]);
    assert_eq!(receiver.recv(), Err(RecvError::Closed));
    assert!(receiver.is_empty());
}

fn senders_are_told_when_the_last_receiver_is_gone() {
    let (sender, receiver) = channel().unwrap();
    let other = receiver.clone();
    drop(receiver);
    assert!(!sender.is_closed());
    sender.send(&1_u8).unwrap();
    drop(other);
    assert!(sender.is_closed());
    assert_eq!(sender.send(&2), Err(SendError::Closed));
    assert_eq!(sender.clone().try_send(&2), Err(SendError::Closed));
    assert_eq!((sender.len(), sender.is_empty()), (1, false));
}

fn who_tries_to_receive_is_told_too() {
    let (sender, receiver) = channel::<u8>().unwrap();
    let (to_child, from_parent) = channel::<u8>().unwrap();
    let wait = |(sender, receiver): (Sender<u8>, Receiver<u8>)| {
        drop(receiver.recv());
        drop((sender, receiver.recv()));
    };
    let child = Process::spawn(wait, (sender, from_parent)).unwrap();
    to_child.send(&1).unwrap();
    until(|| to_child.is_empty()); // it has them
    assert_eq!(receiver.try_recv(), Err(RecvError::Empty));
    kill(child);
    assert_eq!(receiver.try_recv(), Err(RecvError::Closed));
    assert_eq!(to_child.try_send(&1), Err(SendError::Closed));
}

fn send_for_ever((sender, from): (Sender<u64>, u64)) {
    for number in from.. {
        sender.send(&number).unwrap();
    }
}

fn a_channel_ends_although_all_its_senders_are_killed() {
    let (sender, receiver) = bounded_channel(8).unwrap();
    let start = |from| Process::spawn(send_for_ever, (sender.clone(), from)).unwrap();
    let children = [0, 1 << 32, 2 << 32].map(start);
    drop(sender);
    (0..100).for_each(|_| assert!(receiver.recv().is_ok()));
    // The last one only after somebody waits for what never comes.
    let [first, second, third] = children;
    kill(first);
    kill(second);
    let killer = std::thread::spawn(move || {
        until_it_sleeps(third.id());
        kill(third);
    });
    let rest = all_of(&receiver);
    killer.join().unwrap();
    let distinct: BTreeSet<u64> = rest.iter().copied().collect();
    assert_eq!(distinct.len(), rest.len());
}

fn a_channel_ends_although_its_sender_only_returns() {
    let (sender, receiver) = channel().unwrap();
    let leak = |sender: Sender<u8>| {
        sender.send(&1).unwrap();
        std::mem::forget(sender);
    };
    let child = Process::spawn(leak, sender).unwrap();
    assert_eq!(all_of(&receiver), [1]);
    child.join().unwrap();
}

fn a_channel_ends_although_its_sender_never_arrived() {
    let hidden = play("send-to-nobody")
        .env(HIDES_INIT, "1")
        .status()
        .unwrap();
    assert!(hidden.success());
}

/// Sends ends of channels to processes that do not reach `init`.
fn send_to_nobody() -> ExitCode {
    let before = Belongings::now();
    for how in 0..4 {
        let (sender, receiver) = channel::<u8>().unwrap();
        let mut child = Process::spawn(|sender: Sender<u8>| drop(sender), sender).unwrap();
        match how {
            0 => assert_eq!(receiver.recv(), Err(RecvError::Closed)),
            1 => until(|| receiver.try_recv() == Err(RecvError::Closed)),
            2 => {
                let mut select = Select::new();
                assert_eq!((select.recv(&receiver), select.ready()), (0, 0));
            }
            _ => {
                child.wait();
                assert_eq!(receiver.try_recv(), Err(RecvError::Closed));
            }
        }
        assert_eq!(child.join(), Err(JoinError::NeverStarted));
    }
    let (sender, receiver) = bounded_channel(1).unwrap();
    let child = Process::spawn(|receiver: Receiver<u8>| drop(receiver), receiver).unwrap();
    sender.send(&1).unwrap();
    assert_eq!(sender.send(&2), Err(SendError::Closed));
    assert_eq!(child.join(), Err(JoinError::NeverStarted));
    drop(sender);
    before.assert_at_most_one_message_is_left();
    ExitCode::SUCCESS
}

fn a_sender_that_waits_for_room_is_told_of_the_death_of_the_last_receiver() {
    let (sender, receiver) = bounded_channel(1).unwrap();
    let hold = |(receiver, parent): (Receiver<u8>, PipeEnd<(), ()>)| {
        parent.send(&()).unwrap();
        let _ = parent.recv();
        drop(receiver);
    };
    let start = |receiver: Receiver<u8>| {
        let (mine, theirs) = pipe().unwrap();
        let child = Process::spawn(hold, (receiver, theirs)).unwrap();
        mine.recv().unwrap();
        (child, mine)
    };
    // The others go before, one in order and one killed.
    let (child, parent) = start(receiver.clone());
    drop(parent);
    child.join().unwrap();
    kill(start(receiver.clone()).0);
    let (child, _parent) = start(receiver);
    sender.send(&1).unwrap();
    let (tid_of, tid) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        tid_of.send(manycore_os::process::current_thread()).unwrap();
        sender.send(&2)
    });
    until_it_sleeps(tid.recv().unwrap());
    kill(child);
    assert_eq!(waiting.join().unwrap(), Err(SendError::Closed));
}

fn a_sender_learns_that_the_receivers_were_killed_before() {
    let (sender, receiver) = channel().unwrap();
    let receive = |receiver: Receiver<u8>| assert!(receiver.iter().all(|it| it.is_ok()));
    let child = Process::spawn(receive, receiver).unwrap();
    sender.send(&1).unwrap();
    until(|| sender.is_empty());
    kill(child);
    assert_eq!(sender.send(&2), Err(SendError::Closed));
}

fn one_of_two_receivers_is_enough() {
    let (sender, receiver) = channel().unwrap();
    let receive = |receiver: Receiver<u8>| assert!(receiver.iter().all(|it| it.is_ok()));
    let child = Process::spawn(receive, receiver.clone()).unwrap();
    sender.send(&1).unwrap();
    until(|| sender.is_empty());
    kill(child);
    sender.send(&2).unwrap();
    assert_eq!(receiver.recv(), Ok(2));
}

fn a_sender_in_a_message_keeps_the_channel_open() {
    let (outer, inner) = (Queue::new().unwrap(), channel().unwrap());
    let (sender, receiver) = inner;
    outer.send(&sender).unwrap();
    drop(sender);
    assert_eq!(receiver.try_recv(), Err(RecvError::Empty));
    let sender: Sender<u8> = outer.recv().unwrap();
    sender.send(&1).unwrap();
    // And back in a result.
    let sender = Process::spawn(|sender: Sender<u8>| sender, sender).unwrap();
    let sender = sender.join().unwrap();
    sender.send(&2).unwrap();
    drop(sender);
    assert_eq!(all_of(&receiver), [1, 2]);
    // One that is never received goes with the queue that it is in.
    let (sender, receiver) = channel::<u8>().unwrap();
    let lost = Queue::new().unwrap();
    lost.send(&sender).unwrap();
    drop((sender, lost));
    manycore::family::family().unwrap().free_buried().unwrap();
    assert_eq!(receiver.recv(), Err(RecvError::Closed));
}

fn a_receiver_in_a_message_keeps_the_channel_open() {
    let outer = Queue::new().unwrap();
    let (sender, receiver) = channel().unwrap();
    outer.send(&receiver).unwrap();
    drop(receiver);
    sender.send(&7_u8).unwrap();
    let receiver: Receiver<u8> = outer.recv().unwrap();
    assert_eq!(receiver.recv(), Ok(7));
    drop(receiver);
    assert!(sender.is_closed());
}

fn each_message_goes_to_one_receiver_until_all_senders_are_gone() {
    const EACH: u64 = 3_000;
    let (sender, receiver) = bounded_channel(64).unwrap();
    let produce = |(sender, from): (Sender<u64>, u64)| {
        (from..from + EACH).for_each(|number| sender.send(&number).unwrap());
    };
    let producers = [0, EACH].map(|from| Process::spawn(produce, (sender.clone(), from)).unwrap());
    drop(sender);
    let consume = |receiver: Receiver<u64>| all_of(&receiver);
    let consumers = [(); 2].map(|()| Process::spawn(consume, receiver.clone()).unwrap());
    drop(receiver);
    let all: Vec<u64> = consumers
        .into_iter()
        .flat_map(|child| child.join().unwrap())
        .collect();
    producers
        .into_iter()
        .for_each(|child| child.join().unwrap());
    assert_eq!(all.len() as u64, 2 * EACH);
    assert_eq!(BTreeSet::from_iter(all), (0..2 * EACH).collect());
}

fn double(numbers: PipeEnd<u64, u64>) {
    for number in &numbers {
        numbers.send(&(2 * number.unwrap())).unwrap();
    }
}

fn a_pipe_goes_both_ways_until_one_end_is_gone() {
    let (mine, theirs) = pipe().unwrap();
    let child = Process::spawn(double, theirs).unwrap();
    for number in 0..100 {
        mine.send(&number).unwrap();
        assert_eq!(mine.recv(), Ok(2 * number));
    }
    assert_eq!(mine.try_recv(), Err(RecvError::Empty));
    drop(mine);
    child.join().unwrap(); // it has seen the end
    let (mine, theirs) = pipe::<u8, String>().unwrap();
    theirs.send(&"last".to_owned()).unwrap();
    drop(theirs);
    assert_eq!(mine.send(&1), Err(SendError::Closed));
    let soon = || Deadline::after(Duration::from_millis(1));
    assert_eq!(mine.recv_until(soon()).unwrap(), "last");
    assert_eq!(mine.recv_until(soon()), Err(RecvError::Closed));
}

fn whoever_has_the_other_end_of_a_pipe_is_killed() {
    let (mine, theirs) = pipe().unwrap();
    let child = Process::spawn(double, theirs).unwrap();
    mine.send(&4).unwrap();
    assert_eq!(mine.recv(), Ok(8));
    let killer = std::thread::spawn(move || {
        until_it_sleeps(child.id());
        kill(child);
    });
    assert_eq!(mine.recv(), Err(RecvError::Closed));
    killer.join().unwrap();
    assert_eq!(mine.send(&5), Err(SendError::Closed));
}

fn half_a_pipe_is_given_away() {
    let (mine, theirs) = pipe::<u8, u8>().unwrap();
    let (sender, receiver) = theirs.into_parts();
    let fill = |sender: Sender<u8>| sender.send(&9).unwrap();
    Process::spawn(fill, sender).unwrap().join().unwrap();
    assert_eq!(mine.recv(), Ok(9));
    assert_eq!(mine.recv(), Err(RecvError::Closed));
    mine.sender().send(&1).unwrap();
    assert_eq!(receiver.recv(), Ok(1));
    assert!(mine.receiver().is_empty());
}

fn bytes_travel_as_they_are() {
    let (there, back) = (Queue::<Bytes>::new().unwrap(), channel::<Bytes>().unwrap());
    let (sender, receiver) = back;
    let echo = |(there, back): (Queue<Bytes>, Sender<Bytes>)| {
        let mut buffer = Vec::new();
        while there.recv_bytes(&mut buffer).is_ok() {
            back.send_bytes(&buffer).unwrap();
        }
    };
    let child = Process::spawn(echo, (there.clone(), sender)).unwrap();
    let mut buffer = Vec::with_capacity(8_000_000);
    let place = buffer.as_ptr();
    for len in [0, 1, 32_767, 32_768, 32_769, 5_000_000, 3] {
        let sent: Vec<u8> = (0..len).map(|n: u32| n as u8).collect();
        there.send_bytes(&sent).unwrap();
        receiver.recv_bytes(&mut buffer).unwrap();
        assert!(buffer == sent, "{len}");
        assert_eq!(buffer.as_ptr(), place, "no other memory was taken");
    }
    let nothing = receiver.recv_bytes_until(&mut buffer, Deadline::PASSED);
    assert_eq!((nothing, buffer.len()), (Err(RecvError::Empty), 0));
    there.close();
    let soon = Deadline::after(Duration::from_millis(1));
    let closed = there.send_bytes_until(b"more", soon);
    assert_eq!(closed, Err(SendError::Closed));
    child.join().unwrap();
    assert_eq!(receiver.recv_bytes(&mut buffer), Err(RecvError::Closed));
    let empty = there.recv_bytes_until(&mut buffer, soon);
    assert_eq!(empty, Err(RecvError::Closed));
}

fn ends_do_not_travel_outside_messages() {
    let (sender, receiver) = channel::<u8>().unwrap();
    assert!(postcard::to_stdvec(&sender).is_err());
    assert!(postcard::to_stdvec(&receiver).is_err());
}

fn a_forked_child_has_no_part_in_the_channels_of_its_parent() {
    for by in [By::Fork, By::RawClone] {
        let (sender, receiver) = channel::<u8>().unwrap();
        let (to_child, from_parent) = Queue::<()>::new()
            .map(|queue| (queue.clone(), queue))
            .unwrap();
        let others = channel::<u8>().unwrap();
        let child = in_child(by, || {
            let refused = |result: Result<(), SendError>| {
                matches!(result, Err(SendError::Heap(HandleError::NotInherited)))
            };
            let is_refused = refused(sender.send(&1))
                && receiver.try_recv() == Err(RecvError::Heap(HandleError::NotInherited))
                && Queue::new().is_ok_and(|queue| queue.send(&sender).is_err());
            let (mine, ours) = channel::<u8>().unwrap();
            mine.send(&3).unwrap();
            drop(mine);
            let is_whole = all_of(&ours) == [3];
            from_parent.recv().unwrap();
            i32::from(!is_refused || !is_whole)
        });
        let child = child.unwrap();
        drop(sender);
        assert_eq!(
            receiver.recv(),
            Err(RecvError::Closed),
            "the child has none"
        );
        drop(others.1);
        assert_eq!(others.0.send(&1), Err(SendError::Closed));
        to_child.send(&()).unwrap();
        assert_eq!(reap(child, true).unwrap(), Some(Exit::Code(0)));
        manycore::family::family().unwrap().reap_dead(true);
    }
}

/// Runs a scenario in which a process dies at a place.
fn dies_at(scenario: &str, place: &str, count: u32) {
    let once = std::env::temp_dir().join(format!("manycore-ended-{}", std::process::id()));
    let fault = format!("{place}:{count}+{}", once.display());
    let output = play(scenario)
        .env("MANYCORE_FAULT", &fault)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{scenario}, {place}:{count}: {said}"
    );
    std::fs::remove_file(&once).expect("a process has died there");
}

/// Where the process with one end dies, while it sends and receives through others as well.
const PLACES: &[&str] = &[
    "object.buried",
    "object.condemned",
    "object.emptied",
    "object.held",
    "object.making",
    "object.released",
    "ring.closed",
    "source.closed",
    "source.made",
    "source.named",
];

/// What passes all of these, and matters to nobody else.
fn use_a_channel_of_ones_own() {
    let (sender, receiver) = channel::<u8>().unwrap();
    sender.send(&1).unwrap();
    drop(sender);
    assert_eq!(all_of(&receiver), [1]);
}

fn a_sender_that_dies_anywhere_leaves_a_channel_that_ends() {
    let sending = ["ring.put.written", "ring.put.committed", "ring.put.rung"];
    for place in PLACES.iter().chain(&sending) {
        (20..23).for_each(|count| dies_at("die-as-sender", place, count));
    }
}

fn die_as_sender() -> ExitCode {
    let before = Belongings::now();
    let (sender, receiver) = channel().unwrap();
    let work = |sender: Sender<u64>| {
        for number in 0..200 {
            sender.clone().send(&number).unwrap();
            use_a_channel_of_ones_own();
        }
    };
    let worker = Process::spawn(work, sender).unwrap();
    let numbers = all_of(&receiver);
    assert!(numbers.len() < 200);
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(worker.join(), Err(JoinError::Killed { signal: 9 }));
    drop(receiver);
    before.assert_at_most_one_message_is_left();
    ExitCode::SUCCESS
}

fn a_receiver_that_dies_anywhere_leaves_a_sender_that_is_told() {
    let receiving = ["ring.get.copied", "ring.get.committed"];
    for place in PLACES.iter().chain(&receiving) {
        (20..23).for_each(|count| dies_at("die-as-receiver", place, count));
    }
}

fn die_as_receiver() -> ExitCode {
    let before = Belongings::now();
    let (sender, receiver) = bounded_channel(4).unwrap();
    let work = |receiver: Receiver<u64>| {
        for (number, expected) in receiver.iter().zip(0..) {
            assert_eq!(number, Ok(expected));
            use_a_channel_of_ones_own();
        }
    };
    let worker = Process::spawn(work, receiver).unwrap();
    let refused = (0..).find_map(|number| sender.send(&number).err());
    assert_eq!(refused, Some(SendError::Closed));
    assert_eq!(worker.join(), Err(JoinError::Killed { signal: 9 }));
    drop(sender);
    before.assert_at_most_one_message_is_left();
    ExitCode::SUCCESS
}

fn a_peer_that_dies_anywhere_leaves_a_pipe_that_is_closed() {
    for place in PLACES {
        (20..23).for_each(|count| dies_at("die-as-peer", place, count));
    }
}

fn die_as_peer() -> ExitCode {
    let before = Belongings::now();
    let (mine, theirs) = pipe().unwrap();
    let work = |numbers: PipeEnd<u64, u64>| {
        for number in &numbers {
            numbers.send(&number.unwrap()).unwrap();
            use_a_channel_of_ones_own();
        }
    };
    let worker = Process::spawn(work, theirs).unwrap();
    for number in 0.. {
        match mine.send(&number) {
            Ok(()) => {}
            Err(SendError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
        match mine.recv() {
            Ok(answer) => assert_eq!(answer, number),
            Err(RecvError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(mine.send(&0), Err(SendError::Closed));
    assert_eq!(mine.recv(), Err(RecvError::Closed));
    assert_eq!(worker.join(), Err(JoinError::Killed { signal: 9 }));
    drop(mine);
    before.assert_at_most_one_message_is_left();
    ExitCode::SUCCESS
}
