//! Backing pages with memory, and giving memory back.
//!
//! The heap grows by at least 16 MiB: first the limit is checked, then the kernel is asked to reserve
//! the memory, and only then may a page be touched. So running out is an error, not `SIGBUS`.

use std::sync::atomic::Ordering::{Relaxed, Release};

use manycore_os::limits;
use manycore_os::mapping::PAGE;

use super::allocator::{Blocks, FREE, FRESH, HOLLOW};
use super::class::{CLASSES, class_holding, pages_of};
use super::table::{BlockRef, Entry, Run, State};
use crate::error::{AllocError, Corrupted};
use crate::fault;
use crate::registry::OwnerId;

/// Pages by which the heap grows at least: 16 MiB.
const CHUNK: u64 = (16 << 20) / PAGE as u64;
/// Warm free pages that are kept for reuse before memory is given back: 64 MiB.
const KEEP_WARM: u64 = (64 << 20) / PAGE as u64;
/// Runs shorter than this are not worth a system call: 1 MiB.
const LEAST_PUNCH: u64 = (1 << 20) / PAGE as u64;

impl Blocks {
    /// Backs `pages` more pages, or a chunk if that is more, and lists them as fresh.
    pub(crate) fn grow(&self, pages: u64) -> Result<(), AllocError> {
        let wanted = match self.check_limit(pages.max(CHUNK)) {
            Ok(()) => pages.max(CHUNK),
            Err(_) => self.check_limit(pages).map(|()| pages)?,
        };
        self.back_table(wanted)?;
        let Some(page) = self.locked(|this| this.take_hollow(wanted))?? else {
            return Err(self.full(pages));
        };
        fault::point("block.backing");
        let layout = self.heap.layout();
        let offset = layout.payload + page as usize * PAGE;
        let backed = self.heap.mapping().back(offset, wanted as usize * PAGE);
        self.locked(|this| this.settle_backing(page, wanted, backed.is_ok()))??;
        backed.map_err(|_| self.full(pages))
    }

    /// Makes sure that the entry after the next hollow run of `pages` pages can be written.
    fn back_table(&self, pages: u64) -> Result<(), AllocError> {
        let layout = self.heap.layout();
        let header = self.header();
        loop {
            let end = self.locked(|this| this.end_of_hollow(pages))??;
            let backed = header.table_backed.load(Relaxed); // re-checked under the lock next time round
            if end < backed || backed > layout.pages as u64 {
                return Ok(());
            }
            let bytes = ((end + 1) as usize * size_of::<Entry>()).next_multiple_of(16 * PAGE);
            let bytes = bytes.min(layout.payload - layout.table);
            self.heap.mapping().back(layout.table, bytes).map_err(|_| self.full(pages))?;
            self.locked(|_| {
                let entries = (bytes / size_of::<Entry>()) as u64;
                if entries > header.table_backed.load(Relaxed) {
                    header.table_backed.store(entries, Relaxed); // under the lock
                }
            })?;
        }
    }

    /// Where a hollow run of `pages` pages would end if it were taken now.
    fn end_of_hollow(&self, pages: u64) -> Result<u64, Corrupted> {
        let Some(class) = class_holding(pages) else { return Ok(0) };
        for larger in class..CLASSES {
            if let Some(page) = self.pop(HOLLOW, larger)? {
                let run = Run::decode(self.entry(page)?.state.load(Relaxed)); // under the lock
                self.list(HOLLOW, page, run.map_or(1, |run| run.pages));
                return Ok(page + pages);
            }
        }
        Ok(0)
    }

    fn take_hollow(&self, pages: u64) -> Result<Option<u64>, Corrupted> {
        let Some(class) = class_holding(pages) else { return Ok(None) };
        for larger in class..CLASSES {
            let Some(page) = self.pop(HOLLOW, larger)? else { continue };
            if page + pages >= self.header().table_backed.load(Relaxed) {
                let run = Run::decode(self.entry(page)?.state.load(Relaxed));
                self.list(HOLLOW, page, run.map_or(1, |run| run.pages));
                return Ok(None);
            }
            let head = Run { state: State::Backing, owner: self.me, pages };
            self.split(page, pages, head, State::Hollow)?;
            return Ok(Some(page));
        }
        Ok(None)
    }

    fn settle_backing(&self, page: u64, pages: u64, is_backed: bool) -> Result<(), Corrupted> {
        let (state, list) = if is_backed { (State::Fresh, FRESH) } else { (State::Hollow, HOLLOW) };
        self.entry(page)?.state.store(Run::unowned(state, pages).encode(), Release);
        self.list(list, page, pages);
        if is_backed {
            self.header().committed.fetch_add(pages, Relaxed); // under the lock
        }
        Ok(())
    }

    fn check_limit(&self, pages: u64) -> Result<(), AllocError> {
        let used = self.header().committed.load(Relaxed) * PAGE as u64; // a hint: growth is checked again
        let wanted = pages * PAGE as u64;
        let set = self.heap.header().limit();
        if set != 0 && used + wanted > set {
            return Err(AllocError::HeapFull { wanted, used, limit: set });
        }
        let memory = limits::memory();
        let spare = memory.available.saturating_sub(memory.total / 20);
        if wanted > spare {
            return Err(AllocError::HeapFull { wanted, used, limit: used + spare });
        }
        Ok(())
    }

