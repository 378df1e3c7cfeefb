//! What the processes of a round share, and what each of them knows.

use std::sync::{Arc, Mutex, PoisonError};

use super::*;
use crate::block::BlockRef;
use crate::heap::Bytes;
use crate::lock::tokens::MOST;
use crate::lock::{Access, EngineLock};
use crate::object::Objects;
use crate::object::cell::Cell;
use crate::object::group::Row;
use crate::ring::pollers::{Event, Poller};
use crate::ring::{Put, PutError};
use crate::sync::roll::Roll;
use crate::sync::{Arrival, Condition, Met, Place};

/// Bytes of a message's block: one page and a bit.
const BLOCK: usize = 5_000;
/// Bytes of a value, which is always so many times the same byte.
const VALUE: usize = 100;

/// Tokens of the semaphore.
const TOKENS: u32 = 2;

/// Which of the processes; the first two die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    First,
    Second,
    Survivor,
}

/// What the processes have seen of the queue, in the order of events. It dies with none of them.
#[derive(Debug, Default)]
struct Journal {
    /// Who has begun to send the message with this number, counted from one.
    senders: Vec<Who>,
    /// Messages whose `put` has returned.
    put: Vec<u64>,
    /// Messages whose `get` has returned.
    got: Vec<(Who, u64)>,
    /// Who has begun a `get` that has not returned.
    getting: Vec<Who>,
    /// Whether somebody acted while another was stopped, so that what was begun first need not be done first.
    is_beside: bool,
    /// Messages that went with who had taken them, as rows said that are others' by now.
    lost: Vec<u64>,
}

impl Journal {
    /// Whether each process got each other's messages in the order in which they were sent.
    fn is_in_order(&self) -> bool {
        let all = [Who::First, Who::Second, Who::Survivor];
        let is_of_pair = |to: Who, from: Who| {
            let tags = self.got.iter().filter(move |&&(who, _)| who == to);
            let tags = tags.map(|&(_, tag)| tag);
            tags.filter(move |&tag| self.senders[tag as usize - 1] == from)
        };
        all.iter().all(|&to| {
            all.iter()
                .all(|&from| is_of_pair(to, from).is_sorted_by(|a, b| a < b))
        }) && (self.is_beside || self.got.is_sorted_by_key(|&(_, tag)| tag))
    }
}

/// The objects of a round, all held by the survivor.
pub(super) struct Scene {
    queue: Hold,
    inner: Hold,
    lock: Hold,
    refusing: Hold,
    semaphore: Hold,
    rw_lock: Hold,
    value: Hold,
    map: Hold,
    group: Hold,
    condition: Hold,
    barrier: Hold,
    journal: Arc<Mutex<Journal>>,
}

/// The names of these objects, for the other processes.
#[derive(Clone)]
pub(super) struct Names {
    pub(super) queue: Handle,
    pub(super) inner: Handle,
    pub(super) lock: Handle,
    refusing: Handle,
    pub(super) semaphore: Handle,
    pub(super) rw_lock: Handle,
    value: Handle,
    pub(super) map: Handle,
    group: Handle,
    condition: Handle,
    barrier: Handle,
    journal: Arc<Mutex<Journal>>,
}

/// One of the processes of a round.
#[derive(Clone)]
pub(super) struct Actor {
    pub(super) who: Who,
    pub(super) family: &'static Family,
    pub(super) names: Names,
}

impl Scene {
    pub(super) fn new(family: &'static Family, shape: Shape) -> Self {
        let group = family.make_group(2).expect("room");
        let shape = Shape {
            group: Some(group.handle().index),
            ..shape
        };
        Self {
            queue: family.make_ring(shape).expect("room"),
            inner: family.make_lock().expect("room"),
            lock: family.make_lock().expect("room"),
            refusing: family.make_refusing_lock().expect("room"),
            semaphore: family.make_semaphore(TOKENS, MOST, true).expect("room"),
            rw_lock: family.make_rw_lock().expect("room"),
            value: family.make_memory(Cell::bytes_for(VALUE)).expect("room"),
            map: family.make_map().expect("room"),
            group,
            condition: family.make_condition().expect("room"),
            barrier: family.make_barrier(2).expect("room"),
            journal: Arc::default(),
        }
    }

