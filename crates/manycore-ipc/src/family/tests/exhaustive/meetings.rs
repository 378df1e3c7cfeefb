//! A process is stopped in front of a load or store, others go on meanwhile, and then it dies there.
//!
//! The others run on a thread of their own and wait for nothing: what the stopped process has locked stays
//! locked until its end.

use super::operations::{
    a_full_queue, a_full_region, a_message_with_everything, go_on_beside, two_regions,
};
use super::*;
use crate::wait::patience::WAITS_IN_VAIN;
use std::sync::Arc;

type Deed = fn(&Actor);

/// What the first process does, and what others do beside it.
struct Meeting {
    name: &'static str,
    shape: Shape,
    before: fn(&World, &Actor),
    stopped: Deed,
    meanwhile: Deed,
}

fn put_some(actor: &Actor) {
    for n in 0..3 {
        actor.try_put(100, n % 2, n % 2);
    }
}

fn put_and_grow(actor: &Actor) {
    for _ in 0..3 {
        actor.try_put(6_000, 0, 0);
    }
}

fn get_all(actor: &Actor) {
    while actor.try_get().is_some() {}
}

fn get_all_and_close(actor: &Actor) {
    get_all(actor);
    actor.close();
    get_all(actor);
}

const MEETINGS: &[Meeting] = &[
    Meeting {
        name: "put with everything, and get",
        shape: operations::UNBOUNDED,
        before: a_message_with_everything,
        stopped: |actor| (0..2).for_each(|_| actor.put(100, 2, 1)),
        meanwhile: get_all,
    },
    Meeting {
        name: "put with growth, and get",
        shape: operations::UNBOUNDED,
        before: a_full_region,
        stopped: |actor| (0..2).for_each(|_| actor.put(9_000, 1, 1)),
        meanwhile: get_all,
    },
    Meeting {
        name: "put with growth, and close",
        shape: operations::UNBOUNDED,
        before: a_full_region,
        stopped: |actor| (0..2).for_each(|_| actor.put(9_000, 1, 1)),
        meanwhile: get_all_and_close,
    },
    Meeting {
        name: "put into a bounded queue, and get",
        shape: operations::BOUNDED,
        before: a_full_queue,
        stopped: |actor| {
            actor.get();
            (0..3).for_each(|_| actor.put(100, 0, 0));
        },
        meanwhile: get_all,
    },
    Meeting {
        name: "put into a ring of fixed size, and get",
        shape: operations::FIXED,
        before: a_full_queue,
        stopped: |actor| {
            actor.get();
            (0..3).for_each(|_| actor.put(100, 0, 0));
        },
        meanwhile: get_all,
    },
    Meeting {
        name: "get with everything, and put",
        shape: operations::UNBOUNDED,
        before: a_message_with_everything,
        stopped: get_all_waiting,
        meanwhile: put_some,
    },
    Meeting {
        name: "get and follow, and put with growth",
        shape: operations::UNBOUNDED,
        before: two_regions,
        stopped: get_all_waiting,
        meanwhile: put_and_grow,
    },
    Meeting {
        name: "get from a bounded queue, and put",
        shape: operations::BOUNDED,
        before: a_full_queue,
        stopped: get_all_waiting,
        meanwhile: put_some,
    },
    Meeting {
        name: "get from a ring of fixed size, and put",
        shape: operations::FIXED,
        before: a_full_queue,
        stopped: get_all_waiting,
        meanwhile: put_some,
    },
    Meeting {
        name: "get, and close",
        shape: operations::UNBOUNDED,
        before: two_regions,
        stopped: get_all_waiting,
        meanwhile: |actor| {
            put_some(actor);
            actor.close();
            put_some(actor);
        },
    },
    Meeting {
        name: "produce, and get",
        shape: operations::UNBOUNDED,
        before: |_, me| me.produce(|| me.put(100, 0, 0)),
        stopped: |actor| actor.produce(|| actor.put(100, 1, 1)),
        meanwhile: get_all,
    },
    Meeting {
        name: "get until the end, and look at it",
        shape: operations::UNBOUNDED,
        before: |_, me| me.produce(|| me.put(100, 0, 0)),
        stopped: get_all_waiting,
        meanwhile: get_all,
    },
    Meeting {
        name: "mark as done, and put",
        shape: operations::UNBOUNDED,
        before: a_message_with_everything,
        stopped: |actor| {
            while actor.get().is_some() {
                assert!(actor.mark_done());
            }
        },
        meanwhile: put_some,
    },
];

