"""Pools of worker processes: every task gets exactly one answer.

`Pool` is the standard library's, on the engine's rings. Differences: a worker that is killed fails
only the task it ran, with `WorkerDied`; results are collected by whoever waits for one, so a pool
has no threads unless callbacks are used; workers may have children.
"""

from __future__ import annotations

import os
import time
import warnings
from abc import ABCMeta
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from multiprocessing import pool as _pool
from multiprocessing import util
from multiprocessing.pool import (  # type: ignore[attr-defined]
    CLOSE,
    RUN,
    TERMINATE,
    MaybeEncodingError,
    RemoteTraceback,
    ThreadPool,
)
from types import MappingProxyType
from typing import Any

from manycore import _engine, _thread_limits
from manycore._cpus import available_cpus
from manycore._functions import Functions
from manycore._keeper import Keeper
from manycore._rest import pass_on_rest
from manycore._results import (
    ApplyResult,
    AsyncResult,
    Chunks,
    IMapIterator,
    IMapUnorderedIterator,
    MapResult,
)
from manycore._withdrawn import withdrawn
from manycore._workers import Workers
from manycore.context import _default_context

__all__ = ["Pool", "ThreadPool"]

AsyncResult = AsyncResult
MaybeEncodingError = MaybeEncodingError
RemoteTraceback = RemoteTraceback

_MOST_OPEN = 8192
"""Tasks of a `map` that are handed out ahead of their answers."""

_AHEAD = 16
"""Tasks for each worker that a lazy map hands out ahead of what was fetched."""

_MOMENT = 0.0005
"""Seconds that a lazy map waits for more than one answer."""

_NONE: Mapping[str, Any] = MappingProxyType({})

_LOOK_AFTER = 0.05
"""Seconds between two looks at whether all workers live."""


def _name(func: Callable[..., Any]) -> str | None:
    """How a function is called in messages."""
    inner = getattr(func, "func", func)  # functools.partial
    return getattr(inner, "__qualname__", None) or type(inner).__qualname__


def _stop(owner: int, workers: Workers, crew: _engine.Crew) -> None:
    """Ends a pool that nobody uses any more."""
    if owner != os.getpid():
        return  # a forked copy of the pool: the workers are not ours
    workers.terminate()
    workers.abandon(RuntimeError("the pool was terminated before this task was answered"))


