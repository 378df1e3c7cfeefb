//! Not treading on the producers' heels.
//!
//! A consumer that has taken all that it knew of looks at the producers' position, which takes their cache
//! line away from them, and then reads messages out of lines that they are about to write to. If it is as
//! quick as they are, it does that for each message, and both work at half their speed. So it lets some
//! messages gather first, for some microseconds, as a network card does before it interrupts.
//!
//! That pays in a quick stream only. Where it did not, as in a conversation, in which there is one message at
//! a time, the next looks are not delayed, and twice as many after each further failure.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use manycore_os::{affinity, clock};

use super::position::Position;
use super::region::Ring;
use crate::wait::{Sought, spin};

/// So many bytes of messages are enough: some lines more than a processor fetches by itself.
const ENOUGH: u64 = 1 << 10;
/// Nanoseconds from one look to the next.
const PAUSE: u64 = 1_000;
/// The most pauses.
const MOST_PAUSES: u32 = 10;
/// The most looks that are not delayed after one that was delayed in vain.
const MOST_LOOKS: u32 = 1 << 10;

/// How one process goes about looking for messages in one ring. What threads write here at the same time
/// may get lost; it decides nothing but how quick they are.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Looks to come that are not delayed.
    eager: AtomicU32,
    /// How many there were after the last delay that was in vain; zero after one that was not.
    last: AtomicU32,
}

impl Pace {
    /// Whether messages shall gather before the next look, which is about to come.
    #[inline]
    pub(crate) fn lets_gather(&self) -> bool {
        let eager = self.eager.load(Relaxed);
        if eager > 0 {
            self.eager.store(eager - 1, Relaxed);
        }
        eager == 0
    }

    /// Waits while messages gather, as long as some do.
    pub(crate) fn gather(&self, ring: &Ring) {
        if affinity::online_cpus() < 2 || spin::looks(2) < 2 {
            return;
        }
        let mut waiting = 0;
        for _ in 0..MOST_PAUSES {
            pause();
            let before = std::mem::replace(&mut waiting, ring.bytes_ahead());
            if waiting >= ENOUGH {
                return self.note(0);
            }
            if waiting == before {
                break;
            }
        }
        self.note((self.last.load(Relaxed) * 2).clamp(1, MOST_LOOKS));
    }

    fn note(&self, eager: u32) {
        self.last.store(eager, Relaxed);
        self.eager.store(eager, Relaxed);
    }
}

thread_local! {
    /// Of the workers of pools, each of which has one thread for its tasks.
    static OF_WORKERS: Pace = Pace::default();
}

impl Sought for Ring {
    fn is_there(&self) -> bool {
        self.is_ready()
    }

    fn is_much(&self) -> bool {
        self.bytes_ahead() >= ENOUGH
    }

    fn gather(&self) {
        OF_WORKERS.with(|pace| {
            if pace.lets_gather() {
                pace.gather(self);
            }
        });
    }
}

fn pause() {
    let start = clock::now_ns();
    while clock::now_ns().wrapping_sub(start) < PAUSE {
        spin_loop();
    }
}

impl Ring {
    /// Whether this side has taken all that it knew of.
    #[inline]
    pub(crate) fn has_taken_all_known(&self) -> bool {
        let get = &self.body.get;
        // Relaxed: what both words say is checked again under the lock.
        let head = Position::from_bits(get.position.load(Relaxed));
        head.is_at(Position::from_bits(get.peer.load(Relaxed)))
    }

    /// Bytes of messages that are waiting, roughly; some number where the producers are in a later region.
    fn bytes_ahead(&self) -> u64 {
        let head = Position::from_bits(self.body.get.position.load(Relaxed));
        Position::from_bits(self.body.put.position.load(Relaxed)).since(head.bytes())
    }
}
