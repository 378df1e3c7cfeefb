//! The table and its lists agree, whatever died.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use super::class::{class_within, pages_of};
use super::growth::Hollow;
use super::lists::index_of;
use super::room::Room;
use super::table::{Run, State};
use super::{BlockRef, Blocks};
use manycore_os::mapping::PAGE;

use crate::crash::run_until_death;
use crate::error::AllocError;
use crate::heap::header::create_with;
use crate::heap::layout::LEAST;
use crate::registry::OwnerId;

const ME: u32 = 0x1001;
const DEAD: u32 = 0x1002;
const LATER: u32 = 0x1003;

impl Blocks {
    /// Checks that the lists name every free run once and nothing else. Returns the other runs.
    pub(crate) fn audit(&self) -> Vec<(u64, Run)> {
        let audited = self.locked(|this| {
            this.collect_returned().expect("sound");
            let (mut free, mut others, mut idle) = (HashMap::new(), Vec::new(), 0);
            let (mut backing, mut committed) = (0, 0);
            this.walk(|_, run| match run.state {
                State::Hollow => {}
                State::Backing => backing += run.pages,
                _ => committed += run.pages,
            })
            .expect("the runs tile the payload area");
            let counted = [&this.header().backing, &this.header().committed];
            let counted = counted.map(|word| word.load(Relaxed));
            assert_eq!(counted, [backing, committed], "pages backed, pages in use");
            this.walk(|page, run| match run.state {
                State::Free | State::Fresh | State::Hollow => {
                    idle += if run.state == State::Hollow {
                        0
                    } else {
                        run.pages
                    };
                    free.insert(page, (index_of(run.state), class_within(run.pages)));
                }
                _ => others.push((page, run)),
            })
            .expect("the runs tile the payload area");
            for (list, bins) in this.header().bins.iter().enumerate() {
                for (class, bin) in bins.iter().enumerate() {
                    let mut at = u64::from(bin.load(Relaxed));
                    while let Some(page) = at.checked_sub(1) {
                        assert_eq!(
                            free.remove(&page),
                            Some((list, class)),
                            "page {page} is listed wrongly or twice"
                        );
                        at = this.entry(page).expect("inside").link.load(Relaxed);
                    }
                }
            }
            assert!(free.is_empty(), "free, but on no list: {free:?}");
            assert_eq!(this.header().idle.load(Relaxed), idle);
            others
        });
        audited.expect("sound")
    }

    pub(crate) fn collect_returned_now(&self) {
        self.locked(Self::collect_returned)
            .expect("sound")
            .expect("sound");
    }

    /// Gives everything back that is free, so that the next who needs it has to grow the heap anew.
    pub(crate) fn make_hollow(&self) {
        let touched = self.locked(|this| {
            this.walk(|page, run| {
                if run.state == State::Fresh {
                    let free = Run::unowned(State::Free, run.pages).encode();
                    this.entry(page).expect("inside").state.store(free, Relaxed);
                }
            })?;
            this.rebuild()
        });
        touched.expect("sound").expect("sound");
        self.trim_to(0).expect("sound");
    }

    fn sweep_all(&self, dead: OwnerId) {
        self.sweep(dead, |_| ()).expect("sound");
    }
}

fn blocks() -> Blocks {
    Blocks::new(
        create_with(LEAST).expect("a small heap"),
        OwnerId::from_bits(ME),
    )
}

fn on_behalf_of(blocks: &Blocks, owner: u32) -> Blocks {
    Blocks::new(blocks.heap, OwnerId::from_bits(owner))
}

/// Kills a process in place of each of an operation's stores, and then a second one in place of each
/// store of the cleaning up; all is free afterwards.
fn for_every_two_deaths(setting: impl Fn(&Blocks), operation: impl Fn(&Blocks)) {
    let blocks = blocks();
    let (dead, later) = (on_behalf_of(&blocks, DEAD), on_behalf_of(&blocks, LATER));
    for stores in 0.. {
        let mut finished = None;
        for second in 0.. {
            setting(&blocks);
            finished = run_until_death(stores, || operation(&dead));
            let swept = run_until_death(second, || later.sweep_all(dead.me));
            blocks.sweep_all(dead.me);
            blocks.sweep_all(later.me);
            assert_eq!(
                blocks.audit(),
                [],
                "after {stores} stores and {second} of the cleaning up"
            );
            if swept.is_some() {
                break;
            }
        }
        if finished.is_some() {
            return;
        }
    }
}

