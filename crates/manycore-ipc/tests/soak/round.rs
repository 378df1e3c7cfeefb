//! One queue, its members, and their deaths.

use std::cell::Cell;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use manycore_ipc::ring::position::Position;
use manycore_ipc::ring::{Ring, Shape};
use manycore_ipc::{Family, Hold};
use manycore_os::{Deadline, clock, process};

use crate::account::{self, Account, Stock};
use crate::burden::Burden;
use crate::errand;
use crate::execution::Way;
use crate::journal::Journal;
use crate::member::{Member, Role};
use crate::parcel::scramble;
use crate::places;
use crate::report::{EARLY_STEPS, Report};
use crate::watchdog;

/// What bounds a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    Nothing,
    Messages(u64),
    /// A region that does not grow.
    Bytes(u64),
}

/// A queue and how many work on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crew {
    pub(crate) producers: usize,
    pub(crate) consumers: usize,
    pub(crate) bound: Bound,
}

impl Crew {
    pub(crate) fn seats(self) -> usize {
        self.producers + self.consumers
    }

    fn role(self, seat: usize) -> Role {
        if seat < self.producers {
            Role::Producer
        } else {
            Role::Consumer
        }
    }
}

/// See the module.
pub(crate) struct Round {
    pub(crate) family: &'static Family,
    pub(crate) shape: Crew,
    pub(crate) queue: Hold,
    pub(crate) group: Hold,
    pub(crate) lock: Hold,
    pub(crate) journal: Journal,
    pub(crate) members: Vec<Member>,
    account: Account,
    stock: Stock,
    first_epoch: u64,
    names: u32,
    chance: Cell<u64>,
}

impl Round {
    pub(crate) fn begin(family: &'static Family, shape: Crew) -> Self {
        let stock = Stock::of(family);
        let group = family.make_group(shape.seats() as u32).unwrap();
        let unbounded = Shape {
            group: Some(group.handle().index),
            ..Shape::unbounded()
        };
        let queue = family.make_ring(match shape.bound {
            Bound::Nothing => unbounded,
            Bound::Messages(max_messages) => Shape {
                max_messages,
                ..unbounded
            },
            Bound::Bytes(capacity) => Shape {
                capacity,
                grows: false,
                ..unbounded
            },
        });
        let mut round = Self {
            family,
            shape,
            queue: queue.unwrap(),
            group,
            lock: family.make_lock().unwrap(),
            journal: Journal::new(family, shape.seats()),
            members: Vec::new(),
            account: Account::default(),
            stock,
            first_epoch: 0,
            names: 0,
            chance: Cell::new(process::random()),
        };
        round.first_epoch = round.epoch();
        for seat in 0..shape.seats() {
            let member = round.start(seat, Burden::default());
            round.members.push(member);
        }
        watchdog::look_at(&round);
        round
    }

    fn start(&mut self, seat: usize, burden: Burden) -> Member {
        self.names += 1;
        Member::start(self, self.shape.role(seat), seat, self.names, burden)
    }

    /// The queue.
    pub(crate) fn ring(&self) -> Ring {
        self.queue.ring().unwrap()
    }

    /// A random number below `end`.
    fn draw(&self, end: u64) -> u64 {
        let next = self.chance.get().wrapping_add(1);
        self.chance.set(next);
        scramble(next) % end
    }

    /// Lets some time pass.
    pub(crate) fn pass(&self, at_most: Duration) {
        let until = Deadline::after(Duration::from_nanos(self.draw(at_most.as_nanos() as u64)));
        while !until.has_passed() {
            std::thread::park_timeout(until.remaining_within(at_most));
        }
    }