fn get_all_waiting(actor: &Actor) {
    while actor.get().is_some() {}
}

#[test]
fn whatever_others_do_beside_a_process_that_dies_then_is_found_in_order() {
    let mut rounds = 0_u64;
    for meeting in MEETINGS {
        let world = World::new();
        for cleans_first in [false, true] {
            for steps in 0.. {
                let scene = Scene::new(world.me, meeting.shape);
                (meeting.before)(&world, &scene.actor(Who::Survivor, world.me));
                let stopped = scene.actor(Who::First, world.member());
                let other = scene.actor(Who::Second, world.member());
                let meanwhile = move || {
                    let act = move || {
                        WAITS_IN_VAIN.set(true); // if for a lock: who has it is stopped
                        (meeting.meanwhile)(&other);
                    };
                    let outcome = std::thread::spawn(act).join();
                    outcome.expect("nothing is wrong for the others");
                };
                let finished = world
                    .corpse
                    .play(|| stopped_until_death(steps, meanwhile, || (meeting.stopped)(&stopped)));
                let what = format!("{steps} steps into `{}`", meeting.name);
                rounds += 1;
                go_on(&scene.actor(Who::Survivor, world.me), cleans_first);
                scene.check(&world, &what);
                if finished.is_some() {
                    break;
                }
            }
        }
    }
    println!("{rounds} meetings");
}

/// A process is stopped in front of some load or store of an operation; if it is in no engine lock, another
/// one goes on with everything, and then the first one does what `then` makes of it. Returns what came of that, and
/// whether the other one could act.
fn beside<R>(
    world: &World,
    operation: &Operation,
    then: impl FnOnce(Box<dyn FnOnce()>, &dyn Fn()) -> R,
    what: &str,
) -> (R, bool) {
    let registry = world.me.registry();
    let join = || {
        let family = Family::on(world.me.heap());
        let owner = registry.join_as(std::process::id()).expect("room");
        family.be(owner);
        (family, owner)
    };
    let scene = Arc::new(world.scene(operation));
    let ((first, first_owner), (second, second_owner)) = (join(), join());
    let (stopped, other) = (
        scene.actor(Who::First, first),
        scene.actor(Who::Second, second),
    );
    let shared = Arc::clone(&scene);
    let meanwhile = move || {
        if !shared.is_any_lock_held() {
            shared.note_others();
            let outcome = std::thread::spawn(move || go_on_beside(&other)).join();
            outcome.expect("nothing is wrong for the others");
        }
    };
    let outcome = then(Box::new(meanwhile), &|| (operation.run)(&stopped));
    for owner in [first_owner, second_owner] {
        registry.pretend_pid(owner, world.corpse.pid());
    }
    go_on(&scene.actor(Who::Survivor, world.me), false);
    let scene = Arc::into_inner(scene).expect("the others are gone");
    let have_others_acted = scene.have_others_acted();
    scene.check(world, what);
    (outcome, have_others_acted)
}

#[test]
fn a_process_that_is_stopped_anywhere_outside_of_locks_and_dies_there_leaves_nothing() {
    let mut rounds = 0_u64;
    for operation in OPERATIONS {
        let world = World::of(operation.heap);
        for steps in 0.. {
            let what = format!("{steps} steps into `{}`, and dead", operation.name);
            let (finished, have_others_acted) = beside(
                &world,
                operation,
                |others, run| {
                    world
                        .corpse
                        .play(|| stopped_until_death(steps, others, run))
                },
                &what,
            );
            rounds += u64::from(have_others_acted);
            if finished.is_some() {
                break;
            }
        }
    }
    println!("{rounds} processes were stopped and died");
    assert!(rounds > 2_000, "{rounds}");
}

#[test]
fn a_process_that_is_stopped_anywhere_outside_of_locks_and_goes_on_harms_nobody() {
    let mut rounds = 0_u64;
    // Who joins or is forked here plays a dead process.
    let of_one_process = |it: &&Operation| !["fork", "join and leave"].contains(&it.name);
    for operation in OPERATIONS.iter().filter(of_one_process) {
        let world = World::of(operation.heap);
        for steps in 0.. {
            let what = format!("{steps} steps into `{}`, and on", operation.name);
            let (((), was_stopped), have_others_acted) = beside(
                &world,
                operation,
                |others, run| interrupted(steps, others, run),
                &what,
            );
            rounds += u64::from(have_others_acted);
            if !was_stopped {
                break;
            }
        }
    }
    println!("{rounds} processes were stopped and went on");
    assert!(rounds > 2_000, "{rounds}");
}
