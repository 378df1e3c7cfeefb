//! Functions that run in processes of their own.

use std::fmt;
use std::io;
use std::marker::PhantomData;

use manycore_os::process::Exit;
use manycore_os::{Deadline, image};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{JoinError, SpawnError};
use crate::launch::{Launched, Left, kind};
use crate::panic::Panic;
use crate::{call, codec, launch};

/// Starts processes.
///
/// ```
/// use manycore::Process;
///
/// fn area((width, height): (u64, u64)) -> u64 {
///     width * height
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     manycore::init();
///     let child = Process::spawn(area, (6, 7))?;
///     assert_eq!(child.join()?, 42);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Process {}

impl Process {
    /// Calls `f(arguments)` in a new process of this program.
    ///
    /// `f` is a plain function or a closure that captures nothing: only its type travels. What it
    /// needs is passed as `arguments`, several of them as a tuple; queues and values may be among them.
    /// The new process begins in `main`, reaches [`init`](crate::init) and calls `f` there. It has a
    /// copy of this process's environment, working directory and standard streams, and no other
    /// descriptors. It dies at once when this process ends, however that ends.
    ///
    /// A function that captures something does not compile:
    ///
    /// ```compile_fail,E0080
    /// # fn main() {
    /// let factor = 3;
    /// let child = manycore::Process::spawn(move |number: u32| number * factor, 14);
    /// # }
    /// ```
    ///
    /// # Errors
    /// When `init` was not called, the arguments cannot be encoded, or the system refuses another
    /// process. Nothing was started then.
    pub fn spawn<F, A, R>(f: F, arguments: A) -> Result<Child<R>, SpawnError>
    where
        F: Fn(A) -> R + Copy + 'static,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let _ = (f, image::plain_function::<F>()); // only its type travels; here the error is readable
        let arguments = codec::encode(&arguments)?;
        let launched = launch::launch(call::entry::<F, A, R>(), &arguments)?;
        Ok(Child {
            launched: Some(launched),
            result: PhantomData,
        })
    }
}

/// A process that was started by [`Process::spawn`], and its result to be.
///
/// Dropping a `Child` *detaches* the process: it goes on, nobody is told its result, and it still dies
/// with this process. Join what must be finished before `main` returns.
pub struct Child<R> {
    /// Taken out when the child is joined or dropped.
    launched: Option<Launched>,
    result: PhantomData<fn() -> R>,
}

impl<R> Child<R> {
    fn launched(&self) -> &Launched {
        self.launched
            .as_ref()
            .expect("taken only by methods that consume the child")
    }

    fn launched_mut(&mut self) -> &mut Launched {
        self.launched
            .as_mut()
            .expect("taken only by methods that consume the child")
    }

    /// The process id. It is this child's until its end has been seen by a method of this type.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.launched().pid()
    }

    /// Ends the process with `SIGKILL`, if it has not ended yet. What it held is handed over, what it
    /// had half done is undone: queues and values stay as they were before.
    ///
    /// # Errors
    /// When the process has changed to another user.
    pub fn kill(&mut self) -> io::Result<()> {
        self.launched_mut().kill()
    }

    /// Waits until the process has ended. The result stays for [`Child::join`].
    pub fn wait(&mut self) -> Exit {
        self.launched_mut()
            .wait_until(Deadline::NEVER)
            .unwrap_or(Exit::Unknown)
    }

    /// How the process ended, if it has.
    pub fn try_wait(&mut self) -> Option<Exit> {
        self.wait_until(Deadline::PASSED)
    }

    /// Waits until the process has ended or the deadline has passed.
    pub fn wait_until(&mut self, until: Deadline) -> Option<Exit> {
        self.launched_mut().wait_until(until)
    }
}

impl<R: DeserializeOwned> Child<R> {
    /// Waits until the process has ended; returns what its function returned.
    ///
    /// A result that was delivered counts, however the process ended afterwards.
    ///
    /// # Errors
    /// Why there is no result: the function panicked, the process was killed or exited by itself.
    pub fn join(mut self) -> Result<R, JoinError> {
        let exit = self.wait();
        match self.launched().take_left()? {
            Some(Left {
                kind: kind::ANSWER,
                message,
            }) => call::result(&message).map_err(|why| JoinError::Undelivered { why }),
            Some(Left {
                kind: kind::PANIC,
                message,
            }) => Err(panicked(&message.bytes)),
            Some(_) if matches!(exit, Exit::Code(_)) => Err(JoinError::NeverStarted),
            _ => Err(ended_early(exit)),
        }
    }
}

fn panicked(bytes: &[u8]) -> JoinError {
    match codec::decode(bytes) {
        Ok(Panic { message, location }) => JoinError::Panicked { message, location },
        Err(error) => JoinError::Undelivered {
            why: error.to_string(),
        },
    }
}

fn ended_early(exit: Exit) -> JoinError {
    match exit {
        Exit::Code(code) => JoinError::Exited { code },
        Exit::Signal(signal) => JoinError::Killed { signal },
        Exit::Unknown => JoinError::Vanished,
    }
}

impl<R> Drop for Child<R> {
    fn drop(&mut self) {
        if let Some(launched) = self.launched.take() {
            launch::detach(launched);
        }
    }
}

impl<R> fmt::Debug for Child<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
