//! Iterators over results.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::calls::Calls;
use super::flow::Flow;
use super::job::Answer;
use crate::error::TaskError;

/// The results of [`Pool::map_unordered`](crate::Pool::map_unordered).
#[must_use = "iterators do nothing unless they are consumed"]
pub struct Unordered<'pool, I: Iterator, R> {
    flow: Flow<'pool, I>,
    result: PhantomData<fn() -> R>,
}

impl<'pool, I: Iterator, R> Unordered<'pool, I, R> {
    pub(super) fn new(flow: Flow<'pool, I>) -> Self {
        Self {
            flow,
            result: PhantomData,
        }
    }
}

impl<I, R> Iterator for Unordered<'_, I, R>
where
    I: Iterator,
    I::Item: Serialize,
    R: DeserializeOwned,
{
    /// The number of the item, and what came of it.
    type Item = (usize, Result<R, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        let (index, answer) = self.flow.next_answer()?;
        Some((index, answer.into_result()))
    }
}

impl<I: Iterator, R> fmt::Debug for Unordered<'_, I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unordered").finish_non_exhaustive()
    }
}

/// The results of [`Pool::map_ordered`](crate::Pool::map_ordered).
#[must_use = "iterators do nothing unless they are consumed"]
pub struct Ordered<'pool, I: Iterator, R> {
    flow: Flow<'pool, I>,
    /// The number of the item whose result is next.
    next: usize,
    /// Answers from there on, as far as they are there.
    kept: VecDeque<Option<Answer>>,
    result: PhantomData<fn() -> R>,
}

impl<'pool, I: Iterator, R> Ordered<'pool, I, R> {
    pub(super) fn new(flow: Flow<'pool, I>) -> Self {
        Self {
            flow,
            next: 0,
            kept: VecDeque::new(),
            result: PhantomData,
        }
    }

    fn keep(&mut self, index: usize, answer: Answer) {
        let at = index - self.next; // what is before it was returned: every task has one answer
        if self.kept.len() <= at {
            self.kept.resize_with(at + 1, || None);
        }
        if let Some(place) = self.kept.get_mut(at) {
            *place = Some(answer);
        }
    }
}

impl<I, R> Iterator for Ordered<'_, I, R>
where
    I: Iterator,
    I::Item: Serialize,
    R: DeserializeOwned,
{
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !matches!(self.kept.front(), Some(Some(_))) {
            let (index, answer) = self.flow.next_to_keep()?;
            self.keep(index, answer);
        }
        self.next += 1;
        self.flow.let_go();
        self.kept.pop_front()?.map(Answer::into_result)
    }
}

impl<I: Iterator, R> fmt::Debug for Ordered<'_, I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ordered")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// Maps any iterator through a pool.
///
/// ```
/// use manycore::{Pool, PoolMap};
///
/// fn is_prime(number: u64) -> bool {
///     number > 1 && (2..number).take_while(|n| n * n <= number).all(|n| number % n != 0)
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let pool = Pool::new(2)?;
///     let primes: Vec<u64> = (1..)
///         .pool_map(&pool, |number: u64| is_prime(number).then_some(number))
///         .filter_map(|result| result.transpose())
///         .take(5)
///         .collect::<Result<_, _>>()?;
///     assert_eq!(primes, [2, 3, 5, 7, 11]);
///     Ok(())
/// }
/// ```
pub trait PoolMap: Iterator + Sized {
    /// As [`Pool::map_ordered`](crate::Pool::map_ordered): what came of `f(item)` for each item, in their order.
    /// The pool may come with what is asked of the tasks: `items.pool_map(pool.retries(2), f)`.
    fn pool_map<'pool, F, R>(self, pool: impl Into<Calls<'pool>>, f: F) -> Ordered<'pool, Self, R>
    where
        F: Fn(Self::Item) -> R + Copy + 'static,
        Self::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        pool.into().map_ordered(f, self)
    }

    /// As [`Pool::map_unordered`](crate::Pool::map_unordered): each with the number of its item, as soon as it is
    /// known.
    ///
    /// ```
    /// # use manycore::{Pool, PoolMap};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # manycore::init();
    /// let pool = Pool::new(2)?;
    /// let words = ["how", "much", "wood"].map(str::to_owned);
    /// let longest = words
    ///     .into_iter()
    ///     .pool_map_unordered(&pool, |word: String| word.len())
    ///     .filter_map(|(index, length)| Some((length.ok()?, index)))
    ///     .max();
    /// assert_eq!(longest, Some((4, 2)));
    /// # Ok(())
    /// # }
    /// ```
    fn pool_map_unordered<'pool, F, R>(
        self,
        pool: impl Into<Calls<'pool>>,
        f: F,
    ) -> Unordered<'pool, Self, R>
    where
        F: Fn(Self::Item) -> R + Copy + 'static,
        Self::Item: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        pool.into().map_unordered(f, self)
    }
}

impl<I: Iterator> PoolMap for I {}
