//! A process is stopped in front of a store, others go on meanwhile, and then it dies there.
//!
//! The others run on a thread of their own and wait for nothing: what the stopped process has locked stays
//! locked until its end.

use super::operations::{a_full_queue, a_full_region, a_message_with_everything, two_regions};
use super::*;

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
            for stores in 0.. {
                let scene = Scene::new(world.me, meeting.shape);
                (meeting.before)(&world, &scene.actor(Who::Survivor, world.me));
                let stopped = scene.actor(Who::First, world.member());
                let other = scene.actor(Who::Second, world.member());
                let meanwhile = move || {
                    let outcome = std::thread::spawn(move || (meeting.meanwhile)(&other)).join();
                    outcome.expect("nothing is wrong for the others");
                };
                let finished = world.corpse.play(|| {
                    stopped_until_death(stores, meanwhile, || (meeting.stopped)(&stopped))
                });
                let what = format!("{stores} stores into `{}`", meeting.name);
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