#[test]
fn who_dies_while_it_takes_or_frees_a_block_leaves_all_free() {
    let free_of_many_sizes = |blocks: &Blocks| {
        let taken: Vec<_> = [1, 5, 40_000, 9_000]
            .map(|len| blocks.take(len).expect("room"))
            .into();
        taken.iter().for_each(|taken| blocks.free(taken.block));
    };
    for_every_two_deaths(free_of_many_sizes, |blocks| {
        let small = blocks.take(1).expect("room");
        let large = blocks.take(20_000).expect("room");
        blocks.free(small.block);
        let _kept = blocks.take(8_000).expect("room");
        blocks.free(large.block);
    });
}

#[test]
fn who_dies_while_it_makes_the_heap_grow_leaves_all_free() {
    for_every_two_deaths(Blocks::make_hollow, |blocks| {
        blocks.grow(pages_of(32)).expect("room")
    });
}

#[test]
fn who_dies_while_it_gives_memory_back_leaves_all_free() {
    for_every_two_deaths(
        |blocks| {
            let taken = blocks.take(2 << 20).expect("room");
            blocks.free(taken.block);
            blocks.collect_returned_now();
        },
        |blocks| blocks.trim_to(0).expect("sound"),
    );
}

#[test]
fn what_was_backed_in_vain_is_not_counted_as_used() {
    let blocks = blocks();
    let dead = on_behalf_of(&blocks, DEAD);
    let before = blocks.take(1).expect("room");
    let committed = || blocks.header().committed.load(Relaxed);
    for stores in 0.. {
        let used = committed();
        let grown = run_until_death(stores, || dead.grow(300)).is_some();
        let was_backing = blocks
            .audit()
            .iter()
            .any(|(_, run)| run.state == State::Backing);
        blocks.sweep_all(dead.me);
        if was_backing {
            assert_eq!(committed(), used, "after {stores} stores");
        }
        if grown {
            break;
        }
        blocks
            .locked(Blocks::rebuild)
            .expect("sound")
            .expect("sound");
    }
    blocks.free(before.block);
}

#[test]
fn pieces_that_were_given_back_make_a_whole_again() {
    let blocks = Blocks::new(
        create_with(LEAST * 2).expect("a small heap"),
        OwnerId::from_bits(ME),
    );
    let piece = 2_u64 << 20;
    let mut taken = Vec::new();
    while let Ok(one) = blocks.take(piece) {
        taken.push(one.block);
    }
    assert!(taken.len() > 8, "{}", taken.len());
    // One half after the other, so that no piece is merged before it is given back.
    for half in 0..2 {
        taken
            .iter()
            .skip(half)
            .step_by(2)
            .for_each(|&block| blocks.free(block));
        blocks
            .locked(Blocks::rebuild)
            .expect("sound")
            .expect("sound");
        blocks.trim_to(0).expect("sound");
    }
    let whole = blocks
        .take(piece * (taken.len() as u64 - 2))
        .expect("it is all there, in pieces");
    blocks.free(whole.block);
    assert_eq!(blocks.audit(), []);
}

#[test]
fn what_a_burst_left_free_is_given_back_though_nobody_takes_a_block_afterwards() {
    for len in [10_000, 100_000, 2 << 20, 9 << 20] {
        let blocks = blocks();
        let burst: Vec<_> = std::iter::from_fn(|| blocks.take(len).ok()).collect();
        assert!(
            burst.len() as u64 * len > 8 << 20,
            "{} of {len}",
            burst.len()
        );
        burst.iter().for_each(|taken| blocks.free(taken.block));
        blocks.trim_to(0).expect("sound");
        let backed = blocks.header().committed.load(Relaxed);
        assert!(backed < (2 << 20) / PAGE as u64, "{backed} pages of {len}");
        assert_eq!(blocks.audit(), []);
    }
}