    pub(super) fn actor(&self, who: Who, family: &'static Family) -> Actor {
        let names = Names {
            queue: self.queue.handle(),
            inner: self.inner.handle(),
            lock: self.lock.handle(),
            refusing: self.refusing.handle(),
            semaphore: self.semaphore.handle(),
            rw_lock: self.rw_lock.handle(),
            value: self.value.handle(),
            map: self.map.handle(),
            group: self.group.handle(),
            condition: self.condition.handle(),
            barrier: self.barrier.handle(),
            journal: Arc::clone(&self.journal),
        };
        Actor { who, family, names }
    }

    /// Checks what is left once the dead have been cleaned up after, and takes it down.
    pub(super) fn check(self, world: &World, what: &str) {
        let survivor = self.actor(Who::Survivor, world.me);
        let ring = self.queue.ring().expect("a ring");
        let rows = self.group.rows().expect("a group");
        let left = ring.len();
        let before = self.journal().got.len();
        while survivor.get().is_some() {}
        let journal = self.journal();
        assert_eq!(
            left as usize,
            journal.got.len() - before,
            "the counters of the queue {what}"
        );
        assert!(journal.is_in_order(), "order {what}: {journal:?}");
        if ring.source().is_some() && !ring.is_closed() {
            assert_eq!(end_of(&self.queue), Some(()), "nobody produces {what}");
        }
        let taken_by = |tag| journal.got.iter().find(|&&(_, got)| got == tag);
        let named: Vec<_> = rows.iter().map(|row| row.read().map(|it| it.tag)).collect();
        assert!(
            journal.lost.iter().all(|&tag| taken_by(tag).is_none()),
            "blamed on a row, and delivered, {what}: {journal:?}"
        );
        let is_lost = |tag: &&u64| taken_by(**tag).is_none() && !journal.lost.contains(tag);
        for &tag in journal.put.iter().filter(is_lost) {
            let taker = named.iter().position(|&name| name == Some(tag));
            let taker = taker.map(|row| [Who::First, Who::Second][row]);
            assert!(
                taker.is_some_and(|who| journal.getting.contains(&who)),
                "message {tag} is lost {what}: {journal:?}, rows {named:?}"
            );
        }
        for (who, tag) in [Who::First, Who::Second].into_iter().zip(named) {
            if let Some(&(other, tag)) = tag.and_then(taken_by) {
                assert_eq!(other, who, "the row blames the wrong task {tag} {what}");
            }
        }
        drop(journal);
        survivor.use_the_lock();
        survivor.repair_and_use_the_lock();
        survivor.hold_all_tokens();
        survivor.read_and_write();
        let condition = self.condition.condition().expect("a condition");
        assert_eq!(
            condition.waiting(),
            Ok(0),
            "the dead wait for nothing {what}"
        );
        let barrier = self.barrier.barrier().expect("a barrier");
        assert_eq!(barrier.waiting(), Ok(0), "nor for others {what}");
        assert!(
            self.inner.lock().is_ok(),
            "held by the survivor all the time"
        );
        maps::keys(world.me, &self.map);
        let tables = maps::clear(&self.map);
        forget_leaked_counts(world.me);
        let pollers = usize::from(ring.has_pollers());
        let blocks = 1 + pollers + tables + self.blocks_of_the_group();
        world.check(11, blocks, what);
        drop(self);
        forget_leaked_counts(world.me);
        world.check(0, 0, what);
    }

    /// Whether all objects are there, as the survivor holds them.
    pub(super) fn is_there(&self) -> bool {
        let all = [
            &self.queue,
            &self.inner,
            &self.lock,
            &self.refusing,
            &self.semaphore,
            &self.rw_lock,
            &self.value,
            &self.map,
            &self.group,
            &self.condition,
            &self.barrier,
        ];
        all.into_iter().all(|hold| hold.check().is_ok())
    }

