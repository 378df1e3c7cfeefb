//! The heap of all cases: what is in it, and how it is put back.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use manycore_os::Deadline;
use manycore_os::mapping::PAGE;
use manycore_os::robust::OWNER_DIED;

use super::MOST_STEPS;
use super::input::Input;
use super::place::SLOTS_HIT;
use crate::block::table::Run;
use crate::block::{Blocks, State};
use crate::error::{Corrupted, HandleError};
use crate::family::{Family, Hold};
use crate::heap::layout::{LEAST, SLOTS};
use crate::lock::tokens::{INLINE, MOST};
use crate::lock::{Access, Shares};
use crate::map::When;
use crate::object::header::{Phase, Stage};
use crate::object::{Handle, Kind, Objects};
use crate::registry::{OwnerId, Slot};
use crate::ring::layout::Side;
use crate::ring::{Message, Outgoing, Ring, Shape};
use crate::wait::Patience;
use crate::word::{Word32, Word64};

/// The most that the heap may grow to.
const LIMIT: u64 = 4 << 20;
/// Where the map is among the objects.
const MAP: usize = 9;
/// A number that no process has: the kernel's own limit is below it.
const NOBODYS_PID: u32 = (1 << 22) + 1;

/// A family of this process and one that has died.
pub(super) struct World {
    pub(super) family: &'static Family,
    pub(super) me: OwnerId,
    /// The process that has died, holding this and that.
    pub(super) dead: OwnerId,
    /// The objects at the beginning. This process holds all of them.
    pub(super) objects: Vec<(Handle, Kind)>,
    /// Pages that have memory at the beginning; they come first.
    pub(super) pages: usize,
    saved: Vec<(usize, Vec<u8>)>,
}

