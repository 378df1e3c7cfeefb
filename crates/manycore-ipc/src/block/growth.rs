//! Backing pages with memory.
//!
//! The heap grows by at least 16 MiB: first the limit is checked, then the kernel is asked to reserve
//! the memory, and only then may a page be touched. So running out is an error, not `SIGBUS`.

use std::sync::atomic::Ordering::{Relaxed, Release};

use manycore_os::mapping::PAGE;

use super::allocator::Blocks;
use super::class::{CLASSES, class_holding};
use super::lists::{FREE, FRESH, HOLLOW};
use super::room::{Room, used_bytes};
use super::table::{BlockRef, Entry, Run, State};
use crate::error::{AllocError, Corrupted};
use crate::fault;
use crate::registry::OwnerId;

/// Pages by which the heap grows at least: 16 MiB.
pub(super) const CHUNK: u64 = (16 << 20) / PAGE as u64;

/// What came of the search for a hollow run.
pub(super) enum Hollow {
    /// It starts at this page and is in state `Backing` now.
    Taken(u64),
    /// The table entry after it has no memory yet.
    BeyondTable,
    /// There is none.
    Missing,
}

impl Blocks {
    /// Backs `pages` more pages, or a chunk if that is more and there is one, and lists them as fresh.
    pub(crate) fn grow(&self, pages: u64) -> Result<(), AllocError> {
        let (chunk, room) = (pages.max(CHUNK), Room::of(self));
        if chunk > pages {
            match self.grow_by(chunk, &room) {
                Err(AllocError::HeapFull { .. } | AllocError::NoDescriptor) => {} // less may fit
                outcome => return outcome,
            }
        }
        self.grow_by(pages, &room)
    }

    /// Backs a hollow run, if there is one of that length and memory for it.
    pub(super) fn grow_by(&self, pages: u64, room: &Room) -> Result<(), AllocError> {
        let page = loop {
            room.check(self, pages)?;
            self.back_table(pages)?;
            match self.locked(|this| this.take_hollow(pages, room))?? {
                Hollow::Taken(page) => break page,
                Hollow::Missing => return Err(self.beyond_reserve(pages)),
                Hollow::BeyondTable => {} // another process took the run that the table was backed for
            }
        };
        fault::point("block.backing");
        let mapping = self.heap.mapping();
        let offset = self.heap.layout().payload + page as usize * PAGE;
        let backed = mapping.back(offset, pages as usize * PAGE).is_ok();
        if !backed {
            // A part of it may have memory now, which nobody would count.
            let _ = mapping.punch(offset, pages as usize * PAGE);
        }
        fault::point("block.backed");
        self.locked(|this| this.settle_backing(page, pages, backed))??;
        if backed {
            Ok(())
        } else {
            Err(self.full(pages))
        }
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
            self.heap
                .mapping()
                .back(layout.table, bytes)
                .map_err(|_| self.full(pages))?;
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
        let Some(class) = class_holding(pages) else {
            return Ok(0);
        };
        for larger in class..CLASSES {
            if let Some((page, run)) = self.pop(HOLLOW, larger)? {
                self.list(HOLLOW, page, run.pages);
                return Ok(page + pages);
            }
        }
        Ok(0)
    }

    pub(super) fn take_hollow(&self, pages: u64, room: &Room) -> Result<Hollow, AllocError> {
        room.check(self, pages)?; // again, exactly: another process may have taken it meanwhile
        let Some(class) = class_holding(pages) else {
            return Ok(Hollow::Missing);
        };
        for larger in class..CLASSES {
            let Some((page, run)) = self.pop(HOLLOW, larger)? else {
                continue;
            };
            if page + pages >= self.header().table_backed.load(Relaxed) {
                self.list(HOLLOW, page, run.pages);
                return Ok(Hollow::BeyondTable);
            }
            let head = Run {
                state: State::Backing,
                owner: self.me,
                pages,
            };
            self.split(page, pages, head, State::Hollow)?;
            self.header().backing.fetch_add(pages, Relaxed); // under the lock
            return Ok(Hollow::Taken(page));
        }
        Ok(Hollow::Missing)
    }

    pub(super) fn settle_backing(
        &self,
        page: u64,
        pages: u64,
        is_backed: bool,
    ) -> Result<(), Corrupted> {
        let (state, list) = if is_backed {
            (State::Fresh, FRESH)
        } else {
            (State::Hollow, HOLLOW)
        };
        self.entry(page)?
            .state
            .store(Run::unowned(state, pages).encode(), Release);
        self.list(list, page, pages);
        let header = self.header();
        header.backing.saturating_sub(pages, Relaxed); // under the lock, as the next
        if is_backed {
            header.committed.fetch_add(pages, Relaxed);
        }
        Ok(())
    }