    /// Whether anybody is inside an engine lock that others may need.
    pub(super) fn is_any_lock_held(&self) -> bool {
        let family = self.queue.family();
        let ring = self.queue.ring().expect("a ring");
        let condition = self.condition.condition().expect("a condition");
        let barrier = self.barrier.barrier().expect("a barrier");
        let rolls = [condition.0, barrier.roll];
        let semaphore = self.semaphore.semaphore().expect("a semaphore");
        let rw_lock = self.rw_lock.rw_lock().expect("a reader-writer lock");
        let locks = [
            &semaphore.lock,
            &rw_lock.tokens().lock,
            &family.heap().header().objects.lock,
            &family.heap().header().allocator.lock,
            &ring.body.put.lock,
            &ring.body.get.lock,
        ];
        let map = self.map.map().expect("a map");
        let stripes = map.body.stripes.iter().map(|stripe| &stripe.lock);
        locks.into_iter().chain(stripes).any(EngineLock::is_held)
            || rolls.iter().any(Roll::is_locked)
    }

    pub(super) fn have_others_acted(&self) -> bool {
        self.journal().is_beside
    }

    pub(super) fn note_others(&self) {
        self.journal().is_beside = true;
    }

    /// What the owner of workers does before another one has this one's row.
    pub(super) fn clear_row_of(&self, who: Who) {
        let ring = self.queue.ring().expect("a ring");
        self.queue.family().reap_dead(true);
        ring.settle();
        let row = self.group.rows().expect("a group")[who as usize];
        let mut journal = self.journal();
        if let Some(taking) = row.read() {
            if journal.got.iter().all(|&(_, tag)| tag != taking.tag) {
                journal.lost.push(taking.tag);
            }
        }
        journal.getting.retain(|&other| other != who);
        row.void();
    }

    /// Its rows, and what was kept with it and not dropped before a death.
    fn blocks_of_the_group(&self) -> usize {
        let blocks = self.group.family().blocks().expect("registered");
        let group = u64::from(self.group.handle().index);
        let is_its = |page| blocks.entry(page).expect("inside").object.load(Relaxed) == group;
        let all = blocks.audit();
        all.iter().filter(|&&(page, _)| is_its(page)).count()
    }

