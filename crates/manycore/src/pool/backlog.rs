//! Tasks that wait at their owner instead of in the task ring: in the order of their priority, and able
//! to be withdrawn.
//!
//! Tasks go straight into the ring, which costs nothing more. Only once one of them is to be withdrawn,
//! or has a priority, does the owner take all of them back, as a consumer of the ring like any other:
//! what it gets, no worker has. From then on, until the backlog is empty, new tasks go here, too, and
//! the ring is given no more than the workers need to stay busy.
//!
//! A message is kept and handed on as it is. Its blocks are the owner's meanwhile, its handles go on
//! counting as in flight.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};

use manycore_ipc::block::BlockRef;
use manycore_ipc::ring::{Message, Outgoing, PutError};
use manycore_ipc::wait::Patience;
use manycore_ipc::{Family, Handle, HandleError};
use manycore_os::Deadline;

use super::Crew;

/// The message of a task that is in no ring.
#[derive(Debug, Default)]
pub struct Waiting {
    /// What the payload is, for the worker.
    pub kind: u8,
    /// The task's tag.
    pub tag: u64,
    /// The payload.
    pub payload: Vec<u8>,
    /// Blocks that belong to it, which this process fills or holds.
    pub blocks: Vec<BlockRef>,
    /// Handles in it, which count as in flight.
    pub handles: Vec<Handle>,
}

/// The order in which tasks are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    priority: Reverse<i64>,
    number: u64,
}

/// A task that could not be put into the ring, and why. It is not in the backlog any more.
#[derive(Debug)]
pub struct NotFed {
    /// Its tag.
    pub tag: u64,
    /// What prevented it.
    pub error: PutError,
}

/// The tasks of a crew that are in no ring.
#[derive(Debug)]
pub struct Backlog {
    waiting: BTreeMap<Rank, Waiting>,
    ranks: HashMap<u64, Rank>,
    /// Those put into the ring last, the latest at the end: what is in it has a rank here.
    fed: VecDeque<(u64, Rank)>,
    next: u64,
    /// The process whose tasks these are. A forked copy of it has the memory, but not the blocks.
    process: u32,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            ranks: HashMap::new(),
            fed: VecDeque::new(),
            next: 0,
            process: std::process::id(),
        }
    }
}

impl Backlog {
    /// Whether no task waits here.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many tasks wait here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a task waits here.
    #[must_use]
    pub fn has(&self, tag: u64) -> bool {
        self.ranks.contains_key(&tag)
    }

    /// The tags of all tasks here, those first that are handed out first.
    pub fn tags(&self) -> impl Iterator<Item = u64> {
        self.waiting.values().map(|task| task.tag)
    }

    /// Adds a task, behind those of the same priority. The higher is handed out first.
    pub fn insert(&mut self, task: Waiting, priority: i64) {
        let rank = Rank {
            priority: Reverse(priority),
            number: self.next,
        };
        self.next += 1;
        self.insert_at(rank, task);
    }

    fn insert_at(&mut self, rank: Rank, task: Waiting) {
        self.ranks.insert(task.tag, rank);
        self.waiting.insert(rank, task);
    }

    /// Whether a task of this priority would come before one that is in the ring.
    #[must_use]
    pub fn overtakes(&self, priority: i64) -> bool {
        self.fed
            .iter()
            .any(|(_, rank)| rank.priority > Reverse(priority))
    }

    /// Whether a task of priority 0 may go straight into the ring: nothing waits here, and nothing is in the ring that it
    /// would overtake.
    #[inline]
    pub fn lets_pass(&mut self, crew: &Crew) -> bool {
        self.waiting.is_empty() && (self.fed.is_empty() || self.has_fed_none_below(crew))
    }

    #[cold]
    fn has_fed_none_below(&mut self, crew: &Crew) -> bool {
        if crew.queued() == 0 {
            self.fed.clear(); // workers have them all
        }
        !self.overtakes(0)
    }

    /// Takes every task out of the ring that no worker has taken. No worker takes one meanwhile, which would be a later
    /// one than some that wait here afterwards. `false`, and nothing is taken, while a worker does: [`Crew::settle`] waits
    /// for that.
    ///
    /// # Errors
    /// When the ring's bytes make no sense.
    pub fn try_withdraw(&mut self, crew: &Crew) -> Result<bool, HandleError> {
        let family = crew.family();
        let taken = crew
            .tasks()?
            .try_take_all(|message| self.take_back(family, message))?;
        if taken {
            self.fed.clear();
        }
        Ok(taken)
    }

    fn take_back(&mut self, family: &Family, message: &mut Message) {
        let handle = |(index, generation)| Handle {
            family: family.number(),
            index,
            generation,
        };
        let task = Waiting {
            kind: message.header.kind,
            tag: message.header.tag,
            payload: std::mem::take(&mut message.payload),
            blocks: std::mem::take(&mut message.blocks),
            handles: message.handles.drain(..).map(handle).collect(),
        };
        let fed = self.fed.iter().find(|(tag, _)| *tag == task.tag);
        match fed.map(|(_, rank)| *rank) {
            Some(rank) => self.insert_at(rank, task),
            None => self.insert(task, 0),
        }
    }

    /// Takes a task out: no worker will ever have it.
    pub fn remove(&mut self, tag: u64) -> Option<Waiting> {
        let rank = self.ranks.remove(&tag)?;
        self.waiting.remove(&rank)
    }

    /// Puts tasks into the ring until it has `most`.
    ///
    /// # Errors
    /// The first task that cannot be put. Call again for the others.
    pub fn feed(&mut self, crew: &Crew, most: u64) -> Result<(), NotFed> {
        if self.process != std::process::id() {
            self.forget();
            return Ok(());
        }
        let Ok(ring) = crew.tasks() else {
            return Ok(());
        };
        let mut go_on = || true;
        while ring.len() < most {
            let Some((rank, task)) = self.waiting.pop_first() else {
                return Ok(());
            };
            self.ranks.remove(&task.tag);
            let mut patience = Patience::new(Deadline::NEVER, &mut go_on);
            if let Err(error) = ring.put(&task.outgoing(), &mut patience) {
                let tag = task.tag;
                task.discard(crew);
                return Err(NotFed { tag, error });
            }
            self.fed.push_back((task.tag, rank));
            if self.fed.len() as u64 > most {
                self.fed.pop_front(); // the ring keeps the order, so a worker has this one
            }
        }
        Ok(())
    }

    /// Drops every task.
    pub fn discard_all(&mut self, crew: &Crew) {
        self.ranks.clear();
        self.fed.clear();
        for task in std::mem::take(&mut self.waiting).into_values() {
            task.discard(crew);
        }
    }

    /// Leaves the tasks to the process that they belong to.
    fn forget(&mut self) {
        self.waiting.clear();
        self.ranks.clear();
        self.fed.clear();
    }
}

impl Waiting {
    fn outgoing(&self) -> Outgoing<'_> {
        Outgoing {
            kind: self.kind,
            tag: self.tag,
            blocks: &self.blocks,
            handles: &self.handles,
            payload: &self.payload,
        }
    }

    /// Frees what belongs to a task that will not be run.
    pub fn discard(self, crew: &Crew) {
        let family = crew.family();
        if let Ok(blocks) = family.blocks() {
            for block in self.blocks {
                blocks.free(block);
            }
        }
        family.unsend(&self.handles);
    }
}
