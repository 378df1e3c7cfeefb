"""What the asynchronous calls of a pool return."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from multiprocessing import pool as _pool
from multiprocessing import util
from typing import TYPE_CHECKING, Any, NamedTuple

from manycore import _engine
from manycore._options import Attempts, Options
from manycore._resting import NAMES
from manycore._seeds import Seed
from manycore.errors import TimeoutError

if TYPE_CHECKING:
    from manycore._calls import Calls

__all__ = ["ApplyResult", "AsyncResult", "MapResult"]

_LONG = 3600.0
"""Seconds that a thread sleeps which is not to go on."""


def deadline(timeout: float | None) -> float | None:
    """When so many seconds have passed from now on."""
    return None if timeout is None else time.monotonic() + timeout


TERMINATED = "the pool was terminated before this task was answered"


def checked(error: BaseException) -> BaseException:
    """An error that is to be raised in the thread that has waited for an answer.

    A daemon thread that still waits when the program ends is told nothing and stays, as with the
    standard library: it would print that on its way.
    """
    if util.is_exiting() and type(error) is RuntimeError and str(error) == TERMINATED:
        thread = threading.current_thread()
        # Ours has callbacks to see to; and who was forked by a daemon thread is none.
        is_main = thread is threading.main_thread()
        while thread.daemon and not is_main and thread.name not in NAMES:
            time.sleep(_LONG)
    return error


class ApplyResult(_engine.Call, _pool.ApplyResult):  # type: ignore[type-arg]
    """The result of one call, now or later."""

    # Not called for usual calls: the engine makes these.
    def __init__(
        self,
        pool: Calls,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        results: list[Any] | None = None,
        **details: Any,
    ) -> None:
        self._callbacks = (callback, error_callback)
        has_callbacks = callback is not None or error_callback is not None
        if has_callbacks:
            details["due"] = pool._attendant.keeper.due
            details["on_answered"] = self._call_back_and_complete
        _engine.Job.__init__(self, results, pool=pool, **details)

    def _call_back_and_complete(self) -> None:
        try:
            self._call_back()
        finally:
            if self._complete():
                self._pool._crew.ring()

    def _call_back(self) -> None:
        if not self._pool._crew.is_ours:
            return  # a forked copy: the process that has made the call is called back
        error = self._error
        callback = self._callbacks[error is not None]
        if callback is not None:
            callback(self._value() if error is None else error)

    def _value(self) -> Any:
        return self._returned

    def ready(self) -> bool:
        """Whether the call has completed."""
        if not self._is_done:
            self._pool._attendant.poll()
        is_ready: bool = self._pool._attendant.has_answer(self)
        return is_ready

    def successful(self) -> bool:
        """Whether the call has completed without an error.

        Raises:
            ValueError: When it has not completed.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the call has completed, at most `timeout` seconds."""
        self._pool._attendant.wait(self, deadline(timeout))

    def cancel(self) -> bool:
        """Cancels what has not been answered; whether there was anything.

        What no worker has begun never runs, and `get` raises `concurrent.futures.CancelledError`;
        once the pool was closed nothing is withdrawn any more. In a task that runs `TaskCancelled`
        is raised, and if it does not end within a second, its worker is killed.
        """
        return not self._is_done and self._pool._attendant.cancel(self)

    def __await__(self) -> Generator[Any, None, Any]:
        from manycore._asyncio import wait_for

        yield from wait_for(self._pool._attendant, self).__await__()
        return self.get()

    def _get(self, timeout: float | None) -> Any:
        """What `get` does where the result is not there, or is no result."""
        if not self._is_done and not self._pool._attendant.wait(self, deadline(timeout)):
            raise TimeoutError
        error = self._error
        if error is not None:
            raise checked(error)
        return self._value()


AsyncResult = ApplyResult


class MapResult(ApplyResult, _pool.MapResult):  # type: ignore[type-arg]
    """The results of a map, now or later."""

    def __init__(
        self,
        pool: Calls,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        *,
        chunks: Chunks,
        function: Callable[..., Any],
        options: Options,
        seed: Seed | None = None,
    ) -> None:
        chunks.job = self
        self._chunksize = chunks.cut.most
        super().__init__(
            pool,
            callback,
            error_callback,
            [None] * len(chunks.items),
            chunk=chunks.cut.first,
            lists=chunks.are_lists,
            shared=chunks.cut.is_shared,
            retry=Attempts(options, chunks.send_again) if options.retries else None,
            about=chunks.about,
            function=function,
            timeout=options.timeout,
            returns_errors=options.on_error == "return",
            seed=seed,
        )

    def _begin(self) -> None:
        """Calls back where there is nothing to wait for."""
        if not self._left and self._callbacks != (None, None):
            self._pool._attendant.keeper.due.add(self._call_back_and_complete)

    @property
    def _number_left(self) -> int:
        # Programs show how many chunks have no answer.
        self._pool._attendant.poll()
        return -(-self._left // self._chunksize)

    def _value(self) -> Any:
        return self._results


class Cut(NamedTuple):
    """How the items of a map are tasks.

    Attributes:
        most: How many items a task has at most.
        grows: Whether the first tasks are smaller, as those of large items are.
        is_shared: Whether, besides, a worker that has run for some milliseconds leaves the rest of
            a task to others.
    """

    most: int
    grows: bool = False
    is_shared: bool = False

    @property
    def first(self) -> int:
        """How many items the first task has."""
        return 1 if self.grows else self.most


class Chunks:
    """The items of a map: the tasks that a job consists of.

    The job refers to it until it is done, and nobody does afterwards, so that no item outlives
    the work on it.
    """

    job: _engine.Job

    def __init__(
        self,
        crew: _engine.Crew,
        head: bytes,
        items: list[Any] | range,
        cut: Cut,
        *,
        star: bool,
        priority: int = 0,
    ) -> None:
        self._crew = crew
        self._head = head
        self.items = items
        self.cut = cut
        self._star = star
        self._priority = priority

    @property
    def are_lists(self) -> bool:
        """Whether a task is a list of items."""
        return self.cut.most > 1

    def send(self, start: int, most_open: int) -> int:
        """Hands out items from `start` on; the first that was not handed out."""
        most = self.cut.most if self.cut.grows else 0
        return self._hand_out(start, len(self.items), most, most_open)

    def send_again(self, item: int) -> None:
        """Hands out a task of one item again."""
        self._hand_out(item, item + 1)

    def about(self, first: int, item: int | None) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The arguments of an item of a task, or of a task that is one item."""
        if item is None and self.are_lists:
            return None
        one: Any = self.items[first + (item or 0)]
        return tuple(one) if self._star else (one,), {}

    def _hand_out(self, start: int, end: int, most: int = 0, most_open: int = 1 << 62) -> int:
        return self._crew.map(
            self.job,
            self._head,
            self.items,
            start,
            end,
            most,
            self._star,
            most_open,
            self._priority,
        )