impl World {
    /// The one world of this process.
    pub(super) fn lock() -> MutexGuard<'static, Self> {
        static WORLD: OnceLock<Mutex<World>> = OnceLock::new();
        let world = WORLD.get_or_init(|| Mutex::new(Self::prepared()));
        world.lock().unwrap_or_else(PoisonError::into_inner) // it is put back anyway
    }

    fn prepared() -> Self {
        let family = Family::create_with(LEAST).expect("room for a small heap");
        family.heap().header().set_limit(LIMIT);
        let me = family.me().expect("an empty registry");
        let dead = family.registry().join_as(NOBODYS_PID);
        let mut world = Self {
            family,
            me,
            dead: dead.expect("an empty registry"),
            objects: Vec::new(),
            pages: 0,
            saved: Vec::new(),
        };
        world.furnish().expect("a sound heap with room");
        world.save();
        world
    }

    /// The same world through another mapping, as another process has it.
    #[cfg(test)]
    pub(super) fn seen_from_outside(&self) -> Self {
        static OTHER: OnceLock<&'static Family> = OnceLock::new();
        let attach = || {
            let file = self.family.heap().mapping().duplicate().expect("open");
            Family::attach(file).expect("the same version")
        };
        Self {
            family: OTHER.get_or_init(attach),
            objects: self.objects.clone(),
            saved: Vec::new(),
            ..*self
        }
    }

    pub(super) fn pid_of_dead(&self) -> u32 {
        NOBODYS_PID
    }

    /// Makes objects of all kinds, and a process that dies in the midst of things.
    fn furnish(&mut self) -> Result<(), HandleError> {
        let (family, mut made) = (self.family, Vec::new());
        let group = family.make_group(4)?;
        made.push(family.make_ring(Shape::unbounded())?);
        made.push(family.make_ring(Shape::of_messages(4))?);
        made.push(family.make_ring(Shape {
            capacity: 1 << 10,
            grows: false,
            space_at: group.bell_offset()?,
            ..Shape::unbounded()
        })?);
        made.push(family.make_ring(Shape {
            group: Some(group.handle().index),
            items_at: group.bell_offset()?,
            ..Shape::unbounded()
        })?);
        made.push(family.make_lock()?);
        made.push(family.make_lock()?);
        made.push(family.make_memory(200)?);
        made.push(family.make_memory(5_000)?);
        made.push(group);
        made.push(family.make_map()?);
        for ring in &made[..4] {
            let ring = ring.ring()?;
            for tag in 1..=3 {
                put(family, &ring, tag, 100, &[]);
            }
        }
        let travelling = [made[4].handle(), made[6].handle()];
        family.send(&travelling)?;
        put(family, &made[0].ring()?, 4, 50_000, &travelling);
        put(family, &made[0].ring()?, 5, 7_000, &[]);
        put(family, &made[0].ring()?, 6, 7_000, &[]);
        for key in 0..30 {
            let bytes = if key % 10 == 9 { 40_000 } else { 200 };
            set(
                family,
                &made[MAP],
                key,
                bytes,
                &travelling[..usize::from(key == 0)],
            )?;
        }
        let ghosts = self.bury_ghost(&made)?;
        made.push(ghosts);
        made.extend(self.make_tokens()?);
        made.push(family.make_event()?);
        made.push(self.condition_of_a_ghost()?);
        made.push(self.barrier_of_a_ghost()?);
        for _ in 0..2 {
            drop(family.make_ring(Shape::unbounded())?); // condemned
            drop(family.make_memory(1 << 14)?);
            let taken = family.take_block(1)?;
            family.blocks()?.free(taken.block); // returned
        }
        self.objects = made
            .iter()
            .map(|hold| (hold.handle(), hold.kind()))
            .collect();
        made.into_iter().for_each(std::mem::forget); // held by this process in every case
        Ok(())
    }

    /// What is left of a process that died in the midst of many things at once. Returns a ring of its.
    fn bury_ghost(&self, made: &[Hold]) -> Result<Hold, HandleError> {
        let ghost = Family::on(self.family.heap());
        ghost.start_over(self.dead);
        for hold in made {
            std::mem::forget(ghost.hold(hold.handle(), hold.kind())?);
        }
        std::mem::forget(ghost.open_producer(&made[1])?); // alone
        std::mem::forget(ghost.open_producer(&made[2])?);
        std::mem::forget(self.family.open_producer(&made[2])?);
        let _ = made[4].lock()?.try_acquire(self.dead);
        let _ = ghost.objects()?.make(Kind::Memory)?;
        for phase in [Phase::Buried, Phase::Condemned, Phase::Freeing] {
            let hold = ghost.make_lock()?;
            self.set_phase(hold.handle().index, phase)?;
            std::mem::forget(hold);
        }
        for state in [
            State::Filling,
            State::Backing,
            State::Punching,
            State::Returned,
        ] {
            let taken = ghost.take_block(PAGE as u64)?;
            self.set_state(u64::from(taken.block.page), state)?;
        }
        let held = ghost.make_ring(Shape::unbounded())?;
        let ring = held.ring()?;
        put(ghost, &ring, 1, 40_000, &[]);
        put(ghost, &ring, 2, 100, &[]);
        // It had taken a message, and put one, but for the commits.
        without_commit(&ring.body().get, || {
            let _ = ring.try_get(&mut Message::default(), None);
        });
        without_commit(&ring.body().put, || put(ghost, &ring, 3, 40_000, &[]));
        if let (Some(row), worked) = (made[8].rows()?.first(), made[3].ring()?) {
            without_commit(&worked.body().get, || {
                let _ = worked.try_get(&mut Message::default(), Some(row));
            });
        }
        // And it was at work in every part of the map.
        for key in 0..20 {
            set(ghost, &made[MAP], key, 5_000, &[])?;
        }
        let map = made[MAP].map()?;
        for stripe in &map.body.stripes {
            stripe.lock.pretend_held(OWNER_DIED);
        }
        let hold = self.family.hold(held.handle(), Kind::Ring)?;
        std::mem::forget(held);
        Ok(hold)
    }

    /// A condition for which this process and the dead one wait, more than there is room for in the object.
    fn condition_of_a_ghost(&self) -> Result<Hold, HandleError> {
        let ghost = Family::on(self.family.heap());
        ghost.start_over(self.dead);
        let hold = self.family.make_condition()?;
        let theirs = ghost.hold(hold.handle(), Kind::Condition)?;
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::PASSED, &mut tick);
        for _ in 0..21 {
            let _ = hold.join_condition(&mut patience)?;
            let _ = theirs.join_condition(&mut patience)?;
        }
        let _ = hold.notify(3, &mut patience)?;
        std::mem::forget(theirs);
        Ok(hold)
    }

    /// A barrier whose action the dead process runs, while another waits.
    fn barrier_of_a_ghost(&self) -> Result<Hold, HandleError> {
        let ghost = Family::on(self.family.heap());
        ghost.start_over(self.dead);
        let hold = self.family.make_barrier(2)?;
        let theirs = ghost.hold(hold.handle(), Kind::Barrier)?;
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::PASSED, &mut tick);
        for barrier in [hold.barrier()?, theirs.barrier()?] {
            let _ = barrier.arrive(true, &mut patience)?;
        }
        std::mem::forget(theirs);
        Ok(hold)
    }

    /// Semaphores, of which one has a block for shares, and a reader-writer lock. The dead one has some of each,
    /// and had one more but for the commit.
    fn make_tokens(&self) -> Result<[Hold; 3], HandleError> {
        let family = self.family;
        let few = family.make_semaphore(3, 3, true)?;
        let many = family.make_semaphore(MOST, MOST, false)?;
        let rw_lock = family.make_rw_lock()?;
        let heap = family.heap();
        let index = many.handle().index;
        for number in 0..INLINE {
            let other = OwnerId::new(SLOTS - 1 - number, 1);
            let shares = Shares::new(many.semaphore()?, index, Blocks::new(heap, other));
            shares.hold_at_once()?;
        }
        let mut tick = || true;
        let _ = many.hold_token(&mut Patience::new(Deadline::PASSED, &mut tick))?; // in a block
        let tokens = few.semaphore()?;
        let dead = Shares::new(tokens, few.handle().index, Blocks::new(heap, self.dead));
        dead.hold_at_once()?;
        let before = tokens.state();
        dead.hold_at_once()?;
        tokens.restore(before);
        tokens.lock.pretend_held(OWNER_DIED);
        let shares = rw_lock.rw_lock()?;
        let dead = Shares::new(
            shares.tokens(),
            rw_lock.handle().index,
            Blocks::new(heap, self.dead),
        );
        dead.try_enter(Access::Write)?;
        Ok([few, many, rw_lock])
    }

    fn set_phase(&self, index: u32, phase: Phase) -> Result<(), Corrupted> {
        let objects = Objects::new(self.family.heap(), self.me);
        let stage = Stage {
            phase,
            owner: self.dead,
            ..objects.stage(index)?
        };
        objects.object(index)?.state.store(stage.encode(), SeqCst);
        Ok(())
    }

    fn set_state(&self, page: u64, state: State) -> Result<(), Corrupted> {
        let entry = Blocks::new(self.family.heap(), self.me).entry(page)?;
        let run = Run {
            state,
            owner: self.dead,
            pages: 1,
        };
        entry.state.store(run.encode(), SeqCst);
        Ok(())
    }

    fn save(&mut self) {
        let heap = self.family.heap();
        let layout = heap.layout();
        self.pages = self.pages_with_memory();
        let slots = |first: usize, count: usize| {
            let at = layout.registry + first * size_of::<Slot>();
            (at, count * size_of::<Slot>())
        };
        let ranges = [
            (0, PAGE),
            slots(0, SLOTS_HIT + 2 * MOST_STEPS), // no step takes more than two
            slots(SLOTS - 8, 8),
            (layout.objects, layout.payload - layout.objects),
            (layout.payload, self.pages * PAGE),
        ];
        for (at, len) in ranges {
            let mut bytes = Vec::new();
            let copied = heap
                .bytes(at, len)
                .and_then(|range| range.append_to(0, len, &mut bytes));
            copied.expect("inside");
            self.saved.push((at, bytes));
        }
    }

    fn pages_with_memory(&self) -> usize {
        let blocks = self.family.blocks().expect("registered");
        let mut end = 0;
        let walked = blocks.walk(|page, run| {
            if run.state != State::Hollow {
                end = (page + run.pages) as usize;
            }
        });
        walked.expect("a sound heap");
        end
    }

    /// Puts the heap back to what it was at the beginning.
    pub(super) fn restore(&mut self) {
        let heap = self.family.heap();
        for (at, bytes) in &self.saved {
            let range = heap.bytes(*at, bytes.len()).expect("as when it was saved");
            range.write(0, bytes);
        }
        let (layout, used) = (heap.layout(), self.pages * PAGE);
        let rest = layout.pages * PAGE - used;
        let punched = heap.mapping().punch(layout.payload + used, rest);
        punched.expect("memory files have holes");
        self.family.start_over(self.me);
    }

    /// Where the bytes of one of the rings or of a part of the map lie, as their words say now.
    pub(super) fn region(&self, input: &mut Input<'_>) -> usize {
        let n = input.below(6);
        if n >= 4 {
            return self.table_of_map(input);
        }
        let side = input.byte();
        let layout = self.family.heap().layout();
        let Some(&(handle, _)) = self.objects.get(n) else {
            return layout.payload;
        };
        let objects = Objects::new(self.family.heap(), self.me);
        let Ok(body) = objects.body::<crate::ring::RingBody>(handle.index) else {
            return layout.payload;
        };
        let side_words = if side & 1 == 0 { &body.put } else { &body.get };
        let words = &side_words.region[usize::from(side >> 1 & 1)];
        let page = words.run.load(SeqCst) as u32 as usize % self.pages.max(1);
        layout.payload + page * PAGE
    }

    fn table_of_map(&self, input: &mut Input<'_>) -> usize {
        let layout = self.family.heap().layout();
        let objects = Objects::new(self.family.heap(), self.me);
        let map = self.objects.get(MAP).map(|&(handle, _)| handle.index);
        let body = map.and_then(|index| objects.body::<crate::map::MapBody>(index).ok());
        let Some(stripe) = body.map(|body| &body.stripes[input.below(body.stripes.len())]) else {
            return layout.payload;
        };
        let page = stripe.page_of_table() as usize % self.pages.max(1);
        layout.payload + page * PAGE
    }

    pub(super) fn load(&self, word: &Word32) -> u32 {
        word.load(SeqCst)
    }

    pub(super) fn load_long(&self, word: &Word64) -> u64 {
        word.load(SeqCst)
    }

    pub(super) fn store(&self, at: usize, value: u32) {
        if let Ok(word) = self.family.heap().at::<Word32>(at) {
            word.store(value, SeqCst);
        }
    }

    pub(super) fn store_long(&self, at: usize, value: u64) {
        if let Ok(word) = self.family.heap().at::<Word64>(at) {
            word.store(value, SeqCst);
        }
    }
}

