//! Many tasks of one function, handed out ahead of their answers, but not too far.

use std::iter::Fuse;
use std::sync::Arc;

use manycore_os::Deadline;
use serde::Serialize;

use super::calls::Calls;
use super::job::{Answer, Job, Target};
use super::owner::Owner;
use crate::codec;
use crate::error::{SendError, TaskError};

/// Tasks that are open at a time while nobody needs the first answers soon.
const BULK: usize = 8192;

/// The same for each worker, while somebody does.
const AHEAD: usize = 16;

/// How far tasks are handed out ahead, and how many answers are worth a wake-up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// All answers together are what is waited for.
    Bulk,
    /// Each answer is.
    Each,
}

/// Hands out a task for each item, and returns the answers as they come.
pub(super) struct Flow<'a, I: Iterator> {
    owner: &'a Owner,
    job: Arc<Job>,
    items: Fuse<I>,
    pace: Pace,
    /// No more tasks are handed out.
    is_over: bool,
    given: usize,
    /// Answers that the caller is done with.
    done: usize,
    /// Answers that have arrived, the next one last.
    ready: Vec<(usize, Answer)>,
}

impl<'a, I: Iterator> Flow<'a, I>
where
    I::Item: Serialize,
{
    pub(super) fn new(calls: Calls<'a>, target: Target, items: I, pace: Pace) -> Self {
        calls.owner.look_after_when_due();
        Self {
            owner: calls.owner,
            job: Arc::new(Job::new(target, calls.terms)),
            items: items.fuse(),
            pace,
            is_over: false,
            given: 0,
            done: 0,
            ready: Vec::new(),
        }
    }

    /// Hands out no more tasks.
    pub(super) fn stop(&mut self) {
        self.is_over = true;
    }

    /// The next answer and the number of its item; `None` when all tasks have been answered.
    pub(super) fn next_answer(&mut self) -> Option<(usize, Answer)> {
        let next = self.next_to_keep();
        self.done += usize::from(next.is_some());
        next
    }

    /// As [`Flow::next_answer`], but the task counts as open, for how many there may be, until
    /// [`Flow::let_go`].
    pub(super) fn next_to_keep(&mut self) -> Option<(usize, Answer)> {
        // Before the last answer is taken: the caller may be long about each, and workers idle then.
        if self.ready.is_empty() || self.open() <= self.most() / 4 * 3 {
            self.hand_out();
        }
        if self.open() == 0 {
            return None;
        }
        if self.ready.is_empty() {
            self.wait();
        }
        self.ready.pop()
    }

    /// The caller is done with an answer that it had kept.
    pub(super) fn let_go(&mut self) {
        self.done += 1;
    }

    /// Tasks that were handed out and with whose answers the caller is not done.
    fn open(&self) -> usize {
        self.given - self.done
    }

    fn most(&self) -> usize {
        match self.pace {
            Pace::Bulk => BULK.max(2 * self.owner.workers()),
            Pace::Each => AHEAD * self.owner.workers(),
        }
    }

    fn hand_out(&mut self) {
        let (few, most) = (2 * self.owner.workers(), self.most());
        while !self.is_over && self.open() < most && (self.open() < few || self.owner.has_room()) {
            match self.items.next() {
                Some(item) => self.hand_out_one(&item),
                None => self.is_over = true,
            }
        }
    }

    fn hand_out_one(&mut self, item: &I::Item) {
        let index = self.given;
        match codec::encode(item) {
            Ok(arguments) => self.owner.hand_out(&self.job, index, arguments),
            Err(error) => {
                let error = TaskError::Unsent(SendError::Encode(error));
                self.job.refuse(index, error);
            }
        }
        self.given += 1;
    }

    /// Waits until there are answers.
    fn wait(&mut self) {
        let want = match self.pace {
            Pace::Each => 1,
            Pace::Bulk if self.is_over => self.open(),
            Pace::Bulk => self.open() / 2,
        };
        while self.ready.is_empty() {
            let seen = self.job.delivered();
            self.job.take(&mut self.ready);
            if self.ready.is_empty() && !self.owner.collect() {
                let job = &self.job;
                let is_news = || job.delivered() > seen;
                self.owner.pause(want, Deadline::NEVER, is_news);
            }
        }
        self.ready.reverse();
    }
}
