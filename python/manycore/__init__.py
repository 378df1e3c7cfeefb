"""Process-based parallelism that is fast and cannot hang.

A drop-in for the standard library's `multiprocessing` on a Rust engine: change the import, keep
the rest.
"""

from __future__ import annotations

import atexit as _atexit
import sys as _sys

if not _sys.platform.startswith("linux"):
    raise ImportError("manycore runs on Linux only: it is built on memfd, futex and pidfd")

from multiprocessing import SUBDEBUG, SUBWARNING  # type: ignore[attr-defined]

from manycore import _engine, context
from manycore import process as _process
from manycore import reduction as reduction
from manycore._cpus import available_cpus
from manycore._install import install
from manycore.errors import (
    AuthenticationError,
    BufferTooShort,
    Corrupted,
    HandleError,
    HeapFull,
    LockOwnerDied,
    MemoryLimitExceeded,
    ProcessError,
    ProcessStalled,
    ShutDown,
    TaskCancelled,
    TaskTimeout,
    TimeoutError,
    WorkerDied,
)

TYPE_CHECKING = False  # `typing` would cost every child by `spawn` its import
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from typing import Any

    from manycore._records import LogReceiver
    from manycore.executor import ProcessPoolExecutor
    from manycore.pipelines import Pipeline, Stage
    from manycore.pool import Worker

_default = context._default_context

Array = _default.Array
Barrier = _default.Barrier
BoundedSemaphore = _default.BoundedSemaphore
Condition = _default.Condition
Event = _default.Event
JoinableQueue = _default.JoinableQueue
Lock = _default.Lock
Manager = _default.Manager
Pipe = _default.Pipe
Pool = _default.Pool
Process = context.Process
Queue = _default.Queue
RLock = _default.RLock
RWLock = _default.RWLock
RawArray = _default.RawArray
RawValue = _default.RawValue
Semaphore = _default.Semaphore
SharedDict = _default.SharedDict
SimpleQueue = _default.SimpleQueue
Value = _default.Value
active_children = _process.active_children
allow_connection_pickling = _default.allow_connection_pickling
atomic = _default.atomic
cpu_count = _default.cpu_count
current_process = _process.current_process
freeze_support = _default.freeze_support
get_all_start_methods = _default.get_all_start_methods
get_context = _default.get_context
get_logger = _default.get_logger
get_start_method = _default.get_start_method
log_to_stderr = _default.log_to_stderr
ndarray = _default.ndarray
parent_process = _process.parent_process
reducer = _default.reducer
set_executable = _default.set_executable
set_forkserver_preload = _default.set_forkserver_preload
set_start_method = _default.set_start_method
share = _default.share

__version__ = _engine.__version__

__all__ = [
    "SUBDEBUG",
    "SUBWARNING",
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Corrupted",
    "Event",
    "HandleError",
    "HeapFull",
    "JoinableQueue",
    "Lock",
    "LockOwnerDied",
    "Manager",
    "MemoryLimitExceeded",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "ProcessPoolExecutor",
    "ProcessStalled",
    "Queue",
    "RLock",
    "RWLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SharedDict",
    "ShutDown",
    "SimpleQueue",
    "TaskCancelled",
    "TaskTimeout",
    "TimeoutError",
    "Value",
    "WorkerDied",
    "active_children",
    "allow_connection_pickling",
    "atomic",
    "available_cpus",
    "cpu_count",
    "current_process",
    "current_worker",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "install",
    "log_to_parent",
    "log_to_stderr",
    "ndarray",
    "parent_process",
    "pipeline",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "share",
    "stage",
    "task_seed",
]


def current_worker() -> Worker | None:
    """The worker of a pool that calls this: its `id` and its `state`.

    None outside of a pool's workers.
    """
    from manycore._worker import current_worker

    return current_worker()


