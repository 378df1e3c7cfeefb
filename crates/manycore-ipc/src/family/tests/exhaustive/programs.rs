//! Programs of three processes, made by chance, of which two die now and then in the middle of a step, and
//! a model that says what may come of each step.

use proptest::prelude::*;

use super::*;
use crate::block::BlockRef;
use crate::family::Producer;

/// What a process does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put(usize, usize),
    Get,
    /// Gets a message and keeps its blocks.
    Keep,
    /// Sends an object that this process holds, and lets go of it.
    PassOn(usize),
    Make(usize),
    Attach(usize),
    LetGo(usize),
    Take(usize),
    GiveBack(usize),
    Acquire,
    Release,
    Open,
    Close,
    Fork,
    CleanUp,
    Trim,
}

/// A step, whose it is, and in place of which store it dies there.
type Turn = (usize, Step, Option<u64>);

fn turn() -> impl Strategy<Value = Turn> {
    let step = prop_oneof![
        3 => (0..9_000_usize, 0..3_usize).prop_map(|(len, blocks)| Step::Put(len, blocks)),
        4 => Just(Step::Get),
        2 => Just(Step::Keep),
        2 => (0..8_usize).prop_map(Step::PassOn),
        2 => (0..4_usize).prop_map(Step::Make),
        2 => (0..8_usize).prop_map(Step::Attach),
        2 => (0..8_usize).prop_map(Step::LetGo),
        2 => (1..60_000_usize).prop_map(Step::Take),
        2 => (0..8_usize).prop_map(Step::GiveBack),
        2 => Just(Step::Acquire),
        1 => Just(Step::Release),
        2 => Just(Step::Open),
        1 => Just(Step::Close),
        1 => Just(Step::Fork),
        1 => Just(Step::CleanUp),
        1 => Just(Step::Trim),
    ];
    let death = prop_oneof![3 => Just(None), 1 => (0..60_u64).prop_map(Some)];
    (0..3_usize, step, death)
}

/// A process of the program, and what it has. What a dead one had is forgotten, not dropped.
struct Player {
    actor: Actor,
    owner: OwnerId,
    holds: Vec<Hold>,
    producers: Vec<Producer>,
    blocks: Vec<(BlockRef, u8)>,
}

/// Who has the lock, and what its next owner may hear.
#[derive(Default)]
struct LockModel {
    holder: Option<usize>,
    must_report: bool,
    may_report: bool,
}

struct Program<'a> {
    world: &'a World,
    scene: Scene,
    players: [Option<Player>; 3],
    /// Handles of all objects that were made.
    made: Vec<(Handle, Kind)>,
    lock: LockModel,
    fill: u8,
}

impl<'a> Program<'a> {
    fn new(world: &'a World) -> Self {
        Self {
            world,
            scene: Scene::new(world.me, Shape::unbounded()),
            players: [None, None, None],
            made: Vec::new(),
            lock: LockModel::default(),
            fill: 0,
        }
    }

    /// The process in a place; where the last one has died, a new one.
    fn player(&mut self, place: usize) -> Player {
        if let Some(player) = self.players[place].take() {
            return player;
        }
        let (who, family) = match place {
            0 => (Who::First, Family::on(self.world.me.heap())),
            1 => (Who::Second, Family::on(self.world.me.heap())),
            _ => (Who::Survivor, self.world.me),
        };
        let owner = match who {
            Who::Survivor => family.me().expect("registered"),
            _ => {
                self.scene.clear_row_of(who);
                let registry = family.registry();
                let owner = registry.join_as(std::process::id()).expect("room");
                family.be(owner);
                owner
            }
        };
        Player {
            actor: self.scene.actor(who, family),
            owner,
            holds: Vec::new(),
            producers: Vec::new(),
            blocks: Vec::new(),
        }
    }

    fn take_turn(&mut self, (place, step, death): Turn) {
        let mut player = self.player(place);
        let stores = death.filter(|_| place < 2).unwrap_or(u64::MAX);
        let lived = run_until_death(stores, || self.step(place, &mut player, step));
        if lived.is_some() {
            self.players[place] = Some(player);
            return;
        }
        let registry = self.world.me.registry();
        registry.pretend_pid(player.owner, self.world.corpse.pid());
        std::mem::forget((player.holds, player.producers));
        match step {
            Step::Acquire if self.lock.holder.is_none() => self.lock.may_report = true,
            Step::Release if self.lock.holder == Some(place) => {
                self.lock.holder = None;
                self.lock.may_report = true;
            }
            _ if self.lock.holder == Some(place) => {
                self.lock.holder = None;
                self.lock.must_report = true;
            }
            _ => {}
        }
    }