    fn full(&self, pages: u64) -> AllocError {
        let used = self.header().committed.load(Relaxed) * PAGE as u64;
        let reserved = (self.heap.layout().pages * PAGE) as u64;
        AllocError::HeapFull { wanted: pages * PAGE as u64, used, limit: reserved }
    }

    /// Gives memory back while more than 64 MiB of free pages are kept. Never called with a lock held.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn trim(&self) -> Result<(), Corrupted> {
        while self.header().warm.load(Relaxed) > KEEP_WARM {
            let Some((page, pages)) = self.locked(Self::take_largest_warm)?? else { return Ok(()) };
            fault::point("block.punching");
            let offset = self.heap.layout().payload + page as usize * PAGE;
            let punched = self.heap.mapping().punch(offset, pages as usize * PAGE).is_ok();
            self.locked(|this| this.settle_punching(page, pages, punched))??;
            if !punched {
                return Ok(());
            }
        }
        Ok(())
    }

    fn take_largest_warm(&self) -> Result<Option<(u64, u64)>, Corrupted> {
        for class in (0..CLASSES).rev().take_while(|&class| pages_of(class) >= LEAST_PUNCH) {
            if let Some(page) = self.pop(FREE, class)? {
                let entry = self.entry(page)?;
                let pages = Run::decode(entry.state.load(Relaxed)).map_or(1, |run| run.pages);
                let run = Run { state: State::Punching, owner: self.me, pages };
                entry.state.store(run.encode(), Release);
                return Ok(Some((page, pages)));
            }
        }
        Ok(None)
    }

    fn settle_punching(&self, page: u64, pages: u64, is_punched: bool) -> Result<(), Corrupted> {
        let (state, list) = if is_punched { (State::Hollow, HOLLOW) } else { (State::Free, FREE) };
        self.entry(page)?.state.store(Run::unowned(state, pages).encode(), Release);
        self.list(list, page, pages);
        if is_punched {
            self.header().committed.saturating_sub(pages, Relaxed);
        }
        Ok(())
    }

    /// Returns all that a dead process was working on. Blocks that may belong to a message are given
    /// to `settle` first, which makes the message's ring repair itself; what the dead process still
    /// owns afterwards is freed.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn sweep(&self, dead: OwnerId, mut settle: impl FnMut(u32)) -> Result<(), Corrupted> {
        let mut found = Vec::new();
        self.locked(|this| this.walk(|page, run| {
            if run.owner == dead {
                found.push((page, run));
            }
        }))??;
        for (page, run) in found {
            let entry = self.entry(page)?;
            if matches!(run.state, State::InFlight | State::Held) {
                settle(entry.object.load(Relaxed) as u32); // checked by the callee
            }
            self.sweep_one(page, run, entry)?;
        }
        Ok(())
    }

    /// Frees every block that lives as long as an object, which is being freed.
    pub(crate) fn free_bound_to(&self, object: u32) -> Result<(), Corrupted> {
        let mut found = Vec::new();
        self.locked(|this| {
            this.walk(|page, run| {
                if run.state == State::InFlight {
                    found.push((page, run));
                }
            })
        })??;
        for (page, run) in found {
            let entry = self.entry(page)?;
            let generation = entry.generation.load(Relaxed); // a block in flight does not change it
            let block = BlockRef { page: page as u32, len: run.pages, generation };
            self.free_if_bound(block, object, u64::MAX);
        }
        Ok(())
    }

    fn sweep_one(&self, page: u64, run: Run, entry: &'static Entry) -> Result<(), Corrupted> {
        let word = run.encode();
        match run.state {
            State::Filling | State::Held => {
                let returned = Run { state: State::Returned, owner: self.me, ..run }.encode();
                if entry.state.compare_exchange(word, returned, Release, Relaxed).is_ok() {
                    self.push_returned(page);
                }
            }
            State::Returned => self.locked(|this| {
                // Pushed ones became `Free` when they were collected; this one never was pushed.
                let collected = this.collect_returned().is_ok();
                if collected && entry.state.load(Relaxed) == word {
                    entry.state.store(Run::unowned(State::Free, run.pages).encode(), Release);
                    this.list(FREE, page, run.pages);
                }
            })?,
            State::Backing | State::Punching => {
                let offset = self.heap.layout().payload + page as usize * PAGE;
                // Idempotent: what was half backed or half punched has no memory afterwards.
                let punched = self.heap.mapping().punch(offset, run.pages as usize * PAGE).is_ok();
                self.locked(|this| {
                    if entry.state.load(Relaxed) == word {
                        this.settle_punching(page, run.pages, punched)
                    } else {
                        Ok(())
                    }
                })??;
            }
            State::Hollow | State::Fresh | State::Free | State::InFlight => {}
        }
        Ok(())
    }

    /// Touches the pages of a block, so that writing them under a lock takes no page fault.
    pub fn populate(&self, block: BlockRef) {
        let offset = self.heap.layout().payload + block.page as usize * PAGE;
        self.heap.mapping().populate(offset, (block.len as usize).next_multiple_of(PAGE));
    }
}
