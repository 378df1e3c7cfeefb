"""What the asynchronous calls of a pool return."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from multiprocessing import pool as _pool
from typing import TYPE_CHECKING, Any

from manycore import _engine
from manycore._options import Attempts, Options
from manycore._seeds import Seed
from manycore.errors import TimeoutError

if TYPE_CHECKING:
    from manycore._calls import Calls

__all__ = ["ApplyResult", "AsyncResult", "MapResult"]


def deadline(timeout: float | None) -> float | None:
    """When so many seconds have passed from now on."""
    return None if timeout is None else time.monotonic() + timeout


class ApplyResult(_engine.Call, _pool.ApplyResult):  # type: ignore[type-arg]
    """The result of one call, now or later."""

    # Not called for usual calls: the engine makes these.
    def __init__(
        self,
        pool: Calls,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        results: list[Any] | None = None,
        tasks: int = 1,
        chunk: int = 1,
        **details: Any,
    ) -> None:
        self._callbacks = (callback, error_callback)
        has_callbacks = callback is not None or error_callback is not None
        if has_callbacks:
            details["due"] = pool._attendant.keeper.due
            details["on_answered"] = self._call_back_and_complete
        _engine.Job.__init__(self, results, tasks, chunk, pool=pool, **details)

    def _call_back_and_complete(self) -> None:
        try:
            self._call_back()
        finally:
            if self._complete():
                self._pool._crew.ring()

    def _call_back(self) -> None:
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
            raise error
        return self._value()


AsyncResult = ApplyResult


class MapResult(ApplyResult):
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
        items, chunk = len(chunks.items), chunks.chunk
        chunks.job = self
        super().__init__(
            pool,
            callback,
            error_callback,
            [None] * items,
            -(-items // chunk),
            chunk,
            resend=chunks.resend,
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

    def _value(self) -> Any:
        return self._results


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
        items: list[Any],
        chunk: int,
        *,
        star: bool,
        priority: int = 0,
    ) -> None:
        self._crew = crew
        self._head = head
        self.items = items
        self.chunk = chunk
        self._star = star
        self._priority = priority
        # Of chunks whose worker died: tasks behind the chunks, by the numbers of their first items.
        self._rests: list[tuple[int, list[Any]]] = []

    def send(self, start: int, most_open: int) -> int:
        """Hands out items from `start` on; the first that was not handed out."""
        return self._hand_out(self.items, start, most_open, start // self.chunk)

    def resend(self, task: int, item: int) -> None:
        """Hands out what is left of a task whose worker died at an item of it."""
        first, items = self._items_of(task)
        rest = items[item + 1 :]
        if rest:
            number = self._count + len(self._rests)
            first += item + 1
            self._rests.append((first, rest))
            self.job._extend(1)
            self._hand_out(rest, 0, 1 << 62, number, first)

    def send_again(self, task: int) -> None:
        """Hands out a task of one item again."""
        self._hand_out([self.items[task]], 0, 1 << 62, task, task)

    def about(self, task: int, item: int | None) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The arguments of an item of a task, or of a task of one item."""
        if item is None and self.chunk > 1:
            return None
        one = self._items_of(task)[1][item or 0]
        return tuple(one) if self._star else (one,), {}

    def _hand_out(
        self, items: list[Any], start: int, most_open: int, task: int, base: int = 0
    ) -> int:
        return self._crew.map(
            self.job,
            self._head,
            items,
            start,
            self.chunk,
            self._star,
            most_open,
            task,
            self._priority,
            base,
        )

    @property
    def _count(self) -> int:
        return -(-len(self.items) // self.chunk)

    def _items_of(self, task: int) -> tuple[int, list[Any]]:
        """What a task consists of, and the number of the first item.

        It is a chunk, or a rest, whose worker may die, too.
        """
        if task < self._count:
            return task * self.chunk, self.items[task * self.chunk : (task + 1) * self.chunk]
        return self._rests[task - self._count]
