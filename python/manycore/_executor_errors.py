"""What fails in the calls of an executor, as its callers expect it: mostly `BrokenProcessPool`."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from multiprocessing.pool import (  # type: ignore[attr-defined]
    MaybeEncodingError,
    RemoteTraceback,
)
from pickle import PicklingError
from typing import Any

from manycore.errors import WorkerDied


class BrokenWorker(WorkerDied, BrokenProcessPool):
    """A worker ended while it ran a call. Only that future fails; the executor goes on.

    Attributes:
        pid: Process id of the worker.
        exitcode: As `Process.exitcode`: the exit status, or minus the number of the signal.
        function: Name of the function that it ran, where known.
        seconds: For how long it had run it, where known.
        stack: Where the worker was, as text, where it could still say so.
        peak_memory: The most memory in bytes that the worker had at once, where known.
        task: The function with its arguments, in short, where known.
        evidence: Of one that was killed by SIGKILL: what says that memory had run out, if anything
            does.
        signal: The name of the signal that ended the worker, if one did.
    """


class UndecodableResult(BrokenProcessPool):
    """A call's result arrived, but could not be unpickled; the cause is what that raised.

    Only that future fails; the executor goes on.
    """


class UndecodableCall(BrokenProcessPool):
    """A worker could not unpickle a call; the cause has the worker's traceback.

    Only that future fails; the executor goes on.
    """


class UnsendableResult(MaybeEncodingError, PicklingError):  # type: ignore[misc]
    """A call's result, or its exception, could not be pickled."""


def undecodable_call(error: BaseException) -> UndecodableCall:
    """What a worker answers to a call that it cannot unpickle."""
    undecodable = UndecodableCall(f"a call cannot be unpickled: {error!r}")
    undecodable.__cause__ = error
    return undecodable


def as_remote(cause: Any) -> Any:
    """The traceback of a worker as executors show it."""
    return _RemoteTraceback(cause.tb) if type(cause) is RemoteTraceback else cause


def failed_initializer(text: str) -> BrokenProcessPool:
    """What calls fail with when a worker's initializer has: its traceback is given."""
    error = BrokenProcessPool(
        "the initializer of a worker failed, so no call can be run: "
        + text.strip().rpartition("\n")[2]
    )
    cause: Any = f'\n"""\n{text}"""'
    error.__cause__ = _RemoteTraceback(cause)
    return error