/// Does something with a side of a ring and leaves the side as if the commit had not come any more.
fn without_commit(side: &Side, operation: impl FnOnce()) {
    let before = side.position.load(SeqCst);
    operation();
    side.position.store(before, SeqCst);
    side.lock.pretend_held(OWNER_DIED);
}

/// Puts a message of `bytes` bytes, in a block if they are many.
fn put(family: &Family, ring: &Ring, tag: u64, bytes: usize, handles: &[Handle]) {
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::PASSED, &mut tick);
    let taken = (bytes > 32 << 10).then(|| family.take_block(bytes as u64).expect("room").block);
    let message = Outgoing {
        kind: 1,
        tag,
        blocks: taken.as_slice(),
        handles,
        payload: &vec![tag as u8; if taken.is_some() { 0 } else { bytes }],
    };
    ring.put(&message, &mut patience).expect("room");
}

/// Puts a value of `bytes` bytes into the map, in a block if they are many.
fn set(
    family: &'static Family,
    map: &Hold,
    key: u8,
    bytes: usize,
    handles: &[Handle],
) -> Result<(), HandleError> {
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut tick);
    let map = family.hold(map.handle(), Kind::Map)?.map()?;
    let taken = (bytes > 4 << 10).then(|| family.take_block(bytes as u64).expect("room").block);
    family.send(handles)?;
    let value = Outgoing {
        kind: 1,
        blocks: taken.as_slice(),
        handles,
        payload: &vec![key; if taken.is_some() { 0 } else { bytes }],
        ..Outgoing::default()
    };
    let name = [key];
    let key = map.key(&name).expect("short");
    let set = map.set(&key, &value, When::Always, &mut patience);
    assert_eq!(set, Ok(true));
    Ok(())
}
