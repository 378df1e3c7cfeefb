//! A pool to be.

use std::num::NonZero;
use std::time::Duration;

use super::terms::Terms;
use super::typed::Pool;
use crate::error::PoolError;

/// Makes a [`Pool`] step by step: how many workers it has, and what holds for its tasks where a call says
/// nothing else.
///
/// ```
/// use std::time::Duration;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let pool = manycore::Pool::builder()
///         .workers(2)
///         .timeout(Duration::from_secs(60))
///         .retries(1)
///         .build()?;
///     assert_eq!(pool.map(|number: u32| number + 1, [1, 2])?, [2, 3]);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "it starts nothing before `build`"]
pub struct PoolBuilder {
    workers: Option<usize>,
    terms: Terms,
}

impl PoolBuilder {
    /// How many workers; without this, one for each CPU that this process may use.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Each task may run for so long; see [`Pool::timeout`].
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.terms.timeout = Some(limit);
        self
    }

    /// Each task may be handed out so often again; see [`Pool::retries`].
    pub fn retries(mut self, most: u32) -> Self {
        self.terms.retries = most;
        self
    }

    /// Whether a task that panics is handed out again, too; see [`Pool::retry_panics`].
    pub fn retry_panics(mut self, shall: bool) -> Self {
        self.terms.after_panics = shall;
        self
    }

    /// Starts the pool.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn build(self) -> Result<Pool, PoolError> {
        let available = || std::thread::available_parallelism().map_or(1, NonZero::get);
        Pool::with_terms(self.workers.unwrap_or_else(available), self.terms)
    }
}
