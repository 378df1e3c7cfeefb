//! What the process does.

use std::time::Duration;

use manycore_os::Deadline;
use manycore_os::robust::OWNER_DIED;

use super::MOST_STEPS;
use super::input::Input;
use super::value;
use super::world::World;
use crate::block::allocator::Taken;
use crate::family::{Family, Hold, Meeting, Producer};
use crate::lock::Access;
use crate::map::layout::STRIPES;
use crate::object::Kind;
use crate::object::cell::Cell;
use crate::registry::OwnerId;
use crate::ring::{Get, Message, Shape};
use crate::wait::Patience;

/// Longer than anything in the heap: what a scribble makes the process believe.
pub(super) const ABSURD: usize = crate::heap::layout::LEAST;

/// A process in the midst of a case.
pub(super) struct Process<'a> {
    world: &'a World,
    pub(super) family: &'static Family,
    pub(super) holds: Vec<Hold>,
    pub(super) producers: Vec<Producer>,
    pub(super) taken: Vec<Taken>,
    /// What was received last.
    pub(super) message: Message,
}

impl<'a> Process<'a> {
    /// Before the first scribble.
    pub(super) fn new(world: &'a World) -> Self {
        let family = world.family;
        let held = world.objects.iter();
        let holds = held.map(|&(handle, kind)| {
            family
                .hold(handle, kind)
                .expect("nothing is scribbled on yet")
        });
        Self {
            world,
            family,
            holds: holds.collect(),
            producers: Vec::new(),
            taken: Vec::new(),
            message: Message::default(),
        }
    }

    /// Does all that the input says.
    pub(super) fn go_through(&mut self, input: &mut Input<'_>) {
        for _ in 0..MOST_STEPS {
            if input.is_empty() {
                break;
            }
            self.step(input);
        }
    }

    /// Looks at everything, lets go of it and cleans up: whatever was hit is met now.
    pub(super) fn finish(mut self) {
        self.forget_message();
        let rings = self.holds.iter().filter_map(|hold| hold.ring().ok());
        for ring in rings {
            let mut message = Message::default();
            let count = std::iter::from_fn(|| {
                let outcome = ring.try_get(&mut message, None);
                matches!(outcome, Ok(Get::Done)).then_some(())
            });
            // Each takes a record's header, at least.
            assert!(count.take(ABSURD).count() <= ABSURD / 16);
        }
        self.finish_maps();
        for hold in &self.holds {
            assert!(hold.rows().unwrap_or_default().len() <= ABSURD / 64);
            assert!(hold.memory().map_or(0, |bytes| bytes.len()) <= ABSURD);
        }
        self.holds.clear();
        self.producers.clear();
        self.family.reap_dead(true);
        for _ in 0..self.world.objects.len() {
            let _ = self.family.free_buried(); // what cannot be freed is left out the next time
        }
        if let Ok(blocks) = self.family.blocks() {
            let _ = (
                blocks.sweep(self.world.dead, |_| ()),
                blocks.trim_to(0),
                blocks.usage(),
            );
        }
    }

