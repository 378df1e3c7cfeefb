"""The calls of a pool: every way to have its workers run a function.

What the pool is besides, how it begins and ends, is in `pool.py`.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from multiprocessing.pool import TERMINATE
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from manycore import _engine
from manycore._ahead import Bounds
from manycore._lazy import IMapIterator, IMapUnorderedIterator
from manycore._options import Attempts, Options
from manycore._results import TERMINATED, ApplyResult, Chunks, Cut, MapResult

if TYPE_CHECKING:
    from typing import Unpack

    from manycore._attendant import Attendant
    from manycore._functions import Functions
    from manycore._options import CallOptions
    from manycore._seeds import Seeds

_MOST_OPEN = 8192
"""Tasks of a `map` that are handed out ahead of their answers."""

_CHUNKS = 8
"""Chunks for each worker where nobody asked for a size: the last ones leave no worker waiting for
long, since each is an eighth of what a worker does."""

_PIECES = 32
"""The same where nobody waits who could hand out what is left of one: they stay as they are."""

_LARGEST_CHUNK = 128
"""Items of such a chunk: more save no time, and spread the work worse."""

_NONE: Mapping[str, Any] = MappingProxyType({})


def check_chunks(options: Options) -> None:
    """Raises ValueError if tasks with these options cannot be of several items."""
    if options.are_for_each_item:
        raise ValueError(
            "timeout, retries and on_error are for each item, which then is a task of its own: "
            "leave chunksize out"
        )


def _listed(iterable: Iterable[Any]) -> list[Any] | range:
    """The items of a map, which nobody changes; the numbers of a range are made as they go."""
    return iterable if type(iterable) is range else list(iterable)


class Calls(_engine.PoolCalls):
    """What is called of a pool. The pool has what they need."""

    _attendant: Attendant
    _counts_tasks: bool
    _crew: _engine.Crew
    _functions: Functions
    _is_plain: bool
    _options: Options
    _seeds: Seeds
    _streams: dict[IMapIterator, None]

    @property
    def _processes(self) -> int:
        raise NotImplementedError

    def _check_running(self) -> None:
        raise NotImplementedError

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = _NONE,
        **options: Unpack[CallOptions],
    ) -> Any:
        """The result of `func(*args, **kwds)`, run by a worker."""
        result = self._call(func, args, kwds, options)
        try:
            return result.get()
        except BaseException:
            self._want_no_more(result)
            raise

    def _apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any],
        kwds: Mapping[str, Any] | None,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        **options: Unpack[CallOptions],
    ) -> Any:
        """What `apply_async` does where the engine has no shortcut."""
        result = self._call(func, args, kwds, options, callback, error_callback)
        self._need_keeper(callback, error_callback)
        return result

    def _call(
        self,
        func: Callable[..., Any],
        args: Iterable[Any],
        kwds: Mapping[str, Any] | None = None,
        options: CallOptions | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        name: str | None = None,
    ) -> ApplyResult:
        result = ApplyResult.__new__(ApplyResult)
        begin = functools.partial(result.__init__, self, callback, error_callback)  # type: ignore[misc]
        self._hand_out(result, begin, func, args, kwds, options, name)
        return result

    def _hand_out(
        self,
        job: _engine.Job,
        begin: Callable[..., None],
        func: Callable[..., Any],
        args: Iterable[Any],
        kwds: Mapping[str, Any] | None,
        options: CallOptions | None,
        name: str | None = None,
    ) -> None:
        """Hands out a call; `begin` gets what its job is to know."""
        head = self._begin(func)
        wanted = self._options.with_(options) if options else self._options
        if wanted.progress:
            raise TypeError("progress is for maps: one call has nothing to count")
        pair = (tuple(args), dict(kwds) if kwds else {})
        retry = Attempts(wanted) if wanted.retries else None
        begin(
            function=name or func,
            about=lambda *_: pair,
            timeout=wanted.timeout,
            retry=retry,
            seed=self._seeds.for_call(wanted.seed),
        )
        arguments: Any = pair if kwds else pair[0]
        if retry is not None:
            retry.resend = functools.partial(
                self._call_again, job, head, arguments, bool(kwds), wanted.priority
            )
        self._crew.call(job, head, arguments, bool(kwds), wanted.priority)

    def _call_again(
        self,
        job: _engine.Job,
        head: bytes,
        arguments: Any,
        has_keywords: bool,
        priority: int,
        _: int,
    ) -> None:
        self._crew.call(job, head, arguments, has_keywords, priority)

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        **options: Unpack[CallOptions],
    ) -> list[Any]:
        """The results of `func(item)` for each item, in order."""
        return self._map(func, iterable, chunksize, options, star=False)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        **options: Unpack[CallOptions],
    ) -> list[Any]:
        """The results of `func(*item)` for each item, in order."""
        return self._map(func, iterable, chunksize, options, star=True)

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        options: CallOptions,
        *,
        star: bool,
    ) -> list[Any]:
        head = self._begin(func)
        wanted = self._options.with_(options)
        items = _listed(iterable)
        cut = self._cut_for(len(items), chunksize, wanted, may_share=True)
        chunks = Chunks(self._crew, head, items, cut, star=star, priority=wanted.priority)
        result = self._map_result(func, chunks, wanted)
        crew, sent = self._crew, 0
        try:
            while sent < len(items):
                sent = chunks.send(sent, _MOST_OPEN)
                if wanted.progress:
                    result.show()
                if sent < len(items) and not crew.collect_for(result):
                    self._attendant.pause(result, crew.open // 2, None)
            results: list[Any] = result.get()
            return results
        except BaseException:
            self._want_no_more(result)
            raise

    def _want_no_more(self, result: ApplyResult) -> None:
        """Withdraws what no worker has begun of a call that was interrupted while it waited."""
        if not result._is_done:
            self._crew.forget_rests(result)
            self._attendant.withdraw(result)

    def _map_result(self, func: Any, chunks: Chunks, wanted: Options, *callbacks: Any) -> Any:
        callbacks = callbacks or (None, None)
        seed = self._seeds.for_call(wanted.seed)
        details = {"chunks": chunks, "function": func, "options": wanted, "seed": seed}
        if not wanted.progress:
            return MapResult(self, *callbacks, **details)
        from manycore._progress import ShownMapResult, bar

        drawn = bar(wanted.progress, len(chunks.items))
        result = ShownMapResult(self, *callbacks, **details)
        result.draw(drawn)
        return result

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **options: Unpack[CallOptions],
    ) -> Any:
        """As `map`, but returns a `MapResult` at once."""
        callbacks = (callback, error_callback)
        return self._send_all(func, iterable, chunksize, callbacks, options, star=False)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **options: Unpack[CallOptions],
    ) -> Any:
        """As `starmap`, but returns a `MapResult` at once."""
        callbacks = (callback, error_callback)
        return self._send_all(func, iterable, chunksize, callbacks, options, star=True)

    def _send_all(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        callbacks: tuple[Callable[[Any], object] | None, Callable[[BaseException], object] | None],
        options: CallOptions,
        *,
        star: bool,
    ) -> Any:
        head = self._begin(func)
        wanted = self._options.with_(options)
        items = _listed(iterable)
        cut = self._cut_for(len(items), chunksize, wanted)
        chunks = Chunks(self._crew, head, items, cut, star=star, priority=wanted.priority)
        result = self._map_result(func, chunks, wanted, *callbacks)
        result._begin()
        chunks.send(0, 1 << 62)
        self._need_keeper(*callbacks)
        return result

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        buffersize: int | None = None,
        *,
        bufferbytes: int | None = None,
        **options: Unpack[CallOptions],
    ) -> Any:
        """A lazy `map`: an iterator over the results, in order.

        At most `buffersize` chunks are taken ahead of the results that were fetched, by default 16
        for each worker, or what they do in a millisecond or two, at most 256 items. And at
        most `bufferbytes` bytes, by default 64 MiB, are those of items that have no answer, and of
        results that were not fetched.
        """
        bounds = (buffersize, bufferbytes)
        return self._stream(IMapIterator, func, iterable, chunksize, bounds, options)

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        buffersize: int | None = None,
        *,
        bufferbytes: int | None = None,
        **options: Unpack[CallOptions],
    ) -> Any:
        """A lazy `map`: an iterator over the results, as they come. As lazy as `imap`."""
        bounds = (buffersize, bufferbytes)
        return self._stream(IMapUnorderedIterator, func, iterable, chunksize, bounds, options)

    def _stream(
        self,
        kind: type[IMapIterator],
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        buffer: tuple[int | None, int | None],
        options: CallOptions,
        *,
        has_thread: bool = True,
    ) -> Any:
        head = self._begin(func)
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        wanted = self._options.with_(options)
        if chunksize > 1:
            check_chunks(wanted)
        bounds = self._bounds(chunksize, *buffer)
        seed = self._seeds.for_call(wanted.seed)
        bar = None
        if wanted.progress:
            from manycore import _progress

            kind = _progress.SHOWN[kind]
            bar = _progress.bar(wanted.progress, _progress.length(iterable))
        stream = kind(self, head, iterable, chunksize, bounds, func, wanted, seed=seed)
        if bar is not None:
            stream.draw(bar)  # type: ignore[attr-defined]
        self._streams[stream] = None
        try:
            stream.begin(has_thread=has_thread and self._attendant.has_workers)
            self._need_keeper()
        except BaseException:
            stream.close()
            raise
        if self._attendant.state == TERMINATE:  # meanwhile
            stream.give_up(RuntimeError(TERMINATED))
        return stream

    def _bounds(self, chunksize: int, buffersize: int | None, bufferbytes: int | None) -> Bounds:
        """How much a lazy map may have ahead."""
        if not isinstance(buffersize, int | None):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError(f"buffersize must be 1 or more, not {buffersize}")
        if buffersize is None:
            return Bounds.usual(self._processes, chunksize, bufferbytes)
        return Bounds.of(buffersize, bufferbytes, self._processes)

    async def run(self, func: Callable[..., Any], /, *args: Any, **kwds: Any) -> Any:
        """The result of `func(*args, **kwds)`, run by a worker, for asyncio.

        When the task that awaits it is cancelled, so is the call: see `ApplyResult.cancel`.
        """
        return await self._call(func, args, kwds)

    def stream(
        self,
        func: Callable[[Any], Any],
        items: Iterable[Any],
        chunksize: int = 1,
        *,
        ordered: bool = True,
        buffersize: int | None = None,
        bufferbytes: int | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncIterator[Any]:
        """A lazy `map` for asyncio: an asynchronous iterator over the results.

        Whoever leaves it early withdraws what no worker has begun. When the task that waits for a
        result is cancelled, so are the calls that run: see `ApplyResult.cancel`.

        Args:
            func: What workers call with each item.
            items: The items; taken in the event loop's thread.
            chunksize: How many of them travel to a worker at a time.
            ordered: Whether the results come in the order of the items, or as they come.
            buffersize: As that of `imap`.
            bufferbytes: As that of `imap`.
            options: As those of `imap`.
        """
        from manycore._asyncio import ResultStream

        kind = IMapIterator if ordered else IMapUnorderedIterator
        bounds = (buffersize, bufferbytes)
        results = self._stream(kind, func, items, chunksize, bounds, options, has_thread=False)
        return ResultStream(self._attendant, results)

    def _begin(self, func: Callable[..., Any]) -> bytes:
        self._check_running()
        self._attendant.look_if_any_died()
        if self._attendant.idle is not None:
            self._attendant.idle.wake()
            self._attendant.need_keeper()
        if not callable(func):
            raise TypeError(
                f"{func!r} is not callable: give the function itself and its arguments apart"
            )
        return self._functions.head(func)

    def _cut_for(
        self, items: int, chunksize: int | None, options: Options, *, may_share: bool = False
    ) -> Cut:
        """How so many items become tasks; with `may_share`, somebody waits who hands out again."""
        if options.are_for_each_item:
            if chunksize is not None and chunksize > 1:
                check_chunks(options)
            chunksize = 1
        if chunksize is None:
            # One worker has nobody to share with, and keeps the order; and workers that are
            # replaced after some tasks are to have no more tasks for that.
            is_even = self._processes < 2 or self._counts_tasks
            count = _CHUNKS if may_share or is_even else _PIECES
            chunksize, extra = divmod(items, (self._processes or 1) * count)
            chunksize = max(min(chunksize + bool(extra), _LARGEST_CHUNK), 1)
            grows = chunksize > 1 and not is_even
            return Cut(chunksize, grows, grows and may_share)
        if chunksize < 0 or (chunksize == 0 and items):
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        return Cut(max(chunksize, 1))

    def _need_keeper(self, *callbacks: Callable[[Any], object] | None) -> None:
        self._attendant.need_keeper(collects=any(callback is not None for callback in callbacks))

    def _forget_stream(self, stream: IMapIterator) -> None:
        self._streams.pop(stream, None)