def task_seed() -> int:
    """The seed of the pool's task that calls this: for random generators of its own.

    It is a number below 2**128, the same for the same `seed` and item, and another for each item.

    Raises:
        RuntimeError: When the call to the pool had no `seed`, or this is no task of a pool.
    """
    from manycore._seeds import task_seed

    return task_seed()


def log_to_parent(logger: str | logging.Logger | None = None, level: int | str = 0) -> LogReceiver:
    """Has this process handle what its workers log: those that it starts from now on.

    A record goes to the handlers of the logger of its name, here, if that is enabled here. It has
    the `process`, `processName` and `taskName` of the worker, and its message is formatted. The
    worker's own loggers lose the handlers that they have when its work begins, and have the levels
    that they have here.

    Args:
        logger: Above which records are left to the worker; by default all are sent.
        level: What is below is not sent.

    Returns:
        A context manager, and `stop()`: ends it, once everything that was logged is handled. What
        is left when the program ends is handled then.
    """
    from manycore._records import LogReceiver

    return LogReceiver(logger, level)


def pipeline(
    *stages: Any, on_error: str = "raise", context: Any = None, progress: bool = False
) -> Pipeline:
    """Functions, each in processes of its own, that hand items on from one to the next.

    Args:
        stages: The first is an iterable, which this process goes through, or a function without
            arguments that returns one, such as a generator function. Each other is a function of
            one item, or a `stage`.
        on_error: What becomes of an item that fails: `"raise"` ends the pipeline with the error,
            `"skip"` leaves the item out, `"return"` has the error come out in its place.
        context: The context that starts the workers.
        progress: Whether a bar is shown for each stage, by tqdm.

    Returns:
        An iterator over what the last stage makes; its `run` goes through all of it.
    """
    from manycore.pipelines import Pipeline

    return Pipeline(stages, on_error=on_error, context=context, progress=progress)


def stage(
    function: Callable[..., Any],
    *,
    workers: int = 1,
    ordered: bool = True,
    init: Callable[[], Any] | None = None,
    retries: int = 0,
    on_error: str | None = None,
    maxsize: int = 0,
    maxbytes: int = 0,
    in_caller: bool = False,
    name: str | None = None,
    timeout: float | None = None,
) -> Stage:
    """A stage for `pipeline`, where a plain function is not enough.

    Args:
        function: Takes an item and returns one; or a generator function, which takes an item and
            yields any number. The first stage's takes none.
        workers: In how many processes it runs.
        ordered: Whether its results go on in the order of its items.
        init: Called once in each worker; what it returns is the last argument of each call. In the
            end that is left, where it is a context manager, and closed, where it has `close`.
        retries: How often an item is worked on again whose worker died. A generator that is run
            again has to yield the same again: what has gone on is left out.
        on_error: What becomes of an item that fails, if not what is said for the whole pipeline.
        maxsize: The most items inside the stage: waiting, in work, or waiting for the next stage;
            by default 256 for each worker.
        maxbytes: The most bytes of such items; by default 64 MiB.
        in_caller: For the last stage: whether it runs in the process that has the pipeline.
        name: What it is called in messages; by default what the function is.
        timeout: Seconds that the function may take for an item, those aside in which its results
            wait for room. Then `TaskTimeout` is raised in it; if it does not end within a second,
            its worker is killed and replaced.
    """
    from manycore.pipelines import Stage

    return Stage(
        function,
        workers=workers,
        ordered=ordered,
        init=init,
        retries=retries,
        on_error=on_error,
        maxsize=maxsize,
        maxbytes=maxbytes,
        in_caller=in_caller,
        name=name,
        timeout=timeout,
    )


def __getattr__(name: str) -> Any:
    # Imported at the first need, since `concurrent.futures` is not small.
    if name == "ProcessPoolExecutor":
        from manycore.executor import ProcessPoolExecutor

        return ProcessPoolExecutor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Registered first, so it runs last: what the program's own exit functions release counts as
# released.
_atexit.register(_engine.leave_family)
