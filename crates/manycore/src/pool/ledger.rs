//! Which tasks have no answer yet.

/// Open tasks and what their owner knows about them, by tag.
///
/// A tag is `generation:24 | attempt:12 | index:28`, never zero. An answer with a tag that is not open
/// any more is stale and dropped.
pub struct Ledger<J> {
    entries: Vec<Entry<J>>,
    free: Free,
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
            free: Free::default(),
            open: 0,
        }
    }
}

impl<J> Ledger<J> {
    /// Opens a task; `None` when there are [`MOST_OPEN`] already.
    #[inline]
    pub fn open(&mut self, job: J) -> Option<u64> {
        let index = match self.free.take() {
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
        self.free.give((tag & INDEX) as u32);
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
        self.free = Free::default();
        (0..self.entries.len() as u32).for_each(|index| self.free.give(index));
        self.open = 0;
        jobs
    }
}

/// The entries without a task, a bit for each.
///
/// They are given out in the order of their places, round and round. Tasks that are handed out together, and
/// answered one soon after the other, then lie beside each other, and the processor has the next ones at hand.
/// To find one takes a step for each 64 places at most, and where many are free hardly any.
#[derive(Default)]
struct Free {
    words: Vec<u64>,
    /// The word to look at first.
    at: usize,
    count: usize,
}

impl Free {
    #[inline]
    fn take(&mut self) -> Option<u32> {
        if self.count == 0 {
            return None;
        }
        loop {
            if let Some(word) = self.words.get_mut(self.at) {
                if *word != 0 {
                    let bit = word.trailing_zeros();
                    *word &= *word - 1;
                    self.count -= 1;
                    return Some(self.at as u32 * u64::BITS + bit);
                }
                self.at += 1;
            } else {
                self.at = 0;
            }
        }
    }

    #[inline]
    fn give(&mut self, index: u32) {
        let at = (index / u64::BITS) as usize;
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        if let Some(word) = self.words.get_mut(at) {
            *word |= 1 << (index % u64::BITS);
            self.count += 1;
        }
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
    fn places_are_given_out_in_order_whatever_the_order_in_which_they_were_free() {
        let mut ledger = Ledger::default();
        let places = |tags: &[u64]| tags.iter().map(|tag| tag & INDEX).collect::<Vec<_>>();
        let first: Vec<u64> = (0..200).map(|n| ledger.open(n).expect("room")).collect();
        assert_eq!(places(&first), (0..200).collect::<Vec<_>>());
        for n in (0..200).rev() {
            assert_eq!(ledger.close(first[n]), Some(n));
        }
        let again: Vec<u64> = (0..200).map(|n| ledger.open(n).expect("room")).collect();
        assert_eq!(places(&again), places(&first));
        for n in [150, 3, 151, 7] {
            assert_eq!(ledger.close(again[n]), Some(n));
        }
        let last: Vec<u64> = (0..5).map(|n| ledger.open(n).expect("room")).collect();
        assert_eq!(places(&last), [3, 7, 150, 151, 200]);
        assert_eq!(ledger.len(), 201);
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
