"""What can go wrong, as exceptions and warnings.

Where the standard library raises a type, ours is a subclass of it.
"""

from __future__ import annotations

import builtins
import signal
import sys
import warnings
from multiprocessing import AuthenticationError, BufferTooShort, ProcessError, TimeoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "AuthenticationError",
    "BufferTooShort",
    "Corrupted",
    "HandleError",
    "HeapFull",
    "LockOwnerDied",
    "MemoryLimitExceeded",
    "ProcessError",
    "ProcessStalled",
    "ShutDown",
    "TaskCancelled",
    "TaskTimeout",
    "TimeoutError",
    "WorkerDied",
]


class Corrupted(ProcessError):
    """Shared memory holds what the engine never writes: some native code wrote out of bounds."""


class HandleError(ProcessError, ValueError):
    """A pickled queue, lock or value leads nowhere: gone, or of another family of processes."""


class HeapFull(ProcessError, MemoryError):
    """The shared heap may not grow by as much as was asked for."""


if sys.version_info >= (3, 13):
    from queue import ShutDown
else:

    class ShutDown(Exception):
        """The queue was shut down: nothing can be put, or it is empty and stays so."""


class WorkerDied(ProcessError, RuntimeError):
    """A worker of a pool ended while it ran a task. Only that task fails; the pool goes on.

    Attributes:
        pid: Process id of the worker.
        exitcode: As `Process.exitcode`: the exit status, or minus the number of the signal.
        function: Name of the function that it ran, where known.
        seconds: For how long it had run it, where known.
        stack: Where the worker was, as text, where it could still say so: see `faulthandler`.
        peak_memory: The most memory in bytes that the worker had at once, where known. What it
            shared with others counts, too.
        task: The function with its arguments, in short, where known.
        evidence: Of one that was killed by SIGKILL: what says that memory had run out, if anything
            does.
        signal: The name of the signal that ended the worker, if one did.
    """

    def __init__(
        self,
        message: str,
        pid: int | None = None,
        exitcode: int | None = None,
        function: str | None = None,
        seconds: float | None = None,
        stack: str | None = None,
        peak_memory: int | None = None,
        task: str | None = None,
        evidence: str | None = None,
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.exitcode = exitcode
        self.function = function
        self.seconds = seconds
        self.stack = stack
        self.peak_memory = peak_memory
        self.task = task
        self.evidence = evidence

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended the worker, if one did."""
        return name_of_signal(self.exitcode)

    @property
    def details(self) -> tuple[Any, ...]:
        """All attributes, in the order of the arguments."""
        return (
            self.pid,
            self.exitcode,
            self.function,
            self.seconds,
            self.stack,
            self.peak_memory,
            self.task,
            self.evidence,
        )

    def __reduce__(self) -> tuple[type[WorkerDied], tuple[object, ...]]:
        return type(self), (str(self), *self.details)


class MemoryLimitExceeded(ProcessError, MemoryError):
    """A task was given up, and its worker killed, since that had more memory than `max_memory`.

    Attributes:
        used: Bytes of private memory that the worker had.
        limit: Bytes that it might have.
    """

    def __init__(self, message: str, used: int | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.used = used
        self.limit = limit

    def __reduce__(self) -> tuple[type[MemoryLimitExceeded], tuple[object, ...]]:
        return type(self), (str(self), self.used, self.limit)


class TaskTimeout(TimeoutError, builtins.TimeoutError):
    """A task ran for longer than its `timeout`.

    It is raised in the task. If that does not end then, its worker is killed, and this is the
    answer.
    """


class TaskCancelled(ProcessError):
    """A task was cancelled while it ran. It is raised in the task."""


class LockOwnerDied(RuntimeWarning):
    """The last holder of a lock was killed while it held it: what it guards may be half-done.

    A warning; or, where a lock was made with `on_owner_death="raise"`, an exception.

    Attributes:
        pid: Process id of the holder.
        lock: The kind of the lock and its number, which is the same in all processes.
    """

    def __init__(self, message: str = "", pid: int | None = None, lock: str | None = None) -> None:
        super().__init__(message)
        self.pid = pid
        self.lock = lock

    def __reduce__(self) -> tuple[type[LockOwnerDied], tuple[object, ...]]:
        return type(self), (str(self), self.pid, self.lock)

    @classmethod
    def refused(cls, pid: int, lock: str) -> LockOwnerDied:
        """What is raised by a lock that nobody gets before what it guards has been repaired."""
        message = (
            f"process {pid} was killed while it held {lock}: repair what the lock guards inside "
            "`with lock.repairing()`"
        )
        return cls(message, pid, lock)


class ProcessStalled(RuntimeWarning):
    """Another process was stopped inside the engine, and this one waits for it."""


def describe_exit(exitcode: int | None) -> str:
    """An exit code in words, as `Process.exitcode` gives it."""
    if exitcode is None:
        return "ended"
    name = name_of_signal(exitcode)
    return f"exited with status {exitcode}" if name is None else f"was killed by {name}"


def name_of_signal(exitcode: int | None) -> str | None:
    """The name of the signal that an exit code stands for; None where it stands for none."""
    if exitcode is None or exitcode >= 0:
        return None
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"


def describe_peak(peak_memory: int | None) -> str:
    """What is added to a message about the memory that a worker had; nothing where unknown."""
    return "" if peak_memory is None else f", having had up to {peak_memory >> 20} MiB of memory"


def peak_memory_of(process: Any) -> int | None:
    """The most memory in bytes that a process had that has ended; None where unknown."""
    # A context may have processes of its own kind.
    peak: int | None = getattr(getattr(process, "_popen", None), "peak_memory", None)
    return peak


def warn_owner_died(pid: int, lock: str) -> None:
    """Warns that the caller got a lock whose holder was killed."""
    message = f"process {pid} was killed while it held {lock}: check what the lock guards"
    warnings.warn(LockOwnerDied(message, pid, lock), stacklevel=2)


def warn_stalled(thread: int, state: str) -> None:
    """Warns that this process waits for one that does not move."""
    reasons = {
        "T": "stopped by a signal",
        "t": "stopped by a debugger",
        "D": "waiting for a device",
    }
    warnings.warn(
        f"waiting for process {thread}, which is {reasons.get(state, 'not running')} inside an "
        "operation; continue or kill it",
        ProcessStalled,
        stacklevel=2,
    )