    fn step(&mut self, place: usize, player: &mut Player, step: Step) {
        let actor = player.actor.clone();
        let family = actor.family;
        match step {
            Step::Put(len, blocks) => actor.put(len, blocks, len % 3),
            Step::Get => {
                let got = actor.get();
                let has_one = |it: &Player| !it.producers.is_empty();
                let must_go_on = has_one(player) || self.players.iter().flatten().any(has_one);
                if got.is_none() && must_go_on {
                    let queue = actor.hold(actor.names.queue, Kind::Ring);
                    assert_eq!(end_of(&queue), None, "a producer is open");
                }
            }
            Step::Open => {
                let queue = actor.hold(actor.names.queue, Kind::Ring);
                let opened = family.open_producer(&queue);
                player.producers.push(opened.expect("room"));
            }
            Step::Close => drop(player.producers.pop()),
            Step::Keep => {
                let kept = actor.get_and_keep();
                let named = kept.iter().map(|hold| (hold.handle(), hold.kind()));
                self.made.extend(named);
                player.holds.extend(kept);
            }
            Step::PassOn(n) if !player.holds.is_empty() => {
                let n = n % player.holds.len();
                actor.put_handles(&[player.holds[n].handle()]);
                drop(player.holds.swap_remove(n));
            }
            Step::Make(kind) => {
                let makers: [Maker; 4] = [
                    |family| family.make_ring(Shape::unbounded()),
                    |family| family.make_lock(),
                    |family| family.make_memory(10_000),
                    |family| family.make_group(70),
                ];
                let hold = makers[kind](family).expect("room");
                self.made.push((hold.handle(), hold.kind()));
                player.holds.push(hold);
            }
            Step::Attach(n) if !self.made.is_empty() => {
                let (handle, kind) = self.made[n % self.made.len()];
                let has_it = |it: &Player| it.holds.iter().any(|hold| hold.handle() == handle);
                let must_be = has_it(player) || self.players.iter().flatten().any(has_it);
                match family.hold(handle, kind) {
                    Ok(hold) => player.holds.push(hold),
                    Err(error) => assert!(!must_be, "{error} for what is held"),
                }
            }
            Step::LetGo(n) if !player.holds.is_empty() => {
                drop(player.holds.swap_remove(n % player.holds.len()));
                family.free_buried().expect("sound");
            }
            Step::Take(len) => {
                self.fill = self.fill.wrapping_add(1);
                let (taken, fill) = (family.take_block(len as u64).expect("room"), self.fill);
                let blocks = family.blocks().expect("registered");
                blocks.fill(&taken, 0, &vec![fill; len]).expect("inside");
                player.blocks.push((taken.block, fill));
            }
            Step::GiveBack(n) if !player.blocks.is_empty() => {
                let (block, fill) = player.blocks.swap_remove(n % player.blocks.len());
                let mut bytes = Vec::new();
                let view = family.blocks().expect("registered").bytes(block);
                let view = view.expect("a good block");
                view.append_to(0, view.len(), &mut bytes).expect("inside");
                assert!(bytes.iter().all(|&byte| byte == fill), "somebody else's");
                family.discard(block);
            }
            Step::Acquire => self.acquire(place, &actor),
            Step::Release if self.lock.holder == Some(place) => {
                let hold = actor.hold(actor.names.lock, Kind::Lock);
                assert!(hold.lock().expect("a lock").release());
                self.lock.holder = None;
            }
            Step::Fork => {
                let child = Family::on(family.heap());
                {
                    let counts = family.prepare_fork();
                    let reserved = family.reserved.load(Relaxed);
                    child.reserved.store(reserved, Relaxed);
                    drop(counts);
                }
                self.world.corpse.play(|| child.adopt_fork());
            }
            Step::CleanUp => {
                family.reap_dead(true);
                family.free_buried().expect("sound");
            }
            Step::Trim => {
                let blocks = family.blocks().expect("registered");
                blocks.trim_to(0).expect("sound");
            }
            Step::PassOn(_)
            | Step::Attach(_)
            | Step::LetGo(_)
            | Step::GiveBack(_)
            | Step::Release => {}
        }
    }

    fn acquire(&mut self, place: usize, actor: &Actor) {
        let hold = actor.hold(actor.names.lock, Kind::Lock);
        let mut tick = || true;
        let acquired = hold.acquire(&mut Patience::new(Deadline::PASSED, &mut tick));
        let acquired = acquired.expect("a lock");
        if self.lock.holder.is_some() {
            assert_eq!(acquired, Err(GaveUp::TimedOut), "it is held by the living");
            return;
        }
        match acquired {
            Ok(Acquired::Clean) => assert!(!self.lock.must_report, "a death was not reported"),
            Ok(Acquired::HolderDied(pid)) => {
                assert_eq!(pid, self.world.corpse.pid());
                let LockModel {
                    must_report,
                    may_report,
                    ..
                } = self.lock;
                assert!(must_report || may_report, "nobody has died with it");
            }
            other => panic!("{other:?}, and nobody has it"),
        }
        self.lock = LockModel {
            holder: Some(place),
            ..LockModel::default()
        };
    }

    /// All but the survivor end where they are, and everything is checked.
    fn end(mut self) {
        for player in self.players.iter_mut().flat_map(Option::take) {
            if player.actor.who != Who::Survivor {
                let registry = self.world.me.registry();
                registry.pretend_pid(player.owner, self.world.corpse.pid());
                std::mem::forget((player.holds, player.producers));
                continue;
            }
            for &(block, _) in &player.blocks {
                self.world.me.discard(block);
            }
            if self.lock.holder == Some(2) {
                let lock = player.actor.hold(player.actor.names.lock, Kind::Lock);
                assert!(lock.lock().expect("a lock").release());
            }
        }
        self.world.me.reap_dead(true);
        self.world.me.free_buried().expect("sound");
        self.scene.check(self.world, "at the end of the program");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn whatever_three_processes_do_and_whoever_dies_the_model_allows(
        turns in prop::collection::vec(turn(), 1..60)
    ) {
        let world = World::new();
        let mut program = Program::new(&world);
        for turn in turns {
            program.take_turn(turn);
            prop_assert!(program.scene.is_there(), "after {turn:?}");
        }
        program.end();
    }
}