    fn journal(&self) -> std::sync::MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was counted, and died before its message was sent or received, stays counted: once no message is
/// left, all that nobody holds.
fn forget_leaked_counts(family: &Family) {
    let objects = family.objects().expect("registered");
    family.reap_dead(true);
    for _ in 0..8 {
        family.free_buried().expect("sound");
        for_every_leaked_count(family, |index| objects.arrived(index).expect("sound"));
    }
    family.free_buried().expect("sound");
}

fn at_once<R>(operation: impl FnOnce(&mut Patience<'_>) -> R) -> R {
    let mut tick = || true;
    operation(&mut Patience::new(Deadline::PASSED, &mut tick))
}

fn is_put_waiting(ring: &Ring, message: &Outgoing<'_>) -> bool {
    let mut tick = || true;
    match ring.put(message, &mut Patience::new(Deadline::PASSED, &mut tick)) {
        Ok(()) => true,
        Err(PutError::Full | PutError::Closed) => false,
        Err(error) => panic!("{error}"),
    }
}

fn get_waiting(queue: &Hold, message: &mut Message, row: Option<&Row>) -> bool {
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::PASSED, &mut tick);
    match queue.get(message, row, &mut patience).expect("held") {
        Ok(()) => true,
        Err(GetError::Empty | GetError::Closed | GetError::Ended) => false,
        Err(error) => panic!("{error}"),
    }
}

impl Actor {
    fn note<R>(&self, note: impl FnOnce(&mut Journal) -> R) -> R {
        note(
            &mut self
                .names
                .journal
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub(super) fn hold(&self, handle: Handle, kind: Kind) -> Hold {
        let held = self.family.hold(handle, kind);
        held.expect("held by the survivor")
    }

    pub(super) fn objects(&self) -> Objects {
        self.family.objects().expect("registered")
    }

    /// Puts a message that is so many times its tag, if there is room for it.
    pub(super) fn put(&self, len: usize, blocks: usize, handles: usize) {
        self.put_waiting(len, blocks, &vec![self.names.inner; handles]);
    }

    /// Puts a message with handles of objects that this process holds.
    pub(super) fn put_handles(&self, handles: &[Handle]) {
        self.put_waiting(10, 0, handles);
    }

    fn put_waiting(&self, len: usize, blocks: usize, handles: &[Handle]) {
        self.put_by(len, blocks, handles, is_put_waiting);
    }

    /// Gets a message and sends its blocks on as another one.
    pub(super) fn get_and_send_on(&self) {
        let mut received = Vec::new();
        if self
            .get_by(get_waiting, |block| received.push(block))
            .is_none()
        {
            return;
        }
        let blocks = self.family.blocks().expect("registered");
        let mark = |tag| {
            for &block in &received {
                let bytes = blocks.bytes(block).expect("a good block");
                bytes.write(0, &[tag as u8; BLOCK]);
            }
            received.clone()
        };
        self.put_made(10, mark, &[], is_put_waiting);
    }

    fn put_by(
        &self,
        len: usize,
        blocks: usize,
        handles: &[Handle],
        put: impl FnOnce(&Ring, &Outgoing<'_>) -> bool,
    ) {
        let make = |tag| (0..blocks).map(|_| self.block(tag)).collect();
        self.put_made(len, make, handles, put);
    }

    fn put_made(
        &self,
        len: usize,
        make: impl FnOnce(u64) -> Vec<BlockRef>,
        handles: &[Handle],
        put: impl FnOnce(&Ring, &Outgoing<'_>) -> bool,
    ) {
        let tag = self.note(|journal| {
            journal.senders.push(self.who);
            journal.senders.len() as u64
        });
        let hold = self.hold(self.names.queue, Kind::Ring);
        let blocks = make(tag);
        self.family.send(handles).expect("held");
        let message = Outgoing {
            kind: 1,
            tag,
            blocks: &blocks,
            handles,
            payload: &vec![tag as u8; len],
        };
        if put(&hold.ring().expect("a ring"), &message) {
            self.note(|journal| journal.put.push(tag));
        } else {
            blocks.iter().for_each(|&block| self.family.discard(block));
            self.family.unsend(handles);
        }
    }

    fn block(&self, tag: u64) -> BlockRef {
        let taken = self.family.take_block(BLOCK as u64).expect("room");
        let blocks = self.family.blocks().expect("registered");
        blocks
            .fill(&taken, 0, &[tag as u8; BLOCK])
            .expect("inside its block");
        taken.block
    }

    /// Gets a message, if there is one, as a worker does, and checks that it is whole.
    pub(super) fn get(&self) -> Option<u64> {
        self.get_by(get_waiting, |block| self.family.discard(block))
    }

    /// Gets a message as [`Actor::get`] does, and keeps its blocks.
    pub(super) fn get_and_keep(&self) -> Vec<Hold> {
        let mut kept = Vec::new();
        self.get_by(get_waiting, |block| {
            let hold = self.family.keep(block).expect("received");
            let bytes = hold.memory().expect("memory");
            let expected = self.family.blocks().expect("registered").bytes(block);
            let expected = expected.expect("a good block");
            let place = |bytes: Bytes| (bytes.offset(), bytes.len());
            assert_eq!(place(bytes), place(expected), "the very bytes");
            kept.push(hold);
        });
        kept
    }

    fn get_by(
        &self,
        get: impl FnOnce(&Hold, &mut Message, Option<&Row>) -> bool,
        finish: impl FnMut(BlockRef),
    ) -> Option<u64> {
        let hold = self.hold(self.names.queue, Kind::Ring);
        let group = self.hold(self.names.group, Kind::Group);
        let rows = group.rows().expect("a group");
        let row = rows.get(self.who as usize).copied();
        let mut message = Message::default();
        self.note(|journal| journal.getting.push(self.who));
        let has_one = get(&hold, &mut message, row);
        self.note(|journal| journal.getting.retain(|&who| who != self.who));
        has_one.then(|| self.unpack(&message, finish))
    }

    fn unpack(&self, message: &Message, mut finish: impl FnMut(BlockRef)) -> u64 {
        let tag = message.header.tag;
        self.note(|journal| journal.got.push((self.who, tag)));
        let is_whole = |bytes: &[u8]| bytes.iter().all(|&byte| byte == tag as u8);
        assert!(is_whole(&message.payload), "a torn message");
        let blocks = self.family.blocks().expect("registered");
        for &block in &message.blocks {
            let mut bytes = Vec::new();
            let view = blocks.bytes(block).expect("a good block");
            view.append_to(0, view.len(), &mut bytes).expect("inside");
            assert!(bytes.len() == BLOCK && is_whole(&bytes), "a torn block");
            finish(block);
        }
        let held = self.family.receive(&message.handles).expect("in flight");
        assert!(held.iter().all(|hold| hold.check().is_ok()));
        tag
    }

    /// As [`Actor::put`], but gives up where it would have to wait for a lock.
    pub(super) fn try_put(&self, len: usize, blocks: usize, handles: usize) {
        let handles = vec![self.names.inner; handles];
        self.put_by(len, blocks, &handles, |ring, message| {
            let mut region = None;
            let mut outcome = ring.try_put(message, &mut region).expect("sound");
            if let Put::NeedsRegion(bytes) = outcome {
                let mut taken = ring.blocks.take(bytes).expect("room");
                taken.block.len = bytes;
                region = Some(taken);
                outcome = ring.try_put(message, &mut region).expect("sound");
            }
            if let Some(unused) = region {
                ring.blocks.free(unused.block);
            }
            outcome == Put::Done
        });
    }

    /// As [`Actor::get`], but gives up where it would have to wait for a lock.
    pub(super) fn try_get(&self) -> Option<u64> {
        let get = |queue: &Hold, message: &mut Message, row: Option<&Row>| {
            let ring = queue.ring().expect("a ring");
            ring.try_get(message, row) == Ok(Get::Done)
        };
        self.get_by(get, |block| self.family.discard(block))
    }

    /// Opens a producer, says how things go on with it, and closes it.
    pub(super) fn produce(&self, and: impl FnOnce()) {
        let hold = self.hold(self.names.queue, Kind::Ring);
        let producer = self.family.open_producer(&hold).expect("room");
        and();
        let ring = producer.ring().expect("its own");
        assert_eq!(ring.is_over(), Ok(false), "a producer is open");
    }

    pub(super) fn mark_done(&self) -> bool {
        let hold = self.hold(self.names.queue, Kind::Ring);
        hold.ring().expect("a ring").mark_done()
    }

    pub(super) fn close(&self) {
        let hold = self.hold(self.names.queue, Kind::Ring);
        hold.ring().expect("a ring").close();
    }

    /// Asks to be told of messages and of room, and is not there to be told.
    pub(super) fn poll(&self) {
        let hold = self.hold(self.names.queue, Kind::Ring);
        let ring = hold.ring().expect("a ring");
        let mut tick = || true;
        for event in [Event::Message, Event::Room] {
            let poller = Poller::new(ring.me(), event as u32);
            let mut patience = Patience::new(Deadline::PASSED, &mut tick);
            ring.arm(event, poller, &mut patience).expect("room for it");
        }
    }

    /// Takes the lock, whoever died with it, and changes the value under it.
    pub(super) fn use_the_lock(&self) {
        let hold = self.hold(self.names.lock, Kind::Lock);
        let mut tick = || true;
        let acquired = hold.acquire(&mut Patience::new(Deadline::PASSED, &mut tick));
        assert!(
            matches!(acquired, Ok(Ok(_))),
            "{:?} finds {acquired:?}",
            self.who
        );
        let lock = hold.lock().expect("a lock");
        let me = self.family.me().expect("registered");
        let thread = 1 + self.who as u64;
        assert!(!lock.is_held_by(me, thread), "not entered yet");
        lock.enter(thread);
        assert!(lock.reenter(me, thread));
        self.change_the_value();
        assert_eq!(lock.leave(me, thread), Some(false));
        assert_eq!(lock.leave(me, thread), Some(true));
    }

    /// Takes the lock that is refused after a death, repaired if need be.
    pub(super) fn repair_and_use_the_lock(&self) {
        let hold = self.hold(self.names.refusing, Kind::Lock);
        let lock = hold.lock().expect("a lock");
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::PASSED, &mut tick);
        let acquired = hold.acquire(&mut patience).expect("a lock");
        match acquired.expect("nobody who lives has it") {
            Acquired::Clean => assert!(lock.release()),
            Acquired::Refused(_) => {
                let acquired = hold.acquire_to_repair(&mut patience).expect("a lock");
                assert!(matches!(acquired, Ok(Acquired::HolderDied(_))));
                lock.leave_unrepaired();
                lock.release();
                let acquired = hold.acquire_to_repair(&mut patience).expect("a lock");
                assert!(matches!(acquired, Ok(Acquired::HolderDied(_))));
                assert!(lock.release());
            }
            Acquired::HolderDied(pid) => panic!("taken in spite of the death of {pid}"),
        }
    }

    /// Takes all tokens of the semaphore, and gives them back.
    pub(super) fn hold_all_tokens(&self) {
        let hold = self.hold(self.names.semaphore, Kind::Semaphore);
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::PASSED, &mut tick);
        for n in 0..TOKENS {
            let held = hold.hold_token(&mut patience).expect("room");
            assert_eq!(held, Ok(()), "{:?} finds {n} tokens", self.who);
        }
        let shares = hold.semaphore_shares().expect("a semaphore");
        assert_eq!(shares.hold_at_once(), Ok(Some(false)), "one too many");
        for _ in 0..TOKENS {
            assert_eq!(shares.give_back_at_once(), Ok(Some(true)));
        }
    }

    /// Reads, twice at a time, and writes, under the reader-writer lock.
    pub(super) fn read_and_write(&self) {
        let hold = self.hold(self.names.rw_lock, Kind::RwLock);
        let shares = hold.rw_lock().expect("a reader-writer lock");
        let mut tick = || true;
        let mut patience = Patience::new(Deadline::PASSED, &mut tick);
        let mut enter = |access| {
            let entered = hold.enter(access, &mut patience).expect("room");
            assert!(entered.is_ok(), "{:?}: {access:?} {entered:?}", self.who);
        };
        enter(Access::Read);
        enter(Access::Read);
        assert_eq!(shares.leave_at_once(Access::Read), Ok(Some(true)));
        assert_eq!(shares.leave_at_once(Access::Read), Ok(Some(true)));
        enter(Access::Write);
        assert_eq!(shares.leave_at_once(Access::Write), Ok(Some(true)));
    }

    fn change_the_value(&self) {
        let hold = self.hold(self.names.value, Kind::Memory);
        let bytes = hold.memory().expect("memory");
        let cell = Cell::new(self.family.heap(), bytes).expect("long enough");
        let mut value = Vec::new();
        cell.read(&mut value).expect("sound");
        let first = value.first().copied().unwrap_or(0);
        let is_whole = value.is_empty() || value.len() == VALUE;
        assert!(
            is_whole && value.iter().all(|&byte| byte == first),
            "a torn value: {value:?}"
        );
        assert_eq!(cell.write(&[first.wrapping_add(1); VALUE]), Ok(true));
    }

    /// Waits for a notification and sends one. It goes to this process, or to one that has died waiting or before it
    /// had taken it, and then to this one; or this one has already what such a process was notified of.
    pub(super) fn wait_and_notify(&self) {
        let hold = self.hold(self.names.condition, Kind::Condition);
        let condition = hold.condition().expect("a condition");
        let place = self.join(&hold);
        let _ = at_once(|patience| hold.notify(1, patience)).expect("sound");
        if !condition.take(place) {
            self.family.reap_dead(true);
            let who = self.who;
            assert!(condition.take(place), "a notification is lost for {who:?}");
        }
    }

    /// Waits, and passes on what it is notified of, or gives up.
    pub(super) fn wait_in_vain(&self) {
        let hold = self.hold(self.names.condition, Kind::Condition);
        let condition: Condition = hold.condition().expect("a condition");
        let places = [self.join(&hold), self.join(&hold)];
        let _ = at_once(|patience| hold.notify(1, patience)).expect("sound");
        for place in places {
            let _ = at_once(|patience| condition.withdraw(place, patience)).expect("sound");
        }
    }

    /// Takes more places than there is room for in the object.
    pub(super) fn fill(&self, condition: &Hold) {
        let places = [(); 41].map(|()| self.join(condition));
        let condition = condition.condition().expect("a condition");
        assert!(
            places.into_iter().all(|place| {
                at_once(|patience| condition.withdraw(place, patience)) == Ok(Ok(0))
            })
        );
    }

    /// Waits for a notification that it has, for one that it has not, and for others at the barrier; then it is
    /// gone.
    pub(super) fn die_waiting(&self) {
        let condition = self.hold(self.names.condition, Kind::Condition);
        let _places = [self.join(&condition), self.join(&condition)];
        let told = at_once(|patience| condition.notify(1, patience));
        assert_eq!(told, Ok(Ok(1)));
        let hold = self.hold(self.names.barrier, Kind::Barrier);
        let barrier = hold.barrier().expect("a barrier");
        let arrival = at_once(|patience| barrier.arrive(false, patience));
        assert!(matches!(arrival, Ok(Ok(Arrival::Waits(..)))));
        std::mem::forget((condition, hold));
    }

    fn join(&self, condition: &Hold) -> Place {
        let joined = at_once(|patience| condition.join_condition(patience));
        joined.expect("room").expect("its turn")
    }

    /// Empties the barrier, comes to it twice, and passes.
    pub(super) fn meet(&self) {
        let hold = self.hold(self.names.barrier, Kind::Barrier);
        let barrier = hold.barrier().expect("a barrier");
        let come = || {
            let arrival = at_once(|patience| barrier.arrive(true, patience));
            arrival.expect("sound").expect("its turn")
        };
        assert_eq!(at_once(|patience| barrier.reset(patience)), Ok(Ok(())));
        let Arrival::Waits(place, 0) = come() else {
            panic!("{:?} is not the first to come", self.who);
        };
        let Arrival::Acts(action) = come() else {
            panic!("{:?} is not the last to come", self.who);
        };
        let finished = at_once(|patience| barrier.finish(action, patience));
        assert_eq!(finished, Ok(Ok(true)), "{:?} has met itself", self.who);
        let met = at_once(|patience| barrier.sleep(place, 0, patience, || ()));
        assert_eq!(met, Ok(Ok(Met::All(0))));
    }

    /// Comes to the barrier, and does not wait.
    pub(super) fn break_the_barrier(&self) {
        let hold = self.hold(self.names.barrier, Kind::Barrier);
        let met = at_once(|patience| hold.meet(false, patience)).expect("sound");
        assert!(met.is_ok(), "nobody has interrupted it");
    }

    /// Replaces a value of the map that has a block and a handle, and removes it again if it is there.
    pub(super) fn change_the_map(&self) {
        let (family, map) = (self.family, self.hold(self.names.map, Kind::Map));
        let fill = 1 + self.who as u8;
        maps::set(family, &map, b"a", fill, 1, &[self.names.inner]);
        maps::set(family, &map, b"b", fill, 0, &[]);
        maps::get(family, &map, b"a");
        maps::remove(&map, b"a");
    }

    /// Keeps bytes with the group, as a pool does with its functions, and drops some of them.
    pub(super) fn store_and_discard(&self) {
        let group = self.hold(self.names.group, Kind::Group);
        let kept = [100, 9_000].map(|len| self.family.store(&group, &vec![1; len]).expect("room"));
        kept.iter().for_each(|&block| self.family.discard(block));
    }
}
