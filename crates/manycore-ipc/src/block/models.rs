//! Blocks in every order of two or three processes' steps.

use super::allocator::Taken;
use super::table::State;
use super::{BlockRef, Blocks};
use crate::crash::{for_every_death, run_and_count};
use crate::heap::header::create_with;
use crate::heap::layout::LEAST;
use crate::model::{Model, spawn};
use crate::registry::OwnerId;

const OBJECT: u32 = 7;
const PLACE: u64 = 64;

/// The same allocator on behalf of three processes, with two blocks of a page on its list.
fn allocator() -> [Blocks; 3] {
    let heap = create_with(LEAST).expect("a small heap");
    let all = [0x1001, 0x1002, 0x1003].map(|owner| Blocks::new(heap, OwnerId::from_bits(owner)));
    let taken = [(); 2].map(|()| all[0].take(1).expect("room"));
    taken.iter().for_each(|taken| all[0].free(taken.block));
    all[0].collect_returned_now();
    all
}

/// Takes a block and writes into it, which nobody else may do then.
fn take(blocks: Blocks) -> BlockRef {
    let taken = blocks.take(1).expect("room");
    write(blocks, &taken);
    taken.block
}

fn write(blocks: Blocks, taken: &Taken) {
    let mark = blocks.me.bits().to_le_bytes();
    let mut seen = [0; 4];
    let bytes = blocks.bytes(BlockRef {
        len: 4,
        ..taken.block
    });
    let bytes = bytes.expect("inside");
    bytes.write(0, &mark);
    bytes.read(0, &mut seen).expect("inside");
    assert_eq!(seen, mark, "another one has the same block");
}

fn state_of(blocks: Blocks, block: BlockRef) -> State {
    blocks.run(u64::from(block.page)).expect("sound").state
}

#[test]
#[ignore = "a model"]
fn two_that_take_and_free_at_once_never_have_the_same_block() {
    let [one, two, three] = allocator();
    Model::with_interruptions(2).explore(move || {
        let other = spawn(move || two.free(take(two)));
        one.free(take(one));
        other.join();
        assert_eq!(three.audit(), []);
    });
}

#[test]
#[ignore = "a model"]
fn what_is_freed_while_others_collect_is_listed_once() {
    let [one, two, three] = allocator();
    let (first, second) = (
        one.take(1).expect("room").block,
        two.take(1).expect("room").block,
    );
    Model::with_interruptions(3).explore(move || {
        let other = spawn(move || two.free(second));
        let collector = spawn(move || three.collect_returned_now());
        one.free(first);
        other.join();
        collector.join();
        assert_eq!(three.audit(), []);
    });
}

#[test]
#[ignore = "a model"]
fn a_block_that_two_would_free_is_freed_once() {
    let [one, two, three] = allocator();
    let block = one.take(1).expect("room").block;
    assert_eq!(one.bind(block, OBJECT, PLACE, one.me), Ok(true));
    Model::with_interruptions(4).explore(move || {
        let other = spawn(move || two.free_if_bound(block, OBJECT, PLACE));
        one.free(block);
        other.join();
        assert_eq!(three.audit(), []);
    });
}

#[test]
#[ignore = "a model"]
fn what_a_sender_wrote_is_what_a_receiver_reads() {
    let [one, two, three] = allocator();
    let taken = one.take(1).expect("room");
    let block = taken.block;
    Model::with_interruptions(4).explore(move || {
        let receiver = spawn(move || {
            let is_there = |run: super::table::Run| run.state == State::InFlight;
            if two.change(block, is_there, State::Held, two.me) != Ok(true) {
                return false;
            }
            let mut seen = [0; 4];
            let bytes = two.bytes(BlockRef { len: 4, ..block }).expect("inside");
            bytes.read(0, &mut seen).expect("inside");
            assert_eq!(seen, one.me.bits().to_le_bytes());
            two.free(block);
            true
        });
        let bytes = one.bytes(BlockRef { len: 4, ..block }).expect("inside");
        bytes.write(0, &one.me.bits().to_le_bytes());
        assert_eq!(one.bind(block, OBJECT, PLACE, one.me), Ok(true));
        if !receiver.join() {
            assert_eq!(state_of(three, block), State::InFlight);
            three.free(block);
        }
        assert_eq!(three.audit(), []);
    });
}

#[test]
#[ignore = "a model"]
fn who_dies_while_it_takes_or_frees_keeps_nothing_from_another_at_work() {
    for_every_death(|stores, deaths| {
        let [one, two, three] = allocator();
        Model::with_interruptions(1).explore(move || {
            let mortal = spawn(move || {
                run_and_count(stores, deaths, || {
                    one.free(one.take(1).expect("room").block)
                });
            });
            let block = take(two);
            mortal.join();
            three.sweep(one.me, |_| ()).expect("sound");
            two.free(block);
            assert_eq!(three.audit(), []);
        });
    });
}

#[test]
#[ignore = "a model"]
fn a_block_is_not_taken_while_its_memory_is_given_back() {
    let [one, two, three] = allocator();
    let large = one.take(2 << 20).expect("room").block;
    one.free(large);
    one.collect_returned_now();
    Model::with_interruptions(2).explore(move || {
        let trimmer = spawn(move || one.trim_to(0).expect("sound"));
        let block = two.take(2 << 20).expect("there is more").block;
        assert_eq!(state_of(two, block), State::Filling);
        trimmer.join();
        assert_eq!(state_of(two, block), State::Filling);
        two.free(block);
        assert_eq!(three.audit(), []);
    });
}

#[test]
#[ignore = "a model"]
fn two_that_sweep_after_the_same_dead_process_free_each_block_once() {
    let [dead, one, two] = allocator();
    let _filling = dead.take(1).expect("room");
    Model::with_interruptions(2).explore(move || {
        let other = spawn(move || two.sweep(dead.me, |_| ()).expect("sound"));
        one.sweep(dead.me, |_| ()).expect("sound");
        other.join();
        // What one of them had returned, the other may have to list.
        one.sweep(two.me, |_| ()).expect("sound");
        assert_eq!(one.audit(), []);
    });
}