    /// Does one thing. What comes of it does not matter, as long as something does.
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(30) {
            0..=6 => value::scribble(input, self.world),
            7 => self.die(input),
            8 | 9 => self.put(input),
            10 | 11 => self.get(input),
            12 => self.look_at_ring(input),
            13 => self.make(input),
            14 => self.hold(input),
            15 => self.let_go(input),
            16 => self.clone_hold(input),
            17 => self.take_block(input),
            18 => self.give_block_back(input),
            19 => self.use_lock(input),
            20 => self.use_memory(input),
            28 | 29 => self.use_map(input),
            21 => self.use_group(input),
            22 => drop(self.family.free_buried()),
            23 => drop(self.family.reap_dead(input.byte() & 1 != 0)),
            24 => self.fork(input),
            25 => self.change_places(input),
            26 => self.look_after_heap(input),
            _ => self.take_over_handles(),
        }
    }

    pub(super) fn chosen(&self, input: &mut Input<'_>) -> Option<&Hold> {
        self.holds.get(input.below(self.holds.len()))
    }

    /// Another process, which has a lock, dies.
    fn die(&self, input: &mut Input<'_>) {
        let header = self.family.heap().header();
        let ring = self.ring(input).map(|ring| ring.body());
        let map = self.holds.iter().find_map(|hold| hold.map().ok());
        let number = input.below(STRIPES);
        if let (Some(map), 0) = (map, input.below(3)) {
            return map.body.stripes[number].lock.pretend_held(OWNER_DIED);
        }
        let lock = match (input.below(4), ring) {
            (0, _) => &header.allocator.lock,
            (1, _) | (_, None) => &header.objects.lock,
            (2, Some(ring)) => &ring.put.lock,
            (_, Some(ring)) => &ring.get.lock,
        };
        lock.pretend_held(OWNER_DIED);
    }

    fn make(&mut self, input: &mut Input<'_>) {
        let family = self.family;
        let made = match input.below(10) {
            6 => family.make_event(),
            7 => family.make_condition(),
            8 => family.make_barrier(u32::from(input.byte())),
            9 => family.make_map(),
            0 => family.make_ring(Shape::unbounded()),
            1 => family.make_ring(Shape::of_messages(u64::from(input.byte()))),
            2 => family.make_ring(Shape {
                capacity: u64::from(input.short()),
                grows: false,
                ..Shape::unbounded()
            }),
            3 => family.make_lock(),
            4 => family.make_memory(u64::from(input.short()) << (input.byte() % 8)),
            _ => family.make_group(u32::from(input.byte())),
        };
        self.holds.extend(made);
    }

    fn hold(&mut self, input: &mut Input<'_>) {
        let known = input.one_of(&self.world.objects);
        let (mut handle, mut kind) = known.expect("a world has objects");
        match input.below(4) {
            0 => handle.index = u32::from(input.byte()),
            1 => handle.generation = u32::from(input.byte() % 4),
            2 => kind = input.one_of(Kind::ALL).expect("there are some"),
            _ => {}
        }
        self.holds.extend(self.family.hold(handle, kind));
    }

    fn let_go(&mut self, input: &mut Input<'_>) {
        if !self.holds.is_empty() {
            drop(self.holds.swap_remove(input.below(self.holds.len())));
            drop(self.producers.pop());
        }
    }

    fn clone_hold(&mut self, input: &mut Input<'_>) {
        let copy = self.chosen(input).cloned();
        let opened = copy.iter().map(|hold| self.family.open_producer(hold));
        self.producers.extend(opened.flatten());
        self.holds.extend(copy);
    }

    fn take_block(&mut self, input: &mut Input<'_>) {
        let len = match input.below(4) {
            0 => u64::from(input.byte()),
            1 => u64::from(input.short()),
            2 => u64::from(input.short()) << 8,
            _ => input.word(),
        };
        let Ok(taken) = self.family.take_block(len) else {
            return;
        };
        assert!(taken.block.len <= ABSURD as u64);
        if let Ok(blocks) = self.family.blocks() {
            let at = usize::from(input.short());
            if at < taken.block.len as usize {
                let most = (taken.block.len as usize - at).min(70_000);
                let _ = blocks.fill(&taken, at, &vec![3; most]);
            }
        }
        self.taken.push(taken);
    }

    fn give_block_back(&mut self, input: &mut Input<'_>) {
        let Ok(blocks) = self.family.blocks() else {
            return;
        };
        if let Some(taken) = self.taken.pop() {
            if let (1, Some(hold)) = (input.byte() & 1, self.chosen(input)) {
                let kept = self.family.store(hold, &[1; 100]);
                kept.iter().for_each(|&block| self.family.discard(block));
            }
            blocks.free(taken.block);
        }
    }

    fn use_lock(&mut self, input: &mut Input<'_>) {
        let Some(hold) = self.chosen(input) else {
            return;
        };
        match hold.kind() {
            Kind::Semaphore => return use_semaphore(hold, input),
            Kind::RwLock => return use_rw_lock(hold, input),
            _ => {}
        }
        let (Ok(lock), Ok(me)) = (hold.lock(), self.family.me()) else {
            return use_waiting(hold, input);
        };
        match input.below(8) {
            0 => drop(lock.try_acquire(me)),
            1 => drop(patiently(input, |patience| hold.acquire(patience).is_ok())),
            2 => drop(lock.release()),
            3 => lock.enter(1),
            6 => drop(patiently(input, |patience| {
                hold.acquire_to_repair(patience).is_ok()
            })),
            7 => drop((
                lock.leave_unrepaired(),
                lock.leave(me, 1),
                lock.dead_holder(),
            )),
            4 => drop((lock.reenter(me, 1), lock.depth(), lock.holder())),
            _ => drop((lock.leave(me, 1), lock.is_held_by(me, 1))),
        }
    }

    fn use_memory(&mut self, input: &mut Input<'_>) {
        let Some(Ok(bytes)) = self.chosen(input).map(Hold::memory) else {
            return;
        };
        assert!(bytes.len() <= ABSURD);
        match Cell::new(self.family.heap(), bytes) {
            Ok(cell) if input.byte() & 1 == 0 => {
                let _ = cell.write(&vec![1; usize::from(input.byte())]);
                let _ = cell.read(&mut Vec::new());
            }
            _ => bytes.clear(),
        }
    }

    pub(super) fn rows(&self, input: &mut Input<'_>) -> Vec<&'static crate::object::group::Row> {
        let mut groups = self.holds.iter().filter(|hold| hold.kind() == Kind::Group);
        let rows = groups.next_back().and_then(|hold| hold.rows().ok());
        let rows = rows.unwrap_or_default();
        assert!(rows.len() <= ABSURD / 64);
        if input.byte() & 1 == 0 {
            Vec::new()
        } else {
            rows
        }
    }

    fn use_group(&mut self, input: &mut Input<'_>) {
        for row in self.rows(input) {
            let _ = row.read();
            row.void();
        }
        if let Some(group) = self.chosen(input) {
            let _ = group.bell_offset();
        }
    }

    fn fork(&mut self, input: &mut Input<'_>) {
        let counts = self.family.prepare_fork();
        if input.byte() & 1 == 0 {
            self.family.finish_fork(&counts); // there is no child
            return;
        }
        drop(counts);
        self.family.adopt_fork();
        let _ = self.family.me();
    }

    fn change_places(&mut self, input: &mut Input<'_>) {
        let registry = self.family.registry();
        let Ok(me) = self.family.me() else { return };
        match input.below(7) {
            0 => self.family.leave(),
            1 => drop(registry.join()),
            2 => drop(registry.join_spare().map(|spare| registry.vacate(spare))),
            3 => drop(
                registry
                    .reserve(me)
                    .map(|child| registry.withdraw(child, me)),
            ),
            4 => drop(registry.reserve(me).map(|child| registry.adopt(child))),
            5 => drop(self.family.reap(input.below(12))),
            _ => {
                let someone = OwnerId::from_bits(u32::from(input.short()));
                let _ = (
                    registry.has_ended(someone),
                    registry.seems_dead(someone.slot()),
                );
                let _ = registry.has_holder_ended(someone.bits());
            }
        }
    }

    fn look_after_heap(&mut self, input: &mut Input<'_>) {
        let Ok(blocks) = self.family.blocks() else {
            return;
        };
        match input.below(5) {
            0 => drop(blocks.usage()),
            1 => drop(blocks.trim()),
            2 => drop(blocks.trim_to(0)),
            3 => drop(blocks.grow(u64::from(input.byte()) + 1)),
            _ => drop(blocks.sweep(self.world.dead, |_| ())),
        }
    }
}

