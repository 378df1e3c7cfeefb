//! Taking and returning blocks.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use manycore_os::Deadline;
use manycore_os::mapping::PAGE;

use super::class::{CLASSES, class_holding, pages_of};
use super::lists::{FREE, FRESH, HOLLOW, index_of};
use super::table::{AllocatorHeader, BlockRef, Entry, MOST_PAGES, Run, State};
use crate::error::{AllocError, Corrupted};
use crate::fault;
use crate::heap::{Bytes, Heap};
use crate::lock::{Guard, Locked};
use crate::registry::{OwnerId, Registry};
use crate::wait::Patience;

/// The allocator of a heap, on behalf of one process.
#[derive(Clone, Copy)]
pub struct Blocks {
    pub(crate) heap: &'static Heap,
    pub(crate) me: OwnerId,
}

/// Makes the whole payload area one hollow run. For a heap that is not shared yet.
///
/// # Errors
/// When not even the first table page can be backed.
pub fn initialise(heap: &'static Heap) -> Result<(), std::io::Error> {
    let layout = heap.layout();
    heap.mapping().back(layout.table, PAGE)?;
    let header = &heap.header().allocator;
    header
        .table_backed
        .store((PAGE / size_of::<Entry>()) as u64, Relaxed);
    let blocks = Blocks {
        heap,
        me: OwnerId::NOBODY,
    };
    let pages = (layout.pages as u64).min(MOST_PAGES);
    if let Ok(entry) = blocks.entry(0) {
        entry
            .state
            .store(Run::unowned(State::Hollow, pages).encode(), Release);
    }
    blocks.list(HOLLOW, 0, pages);
    Ok(())
}

/// A block that this process owns in state `Filling`.
#[derive(Debug)]
#[must_use = "a block that is neither sent nor freed stays taken until this process ends"]
pub struct Taken {
    /// Where it is.
    pub block: BlockRef,
    /// Whether nobody has touched its pages yet.
    pub is_fresh: bool,
}

impl Blocks {
    /// The allocator of `heap` as used by the process `me`.
    #[must_use]
    pub fn new(heap: &'static Heap, me: OwnerId) -> Self {
        Self { heap, me }
    }

