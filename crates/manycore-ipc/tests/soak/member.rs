//! A producer or a consumer of the queue: another run of this program, which joins the family through
//! the descriptor of the process that started it.

use std::fs::OpenOptions;
use std::process::{Child, ChildStdin, ExitCode, Stdio};
use std::time::Duration;

use manycore_ipc::object::group::Row;
use manycore_ipc::ring::{GetError, Message, Outgoing, Ring};
use manycore_ipc::wait::Patience;
use manycore_ipc::{Family, Handle, Hold, Kind};
use manycore_os::{Deadline, process};

use crate::burden::Burden;
use crate::errand::Errands;
use crate::journal::{Journal, Seat};
use crate::parcel::{Parcel, scramble};
use crate::round::Round;

pub(crate) const FLAG: &str = "--member";

/// Messages in a queue without a bound, above which producers let consumers catch up: some megabytes,
/// enough for the ring to grow over and over.
const BACKLOG: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Producer,
    Consumer,
}

/// A member as the one who started it sees it.
pub(crate) struct Member {
    pub(crate) role: Role,
    pub(crate) seat: usize,
    /// Which of the consumers: what it writes into receipts.
    pub(crate) name: u32,
    pub(crate) child: Child,
    _lifeline: ChildStdin,
}

impl Member {
    pub(crate) fn start(round: &Round, role: Role, seat: usize, name: u32, burden: Burden) -> Self {
        round.journal.seat(seat).forget_steps();
        let fd = round.family.heap().mapping().fd().unwrap();
        let handles = [
            round.queue.handle(),
            round.group.handle(),
            round.lock.handle(),
            round.journal.handle(),
        ];
        let mut command = burden.command(&std::env::current_exe().unwrap());
        command
            .arg(FLAG)
            .arg(format!("/proc/{}/fd/{fd}", std::process::id()))
            .args(handles.map(|handle| format!("{}.{}", handle.index, handle.generation)))
            .args(
                [round.shape.seats(), seat, name as usize, burden.mebibytes()]
                    .map(|n| n.to_string()),
            )
            .arg(if role == Role::Producer {
                "producer"
            } else {
                "consumer"
            })
            .arg(if burden.is_dumped() { "dumped" } else { "" });
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let _lifeline = child.stdin.take().unwrap();
        Self {
            role,
            seat,
            name,
            child,
            _lifeline,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// What a member works with.
struct Desk {
    family: &'static Family,
    queue: Ring,
    journal: Journal,
    seat: Seat,
    number: usize,
    name: u32,
    row: &'static Row,
    errands: Errands,
    _holds: [Hold; 2],
}

/// The other side of [`Member::start`].
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let [heap, queue, group, lock, journal, rest @ ..] = arguments else {
        panic!("started otherwise: {arguments:?}");
    };
    let [seats, number, name, mebibytes, role, dumped] = rest else {
        panic!("started otherwise: {arguments:?}");
    };
    if dumped.is_empty() {
        process::volunteer_for_oom(); // and for a death without a core dump
    }
    let number_in = |text: &String| text.parse::<usize>().unwrap();
    let ballast = Burden::touch(number_in(mebibytes));
    let heap = OpenOptions::new()
        .read(true)
        .write(true)
        .open(heap)
        .unwrap();
    let family = Family::attach(heap.into()).unwrap();
    family.link_life().unwrap();
    let handle = |text: &String| {
        let (index, generation) = text.split_once('.').unwrap();
        let [index, generation] = [index, generation].map(|part| part.parse().unwrap());
        Handle {
            family: family.number(),
            index,
            generation,
        }
    };
    let queue = family.hold(handle(queue), Kind::Ring).unwrap();
    let group = family.hold(handle(group), Kind::Group).unwrap();
    let journal = Journal::open(family, handle(journal), number_in(seats));
    let desk = Desk {
        family,
        queue: queue.ring().unwrap(),
        seat: journal.seat(number_in(number)),
        number: number_in(number),
        name: number_in(name) as u32,
        row: group.rows().unwrap()[number_in(number)],
        errands: Errands {
            family,
            lock: family.hold(handle(lock), Kind::Lock).unwrap(),
            name: number_in(name) as u32,
        },
        _holds: [queue, group],
        journal,
    };
    match role.as_str() {
        "producer" => desk.produce(),
        _ => desk.consume(),
    }
    drop((desk, ballast));
    family.leave();
    ExitCode::SUCCESS
}

impl Desk {
    fn produce(&self) {
        let mut number = self.seat.begun();
        while !self.journal.is_over() {
            number += 1;
            self.seat.begin(number);
            self.put(Parcel {
                seat: self.number,
                number,
            });
            self.seat.finish(number);
            self.seat.step(self.journal.asked());
            self.errands.run(&self.journal, scramble(number.into()));
            while self.is_ahead() {
                std::thread::park_timeout(Duration::from_micros(50));
            }
        }
    }

    /// Whether the queue is one without a bound and long enough.
    fn is_ahead(&self) -> bool {
        let is_unbounded = self.queue.max_messages() == 0;
        is_unbounded && self.queue.len() > BACKLOG && !self.journal.is_over()
    }

    fn put(&self, parcel: Parcel) {
        let blocks = self.family.blocks().unwrap();
        let filled = parcel.blocks().into_iter().map(|bytes| {
            let taken = self.family.take_block(bytes.len() as u64).unwrap();
            blocks.fill(&taken, 0, &bytes).unwrap();
            taken.block
        });
        let message = Outgoing {
            kind: 1,
            tag: parcel.tag(),
            blocks: &filled.collect::<Vec<_>>(),
            handles: &[],
            payload: &parcel.payload(),
        };
        let mut go_on = || true;
        self.queue
            .put(&message, &mut Patience::new(Deadline::NEVER, &mut go_on))
            .unwrap();
    }

    fn consume(&self) {
        let mut last = vec![0; self.number + 1];
        let mut message = Message::default();
        loop {
            let mut go_on = || true;
            let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
            match self.queue.get(&mut message, Some(self.row), &mut patience) {
                Ok(()) => {}
                Err(GetError::Closed) => return,
                Err(error) => panic!("{error}"),
            }
            let parcel = Parcel::from_tag(message.header.tag);
            self.check(parcel, &message);
            let before = std::mem::replace(&mut last[parcel.seat], parcel.number);
            assert!(
                before < parcel.number,
                "{parcel:?} came after number {before}"
            );
            let received = self.journal.receive(parcel, self.name);
            assert_eq!(received, Ok(()), "{parcel:?} came twice");
            self.seat.step(self.journal.asked());
            self.errands.run(&self.journal, scramble(parcel.tag()));
        }
    }

    /// Every byte is as it was made; the blocks are freed.
    fn check(&self, parcel: Parcel, message: &Message) {
        assert!(
            message.payload == parcel.payload(),
            "the payload of {parcel:?} is corrupt"
        );
        let expected = parcel.blocks();
        assert_eq!(
            message.blocks.len(),
            expected.len(),
            "the blocks of {parcel:?}"
        );
        let blocks = self.family.blocks().unwrap();
        for (&block, expected) in message.blocks.iter().zip(expected) {
            let mut found = vec![0; expected.len()];
            assert_eq!(block.len, expected.len() as u64, "a block of {parcel:?}");
            blocks.bytes(block).unwrap().read(0, &mut found).unwrap();
            assert!(found == expected, "a block of {parcel:?} is corrupt");
            self.family.discard(block);
        }
    }
}
