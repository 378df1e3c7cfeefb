//! Taking and returning blocks.
//!
//! The free lists are a cache of the table: they are thrown away and rebuilt by a walk when the
//! lock's owner died, and when so much was freed that merging neighbours is worth a walk.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use manycore_os::Deadline;
use manycore_os::mapping::PAGE;

use super::class::{CLASSES, class_holding, class_within, pages_of};
use super::table::{AllocatorHeader, BlockRef, Entry, MOST_PAGES, Run, State};
use crate::error::{AllocError, Corrupted};
use crate::fault;
use crate::heap::{Bytes, Heap};
use crate::lock::{Guard, Locked};
use crate::registry::OwnerId;
use crate::wait::Patience;

/// The free lists, in the order in which they are searched.
const LISTED: [State; 3] = [State::Free, State::Fresh, State::Hollow];
pub(crate) const FREE: usize = 0;
pub(crate) const FRESH: usize = 1;
pub(crate) const HOLLOW: usize = 2;

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
    header.table_backed.store((PAGE / size_of::<Entry>()) as u64, Relaxed);
    let blocks = Blocks { heap, me: OwnerId::NOBODY };
    let pages = (layout.pages as u64).min(MOST_PAGES);
    if let Ok(entry) = blocks.entry(0) {
        entry.state.store(Run::unowned(State::Hollow, pages).encode(), Release);
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
            return Err(Corrupted::new("a block reference points outside the payload area"));
        }
        self.heap.at(layout.table + page as usize * size_of::<Entry>())
    }

    fn run(&self, page: u64) -> Result<Run, Corrupted> {
        // Acquire pairs with the Release of whoever brought the run into this state.
        Run::decode(self.entry(page)?.state.load(Acquire))
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
        loop {
            let found = self.locked(|this| this.take_listed(class))?;
            if let Some((page, is_fresh)) = found? {
                let generation = self.entry(page)?.generation.load(Relaxed); // ours since `take_listed`
                return Ok(Taken { block: BlockRef { page: page as u32, len, generation }, is_fresh });
            }
            if self.locked(Self::is_worth_merging)? {
                self.locked(Self::rebuild)??;
            } else {
                self.grow(pages_of(class))?;
            }
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
        let locked = self.header().lock.lock(&mut patience);
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
        if let Some(page) = self.pop(FREE, class)? {
            self.claim(page, pages, State::Free)?;
            return Ok(Some((page, false)));
        }
        for (list, state) in [(FRESH, State::Fresh), (FREE, State::Free)] {
            for larger in class..CLASSES {
                if let Some(page) = self.pop(list, larger)? {
                    self.claim(page, pages, state)?;
                    return Ok(Some((page, state == State::Fresh)));
                }
            }
        }
        Ok(None)
    }

    /// Takes the first `pages` pages of an unlisted run and lists the rest.
    fn claim(&self, page: u64, pages: u64, state: State) -> Result<(), Corrupted> {
        self.split(page, pages, Run { state: State::Filling, owner: self.me, pages }, state)?;
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
            self.entry(page + pages)?.state.store(Run::unowned(state, rest).encode(), Relaxed);
        }
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

    /// Puts a free run on its list.
    pub(crate) fn list(&self, list: usize, page: u64, pages: u64) {
        let header = self.header();
        let bin = &header.bins[list][class_within(pages)];
        let Ok(entry) = self.entry(page) else { return };
        // Relaxed: all of this is under the lock.
        entry.link.store(u64::from(bin.load(Relaxed)), Relaxed);
        bin.store(page as u32 + 1, Relaxed);
        if list == FREE {
            header.warm.fetch_add(pages, Relaxed);
        }
    }

    pub(crate) fn pop(&self, list: usize, class: usize) -> Result<Option<u64>, Corrupted> {
        let header = self.header();
        let bin = &header.bins[list][class];
        let Some(page) = u64::from(bin.load(Relaxed)).checked_sub(1) else { return Ok(None) };
        let run = self.run(page)?;
        if run.state != LISTED[list] {
            return Err(Corrupted::new("a free list leads to a block in use"));
        }
        bin.store(self.entry(page)?.link.load(Relaxed) as u32, Relaxed);
        if list == FREE {
            header.warm.saturating_sub(run.pages, Relaxed);
        }
        Ok(Some(page))
    }

    /// Lists what was returned since the last time.
    pub(crate) fn collect_returned(&self) -> Result<(), Corrupted> {
        let header = self.header();
        let mut budget = self.heap.layout().pages;
        loop {
            // Acquire pairs with the Release in `push_returned`: the entry is linked before it is top.
            let top = header.returned.load(Acquire);
            let Some(page) = top.checked_sub(1) else { return Ok(()) };
            budget = budget.checked_sub(1).ok_or(Corrupted::new("the returned list is a circle"))?;
            let run = self.run(page)?;
            let entry = self.entry(page)?;
            let next = entry.link.load(Relaxed);
            if run.state == State::Returned {
                // Before it leaves the stack: a death here leaves a free run for the rebuild.
                entry.state.store(Run::unowned(State::Free, run.pages).encode(), Release);
            }
            // Only the lock's owner pops, so the top can only be covered, never replaced.
            if header.returned.compare_exchange(top, next, AcqRel, Relaxed).is_err() {
                continue;
            }
            fault::point("block.popped");
            if matches!(run.state, State::Returned | State::Free) {
                self.list(FREE, page, run.pages);
                header.frees.fetch_add(1, Relaxed);
            }
        }
    }

    fn is_worth_merging(&self) -> bool {
        let header = self.header();
        header.frees.load(Relaxed) * 8 > header.runs.load(Relaxed) && header.frees.load(Relaxed) > 0
    }

    /// Throws the lists away and makes them anew from the table, merging neighbours.
    fn rebuild(&self) -> Result<(), Corrupted> {
        let header = self.header();
        for bin in header.bins.iter().flatten() {
            bin.store(0, Relaxed);
        }
        header.warm.store(0, Relaxed);
        self.collect_returned()?;
        for bin in header.bins.iter().flatten() {
            bin.store(0, Relaxed); // what was just collected is found again by the walk
        }
        header.warm.store(0, Relaxed);
        let (mut runs, mut committed) = (0, 0);
        let mut pending: Option<(u64, Run)> = None;
        self.walk(|page, run| {
            runs += 1;
            if !matches!(run.state, State::Hollow | State::Backing) {
                committed += run.pages;
            }
            pending = self.merged(pending, page, run);
        })?;
        if let Some((page, run)) = pending {
            self.list(index_of(run.state), page, run.pages);
        }
        header.runs.store(runs, Relaxed);
        header.committed.store(committed, Relaxed);
        header.frees.store(0, Relaxed);
        Ok(())
    }

    /// One step of the merging walk: `before` is the free run that ends where `run` begins.
    fn merged(&self, before: Option<(u64, Run)>, page: u64, run: Run) -> Option<(u64, Run)> {
        if let Some((start, first)) = before {
            if first.state == run.state && first.pages + run.pages <= MOST_PAGES {
                let both = Run { pages: first.pages + run.pages, ..first };
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
        if page == end { Ok(()) } else { Err(Corrupted::new("the last block reaches outside")) }
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
        let Some(run) = Run::decode(word) else {
            return Err(Corrupted::new("a block's state word is not one"));
        };
        if entry.generation.load(Relaxed) != block.generation || !from(run) {
            return Ok(false);
        }
        if block.len > run.pages * PAGE as u64 {
            return Err(Corrupted::new("a message claims more bytes than its block has"));
        }
        let next = Run { state: to, owner, pages: run.pages }.encode();
        Ok(entry.state.compare_exchange(word, next, AcqRel, Relaxed).is_ok())
    }

    /// Binds a block to an object, so that it lives as long as the object or its message does.
    pub(crate) fn bind(&self, block: BlockRef, object: u32, place: u64, owner: OwnerId) -> Result<bool, Corrupted> {
        let entry = self.entry(u64::from(block.page))?;
        entry.link.store(place, Relaxed); // published by the state change below
        entry.object.store(u64::from(object), Relaxed);
        self.change(block, |run| run.state == State::Filling && run.owner == self.me, State::InFlight, owner)
    }

    /// Frees a block. Takes no lock, so that a deallocator may call it; a block that is not the named
    /// one any more, or not this caller's to free, is left alone.
    pub fn free(&self, block: BlockRef) {
        let mine = |run: Run| match run.state {
            State::Filling | State::Held => run.owner == self.me,
            State::InFlight => true,
            _ => false,
        };
        if self.change(block, mine, State::Returned, self.me) == Ok(true) {
            fault::point("block.returned");
            self.push_returned(u64::from(block.page));
        }
    }

    /// Frees a block that a message would have had, if the message was never committed.
    pub(crate) fn free_if_bound(&self, block: BlockRef, object: u32, place: u64) {
        if self.is_bound(block, object, |bound| bound == place)
            && self.change(block, |run| run.state == State::InFlight, State::Returned, self.me) == Ok(true)
        {
            self.push_returned(u64::from(block.page));
        }
    }

    /// Frees the region that a ring has left, unless it is the one that follows the region of `epoch`.
    pub(crate) fn free_region_unless_linked_in(&self, block: BlockRef, object: u32, epoch: u64) {
        let elsewhere = |place: u64| crate::ring::position::Position::from_bits(place).epoch() != epoch;
        if self.is_bound(block, object, elsewhere)
            && self.change(block, |run| run.state == State::InFlight, State::Returned, self.me) == Ok(true)
        {
            self.push_returned(u64::from(block.page));
        }
    }

    /// Gives a block back to the message that a dead consumer had begun to take.
    pub(crate) fn put_back(&self, block: BlockRef, object: u32, place: u64) {
        if self.is_bound(block, object, |bound| bound == place) {
            // Fails only if the block is not held, which is as it should be.
            let _ = self.change(block, |run| run.state == State::Held, State::InFlight, OwnerId::NOBODY);
        }
    }

    fn is_bound(&self, block: BlockRef, object: u32, place: impl Fn(u64) -> bool) -> bool {
        let Ok(entry) = self.entry(u64::from(block.page)) else { return false };
        // Ordered by the state change that follows: these words change only before a block is bound.
        entry.object.load(Relaxed) == u64::from(object) && place(entry.link.load(Relaxed))
    }

    pub(crate) fn push_returned(&self, page: u64) {
        let (Ok(entry), header) = (self.entry(page), self.header()) else { return };
        let mut top = header.returned.load(Relaxed); // the exchange below checks it
        loop {
            entry.link.store(top, Relaxed); // published by the exchange
            // Release pairs with the Acquire in `collect_returned`.
            match header.returned.compare_exchange(top, page + 1, Release, Relaxed) {
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
    pub fn bytes(&self, block: BlockRef) -> Result<Bytes, Corrupted> {
        let len = usize::try_from(block.len).map_err(|_| Corrupted::new("a block is longer than memory"))?;
        if u64::from(block.page) + block.len.div_ceil(PAGE as u64) > self.heap.layout().pages as u64 {
            return Err(Corrupted::new("a block reference points outside the payload area"));
        }
        self.heap.bytes(self.heap.layout().payload + block.page as usize * PAGE, len)
    }

    /// Writes the payload of a block that was just taken; fresh pages are filled by the kernel.
    ///
    /// # Errors
    /// When the reference makes no sense.
    pub fn fill(&self, taken: &Taken, at: usize, bytes: &[u8]) -> Result<(), Corrupted> {
        let target = self.bytes(taken.block)?;
        let by_kernel = taken.is_fresh
            && bytes.len() >= 16 * PAGE
            && at.checked_add(bytes.len()).is_some_and(|end| end <= target.len())
            && self.heap.mapping().write_fresh(target.offset() + at, bytes);
        if !by_kernel {
            target.write(at, bytes);
        }
        Ok(())
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

fn index_of(state: State) -> usize {
    match state {
        State::Fresh => FRESH,
        State::Hollow => HOLLOW,
        _ => FREE,
    }
}