/// Uses what is waited for: an event, a condition or a barrier.
fn use_waiting(hold: &Hold, input: &mut Input<'_>) {
    if let Ok(event) = hold.event() {
        match input.below(3) {
            0 => event.set(),
            1 => event.clear(),
            _ => drop(patiently(input, |patience| event.wait(patience).is_ok())),
        }
    } else if let Ok(condition) = hold.condition() {
        let most = usize::from(input.byte());
        let joined = patiently(input, |patience| hold.join_condition(patience));
        let _ = patiently(input, |patience| hold.notify(most, patience));
        assert!(condition.waiting().unwrap_or_default() <= ABSURD / 8);
        if let Ok(Ok(place)) = joined {
            let slept = patiently(input, |patience| hold.wait_notified(place, patience));
            if slept != Ok(Ok(())) || !condition.take(place) {
                let _ = patiently(input, |patience| condition.withdraw(place, patience));
            }
        }
    } else if let Ok(barrier) = hold.barrier() {
        let has_action = input.byte() & 1 != 0;
        let met = patiently(input, |patience| hold.meet(has_action, patience));
        if let Ok(Ok(Meeting::Acts(action))) = met {
            let _ = patiently(input, |patience| barrier.finish(action, patience));
        }
        match input.below(3) {
            0 => drop(patiently(input, |patience| barrier.abort(patience).is_ok())),
            1 => drop(patiently(input, |patience| barrier.reset(patience).is_ok())),
            _ => drop((barrier.waiting(), barrier.is_broken())),
        }
    }
}

/// Runs what may wait, for a moment.
pub(super) fn patiently<R>(input: &mut Input<'_>, wait: impl FnOnce(&mut Patience<'_>) -> R) -> R {
    let mut ticks = 0;
    let mut tick = || {
        ticks += 1;
        ticks < 4
    };
    let until = match input.byte() & 1 {
        0 => Deadline::PASSED,
        _ => Deadline::after(Duration::from_micros(50)),
    };
    wait(&mut Patience::new(until, &mut tick))
}

fn use_semaphore(hold: &Hold, input: &mut Input<'_>) {
    let (Ok(tokens), Ok(shares)) = (hold.semaphore(), hold.semaphore_shares()) else {
        return;
    };
    match input.below(6) {
        0 => drop(tokens.try_take()),
        1 => drop(patiently(input, |patience| {
            hold.take_token(patience).is_ok()
        })),
        2 => drop(tokens.give()),
        3 => drop(shares.hold_at_once()),
        4 => drop(patiently(input, |patience| {
            hold.hold_token(patience).is_ok()
        })),
        _ => drop((shares.give_back_at_once(), tokens.value(), tokens.most())),
    }
}

fn use_rw_lock(hold: &Hold, input: &mut Input<'_>) {
    let Ok(shares) = hold.rw_lock() else {
        return;
    };
    let access = [Access::Read, Access::Write][input.below(2)];
    match input.below(4) {
        0 => drop(shares.try_enter(access)),
        1 => drop(patiently(input, |patience| {
            hold.enter(access, patience).is_ok()
        })),
        2 => drop(shares.leave_at_once(access)),
        _ => drop((shares.readers_and_writer(), shares.dead_writer())),
    }
}
