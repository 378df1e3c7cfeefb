use super::*;
use crate::family::{Hold, SourceWatch};
use crate::wait::GaveUp;

fn three_of(world: &World) -> ([Hold; 3], [Ring; 3]) {
    let holds = [(); 3].map(|()| world.me.make_ring(Shape::unbounded()).expect("room"));
    let rings = [0, 1, 2].map(|n| holds[n].ring().expect("a ring"));
    (holds, rings)
}

/// Looks without waiting, beginning with one of them.
fn look(world: &World, rings: &[Ring], first: usize) -> Result<usize, GaveUp> {
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::PASSED, &mut tick);
    world.me.wait_for_any(rings, first, &mut patience)
}

fn wait(world: &World, rings: &[Ring]) -> Result<usize, GaveUp> {
    let mut tick = || true;
    let mut patience = Patience::new(Deadline::NEVER, &mut tick);
    world.me.wait_for_any(rings, 0, &mut patience)
}

#[test]
fn the_first_ring_that_is_ready_is_found_in_turn() {
    let world = World::new();
    let (_holds, rings) = three_of(&world);
    assert_eq!(look(&world, &rings, 0), Err(GaveUp::TimedOut));
    assert_eq!(look(&world, &[], 0), Err(GaveUp::TimedOut));
    put(&rings[0], 1, 10, &[]);
    put(&rings[2], 1, 10, &[]);
    let found = [0, 1, 2, 3, 5].map(|first| look(&world, &rings, first));
    assert_eq!(found, [Ok(0), Ok(2), Ok(2), Ok(0), Ok(2)]);
    assert!(get(&rings[0]).is_some() && get(&rings[2]).is_some());
    rings[1].close();
    assert_eq!(look(&world, &rings, 2), Ok(1), "closed");
}

#[test]
fn whichever_ring_a_message_comes_to_wakes_who_waits_for_all() {
    let world = World::new();
    let (_holds, rings) = three_of(&world);
    for (n, ring) in rings.iter().enumerate() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !rings.iter().all(|ring| ring.items_bell().has_sleepers()) {
                    std::thread::yield_now();
                }
                put(ring, 1, 10, &[]);
            });
            assert_eq!(wait(&world, &rings), Ok(n));
            assert!(get(ring).is_some());
        });
    }
}

#[test]
fn a_stream_whose_process_was_killed_is_ready_while_others_go_on() {
    let world = World::new();
    let (holds, rings) = three_of(&world);
    let open = world.me.open_producer(&holds[0]).expect("room");
    let handle = holds[1].handle();
    let _ = world.play_member(u64::MAX, |family| {
        let held = family.hold(handle, Kind::Ring).expect("held by another");
        std::mem::forget((family.open_producer(&held).expect("room"), held));
    });
    assert_eq!(wait(&world, &rings), Ok(1));
    assert_eq!(end_of(&holds[1]), Some(()));
    drop(open);
    assert_eq!(look(&world, &rings, 0), Ok(0), "closed in order");
}

#[test]
fn who_watches_a_source_learns_that_its_holders_have_gone() {
    let world = World::new();
    let source = world.me.make_source().expect("room");
    let handle = source.handle();
    let watch = SourceWatch::on(handle);
    let is_over = || watch.is_over(world.me);
    assert_eq!((is_over(), is_over()), (Ok(false), Ok(false)));
    let _ = world.play_member(u64::MAX, |family| {
        std::mem::forget(family.hold(handle, Kind::Source).expect("held by another"));
    });
    drop(source);
    // The one that was seen has let go, and the other one is dead.
    assert_eq!((is_over(), is_over()), (Ok(true), Ok(true)));
    world.check(0, 0, "of the source");
    let next = world.me.make_source().expect("room");
    assert_eq!(next.handle().index, handle.index);
    assert_eq!(is_over(), Ok(true), "whatever comes to its place");
}

#[test]
fn a_source_in_a_message_is_not_over() {
    let world = World::new();
    let source = world.me.make_source().expect("room");
    let watch = SourceWatch::on(source.handle());
    world.me.send(&[source.handle()]).expect("held");
    drop(source);
    assert_eq!(watch.clone().is_over(world.me), Ok(false));
    world.me.unsend(&[watch.source()]);
    assert_eq!(watch.look(world.me, true), Ok(true));
}
