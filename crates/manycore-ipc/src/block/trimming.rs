//! Giving memory back to the system.

use std::sync::atomic::Ordering::{Relaxed, Release};

use manycore_os::mapping::PAGE;

use super::allocator::Blocks;
use super::class::{CLASSES, pages_of};
use super::growth::CHUNK;
use super::lists::{FREE, FRESH, HOLLOW};
use super::table::{MOST_PAGES, Run, State};
use crate::error::Corrupted;
use crate::fault;

/// Free pages that are kept for reuse before memory is given back: 128 MiB, so that a few messages of tens
/// of megabytes take turns in pages that are warm.
const KEEP: u64 = (128 << 20) / PAGE as u64;
/// So many free pages more than are kept are worth a closer look: 32 MiB.
const MUCH: u64 = (32 << 20) / PAGE as u64;
/// Runs shorter than this are not worth a system call: 1 MiB.
const LEAST_PUNCH: u64 = (1 << 20) / PAGE as u64;

impl Blocks {
    /// Gives memory back while more than 128 MiB are free. Never called with a lock held.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn trim(&self) -> Result<(), Corrupted> {
        self.trim_to(KEEP)
    }

    pub(crate) fn trim_to(&self, most_idle: u64) -> Result<(), Corrupted> {
        self.give_up(most_idle, LEAST_PUNCH)
    }

    /// Gives back whatever is free, however short, so that it can become one run with what has no memory.
    pub(super) fn trim_all(&self) -> Result<(), Corrupted> {
        self.give_up(0, 1)
    }

    /// Gives memory back while more than `most_idle` pages are free, in runs of `least` pages or more.
    fn give_up(&self, most_idle: u64, least: u64) -> Result<(), Corrupted> {
        // Without the lock: a heap that has no more memory than may stay has none to give back.
        while self.header().committed.load(Relaxed) > most_idle {
            let Some((page, pages)) = self.locked(|this| this.take_surplus(most_idle, least))??
            else {
                return Ok(());
            };
            fault::point("block.punching");
            let offset = self.heap.layout().payload + page as usize * PAGE;
            let punched = self
                .heap
                .mapping()
                .punch(offset, pages as usize * PAGE)
                .is_ok();
            self.locked(|this| this.settle_punching(page, pages, punched))??;
            if !punched {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes a large free run while more than `most_idle` pages are free. Counts what was returned and not
    /// yet listed, and merges small neighbours if that is what it takes: after a burst nobody may take a
    /// block for a long time, and so nobody else would do either.
    fn take_surplus(&self, most_idle: u64, least: u64) -> Result<Option<(u64, u64)>, Corrupted> {
        self.collect_returned()?;
        let idle = self.header().idle.load(Relaxed); // under the lock
        if idle <= most_idle {
            return Ok(None);
        }
        let large = self.take_large(least)?;
        // Where many other runs are in use, a few that are freed are much memory all the same.
        let so_many = if idle > most_idle + MUCH { 64 } else { 8 };
        if large.is_some() || !self.has_freed(so_many) {
            return Ok(large);
        }
        self.rebuild()?;
        self.take_large(least)
    }

    /// The largest run that was used, or else what growing left over. Not a longer fresh one: somebody has
    /// just made the heap grow by as much, and is about to take it.
    fn take_large(&self, least: u64) -> Result<Option<(u64, u64)>, Corrupted> {
        for (list, longest) in [(FREE, MOST_PAGES), (FRESH, CHUNK)] {
            let large = |&class: &usize| (least..=longest).contains(&pages_of(class));
            for class in (0..CLASSES).rev().filter(large) {
                if let Some((page, free)) = self.pop(list, class)? {
                    let run = Run {
                        state: State::Punching,
                        owner: self.me,
                        ..free
                    };
                    self.entry(page)?.state.store(run.encode(), Release);
                    return Ok(Some((page, free.pages)));
                }
            }
        }
        Ok(None)
    }

    pub(super) fn settle_punching(
        &self,
        page: u64,
        pages: u64,
        is_punched: bool,
    ) -> Result<(), Corrupted> {
        let (state, list) = if is_punched {
            (State::Hollow, HOLLOW)
        } else {
            (State::Free, FREE)
        };
        self.entry(page)?
            .state
            .store(Run::unowned(state, pages).encode(), Release);
        self.list(list, page, pages);
        if is_punched {
            self.header().committed.saturating_sub(pages, Relaxed);
        }
        Ok(())
    }
}
