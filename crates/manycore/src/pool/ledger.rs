//! Which tasks have no answer yet.

/// Open tasks and what their owner knows about them, by tag.
///
/// A tag is `generation:24 | attempt:12 | index:28`, never zero. An answer with a tag that is not open
/// any more is stale and dropped.
pub struct Ledger<J> {
    entries: Vec<Entry<J>>,
    free: Vec<u32>,
    open: usize,
}

struct Entry<J> {
    generation: u32,
    attempt: u16,
    job: Option<J>,
}

impl<J> Entry<J> {
    fn begin_generation(&mut self) {
        self.generation = (self.generation % GENERATION) + 1; // 1 ..= GENERATION: a tag is never zero
        self.attempt = 0;
    }
}

const INDEX_BITS: u32 = 28;
const ATTEMPT_BITS: u32 = 12;
const INDEX: u64 = (1 << INDEX_BITS) - 1;
const GENERATION: u32 = (1 << 24) - 1;
const MOST_ATTEMPTS: u16 = (1 << ATTEMPT_BITS) - 1;

/// The most tasks that may be open at a time.
pub const MOST_OPEN: usize = 1 << INDEX_BITS;

impl<J> Default for Ledger<J> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            open: 0,
        }
    }
}

impl<J> Ledger<J> {
    /// Opens a task; `None` when there are [`MOST_OPEN`] already.
    #[inline]
    pub fn open(&mut self, job: J) -> Option<u64> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.entries.len() < MOST_OPEN => {
                self.entries.push(Entry {
                    generation: 0,
                    attempt: 0,
                    job: None,
                });
                self.entries.len() as u32 - 1
            }
            None => return None,
        };
        let entry = self.entries.get_mut(index as usize)?;
        entry.begin_generation();
        entry.job = Some(job);
        self.open += 1;
        Some(tag(index, entry))
    }

    /// Closes a task with its answer; `None` when the tag is stale.
    #[inline]
    pub fn close(&mut self, tag: u64) -> Option<J> {
        let entry = self.find(tag)?;
        let job = entry.job.take();
        self.free.push((tag & INDEX) as u32);
        self.open -= 1;
        job
    }

    /// Gives an open task its next tag, because it is handed out again; the one before is stale then. `None`
    /// when it was stale already.
    pub fn reopen(&mut self, stale: u64) -> Option<u64> {
        let entry = self.find(stale)?;
        if entry.attempt < MOST_ATTEMPTS {
            entry.attempt += 1;
        } else {
            entry.begin_generation();
        }
        Some(tag((stale & INDEX) as u32, entry))
    }

    /// What is known about an open task.
    pub fn get(&mut self, tag: u64) -> Option<&mut J> {
        self.find(tag)?.job.as_mut()
    }

    #[inline]
    fn find(&mut self, wanted: u64) -> Option<&mut Entry<J>> {
        let index = (wanted & INDEX) as u32;
        let entry = self.entries.get_mut(index as usize)?;
        (entry.job.is_some() && tag(index, entry) == wanted).then_some(entry)
    }

    /// The tags of open tasks of which `is_wanted` says so. Looks at every place of the ledger.
    pub fn tags(&self, is_wanted: impl Fn(&J) -> bool) -> Vec<u64> {
        let entries = (0u32..).zip(&self.entries);
        entries
            .filter(|(_, entry)| entry.job.as_ref().is_some_and(&is_wanted))
            .map(|(index, entry)| tag(index, entry))
            .collect()
    }

    /// What is known about each open task.
    pub fn iter(&self) -> impl Iterator<Item = &J> {
        self.entries.iter().filter_map(|entry| entry.job.as_ref())
    }

    /// How many tasks are open.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.open
    }

    /// Whether every task has its answer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Closes every task.
    pub fn drain(&mut self) -> Vec<J> {
        let jobs = self
            .entries
            .iter_mut()
            .filter_map(|entry| entry.job.take())
            .collect();
        self.free = (0..self.entries.len() as u32).rev().collect();
        self.open = 0;
        jobs
    }
}

#[inline]
fn tag<J>(index: u32, entry: &Entry<J>) -> u64 {
    (u64::from(entry.generation) << (INDEX_BITS + ATTEMPT_BITS))
        | (u64::from(entry.attempt) << INDEX_BITS)
        | u64::from(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_answered_once() {
        let mut ledger = Ledger::default();
        let (a, b) = (
            ledger.open('a').expect("room"),
            ledger.open('b').expect("room"),
        );
        assert_ne!(a, b);
        assert_eq!(ledger.close(a), Some('a'));
        assert_eq!(ledger.close(a), None);
        assert_eq!(ledger.len(), 1);
        assert_eq!(ledger.close(b), Some('b'));
        assert!(ledger.is_empty());
    }

    #[test]
    fn each_attempt_at_a_task_has_a_tag_of_its_own() {
        let mut ledger = Ledger::default();
        let other = ledger.open('b').expect("room");
        let mut tags = vec![ledger.open('a').expect("room")];
        for _ in 0..2 * u32::from(MOST_ATTEMPTS) {
            let last = tags[tags.len() - 1];
            let next = ledger.reopen(last).expect("open");
            assert_eq!((ledger.reopen(last), ledger.get(last)), (None, None));
            tags.push(next);
        }
        let last = tags[tags.len() - 1];
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), 1 + 2 * usize::from(MOST_ATTEMPTS));
        assert_eq!((ledger.close(last), ledger.len()), (Some('a'), 1));
        assert_eq!(
            (ledger.reopen(last), ledger.close(other)),
            (None, Some('b'))
        );
    }

    #[test]
    fn a_stale_tag_does_not_close_the_next_task_in_its_place() {
        let mut ledger = Ledger::default();
        let old = ledger.open(1).expect("room");
        ledger.close(old);
        let new = ledger.open(2).expect("room");
        assert_eq!(ledger.close(old), None);
        assert_eq!(ledger.get(new), Some(&mut 2));
        assert_eq!(ledger.tags(|&job| job == 2), [new]);
        assert_eq!(ledger.tags(|&job| job == 1), [0u64; 0]);
        assert_eq!(ledger.drain(), [2]);
        assert_eq!(ledger.close(new), None);
    }
}