#[test]
fn what_a_burst_left_free_between_many_that_are_in_use_is_given_back() {
    let heap = create_with(256 << 20).expect("address space");
    let blocks = Blocks::new(heap, OwnerId::from_bits(ME));
    let in_use: Vec<_> = std::iter::repeat_with(|| blocks.take(100).expect("room"))
        .take(4_000)
        .collect();
    let counted = blocks.locked(|this| this.rebuild()).expect("sound");
    counted.expect("sound");
    let burst: Vec<_> = std::iter::repeat_with(|| blocks.take(900_000).expect("room"))
        .take(80)
        .collect();
    burst.iter().for_each(|taken| blocks.free(taken.block));
    blocks.trim_to(0).expect("sound");
    let backed = blocks.header().committed.load(Relaxed);
    assert!(backed < 6_000, "{backed} pages"); // and they were more than 20,000
    in_use.iter().for_each(|taken| blocks.free(taken.block));
    assert_eq!(blocks.audit(), []);
}

#[test]
fn what_is_free_in_short_pieces_makes_a_whole_with_what_has_no_memory() {
    let blocks = blocks();
    let mut taken: Vec<_> = std::iter::from_fn(|| blocks.take(2 << 20).ok()).collect();
    let pages = blocks.heap.layout().pages as u64;
    // Of every second block the memory is given back, of the others it is kept, in pieces too short for that.
    let mut pieces = Vec::new();
    while let (Some(one), Some(other)) = (taken.pop(), taken.pop()) {
        blocks.free(one.block);
        blocks.trim_to(0).expect("sound");
        blocks.free(other.block);
        pieces.extend(std::iter::repeat_with(|| blocks.take(600_000).expect("room")).take(3));
    }
    pieces.iter().for_each(|piece| blocks.free(piece.block));
    let whole = (pages - 300) * PAGE as u64;
    assert!(blocks.take(whole * 4 / 5).is_ok(), "of {pages} pages");
}

#[test]
fn a_heap_of_less_than_a_chunk_can_be_filled() {
    let blocks = blocks();
    let mut taken = Vec::new();
    while let Ok(one) = blocks.take(300_000) {
        taken.push(one.block);
    }
    let pages = blocks.heap.layout().pages as u64;
    let used: u64 = blocks.audit().iter().map(|(_, run)| run.pages).sum();
    assert!(used > pages * 8 / 10, "{used} of {pages} pages");
    taken.into_iter().for_each(|block| blocks.free(block));
    assert_eq!(blocks.audit(), []);
}

#[test]
fn threads_that_take_and_free_share_nothing() {
    let blocks = blocks();
    std::thread::scope(|scope| {
        for owner in [DEAD, LATER] {
            let blocks = on_behalf_of(&blocks, owner);
            scope.spawn(move || {
                for n in 0..3_000_u64 {
                    let taken = blocks.take(n % 7 * 3_000 + 1).expect("room");
                    let mark = (u64::from(owner) << 32 | n).to_le_bytes();
                    blocks.fill(&taken, 0, &mark[..1]).expect("inside");
                    let mut seen = [0];
                    blocks
                        .bytes(taken.block)
                        .expect("inside")
                        .read(0, &mut seen)
                        .expect("inside");
                    assert_eq!(seen, mark[..1]);
                    blocks.free(taken.block);
                }
            });
        }
    });
    assert_eq!(blocks.audit(), []);
}

#[test]
fn a_block_that_is_not_this_process_s_is_left_alone() {
    let blocks = blocks();
    let other = on_behalf_of(&blocks, DEAD);
    let (theirs, freed) = (
        other.take(1).expect("room").block,
        blocks.take(1).expect("room").block,
    );
    blocks.free(freed);
    blocks.free(freed);
    blocks.free(theirs);
    for block in [
        theirs,
        freed,
        BlockRef {
            generation: 0,
            ..theirs
        },
    ] {
        assert_eq!(blocks.bind(block, 1, u64::MAX, blocks.me), Ok(false));
    }
    assert!(
        blocks
            .bind(
                BlockRef {
                    page: u32::MAX,
                    ..theirs
                },
                1,
                0,
                blocks.me
            )
            .is_err()
    );
    assert_eq!(
        blocks.audit().len(),
        1,
        "a refused binding has not touched the lists"
    );
    other.free(theirs);
    assert_eq!(blocks.audit(), []);
}

