//! How the items of a map are tasks: each is named by the number of its first item.

/// Where the tasks of a map begin and end.
pub struct Cuts {
    items: usize,
    /// By where they start; the first one starts at item zero.
    runs: Vec<Run>,
}

/// From an item on, up to where the next run starts, tasks have so many items, the last one perhaps fewer.
#[derive(Clone, Copy, Default)]
struct Run {
    start: usize,
    size: usize,
}

impl Cuts {
    /// So many items, `size` of them in each task.
    #[must_use]
    pub fn new(items: usize, size: usize) -> Self {
        Self {
            items,
            runs: vec![Run { start: 0, size }],
        }
    }

    /// The first item behind the task that begins with this one.
    #[must_use]
    pub fn end_of(&self, first: usize) -> usize {
        let (n, run) = self.run_of(first);
        let next = self.runs.get(n + 1).map_or(self.items, |run| run.start);
        first.saturating_add(run.size).min(next)
    }

    /// Has the items from `start` to `end` be tasks of `size` items. A task ends at `end`, and no run begins between the
    /// two.
    pub fn cut(&mut self, start: usize, end: usize, size: usize) {
        let (_, before) = self.run_of(start);
        if end < self.items {
            self.begin(end, before.size, false);
        }
        self.begin(start, size, true);
    }

    /// Has a run start there, also where one does already if `anew`.
    fn begin(&mut self, start: usize, size: usize, anew: bool) {
        let run = Run { start, size };
        match self.runs.binary_search_by_key(&start, |run| run.start) {
            Ok(n) if anew => self.runs.splice(n..=n, [run]).for_each(drop),
            Ok(_) => {}
            Err(n) => self.runs.insert(n, run),
        }
    }

    fn run_of(&self, item: usize) -> (usize, Run) {
        let n = self.runs.partition_point(|run| run.start <= item);
        let n = n.saturating_sub(1);
        (n, self.runs.get(n).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(cuts: &Cuts) -> Vec<usize> {
        let mut firsts = vec![0];
        while let Some(&first) = firsts.last()
            && cuts.end_of(first) < cuts.items
        {
            firsts.push(cuts.end_of(first));
        }
        firsts
    }

    #[test]
    fn the_last_task_may_have_fewer_items() {
        let cuts = Cuts::new(10, 4);
        assert_eq!(tasks(&cuts), [0, 4, 8]);
        assert_eq!(cuts.end_of(8), 10);
    }

    #[test]
    fn what_is_left_of_a_task_is_cut_by_itself() {
        let mut cuts = Cuts::new(20, 8);
        cuts.cut(2, cuts.end_of(0), 3);
        assert_eq!(tasks(&cuts), [0, 2, 5, 8, 16]);
        assert_eq!((cuts.end_of(0), cuts.end_of(5)), (2, 8));
        cuts.cut(7, cuts.end_of(5), 3); // and again
        assert_eq!(tasks(&cuts), [0, 2, 5, 7, 8, 16]);
        cuts.cut(18, cuts.end_of(16), 1); // at the end
        assert_eq!(tasks(&cuts), [0, 2, 5, 7, 8, 16, 18, 19]);
    }

    #[test]
    fn the_size_changes_from_an_item_on() {
        let mut cuts = Cuts::new(20, 1);
        cuts.cut(1, 20, 2);
        cuts.cut(3, 20, 4);
        cuts.cut(3, 20, 5);
        assert_eq!(tasks(&cuts), [0, 1, 3, 8, 13, 18]);
    }
}
