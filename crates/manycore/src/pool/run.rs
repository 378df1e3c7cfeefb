//! What a task was doing when its worker ended.

use std::fmt;
use std::time::Duration;

/// A run of a task that ended with its worker.
///
/// ```
/// use manycore::Pool;
/// use manycore::error::TaskError;
///
/// fn leave(status: i32) {
///     std::process::exit(status)
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let pool = Pool::new(1)?;
///     let Err(TaskError::Exited { code, run }) = pool.retries(2).submit(leave, 3).join() else {
///         panic!("it exits each time");
///     };
///     assert_eq!((code, run.attempts), (3, 3));
///     assert!(run.function.ends_with("leave"));
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// The type of the function, which is its path in the program; that of a closure ends in `{{closure}}`.
    pub function: &'static str,
    /// How long it had run when the end of its worker was noticed; `None` if it had not begun.
    pub lasted: Option<Duration>,
    /// How often the task was handed out, this run counted.
    pub attempts: u32,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lasted {
            Some(lasted) => write!(f, "it had run `{}` for {lasted:.1?}", self.function)?,
            None => write!(f, "it was about to run `{}`", self.function)?,
        }
        if self.attempts > 1 {
            write!(f, ", in the last of {} attempts", self.attempts)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_in_words() {
        let mut run = Run {
            function: "sums::add",
            lasted: None,
            attempts: 1,
        };
        assert_eq!(run.to_string(), "it was about to run `sums::add`");
        (run.lasted, run.attempts) = (Some(Duration::from_millis(1250)), 3);
        assert_eq!(
            run.to_string(),
            "it had run `sums::add` for 1.2s, in the last of 3 attempts"
        );
    }
}