#[test]
fn a_stack_of_the_returned_that_leads_to_a_block_in_use_is_refused() {
    let blocks = blocks();
    let page = u64::from(blocks.take(1).expect("room").block.page);
    blocks.header().returned.store(page + 1, Relaxed);
    assert!(blocks.take(1).is_err());
}

#[test]
fn scribbled_words_are_refused_and_never_followed() {
    let scribbles: [fn(&Blocks); 5] = [
        |blocks| blocks.header().returned.store(u64::MAX, Relaxed),
        |blocks| {
            blocks
                .header()
                .bins
                .iter()
                .flatten()
                .for_each(|bin| bin.store(u32::MAX, Relaxed))
        },
        |blocks| {
            blocks
                .entry(0)
                .expect("inside")
                .state
                .store(u64::MAX, Relaxed)
        },
        |blocks| {
            blocks
                .entry(0)
                .expect("inside")
                .state
                .store(u64::MAX << 36 | 4, Relaxed)
        },
        |blocks| {
            let header = blocks.header();
            for word in [
                &header.committed,
                &header.frees,
                &header.runs,
                &header.idle,
                &header.table_backed,
            ] {
                word.store(u64::MAX, Relaxed);
            }
        },
    ];
    for scribble in scribbles {
        let blocks = blocks();
        let held = blocks.take(1).expect("room").block;
        scribble(&blocks);
        // Whatever comes of it comes as an answer.
        let _ = blocks.take(50_000);
        blocks.free(held);
        let _ = blocks.trim_to(0);
        let _ = blocks.usage();
        let _ = blocks.sweep(blocks.me, |_| ());
    }
}

/// 16 MiB: the least step by which the heap grows.
const CHUNK: u64 = (16 << 20) / PAGE as u64;

#[test]
fn what_others_took_since_the_kernel_was_asked_is_not_taken_again() {
    let blocks = Blocks::new(
        create_with(LEAST * 8).expect("a small heap"),
        OwnerId::from_bits(ME),
    );
    let other = on_behalf_of(&blocks, LATER);
    blocks.grow(CHUNK * 2).expect("no limit yet"); // and the table behind it
    blocks.make_hollow();
    let chunk = CHUNK * PAGE as u64;
    let set = |limit| blocks.heap.header().set_limit(limit);
    let is_refused = |room: &Room| {
        matches!(
            blocks.grow_by(CHUNK, room),
            Err(AllocError::HeapFull { .. })
        )
    };
    for (limit, spare) in [(chunk * 3 / 2, u64::MAX), (0, chunk * 3 / 2)] {
        set(limit);
        let used = super::room::used_bytes(blocks.heap);
        let room = Room { used, spare };
        // One that is just growing.
        let taken = other.locked(|other| other.take_hollow(CHUNK, &room));
        let Ok(Ok(Hollow::Taken(page))) = taken else {
            panic!("room for one");
        };
        assert!(is_refused(&room), "what may have memory any moment");
        let settled = other.locked(|other| other.settle_backing(page, CHUNK, true));
        assert_eq!(settled, Ok(Ok(())));
        assert!(is_refused(&room), "what has memory since");
        set(0);
        blocks.make_hollow();
        assert_eq!(blocks.grow_by(CHUNK, &room), Ok(()), "given back");
        blocks.make_hollow();
    }
}

#[test]
fn threads_that_grow_at_once_do_not_go_past_the_limit() {
    let blocks = Blocks::new(
        create_with(LEAST * 8).expect("a small heap"),
        OwnerId::from_bits(ME),
    );
    let limit = 40 << 20;
    blocks.heap.header().set_limit(limit);
    let grown: usize = std::thread::scope(|scope| {
        let grow = |_| scope.spawn(|| blocks.grow(CHUNK / 2 + 1).is_ok());
        let threads: Vec<_> = (0..8).map(grow).collect();
        let grown = threads
            .into_iter()
            .map(|thread| thread.join().expect("ends"));
        grown.filter(|&is_grown| is_grown).count()
    });
    assert!(grown >= 2, "two chunks fit");
    assert!(super::room::used_bytes(blocks.heap) <= limit);
    assert_eq!(blocks.audit(), []);
}
