//! The free lists: a cache of the table.
//!
//! Three lists for each class of lengths: what was touched, what is backed but fresh, what is hollow.
//! A freed block comes over a stack that anyone may push to and only the lock's owner pops from. The
//! lists are thrown away and rebuilt by a walk when the lock's owner died, when so much was freed that
//! merging neighbours is worth a walk, and before the heap counts as full.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::allocator::Blocks;
use super::class::class_within;
use super::table::{MOST_PAGES, Run, State};
use crate::error::Corrupted;
use crate::fault;

/// The states of the listed, in the order of their lists.
const LISTED: [State; 3] = [State::Free, State::Fresh, State::Hollow];
pub(crate) const FREE: usize = 0;
pub(crate) const FRESH: usize = 1;
pub(crate) const HOLLOW: usize = 2;

impl Blocks {
    /// Puts a free run on its list.
    pub(crate) fn list(&self, list: usize, page: u64, pages: u64) {
        let header = self.header();
        let bin = &header.bins[list][class_within(pages)];
        let Ok(entry) = self.entry(page) else { return };
        // Relaxed: all of this is under the lock.
        entry.link.store(u64::from(bin.load(Relaxed)), Relaxed);
        bin.store(page as u32 + 1, Relaxed);
        if list != HOLLOW {
            header.idle.fetch_add(pages, Relaxed);
        }
    }

    /// Takes the first run off a list, and says what the table says about it.
    pub(crate) fn pop(&self, list: usize, class: usize) -> Result<Option<(u64, Run)>, Corrupted> {
        let header = self.header();
        let bin = &header.bins[list][class];
        let Some(page) = u64::from(bin.load(Relaxed)).checked_sub(1) else {
            return Ok(None);
        };
        let run = self.run(page)?;
        if run.state != LISTED[list] {
            return Err(Corrupted::new("a free list leads to a block in use"));
        }
        bin.store(self.entry(page)?.link.load(Relaxed) as u32, Relaxed);
        if list != HOLLOW {
            header.idle.saturating_sub(run.pages, Relaxed);
        }
        Ok(Some((page, run)))
    }

    /// Lists what was returned since the last time.
    pub(crate) fn collect_returned(&self) -> Result<(), Corrupted> {
        let header = self.header();
        let mut budget = self.heap.layout().pages;
        loop {
            // Acquire pairs with the Release in `push_returned`: the entry is linked before it is top.
            let top = header.returned.load(Acquire);
            let Some(page) = top.checked_sub(1) else {
                return Ok(());
            };
            budget = budget
                .checked_sub(1)
                .ok_or(Corrupted::new("the returned list is a circle"))?;
            let run = self.run(page)?;
            let entry = self.entry(page)?;
            let next = entry.link.load(Relaxed);
            match run.state {
                // Before it leaves the stack: a death here leaves a free run for the rebuild.
                State::Returned => entry
                    .state
                    .store(Run::unowned(State::Free, run.pages).encode(), Release),
                State::Free => {} // by somebody who died right here
                _ => return Err(Corrupted::new("the returned list leads to a block in use")),
            }
            // Only the lock's owner pops, so the top can only be covered, never replaced.
            if header
                .returned
                .compare_exchange(top, next, AcqRel, Relaxed)
                .is_err()
            {
                continue;
            }
            fault::point("block.popped");
            self.list(FREE, page, run.pages);
            header.frees.fetch_add(1, Relaxed);
        }
    }

    /// Whether so much was freed since the last time that looking at all runs is worth it.
    pub(super) fn is_worth_merging(&self) -> bool {
        self.has_freed(8)
    }

    /// Whether at least one in `so_many` runs was freed since the last merge.
    pub(super) fn has_freed(&self, so_many: u64) -> bool {
        let header = self.header();
        let frees = header.frees.load(Relaxed); // under the lock
        frees > 0 && frees.saturating_mul(so_many) > header.runs.load(Relaxed)
    }

    /// Throws the lists away and makes them anew from the table, merging neighbours.
    pub(super) fn rebuild(&self) -> Result<(), Corrupted> {
        let header = self.header();
        for bin in header.bins.iter().flatten() {
            bin.store(0, Relaxed);
        }
        header.idle.store(0, Relaxed);
        self.collect_returned()?;
        for bin in header.bins.iter().flatten() {
            bin.store(0, Relaxed); // what was just collected is found again by the walk
        }
        header.idle.store(0, Relaxed);
        let (mut runs, mut committed, mut backing) = (0, 0, 0);
        let mut pending: Option<(u64, Run)> = None;
        self.walk(|page, run| {
            runs += 1;
            match run.state {
                State::Hollow => {}
                State::Backing => backing += run.pages,
                _ => committed += run.pages,
            }
            pending = self.merged(pending, page, run);
        })?;
        if let Some((page, run)) = pending {
            self.list(index_of(run.state), page, run.pages);
        }
        header.runs.store(runs, Relaxed);
        header.committed.store(committed, Relaxed);
        header.backing.store(backing, Relaxed);
        header.frees.store(0, Relaxed);
        Ok(())
    }

    /// One step of the merging walk: `before` is the free run that ends where `run` begins.
    fn merged(&self, before: Option<(u64, Run)>, page: u64, run: Run) -> Option<(u64, Run)> {
        if let Some((start, first)) = before {
            if first.state == run.state && first.pages + run.pages <= MOST_PAGES {
                let both = Run {
                    pages: first.pages + run.pages,
                    ..first
                };
                if let Ok(entry) = self.entry(start) {
                    entry.state.store(both.encode(), Release); // as in `split`: one store merges
                }
                return Some((start, both));
            }
            self.list(index_of(first.state), start, first.pages);
        }
        LISTED.contains(&run.state).then_some((page, run))
    }

    /// Visits every run in order of address. The caller holds the lock.
    pub(crate) fn walk(&self, mut visit: impl FnMut(u64, Run)) -> Result<(), Corrupted> {
        let end = (self.heap.layout().pages as u64).min(MOST_PAGES);
        let mut page = 0;
        while page < end {
            let run = self.run(page)?;
            visit(page, run);
            page += run.pages;
        }
        if page == end {
            Ok(())
        } else {
            Err(Corrupted::new("the last block reaches outside"))
        }
    }

    /// What the heap uses: for diagnostics and tests.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn usage(&self) -> Result<Usage, Corrupted> {
        self.locked(|this| {
            this.collect_returned()?;
            let mut usage = Usage::default();
            this.walk(|_, run| match run.state {
                State::Hollow | State::Backing => {}
                State::Fresh | State::Free | State::Returned | State::Punching => {
                    usage.free_pages += run.pages;
                }
                State::Filling | State::InFlight | State::Held => {
                    usage.used_pages += run.pages;
                    usage.used_blocks += 1;
                }
            })?;
            Ok(usage)
        })?
    }
}

/// What the heap uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks in use.
    pub used_blocks: u64,
    /// Their pages.
    pub used_pages: u64,
    /// Pages that are backed by memory and free.
    pub free_pages: u64,
}

pub(super) fn index_of(state: State) -> usize {
    match state {
        State::Fresh => FRESH,
        State::Hollow => HOLLOW,
        _ => FREE,
    }
}
