//! Who waits, in the order in which they came, each at a word of its own.
//!
//! | TICKET (30 bits) | STATE    | meaning                                                                  |
//! |------------------|----------|--------------------------------------------------------------------------|
//! | 0                | Free     | nobody's                                                                 |
//! | t                | Waiting  | the t-th to come waits; `owner` says which process it is of               |
//! | t                | Notified | it has what it waits for, and has not taken it                           |
//! | t                | Broken   | it will not get what it waits for, and has not taken note                |
//!
//! An entry is taken, and changes from Waiting to something else, under the roll's engine lock. One change is made
//! without: who waits frees its own entry, by an exchange of the very word that it believes to be there. So of two
//! that decide at once, a waiter that gives up and another one that notifies it, one finds that the other was
//! quicker.
//!
//! Some entries lie in the object's body. The others lie in up to four blocks, each eight times as large as the one
//! before; a block is brought by who finds no free entry, and stays as long as the object, since others sleep in it.

mod entries;
mod entry;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::block::{BlockRef, Blocks};
use crate::error::Corrupted;
use crate::fault;
use crate::heap::Heap;
use crate::lock::Locked;
use crate::registry::{OwnerId, Registry};
use crate::wait::{GaveUp, Patience};

pub(crate) use entries::MOST;
pub use entries::RollBody;
use entries::{Entries, Extension, IN_BLOCKS, INLINE, block_len};
use entry::TICKETS;
pub use entry::{Entry, Place, State};

/// A roll, on behalf of one process.
#[derive(Clone, Copy)]
pub struct Roll {
    body: &'static RollBody,
    /// The object that it is part of.
    object: u32,
    heap: &'static Heap,
    blocks: Blocks,
    me: OwnerId,
}

impl Roll {
    pub(super) fn new(
        body: &'static RollBody,
        object: u32,
        heap: &'static Heap,
        me: OwnerId,
    ) -> Self {
        let blocks = Blocks::new(heap, me);
        Self {
            body,
            object,
            heap,
            blocks,
            me,
        }
    }

    /// The process on whose behalf.
    pub(super) fn me(&self) -> OwnerId {
        self.me
    }

