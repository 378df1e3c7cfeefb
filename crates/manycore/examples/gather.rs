//! Several processes work on parts of a range and send what they find as soon as they find it. One of them is
//! killed on the way: the others go on, and the end is told when the last one is done.

use std::error::Error;

use manycore::error::RecvError;
use manycore::{Child, Exit, Process, Receiver, Select, Sender, channel};

/// Finds the numbers of a range that are the sum of their digits' cubes.
fn search((from, to, found): (u32, u32, Sender<u32>)) {
    for number in from..to {
        let digits = std::iter::successors(Some(number), |&rest| (rest > 9).then_some(rest / 10));
        if digits.map(|rest| (rest % 10).pow(3)).sum::<u32>() == number {
            found.send(&number).expect("the results are collected");
        }
    }
}

/// Never ends by itself.
fn hang(found: Sender<u32>) {
    loop {
        std::thread::park();
        found.send(&0).expect("the results are collected");
    }
}

/// Processes, and what they find.
type Searching = (Vec<Child<()>>, Receiver<u32>);

fn start(parts: u32) -> Result<Searching, Box<dyn Error>> {
    let (sender, receiver) = channel()?;
    let each = 1_000 / parts;
    let part = |n| Process::spawn(search, (n * each, (n + 1) * each, sender.clone()));
    let children = (0..parts).map(part).collect::<Result<_, _>>()?;
    Ok((children, receiver)) // and the sender of this process is dropped
}

fn main() -> Result<(), Box<dyn Error>> {
    manycore::init();
    let (children, numbers) = start(4)?;
    let (sender, hanging) = channel()?;
    let mut hanger = Process::spawn(hang, sender)?;
    let mut select = Select::new();
    let of_numbers = select.recv(&numbers);
    select.recv(&hanging);
    let mut found = Vec::new();
    while select.ready() == of_numbers {
        match numbers.try_recv() {
            Ok(number) => found.push(number),
            Err(_) => break, // all have returned
        }
    }
    hanger.kill()?;
    assert_eq!(hanging.recv(), Err(RecvError::Closed));
    assert_eq!(hanger.wait(), Exit::Signal(9));
    for child in children {
        child.join()?;
    }
    found.sort_unstable();
    assert_eq!(found, [0, 1, 153, 370, 371, 407]);
    println!("{found:?}");
    Ok(())
}