    /// Whether the heap may have so many bytes more, outside the payload pages.
    ///
    /// # Errors
    /// [`AllocError::HeapFull`] when it may not.
    pub(crate) fn check_room(&self, bytes: usize) -> Result<(), AllocError> {
        Room::of(self).check(self, bytes.div_ceil(PAGE) as u64)
    }

    /// Why the kernel gave no memory.
    pub(crate) fn full(&self, pages: u64) -> AllocError {
        if !self.heap.mapping().can_back() {
            return AllocError::NoDescriptor;
        }
        let used = used_bytes(self.heap);
        AllocError::HeapFull {
            wanted: pages * PAGE as u64,
            used,
            limit: used,
        }
    }

    /// Bytes of memory behind blocks and objects: a statistic.
    pub(crate) fn used_bytes(&self) -> u64 {
        used_bytes(self.heap)
    }

    /// Why there is no hollow run.
    fn beyond_reserve(&self, pages: u64) -> AllocError {
        AllocError::HeapFull {
            wanted: pages * PAGE as u64,
            used: used_bytes(self.heap),
            limit: (self.heap.layout().pages * PAGE) as u64,
        }
    }

    /// Returns all that a dead process was working on. Blocks that may belong to a message are given
    /// to `settle` first, which makes the message's ring repair itself; what the dead process still
    /// owns afterwards is freed.
    ///
    /// # Errors
    /// When the table is corrupted.
    pub fn sweep(&self, dead: OwnerId, mut settle: impl FnMut(u32)) -> Result<(), Corrupted> {
        let mut found = Vec::new();
        self.locked(|this| {
            this.walk(|page, run| {
                if run.owner == dead {
                    found.push((page, run));
                }
            })
        })??;
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
                if let (State::InFlight, Ok(entry)) = (run.state, this.entry(page)) {
                    found.push(BlockRef {
                        page: page as u32,
                        len: run.pages,
                        // Under the lock no block is taken: this is the generation of the one that was seen.
                        generation: entry.generation.load(Relaxed),
                    });
                }
            })
        })??;
        for block in found {
            self.free_if_bound_where(block, object, |_| true);
        }
        Ok(())
    }

    fn sweep_one(&self, page: u64, run: Run, entry: &'static Entry) -> Result<(), Corrupted> {
        let word = run.encode();
        match run.state {
            State::Filling | State::Held => {
                let returned = Run {
                    state: State::Returned,
                    owner: self.me,
                    ..run
                }
                .encode();
                if entry
                    .state
                    .compare_exchange(word, returned, Release, Relaxed)
                    .is_ok()
                {
                    self.push_returned(page);
                }
            }
            State::Returned => self.locked(|this| {
                // Pushed ones became `Free` when they were collected; this one never was pushed.
                let collected = this.collect_returned().is_ok();
                if collected && entry.state.load(Relaxed) == word {
                    entry
                        .state
                        .store(Run::unowned(State::Free, run.pages).encode(), Release);
                    this.list(FREE, page, run.pages);
                }
            })?,
            State::Backing | State::Punching => {
                // Taken over first: once it is settled, another process may use these pages.
                let mine = Run {
                    owner: self.me,
                    ..run
                };
                if entry
                    .state
                    .compare_exchange(word, mine.encode(), Release, Relaxed)
                    .is_ok()
                {
                    fault::point("block.taken_over");
                    self.empty(page, mine)?;
                }
            }
            State::Hollow | State::Fresh | State::Free | State::InFlight => {}
        }
        Ok(())
    }

    /// Makes a run hollow whose backing or punching a death has interrupted: what was half backed or half
    /// punched has no memory afterwards.
    fn empty(&self, page: u64, run: Run) -> Result<(), Corrupted> {
        let offset = self.heap.layout().payload + page as usize * PAGE;
        let is_punched = self
            .heap
            .mapping()
            .punch(offset, run.pages as usize * PAGE)
            .is_ok();
        self.locked(|this| match run.state {
            State::Backing => this.settle_backing(page, run.pages, false),
            _ => this.settle_punching(page, run.pages, is_punched),
        })?
    }

    /// Touches the pages of a block, so that writing them under a lock takes no page fault.
    pub fn populate(&self, block: BlockRef) {
        let offset = self.heap.layout().payload + block.page as usize * PAGE;
        self.heap
            .mapping()
            .populate(offset, (block.len as usize).next_multiple_of(PAGE));
    }
}