    pub(super) fn lock(&self, patience: &mut Patience<'_>) -> Result<Locked<'static>, GaveUp> {
        Registry::new(self.heap).lock(&self.body.lock, &mut patience.for_lock())
    }

    fn entries(&self) -> Result<Entries, Corrupted> {
        let mut found = Entries {
            body: self.body,
            heap: self.heap,
            blocks: [0; IN_BLOCKS.len()],
            used: 0,
            capacity: INLINE,
        };
        for (n, len) in IN_BLOCKS.into_iter().enumerate() {
            let Some(at) = self.block_of(n)? else { break };
            found.blocks[n] = at;
            found.capacity += len;
        }
        let used = self.body.used.load(Relaxed) as usize; // those behind are free, or come while this looks
        found.used = used.min(found.capacity);
        Ok(found)
    }

    /// Where a block of entries lies, if there is one.
    fn block_of(&self, n: usize) -> Result<Option<usize>, Corrupted> {
        let extension = &self.body.extensions[n];
        // Acquire pairs with the Release in `name_block`.
        let Some(page) = extension.page.load(Acquire).checked_sub(1) else {
            return Ok(None);
        };
        let block = BlockRef {
            page: u32::try_from(page).unwrap_or(u32::MAX), // refused by the next line
            len: block_len(n),
            generation: extension.generation.load(Relaxed), // ordered by the load of the page
        };
        if !self.blocks.is_lent(block, self.object, u64::MAX) {
            return Err(Corrupted::new("a block of a roll is not its own"));
        }
        Ok(Some(self.blocks.bytes(block)?.offset()))
    }

    /// Whether one of the blocks of entries lies at this place of the heap.
    pub(crate) fn has_block_at(&self, offset: usize) -> Result<bool, Corrupted> {
        let blocks = self.entries()?.blocks.into_iter().enumerate();
        let mut named = blocks.filter(|&(_, at)| at != 0);
        Ok(named.any(|(n, at)| (at..at + block_len(n) as usize).contains(&offset)))
    }

    /// Takes an entry for the calling thread; `None` when it has to bring a block. Under the lock only.
    pub(super) fn take(&self) -> Result<Option<Place>, Corrupted> {
        let entries = self.entries()?;
        let (mut first_free, mut used) = (None, 0);
        for (number, entry) in entries.iter().enumerate() {
            if entry.state() != State::Free {
                used = number + 1;
            } else if first_free.is_none() {
                first_free = Some(number);
            }
        }
        let number = first_free.unwrap_or(used);
        if number >= entries.capacity {
            return Ok(None);
        }
        let entry = entries.get(number)?;
        self.body.used.store(used.max(number + 1) as u32, Relaxed); // before the entry, which is Release
        let ticket = match self.body.tickets.load(Relaxed).wrapping_add(1) & TICKETS {
            0 => 1, // is for those that are free
            ticket => ticket,
        };
        self.body.tickets.store(ticket, Relaxed);
        entry.owner.store(self.me.bits(), Relaxed);
        let waiting = ticket << 2 | State::Waiting as u32;
        entry.word.store(waiting, Release); // pairs with the Acquire in `Entry::state`
        fault::point("roll.taken");
        Ok(Some(Place { entry, waiting }))
    }

    /// How many bytes the block needs that [`Roll::take`] is short of; `None` when there is no more.
    pub(crate) fn wanted_block(&self) -> Option<u64> {
        let named = |extension: &Extension| extension.page.load(Relaxed) != 0; // looked at again under the lock
        let n = self
            .body
            .extensions
            .iter()
            .take_while(|&it| named(it))
            .count();
        (n < IN_BLOCKS.len()).then(|| block_len(n))
    }

    /// Says that a block of entries is about to be bound to the object.
    pub(crate) fn expect_block(&self) {
        self.body.extended.store(1, Release); // before the block's own state, which is changed by an exchange
    }

    /// Adds a block, all zero and bound to the object, if one of its length is wanted. Under the lock only.
    pub(super) fn name_block(&self, block: BlockRef) -> bool {
        let extensions = self.body.extensions.iter().enumerate();
        let mut unnamed = extensions.filter(|(_, it)| it.page.load(Relaxed) == 0);
        match unnamed.next() {
            Some((n, extension)) if block_len(n) == block.len => {
                extension.generation.store(block.generation, Relaxed); // published by the next line
                extension.page.store(u64::from(block.page) + 1, Release); // pairs with the Acquire in `block_of`
                true
            }
            _ => false,
        }
    }

    /// How many entries are in this state, at some moment each.
    pub(super) fn count(&self, state: State) -> Result<usize, Corrupted> {
        Ok(self
            .entries()?
            .iter()
            .filter(|it| it.state() == state)
            .count())
    }

    /// Whose entries are in one of these states, each once, without this process's own.
    pub(crate) fn owners(&self, states: &[State]) -> Result<Vec<OwnerId>, Corrupted> {
        let mut owners: Vec<OwnerId> = Vec::new();
        for entry in self.entries()?.iter() {
            if !states.contains(&entry.state()) {
                continue;
            }
            let owner = entry.owner(); // ordered by the load of the state
            if owner != self.me && !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        Ok(owners)
    }

    /// Changes all entries that wait. Under the lock only. Those whose owners are to be woken are added to `told`.
    pub(super) fn turn_all(
        &self,
        into: State,
        told: &mut Vec<&'static Entry>,
    ) -> Result<(), Corrupted> {
        for entry in self.entries()?.iter() {
            if entry.turn(State::Waiting, into) {
                fault::point("roll.turned");
                told.push(entry);
            }
        }
        Ok(())
    }

    /// Notifies up to `most` of those that wait, those first that have waited longest. Under the lock only. As
    /// [`Roll::turn_all`].
    pub(super) fn notify_first(
        &self,
        most: usize,
        told: &mut Vec<&'static Entry>,
    ) -> Result<(), Corrupted> {
        let last = self.body.tickets.load(Relaxed);
        let mut waiting: Vec<(u32, &'static Entry)> = Vec::new();
        for entry in self.entries()?.iter() {
            let word = entry.word.load(Relaxed); // checked by the exchange in `turn`
            if State::of(word) == State::Waiting {
                waiting.push((last.wrapping_sub(word >> 2) & TICKETS, entry));
            }
        }
        waiting.sort_unstable_by_key(|&(age, _)| std::cmp::Reverse(age));
        // Those that give up at this moment do not count.
        let turned = waiting
            .into_iter()
            .map(|(_, entry)| entry)
            .filter(|entry| entry.turn(State::Waiting, State::Notified))
            .take(most);
        for entry in turned {
            fault::point("roll.turned");
            told.push(entry);
        }
        Ok(())
    }

    /// Gives the notification of an entry to who has waited longest, if it has one, and frees the entry. Under
    /// the lock only. A death in between notifies one too many, never one too few.
    fn pass_on(
        &self,
        entry: &'static Entry,
        told: &mut Vec<&'static Entry>,
    ) -> Result<(), Corrupted> {
        if entry.state() == State::Notified {
            self.notify_first(1, told)?;
            fault::point("roll.passed");
        }
        let state = entry.state();
        entry.turn(state, State::Free);
        Ok(())
    }

    /// Frees the entry of a caller that does not want what it waited for any more. Under the lock only.
    pub(super) fn withdraw(
        &self,
        place: Place,
        told: &mut Vec<&'static Entry>,
    ) -> Result<(), Corrupted> {
        if place.is_still_its() {
            self.pass_on(place.entry, told)?;
        }
        Ok(())
    }

    /// Whether a process has entries here.
    pub(super) fn has_any_of(&self, owner: OwnerId) -> Result<bool, Corrupted> {
        let entries = self.entries()?;
        let mut taken = entries.iter().filter(|it| it.state() != State::Free);
        Ok(taken.any(|entry| entry.owner() == owner))
    }

    /// Whether a process waits here.
    pub(super) fn does_wait(&self, owner: OwnerId) -> Result<bool, Corrupted> {
        let entries = self.entries()?;
        let mut waiting = entries.iter().filter(|it| it.state() == State::Waiting);
        Ok(waiting.any(|entry| entry.owner() == owner))
    }

    /// Frees all entries of a process that has ended. Under the lock only.
    pub(super) fn free_all_of(&self, dead: OwnerId) -> Result<(), Corrupted> {
        for entry in self.entries()?.iter() {
            let state = entry.state();
            if state != State::Free && entry.owner() == dead {
                entry.turn(state, State::Free);
            }
        }
        Ok(())
    }

    /// Frees the entries of a process that has ended, and passes its notifications on. Under the lock only.
    pub(super) fn forget(
        &self,
        dead: OwnerId,
        told: &mut Vec<&'static Entry>,
    ) -> Result<(), Corrupted> {
        let entries = self.entries()?;
        let its = || entries.iter().filter(|entry| entry.owner() == dead);
        for entry in its() {
            // First, so that nothing is passed on to one of these.
            entry.turn(State::Waiting, State::Free);
        }
        for entry in its().filter(|entry| entry.state() != State::Free) {
            self.pass_on(entry, told)?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Roll {
    /// Whether anybody is inside.
    pub(crate) fn is_locked(&self) -> bool {
        self.body.lock.is_held()
    }

    /// Does what the kernel does for a thread that died with the lock, if one has it.
    pub(super) fn die_as_owner_if_held(&self) {
        if self.body.lock.is_held() {
            self.body.lock.die_as_owner();
        }
    }

    pub(super) fn scribble_on_used(&self, value: u32) {
        self.body.used.store(value, Relaxed);
    }

    pub(super) fn scribble_on_extension(&self, page: u64) {
        self.body.extensions[0].page.store(page, Relaxed);
    }
}