class Pool(_pool.Pool, metaclass=ABCMeta):
    """A pool of worker processes.

    Args:
        processes: How many workers; by default as many as there are CPUs.
        initializer: Called in each worker before its first task.
        initargs: The initializer's arguments.
        maxtasksperchild: After how many tasks a worker is replaced; by default never.
        context: The context that starts the workers.
        limit_threads: Whether the variables are set in each worker that give numerical libraries
            their share of the CPUs: docs/api/processes.md lists them.

    Raises:
        ValueError: When a number is below one.
        TypeError: When the initializer cannot be called.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        limit_threads: bool = True,
    ) -> None:
        self._state = RUN
        count = available_cpus() if processes is None else processes
        if count < 1:
            raise ValueError(
                f"Number of processes must be at least 1, not {count}; leave it out for one per CPU"
            )
        if maxtasksperchild is not None and (
            not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0  # type: ignore[redundant-expr]
        ):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._ctx = context or _default_context.get_context()
        self._processes = count
        self._crew = _engine.Crew(2 * count)
        self._functions = Functions(self._crew, self._ctx.get_start_method())
        self._workers = Workers(
            self._ctx,
            self._crew,
            count,
            initializer,
            tuple(initargs),
            maxtasksperchild,
            _thread_limits.for_workers(count) if limit_threads else {},
        )
        self._streams: list[IMapIterator] = []
        self._next_look = 0.0
        self._keeper = Keeper(self)
        self._has_callbacks = False
        try:
            self._start_workers()
        except BaseException:
            self._workers.terminate()
            raise
        self._terminate = util.Finalize(
            self, _stop, args=(os.getpid(), self._workers, self._crew), exitpriority=15
        )

    def _start_workers(self) -> None:
        self._workers.start()

    def __del__(self) -> None:
        if self._state == RUN and "_terminate" in self.__dict__:
            warnings.warn(
                f"unclosed running multiprocessing pool {self!r}",
                ResourceWarning,
                stacklevel=1,
                source=self,
            )
            self._terminate()

    def __repr__(self) -> str:
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        return f"<{name} state={self._state} pool_size={self._processes}>"

    @property
    def _pool(self) -> list[Any]:
        return self._workers.processes

    # ---- calls ------------------------------------------------------------------------------

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = _NONE,
    ) -> Any:
        """The result of `func(*args, **kwds)`, run by a worker."""
        return self._call(func, args, kwds, None, None).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = _NONE,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        priority: int = 0,
    ) -> Any:
        """Has a worker run `func(*args, **kwds)`; returns an `ApplyResult` at once.

        Of all that no worker has begun, what has the highest `priority` is begun first.
        """
        result = self._call(func, args, kwds, callback, error_callback, priority=priority)
        self._need_keeper(callback, error_callback)
        return result

    def _call(
        self,
        func: Callable[..., Any],
        args: Iterable[Any],
        kwds: Mapping[str, Any] | None,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        name: str | None = None,
        priority: int = 0,
    ) -> ApplyResult:
        head = self._begin(func)
        result = ApplyResult(self, callback, error_callback, name=name or _name(func))
        arguments: Any = (tuple(args), dict(kwds)) if kwds else tuple(args)
        self._crew.call(result._job, head, arguments, bool(kwds), priority)
        return result

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        priority: int = 0,
    ) -> list[Any]:
        """The results of `func(item)` for each item, in order."""
        return self._map(func, iterable, chunksize, star=False, priority=priority)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        priority: int = 0,
    ) -> list[Any]:
        """The results of `func(*item)` for each item, in order."""
        return self._map(func, iterable, chunksize, star=True, priority=priority)

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        *,
        star: bool,
        priority: int,
    ) -> list[Any]:
        head = self._begin(func)
        items = iterable if type(iterable) is list else list(iterable)
        chunk = self._chunk_for(len(items), chunksize)
        chunks = Chunks(self._crew, head, items, chunk, star=star, priority=priority)
        result = MapResult(self, None, None, chunks, _name(func))
        job, crew, sent = result._job, self._crew, 0
        while sent < len(items):
            sent = chunks.send(sent, _MOST_OPEN)
            if sent < len(items) and not crew.collect():
                self._pause(job, crew.open // 2, None)
        results: list[Any] = result.get()
        return results

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        priority: int = 0,
    ) -> Any:
        """As `map`, but returns a `MapResult` at once."""
        return self._send_all(
            func, iterable, chunksize, callback, error_callback, star=False, priority=priority
        )

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        priority: int = 0,
    ) -> Any:
        """As `starmap`, but returns a `MapResult` at once."""
        return self._send_all(
            func, iterable, chunksize, callback, error_callback, star=True, priority=priority
        )

    def _send_all(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        *,
        star: bool,
        priority: int,
    ) -> Any:
        head = self._begin(func)
        items = list(iterable)
        chunk = self._chunk_for(len(items), chunksize)
        chunks = Chunks(self._crew, head, items, chunk, star=star, priority=priority)
        result = MapResult(self, callback, error_callback, chunks, _name(func))
        chunks.send(0, 1 << 62)
        self._need_keeper(callback, error_callback)
        return result

    # Typeshed has `int | None`, but None fails in the standard library, too.
    def imap(  # type: ignore[override]
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        priority: int = 0,
    ) -> Any:
        """A lazy `map`: an iterator over the results, in order.

        At most 16 tasks for each worker are taken ahead of the results that were fetched.
        """
        return self._stream(IMapIterator, func, iterable, chunksize, priority)

    def imap_unordered(  # type: ignore[override]
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        priority: int = 0,
    ) -> Any:
        """A lazy `map`: an iterator over the results, as they come."""
        return self._stream(IMapUnorderedIterator, func, iterable, chunksize, priority)

    def _stream(
        self,
        kind: type[IMapIterator],
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        priority: int,
    ) -> Any:
        head = self._begin(func)
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        ahead = _AHEAD * self._processes
        stream = kind(self, head, iterable, chunksize, ahead, _name(func), priority=priority)
        self._streams.append(stream)
        self._need_keeper()
        return stream

    async def run(self, func: Callable[..., Any], /, *args: Any, **kwds: Any) -> Any:
        """The result of `func(*args, **kwds)`, run by a worker, for asyncio.

        When the task that awaits it is cancelled, the call is withdrawn if no worker has begun it;
        if one has, nobody is told of the result.
        """
        return await self._call(func, args, kwds, None, None)

    def stream(
        self,
        func: Callable[[Any], Any],
        items: Iterable[Any],
        chunksize: int = 1,
        *,
        ordered: bool = True,
        priority: int = 0,
    ) -> AsyncIterator[Any]:
        """A lazy `map` for asyncio: an asynchronous iterator over the results.

        At most 16 tasks for each worker are taken ahead of the results that were fetched. Whoever
        leaves it early withdraws what no worker has begun.

        Args:
            func: What workers call with each item.
            items: The items; taken in the event loop's thread.
            chunksize: How many of them travel to a worker at a time.
            ordered: Whether the results come in the order of the items, or as they come.
            priority: Of all that no worker has begun, what has the highest is begun first.
        """
        from manycore._asyncio import ResultStream

        kind = IMapIterator if ordered else IMapUnorderedIterator
        return ResultStream(self, kind, func, items, chunksize, priority)

    def _begin(self, func: Callable[..., Any]) -> bytes:
        self._check_running()
        if self._crew.seems_dead():
            self._look_after()
        if not callable(func):
            raise TypeError(
                f"{func!r} is not callable: give the function itself and its arguments apart"
            )
        return self._functions.head(func)

    def _chunk_for(self, items: int, chunksize: int | None) -> int:
        if chunksize is None:
            chunksize, extra = divmod(items, self._processes * 4)
            chunksize += bool(extra)
        if chunksize < 0 or (chunksize == 0 and items):
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        return max(chunksize, 1)

    # ---- waiting ----------------------------------------------------------------------------

    def _poll(self) -> None:
        """Collects what is there."""
        self._crew.collect()
        if time.monotonic() >= self._next_look:
            self._look_after()

    def _wait(self, job: _engine.Job, until: float | None) -> bool:
        """Waits until a job is done; false when `until` came first."""
        while not job.done:
            self._crew.collect()
            if job.done:
                break  # type: ignore[unreachable]  # mypy does not see that `collect` may end it
            if until is not None and time.monotonic() >= until:
                return False
            self._pause(job, job.left, until)
        return True

    def _wait_for_news(self, job: _engine.Job, until: float | None) -> bool:
        """Waits until a stream has answers to fetch; false when `until` came first."""
        # First for a handful of answers, for a moment: waking for each costs more than a tiny task.
        handful = min(8, self._crew.open // 4)
        while True:
            self._crew.collect()
            if job.results or job.done:
                return True
            now = time.monotonic()
            if until is not None and now >= until:
                return False
            if handful > 1:
                self._crew.wait(job, job.delivered, handful, _MOMENT)
                handful = 0
            else:
                self._pause(job, 1, until)

    def _pause(self, job: _engine.Job | None, want: int, until: float | None) -> None:
        """Sleeps until there is something to do, and looks after the workers now and then."""
        now = time.monotonic()
        if now >= self._next_look:
            self._look_after()
            now = time.monotonic()
        end = self._next_look if until is None else min(self._next_look, until)
        seen = job.delivered if job is not None else 0
        self._crew.wait(job, seen, max(want, 1), max(end - now, 0.0))
        if self._crew.has_leaving():
            self._look_after()

    def _look_after(self) -> None:
        self._next_look = time.monotonic() + _LOOK_AFTER
        self._workers.look_after(replace=self._state == RUN or self._crew.open > 0)

    def _need_keeper(self, *callbacks: Callable[[Any], object] | None) -> None:
        """Makes sure that a thread keeps the pool going while nobody waits for its answers."""
        if any(callback is not None for callback in callbacks):
            self._has_callbacks = True
        if self._crew.has_backlog:
            self._keeper.hurry()
        self._keeper.start()

    def _have_answers_collected(self) -> None:
        """Has the keeper collect answers as they come, from now on."""
        if not self._has_callbacks:
            self._has_callbacks = True
            self._keeper.hurry()
        self._keeper.start()

    def _withdraw(self, job: _engine.Job) -> bool:
        """Withdraws what no worker has begun of a job; whether there was anything."""
        count = self._crew.withdraw(job, withdrawn())
        self._feed()
        return count > 0

    def _feed(self) -> None:
        """Gives the workers what waits here, and has somebody go on with that."""
        self._crew.feed()
        self._crew.ring()  # who waits may wait for what was withdrawn, or for too many answers
        if self._crew.has_backlog:
            self._keeper.hurry()
            self._keeper.start()

    def _is_busy(self) -> bool:
        """Whether the keeper has something to do."""
        return self._crew.open > 0

    def _keep(self) -> float | None:
        """One round of the keeper; seconds until the next, or None when there is no more to do."""
        if self._state == TERMINATE or (self._state == CLOSE and not self._crew.open):
            return None
        if self._has_callbacks or self._crew.has_backlog:
            self._crew.collect()
            self._pause(None, 1, None)
            return 0.0
        # Answers are collected by whoever waits for them; the workers must live all the same.
        if self._crew.open:
            self._look_after()
        return _LOOK_AFTER

    # ---- the end ----------------------------------------------------------------------------

    def _forget_stream(self, stream: IMapIterator) -> None:
        if stream in self._streams:
            self._streams.remove(stream)

    def close(self) -> None:
        """Accepts no more calls; the workers end when all tasks have been answered."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            if not self._streams:
                self._crew.dismiss()

    def terminate(self) -> None:
        """Ends the workers now; tasks without an answer fail."""
        util.debug("terminating pool")
        self._state = TERMINATE
        self._streams.clear()
        self._terminate()

    def join(self) -> None:
        """Waits until the workers have ended. Call `close` or `terminate` before.

        Raises:
            ValueError: When the pool still runs.
        """
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        for stream in list(self._streams):
            stream._feed(float("inf"))
        while self._crew.open and not self._workers.is_broken():
            if not self._crew.collect():
                self._pause(None, self._crew.open, None)
        self._crew.dismiss()
        self._workers.join()
        self._keeper.rest()
        self._terminate()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.terminate()

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")


# There it is a subclass of `Pool`, and other packages ask for that.
Pool.register(ThreadPool)

pass_on_rest(__name__)
