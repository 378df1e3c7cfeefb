"""The results of lazy maps: tasks are handed out as their results are fetched."""

from __future__ import annotations

import collections
import itertools
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from manycore import _engine
from manycore._options import Attempts, Options
from manycore._results import deadline
from manycore._seeds import Seed
from manycore.errors import TimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from manycore._calls import Calls

__all__ = ["IMapIterator", "IMapUnorderedIterator"]


class _Sending:
    """Hands out the tasks of a stream, and knows those without an answer.

    Its job refers to it, and it does not keep the job, nor who reads the stream: nobody has to
    break a cycle.
    """

    job: weakref.ref[_engine.Job]

    def __init__(
        self, crew: _engine.Crew, head: bytes, chunked: bool, star: bool, priority: int
    ) -> None:
        self.open: dict[int, Any] = {}
        self._crew = crew
        self._head = head
        self._options = (chunked, star, priority)

    def send(self, task: int) -> None:
        """Hands out a task, also again."""
        job = self.job()
        if job is not None:
            self._crew.stream(job, self._head, task, self.open[task], *self._options)

    def about(self, task: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a task of one item."""
        item = self.open[task]
        return tuple(item) if self._options[1] else (item,), {}


class IMapIterator:
    """The results of a lazy map, in order.

    At most a bounded number of items is taken from the iterable ahead of the results that were
    fetched.
    """

    _ordered = True
    _is_closed = False
    _timeout_error: type[Exception] = TimeoutError

    def __init__(
        self,
        pool: Calls,
        head: bytes,
        iterable: Iterable[Any],
        chunk: int,
        window: float,
        function: Callable[..., Any],
        options: Options,
        *,
        star: bool = False,
        seed: Seed | None = None,
    ) -> None:
        self._pool = pool
        self._source: Iterator[Any] | None = iter(iterable)
        self._chunk = chunk
        self._window = window
        self._sending = _Sending(pool._crew, head, chunk > 1, star, options.priority)
        self._job = _engine.Job(
            [],
            0,
            chunk,
            stream=True,
            function=function,
            about=self._sending.about if chunk == 1 else None,
            retry=Attempts(options, self._sending.send) if options.retries else None,
            timeout=options.timeout,
            returns_errors=options.on_error == "return",
            seed=seed,
        )
        self._sending.job = weakref.ref(self._job)
        self._sent = 0
        self._fetched = 0
        self._source_error: BaseException | None = None
        self._early: dict[int, tuple[bool, Any]] = {}
        self._items: collections.deque[Any] = collections.deque()
        self._feed(window)

    def _feed(self, most_ahead: float) -> None:
        """Hands out tasks until that many are ahead of what was fetched."""
        while self._source is not None and self._sent - self._fetched < most_ahead:
            items = self._next_items(self._source)
            if not items:
                self._source = None
                return
            self._job._extend(1)
            self._sending.open[self._sent] = items if self._chunk > 1 else items[0]
            self._sending.send(self._sent)
            self._sent += 1

    def _next_items(self, source: Iterator[Any]) -> list[Any]:
        try:
            return list(itertools.islice(source, self._chunk))
        except Exception as error:
            # The iterable's own error comes after the results of what it gave before.
            self._source_error = error
            return []

    def __iter__(self) -> IMapIterator:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """The next result; waits for it.

        Raises:
            StopIteration: When there are no more.
            TimeoutError: When `timeout` seconds were not enough.
            Exception: What the task raised.
        """
        if not self._items:
            until = deadline(timeout)
            while not self._advance():
                if not self._pool._attendant.wait_for_news(self._job, until):
                    raise self._timeout_error
        return self._take()

    __next__ = next

    def close(self) -> None:
        """Ends it: takes no more items, and withdraws the tasks that no worker has begun."""
        self._is_closed = True
        self._source = self._source_error = None
        self._items.clear()
        self._pool._forget_stream(self)
        if not self._job._is_done:
            self._pool._attendant.withdraw(self._job)

    def _advance(self) -> bool:
        """Hands out what is due, and takes what has come; whether `_take` need not wait."""
        while not self._items and not self._is_closed:
            self._feed(self._window)
            if not self._take_ready():
                return self._fetched == self._sent and self._source is None
        return True

    def _take(self) -> Any:
        """The next result, or the end."""
        if not self._items:
            self._pool._forget_stream(self)
            if self._source_error is not None:
                error, self._source_error = self._source_error, None
                raise error
            raise StopIteration
        succeeded, value = self._items.popleft()
        if succeeded:
            return value
        raise value

    def _take_ready(self) -> bool:
        """Moves answers that may be fetched now; whether there were any."""
        ready = self._job._results
        before = self._fetched
        batch = ready[:]
        del ready[: len(batch)]  # another thread may have appended meanwhile
        for index, succeeded, value in batch:
            del self._sending.open[index]
            if self._ordered:
                self._early[index] = (succeeded, value)
            else:
                self._deliver(succeeded, value)
        while self._ordered and self._fetched in self._early:
            self._deliver(*self._early.pop(self._fetched))
        return self._fetched > before

    def _deliver(self, succeeded: bool, value: Any) -> None:
        self._fetched += 1
        if succeeded and self._chunk > 1:
            self._items.extend((True, item) for item in value)
        else:
            self._items.append((succeeded, value))


class IMapUnorderedIterator(IMapIterator):
    """The results of a lazy map, as they come."""

    _ordered = False