    /// Which engine lock a thread is in.
    pub(crate) fn lock_held_by(&self, tid: u32) -> Option<&'static str> {
        let (ring, header) = (self.ring(), self.family.heap().header());
        let locks = [
            ("the put lock", &ring.body().put.lock),
            ("the get lock", &ring.body().get.lock),
            ("the lock of the blocks", &header.allocator.lock),
            ("the lock of the objects", &header.objects.lock),
        ];
        locks
            .into_iter()
            .find(|(_, lock)| lock.owner() == Some(tid))
            .map(|(name, _)| name)
    }

    /// Gives the member in a seat a burden: another takes its place.
    pub(crate) fn burden(&mut self, seat: usize, burden: Burden) {
        Way::Kill.carry_out(&mut self.members[seat]);
        self.replace(seat, burden);
    }

    /// Something happens to a random member, once there are others of each role at work.
    pub(crate) fn strike(&mut self, way: Way, report: &mut Report) {
        let victim = self.draw(self.shape.seats() as u64) as usize;
        let spared = self.shape.seats() - 2; // one of each role, the rest may die over the repair
        let more = match way {
            Way::KillMany | Way::AtPlace => self.draw(spared as u64) as usize,
            _ => 0,
        };
        let victims = self.victims(victim, more);
        if way == Way::AtPlace {
            self.arm(&victims);
        }
        self.strike_at(&victims, way, report);
    }

    /// Has these members die by themselves: others take their places, each with a plan.
    fn arm(&mut self, victims: &[usize]) {
        for &victim in victims {
            let place = places::choose(self.shape.role(victim), self.draw(u64::MAX));
            self.burden(victim, Burden::at(place));
        }
    }

    /// This one and up to so many more, but not all of a role.
    fn victims(&self, first: usize, more: usize) -> Vec<usize> {
        let mut victims = vec![first];
        for _ in 0..more {
            let next = self.draw(self.shape.seats() as u64) as usize;
            let role = self.shape.role(next);
            let others = self.survivors(role, &victims).filter(|&seat| seat != next);
            if others.count() > 0 && !victims.contains(&next) {
                victims.push(next);
            }
        }
        victims
    }

    pub(crate) fn strike_at(&mut self, victims: &[usize], way: Way, report: &mut Report) {
        watchdog::expect(format!("others than {victims:?} at work before {way:?}"));
        for role in [Role::Producer, Role::Consumer] {
            self.until(|round| {
                let mut survivors = round.survivors(role, victims);
                survivors.any(|seat| round.is_at_work(seat))
            });
        }
        self.pass(Duration::from_millis(2));
        watchdog::expect(format!("{way:?} of {victims:?}"));
        let lock = way.prepare(self, &self.members[victims[0]]);
        report.count(format!("{way:?}"), 1);
        if let Some(lock) = lock {
            report.count(format!("{way:?} in {lock}"), 1);
        }
        let (asked, since) = (self.journal.ask(), clock::now_ns());
        for (n, &victim) in victims.iter().enumerate() {
            if n > 0 {
                self.pass(Duration::from_micros(200)); // for the others to begin the repair
                report.count("killed over the repair", 1);
            }
            way.carry_out(&mut self.members[victim]);
        }
        if way.is_deadly() && way != Way::AtPlace {
            report.death(Duration::from_nanos(clock::now_ns() - since));
            self.count_early_steps(victims, asked, report);
        }
        let (asked, since) = (self.journal.ask(), clock::now_ns());
        for role in [Role::Producer, Role::Consumer] {
            watchdog::expect(format!("a step of a {role:?} after {way:?} of {victims:?}"));
            let pause = self.first_step(role, victims, asked, since);
            // Who dies by itself may have died long before it is confirmed.
            if way != Way::AtPlace && (way.is_deadly() || lock.is_some()) {
                report.pause(role, pause);
            }
        }
        if way.is_deadly() {
            for &victim in victims {
                self.replace(victim, Burden::default());
            }
        }
    }

    /// Who went on although the death was not confirmed yet.
    fn count_early_steps(&self, victims: &[usize], asked: u64, report: &mut Report) {
        for role in [Role::Producer, Role::Consumer] {
            let went_on = self.first_answer(role, victims, asked).is_some();
            report.count(EARLY_STEPS, u64::from(went_on));
        }
    }

    /// How long it took until a survivor of this role made a step.
    fn first_step(&self, role: Role, victims: &[usize], asked: u64, since: u64) -> Duration {
        self.until(|round| round.first_answer(role, victims, asked).is_some());
        let step = self.first_answer(role, victims, asked).unwrap();
        Duration::from_nanos(step.saturating_sub(since))
    }

    fn first_answer(&self, role: Role, victims: &[usize], asked: u64) -> Option<u64> {
        let survivors = self.survivors(role, victims);
        survivors
            .filter_map(|seat| self.journal.seat(seat).answer(asked))
            .min()
    }

    fn replace(&mut self, seat: usize, burden: Burden) {
        watchdog::expect(format!("the account of {seat}"));
        let (role, name) = (self.members[seat].role, self.members[seat].name);
        match role {
            Role::Producer => self.account.bury_producer(&self.journal, seat),
            Role::Consumer => {
                let was_buried = account::last_take(self, seat, name);
                self.account.buried += u64::from(was_buried);
            }
        }
        self.members[seat] = self.start(seat, burden);
        watchdog::look_at(self);
    }

    fn survivors(&self, role: Role, victims: &[usize]) -> impl Iterator<Item = usize> {
        let shape = self.shape;
        (0..shape.seats()).filter(move |seat| shape.role(*seat) == role && !victims.contains(seat))
    }

    pub(crate) fn is_at_work(&self, seat: usize) -> bool {
        self.journal.seat(seat).steps() > 0
    }

    /// Looks again until something is so. The watchdog ends it otherwise.
    pub(crate) fn until(&self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            std::thread::park_timeout(Duration::from_micros(100));
        }
    }

    /// Lets everybody end in order and settles the accounts.
    pub(crate) fn finish(mut self, report: &mut Report) {
        watchdog::expect("the producers to end".to_owned());
        self.journal.end();
        self.join(Role::Producer);
        watchdog::expect("the consumers to end".to_owned());
        self.ring().close();
        self.join(Role::Consumer);
        watchdog::expect("the accounts".to_owned());
        self.account.settle(&self, report);
        errand::assert_nobody_has_a_turn(&self.journal, &self.lock);
        let epochs = self.epoch().wrapping_sub(self.first_epoch) & 0xffff;
        report.count("times that a queue grew", epochs);
        watchdog::forget();
        let Self {
            family,
            stock,
            queue,
            group,
            lock,
            journal,
            ..
        } = self;
        drop((queue, group, lock, journal));
        stock.assert_same_in(family);
    }

    /// How many regions the queue's place has had.
    fn epoch(&self) -> u64 {
        Position::from_bits(self.ring().body().put.position.load(Acquire)).epoch()
    }

    fn join(&mut self, role: Role) {
        for member in self.members.iter_mut().filter(|member| member.role == role) {
            let status = member.child.wait().unwrap();
            assert!(status.success(), "{role:?} {}: {status}", member.seat);
        }
    }
}
