//! Death in place of every store of every operation, and over the recovery from it.
//!
//! | module | what it is |
//! |---|---|
//! | [`scene`] | what the processes share, and what must be true of it in the end |
//! | [`meetings`] | what others do beside the first one before it dies |
//! | [`operations`] | what the first one does when it dies, and what a survivor does next |
//! | [`programs`] | sequences of operations by chance, with deaths, against a model |
//!
//! A round: the first process dies in an operation. The second goes on with other work, meets what the
//! first has left, and dies over it or after it. The third goes on and finds everything in order: each
//! message is whole and comes once and in order, or went with who was taking it and whose row says so; counters
//! and lists agree with what is there; nothing is held by the dead, and nothing that nobody holds is left.
//!
//! `MANYCORE_ALL_DEATHS=1` makes all pairs of deaths; otherwise each first one meets some of the second.

mod meetings;
mod operations;
mod programs;
mod scene;

use super::*;
use crate::crash::{LateDeath, run_until_death_with_late, stopped_until_death};
use crate::family::Hold;
use crate::wait::GaveUp;
use operations::{OPERATIONS, Operation, Part, go_on};
use scene::{Actor, Scene, Who};

/// Second deaths that each first one meets, about.
const SECOND_DEATHS: u64 = 5;

impl World {
    /// A process that has joined, and has not looked for the dead.
    fn member(&self) -> &'static Family {
        let family = Family::on(self.me.heap());
        let registry = self.me.registry();
        family.be(registry.join_as(self.corpse.pid()).expect("room"));
        family
    }

    fn scene(&self, operation: &Operation) -> Scene {
        let scene = Scene::new(self.me, operation.shape);
        (operation.before)(self, &scene.actor(Who::Survivor, self.me));
        scene
    }

    /// The rest of a round after the first death. Returns whether the second process lives.
    fn finish(&self, scene: Scene, second: u64, cleans_first: bool, what: &str) -> bool {
        let actor = scene.actor(Who::Second, self.member());
        let go_on_until_death = || run_until_death(second, || go_on(&actor, cleans_first));
        let lives = self.corpse.play(go_on_until_death).is_some();
        go_on(&scene.actor(Who::Survivor, self.me), cleans_first);
        scene.check(self, what);
        lives
    }
}

fn wants_all() -> bool {
    std::env::var_os("MANYCORE_ALL_DEATHS").is_some()
}

/// One in so many second deaths is made: all of them if the environment says so.
fn step_of_second_deaths(world: &World, operation: &Operation) -> u64 {
    if wants_all() {
        return 1;
    }
    let lives = |stores| world.finish(world.scene(operation), stores, false, "before");
    let stores = (0..).map(|power| 1 << power).find(|&stores| lives(stores));
    (stores.expect("it ends") / SECOND_DEATHS).max(1)
}

/// Returns how many pairs of deaths there were.
fn for_every_two_deaths(operation: &Operation) -> u64 {
    let world = World::of(operation.heap);
    let step = step_of_second_deaths(&world, operation);
    let mut rounds = 0;
    for cleans_first in [false, true] {
        for first in 0.. {
            let mut finished = false;
            // Another choice for each first death, so that all are met by some.
            for second in (first * 7 % step..).step_by(step as usize) {
                let scene = world.scene(operation);
                let actor = scene.actor(Who::First, world.member());
                let act_until_death = || run_until_death(first, || (operation.run)(&actor));
                finished = world.corpse.play(act_until_death).is_some();
                let what = format!(
                    "after {first} stores of `{}` and {second} of the recovery",
                    operation.name
                );
                rounds += 1;
                if world.finish(scene, second, cleans_first, &what) {
                    break;
                }
            }
            if finished {
                break;
            }
        }
    }
    rounds
}

fn all_of(part: Part) {
    let mut rounds = 0;
    for operation in OPERATIONS.iter().filter(|operation| operation.part == part) {
        let of_this = for_every_two_deaths(operation);
        println!("{of_this} pairs of deaths in `{}`", operation.name);
        rounds += of_this;
    }
    println!("{rounds} pairs of deaths of {part:?}");
}

#[test]
fn whatever_two_processes_die_over_in_a_queue_the_third_finds_in_order() {
    all_of(Part::Queues);
}

#[test]
fn whatever_two_processes_die_over_in_memory_the_third_finds_in_order() {
    all_of(Part::Memory);
}

#[test]
fn whatever_two_processes_die_over_in_objects_the_third_finds_in_order() {
    all_of(Part::Objects);
}

#[test]
fn whatever_two_processes_die_over_in_the_registry_the_third_finds_in_order() {
    all_of(Part::Processes);
}

/// Stores without an order become visible in any order, as far as the language says. One of them is kept
/// back, and the process dies after some that came later.
#[test]
fn no_repair_relies_on_the_order_of_two_stores_that_have_none() {
    let mut rounds = 0_u64;
    for operation in OPERATIONS {
        let world = World::of(operation.heap);
        for late in 0.. {
            let mut outcome = LateDeath::There;
            for then in 0.. {
                let scene = world.scene(operation);
                let actor = scene.actor(Who::First, world.member());
                outcome = world
                    .corpse
                    .play(|| run_until_death_with_late(late, then, || (operation.run)(&actor)));
                let what = format!(
                    "without store {late}, {then} stores later, of `{}`",
                    operation.name
                );
                rounds += 1;
                world.finish(scene, u64::MAX, false, &what);
                if outcome != LateDeath::There {
                    break;
                }
            }
            if outcome == LateDeath::Finished {
                break;
            }
        }
    }
    println!("{rounds} deaths with a store that came too late");
}