    pub(crate) fn header(&self) -> &'static AllocatorHeader {
        &self.heap.header().allocator
    }

    pub(crate) fn entry(&self, page: u64) -> Result<&'static Entry, Corrupted> {
        let layout = self.heap.layout();
        if page > layout.pages as u64 {
            return Err(Corrupted::new(
                "a block reference points outside the payload area",
            ));
        }
        self.heap
            .at(layout.table + page as usize * size_of::<Entry>())
    }

    pub(super) fn run(&self, page: u64) -> Result<Run, Corrupted> {
        // Acquire pairs with the Release of whoever brought the run into this state.
        self.checked(page, self.entry(page)?.state.load(Acquire))
    }

    /// What the state word of a page, which has an entry, says.
    fn checked(&self, page: u64, word: u64) -> Result<Run, Corrupted> {
        Run::decode(word)
            .filter(|run| run.pages <= self.heap.layout().pages as u64 - page)
            .ok_or(Corrupted::new("a block's state word is not one"))
    }

    /// Takes a block of at least `len` bytes, in state `Filling`.
    ///
    /// # Errors
    /// [`AllocError::HeapFull`] when the heap may not grow by as much.
    pub fn take(&self, len: u64) -> Result<Taken, AllocError> {
        let pages = len.div_ceil(PAGE as u64).max(1);
        let class = class_holding(pages).ok_or(AllocError::HeapFull {
            wanted: len,
            used: 0,
            limit: MOST_PAGES * PAGE as u64,
        })?;
        let mut tidied = 0;
        loop {
            let found = self.locked(|this| this.take_listed(class))?;
            if let Some((page, is_fresh)) = found? {
                let generation = self.entry(page)?.generation.load(Relaxed); // ours since `take_listed`
                return Ok(Taken {
                    block: BlockRef {
                        page: page as u32,
                        len,
                        generation,
                    },
                    is_fresh,
                });
            }
            if self.locked(Self::is_worth_merging)? {
                self.locked(Self::rebuild)??;
                continue;
            }
            match self.grow(pages_of(class)) {
                // What is free, or was given back, in pieces may be enough in one.
                Err(AllocError::HeapFull { .. } | AllocError::NoDescriptor) if tidied == 0 => {
                    self.locked(Self::rebuild)??;
                }
                // Or what is free here and what has no memory there.
                Err(AllocError::HeapFull { .. }) if tidied == 1 => {
                    self.trim_all()?;
                    self.locked(Self::rebuild)??;
                }
                grown => grown?,
            }
            tidied += 1;
        }
    }

    /// Runs `operation` under the allocator's lock; what a dead owner left is rebuilt first.
    pub(crate) fn locked<R>(&self, operation: impl FnOnce(&Self) -> R) -> Result<R, Corrupted> {
        let _guard = self.lock()?;
        Ok(operation(self))
    }

    fn lock(&self) -> Result<Guard<'static>, Corrupted> {
        let mut go_on = || true;
        let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
        let locked = Registry::new(self.heap).lock(&self.header().lock, &mut patience);
        match locked {
            Ok(Locked::Clean(guard)) => Ok(guard),
            Ok(Locked::OwnerDied(guard)) => {
                self.rebuild()?;
                guard.repaired();
                Ok(guard)
            }
            Err(_) => unreachable!("this patience never ends"),
        }
    }

    fn take_listed(&self, class: usize) -> Result<Option<(u64, bool)>, Corrupted> {
        self.collect_returned()?;
        let pages = pages_of(class);
        if let Some((page, _)) = self.pop(FREE, class)? {
            self.claim(page, pages, State::Free)?;
            return Ok(Some((page, false)));
        }
        for (list, state) in [(FRESH, State::Fresh), (FREE, State::Free)] {
            for larger in class..CLASSES {
                if let Some((page, _)) = self.pop(list, larger)? {
                    self.claim(page, pages, state)?;
                    return Ok(Some((page, state == State::Fresh)));
                }
            }
        }
        Ok(None)
    }

    /// Takes the first `pages` pages of an unlisted run and lists the rest.
    fn claim(&self, page: u64, pages: u64, state: State) -> Result<(), Corrupted> {
        self.split(
            page,
            pages,
            Run {
                state: State::Filling,
                owner: self.me,
                pages,
            },
            state,
        )?;
        fault::point("block.claimed");
        Ok(())
    }

    /// Cuts an unlisted run after `pages` pages: the head becomes `head`, the rest is listed in
    /// `state`. One store makes it so.
    pub(crate) fn split(
        &self,
        page: u64,
        pages: u64,
        head: Run,
        state: State,
    ) -> Result<(), Corrupted> {
        let whole = self.run(page)?;
        if whole.pages < pages {
            return Err(Corrupted::new("a listed run is shorter than its list says"));
        }
        let rest = whole.pages - pages;
        if rest > 0 {
            // Relaxed: nobody looks at this entry before the store to the head's word below.
            self.entry(page + pages)?
                .state
                .store(Run::unowned(state, rest).encode(), Relaxed);
        }
        fault::point("block.unlisted");
        let entry = self.entry(page)?;
        entry.generation.fetch_add(1, Relaxed); // published by the next line
        // Release pairs with the Acquire in `run`: the rest's entry is there before the run is cut.
        entry.state.store(head.encode(), Release);
        fault::point("block.split");
        if rest > 0 {
            self.list(index_of(state), page + pages, rest);
        }
        Ok(())
    }

    /// Changes a block from one state to another if it is still the block that `block` names.
    /// `from` may look at the run; the new owner is this process, or nobody.
    pub(crate) fn change(
        &self,
        block: BlockRef,
        from: impl Fn(Run) -> bool,
        to: State,
        owner: OwnerId,
    ) -> Result<bool, Corrupted> {
        let page = u64::from(block.page);
        let entry = self.entry(page)?;
        let word = entry.state.load(Acquire); // as in `run`
        let run = self.checked(page, word)?;
        if entry.generation.load(Relaxed) != block.generation || !from(run) {
            return Ok(false);
        }
        if block.len > run.pages * PAGE as u64 {
            return Err(Corrupted::new(
                "a message claims more bytes than its block has",
            ));
        }
        let next = Run {
            state: to,
            owner,
            pages: run.pages,
        }
        .encode();
        Ok(entry
            .state
            .compare_exchange(word, next, AcqRel, Relaxed)
            .is_ok())
    }

    /// Frees a block. Takes no lock, so that a deallocator may call it; a block that is not the named
    /// one any more, or not this caller's to free, is left alone.
    pub fn free(&self, block: BlockRef) {
        let mine = |run: Run| match run.state {
            State::Filling | State::Held => run.owner == self.me,
            State::InFlight => true,
            _ => false,
        };
        self.give_back(block, mine);
    }

    pub(super) fn give_back(&self, block: BlockRef, from: impl Fn(Run) -> bool) {
        if self.change(block, from, State::Returned, self.me) == Ok(true) {
            fault::point("block.returned");
            self.push_returned(u64::from(block.page));
        }
    }

    pub(crate) fn push_returned(&self, page: u64) {
        let (Ok(entry), header) = (self.entry(page), self.header()) else {
            return;
        };
        let mut top = header.returned.load(Relaxed); // the exchange below checks it
        loop {
            entry.link.store(top, Relaxed); // published by the exchange
            // Release pairs with the Acquire in `collect_returned`.
            match header
                .returned
                .compare_exchange(top, page + 1, Release, Relaxed)
            {
                Ok(_) => return,
                #[cfg(test)]
                Err(_) if crate::crash::is_dead() => return,
                Err(found) => top = found,
            }
        }
    }

    /// The payload of a block.
    ///
    /// # Errors
    /// When the reference makes no sense.
    #[inline]
    pub fn bytes(&self, block: BlockRef) -> Result<Bytes, Corrupted> {
        let len = usize::try_from(block.len)
            .map_err(|_| Corrupted::new("a block is longer than memory"))?;
        if u64::from(block.page) + block.len.div_ceil(PAGE as u64) > self.heap.layout().pages as u64
        {
            return Err(Corrupted::new(
                "a block reference points outside the payload area",
            ));
        }
        self.heap
            .bytes(self.heap.layout().payload + block.page as usize * PAGE, len)
    }

    /// Writes the payload of a block that was just taken; fresh pages are filled by the kernel.
    ///
    /// # Errors
    /// When the reference makes no sense.
    pub fn fill(&self, taken: &Taken, at: usize, bytes: &[u8]) -> Result<(), Corrupted> {
        let target = self.bytes(taken.block)?;
        let by_kernel = taken.is_fresh
            && bytes.len() >= 16 * PAGE
            && at
                .checked_add(bytes.len())
                .is_some_and(|end| end <= target.len())
            && self.heap.mapping().write_fresh(target.offset() + at, bytes);
        if !by_kernel {
            target.write(at, bytes);
        }
        Ok(())
    }
}
