//! What one caller of a pool waits for.

use std::any::type_name;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use manycore_os::image;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::terms::Terms;
use crate::call;
use crate::codec::Encoded;
use crate::error::TaskError;

/// What came of a task. It is decoded by the thread that waits for it, whoever has received it.
#[derive(Debug)]
pub(super) enum Answer {
    /// What a worker sent.
    Arrived(Encoded),
    /// Why nothing will arrive.
    Failed(TaskError),
}

impl Answer {
    /// The result of the task's function.
    pub(super) fn into_result<R: DeserializeOwned>(self) -> Result<R, TaskError> {
        match self {
            Self::Arrived(answer) => {
                call::result(&answer).map_err(|why| TaskError::Undelivered { why })
            }
            Self::Failed(error) => Err(error),
        }
    }
}

/// What a task calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// The place of its entry in the program; `None` if that is not in the program itself.
    pub(super) place: Option<u64>,
    /// The type of the function.
    pub(super) function: &'static str,
}

impl Target {
    /// The call of this function with such arguments.
    pub(super) fn of<F, A, R>(_: F) -> Self
    where
        F: Fn(A) -> R + Copy + 'static,
        A: DeserializeOwned,
        R: Serialize,
    {
        let _ = image::plain_function::<F>(); // only its type travels; here the error is readable
        Self {
            place: image::offset_of(call::entry::<F, A, R>()),
            function: type_name::<F>(),
        }
    }
}

/// The tasks of one caller, and their answers until the caller takes them.
#[derive(Debug)]
pub(super) struct Job {
    /// What each of them calls.
    pub(super) target: Target,
    /// What holds for each of them.
    pub(super) terms: Terms,
    inbox: Mutex<Inbox>,
    delivered: AtomicU64,
}

#[derive(Debug, Default)]
struct Inbox {
    answers: Vec<(usize, Answer)>,
    /// Of the caller that wants to be woken for the next answer.
    waker: Option<Waker>,
}

/// What came of a caller's wish to be woken.
#[derive(Debug)]
pub(super) enum Wish {
    /// It will be, and would not have been before.
    New,
    /// It will be, in place of this one that it gave before.
    Changed(Waker),
    /// There is an answer already.
    Answered(Answer),
}

impl Job {
    pub(super) fn new(target: Target, terms: Terms) -> Self {
        Self {
            target,
            terms,
            inbox: Mutex::default(),
            delivered: AtomicU64::new(0),
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the answer to the caller's task of this number. Returns whom to wake, without any lock.
    #[must_use]
    pub(super) fn deliver(&self, index: usize, answer: Answer) -> Option<Waker> {
        let mut inbox = self.inbox();
        inbox.answers.push((index, answer));
        // SeqCst, after the answer is there: the caller sees the count, or whoever delivers sees the
        // caller waiting (`Owner::pause`).
        self.delivered.fetch_add(1, SeqCst);
        inbox.waker.take()
    }

    /// Fails a task that was not handed out. Nobody waits for its answer yet.
    pub(super) fn refuse(&self, index: usize, error: TaskError) {
        drop(self.deliver(index, Answer::Failed(error)));
    }

    /// How many answers there have been.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(SeqCst) // see `deliver`
    }

    /// Moves what has arrived behind what is in `into`.
    pub(super) fn take(&self, into: &mut Vec<(usize, Answer)>) {
        into.append(&mut self.inbox().answers);
    }

    /// Takes an answer, if there is one.
    pub(super) fn take_one(&self) -> Option<(usize, Answer)> {
        self.inbox().answers.pop()
    }

    /// Takes the answer, if there is one; else keeps the waker for it.
    pub(super) fn take_or_wake(&self, waker: Waker) -> Wish {
        let mut inbox = self.inbox();
        match inbox.answers.pop() {
            Some((_, answer)) => Wish::Answered(answer),
            None => inbox.waker.replace(waker).map_or(Wish::New, Wish::Changed),
        }
    }

    /// Wakes nobody any more. Returns whom it would have woken.
    pub(super) fn forget_waker(&self) -> Option<Waker> {
        self.inbox().waker.take()
    }
}
