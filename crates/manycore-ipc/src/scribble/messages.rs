//! What the process does with rings.

use super::input::Input;
use super::step::{ABSURD, Process, patiently};
use crate::family::Hold;
use crate::object::{Handle, Kind};
use crate::ring::pollers::{Event, Poller};
use crate::ring::record::MOST_INLINE;
use crate::ring::{Get, Message, Outgoing, Put, Ring};

impl Process<'_> {
    pub(super) fn ring(&self, input: &mut Input<'_>) -> Option<Ring> {
        self.queue(input)?.ring().ok()
    }

    fn queue(&self, input: &mut Input<'_>) -> Option<&Hold> {
        let rings: Vec<&Hold> = self
            .holds
            .iter()
            .filter(|hold| hold.kind() == Kind::Ring)
            .collect();
        input.one_of(&rings)
    }

    pub(super) fn put(&mut self, input: &mut Input<'_>) {
        let Some(ring) = self.ring(input) else { return };
        let len = match input.below(4) {
            0 => 8,
            1 => usize::from(input.byte()),
            2 => usize::from(input.short()).min(MOST_INLINE),
            _ => 7_000,
        };
        let block = if input.byte() & 1 != 0 {
            self.taken.pop()
        } else {
            None
        };
        let handles: Vec<Handle> = match input.byte() & 1 {
            0 => Vec::new(),
            _ => self.chosen(input).map(Hold::handle).into_iter().collect(),
        };
        if self.family.send(&handles).is_err() {
            return;
        }
        let blocks: Vec<_> = block.iter().map(|taken| taken.block).collect();
        let message = Outgoing {
            kind: 1,
            tag: 9,
            blocks: &blocks,
            handles: &handles,
            payload: &vec![7; len],
        };
        let is_put = if input.byte() & 1 == 0 {
            matches!(ring.try_put(&message, &mut None), Ok(Put::Done))
        } else {
            patiently(input, |patience| ring.put(&message, patience)).is_ok()
        };
        if !is_put {
            self.family.unsend(&handles);
            self.taken.extend(block);
        }
    }

    pub(super) fn get(&mut self, input: &mut Input<'_>) {
        let Some(queue) = self.queue(input).cloned() else {
            return;
        };
        let Ok(ring) = queue.ring() else { return };
        let rows = self.rows(input);
        let row = rows.first().copied();
        self.forget_message();
        let message = &mut self.message;
        let is_got = match input.byte() % 3 {
            0 => matches!(ring.try_get(message, row), Ok(Get::Done)),
            1 => patiently(input, |patience| ring.get(message, row, patience)).is_ok(),
            _ => patiently(input, |patience| queue.get(message, row, patience)) == Ok(Ok(())),
        };
        assert!(self.message.payload.capacity() <= ABSURD);
        if !is_got {
            self.message = Message::default();
        }
        let Ok(blocks) = self.family.blocks() else {
            return;
        };
        for &block in &self.message.blocks {
            let mut copy = Vec::new();
            if let Ok(bytes) = blocks.bytes(block) {
                let _ = bytes.append_to(0, bytes.len(), &mut copy);
            }
        }
    }

    /// Frees the blocks of the last message. Its handles stay counted.
    pub(super) fn forget_message(&mut self) {
        if let Ok(blocks) = self.family.blocks() {
            for block in self.message.blocks.drain(..) {
                blocks.free(block);
            }
        }
        self.message = Message::default();
    }

    pub(super) fn take_over_handles(&mut self) {
        for block in self.message.blocks.drain(..) {
            self.holds.extend(self.family.keep(block));
        }
        let received = self.family.receive(&self.message.handles);
        self.message.handles.clear();
        self.holds.extend(received.unwrap_or_default());
    }

    pub(super) fn look_at_ring(&mut self, input: &mut Input<'_>) {
        let Some(ring) = self.ring(input) else { return };
        match input.below(8) {
            0 => drop((ring.len(), ring.is_empty())),
            1 => drop((ring.is_full(), ring.stats(), ring.is_over())),
            2 => ring.close(),
            3 => {
                ring.settle();
                for event in [Event::Message, Event::Room] {
                    let poller = Poller::new(ring.me(), event as u32); // nobody is there to be told
                    let _ = patiently(input, |patience| ring.arm(event, poller, patience));
                }
            }
            4 => drop((ring.mark_done(), ring.is_finished())),
            5 => drop(patiently(input, |patience| ring.wait_finished(patience))),
            6 => drop(ring.drain()),
            _ => drop((
                ring.items_bell().has_sleepers(),
                ring.space_bell().ring_all(),
            )),
        }
    }
}
