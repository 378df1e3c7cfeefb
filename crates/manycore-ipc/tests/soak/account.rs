//! Nothing lost, nothing twice, nothing left.

use std::collections::BTreeSet;

use manycore_ipc::Family;
use manycore_ipc::registry::Status;

use crate::journal::Journal;
use crate::parcel::Parcel;
use crate::report::Report;
use crate::round::Round;

/// What is known about those that died.
#[derive(Default)]
pub(crate) struct Account {
    /// Messages whose producer died inside `put`: they may have arrived or not.
    doubtful: BTreeSet<(usize, u32)>,
    /// Messages that a dead consumer's row says it had taken, and nobody else wrote down.
    pub(crate) buried: u64,
}

impl Account {
    /// A producer is dead: what it had begun may be there or not.
    pub(crate) fn bury_producer(&mut self, journal: &Journal, seat: usize) {
        let (begun, done) = (journal.seat(seat).begun(), journal.seat(seat).done());
        if begun != done {
            self.doubtful.insert((seat, begun));
        }
    }

    /// Every message whose `put` returned was received once or died with who had it; no other was.
    pub(crate) fn settle(&self, round: &Round, report: &mut Report) {
        for seat in 0..round.shape.producers {
            // Put, or in doubt: who left in order had done all that it began.
            let sent = 1..=round.journal.seat(seat).begun();
            let mut received = 0;
            for (number, was_received) in round.journal.receipts(seat) {
                let parcel = Parcel { seat, number };
                if !was_received && sent.contains(&number) {
                    assert!(
                        self.doubtful.contains(&(seat, number)),
                        "{parcel:?} is lost"
                    );
                }
                if was_received {
                    assert!(sent.contains(&number), "{parcel:?} was never sent");
                    received += 1;
                }
            }
            report.count("messages received", received);
        }
        assert!(round.ring().is_empty());
        report.count("messages that died with their consumer", self.buried);
        let doubtful = self.doubtful.len() as u64;
        report.count("messages whose producer died over them", doubtful);
    }
}

/// A consumer is dead: what it took last is in its row, if it took it. Whether nobody has written that
/// down.
pub(crate) fn last_take(round: &Round, seat: usize, name: u32) -> bool {
    round.ring().settle(); // as the owner of a pool does: a take without a commit makes the row void
    let row = round.group.rows().unwrap()[seat];
    let Some(taking) = row.read() else {
        return false;
    };
    row.void(); // for the next one in this seat
    let parcel = Parcel::from_tag(taking.tag);
    let received = round.journal.receive(parcel, name);
    if let Err(who) = received {
        assert_eq!(
            who, name,
            "{parcel:?} was taken by {who} and by {name}, who is dead"
        );
    }
    received.is_ok()
}

/// What a family has at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stock {
    blocks: u64,
    pages: u64,
    objects: usize,
    members: Vec<usize>,
}

impl Stock {
    pub(crate) fn of(family: &'static Family) -> Self {
        family.reap_dead(true);
        family.free_buried().unwrap();
        let usage = family.blocks().unwrap().usage().unwrap();
        let mut objects = 0;
        family
            .objects()
            .unwrap()
            .for_each_live(|_, _| objects += 1)
            .unwrap();
        let registry = family.registry();
        let is_taken = |&slot: &usize| registry.tenancy(slot).unwrap().status != Status::Free;
        Self {
            blocks: usage.used_blocks,
            pages: usage.used_pages,
            objects,
            members: registry.used().filter(is_taken).collect(),
        }
    }

    pub(crate) fn assert_same_in(&self, family: &'static Family) {
        let now = Self::of(family);
        assert_eq!(*self, now, "something is left");
    }
}
