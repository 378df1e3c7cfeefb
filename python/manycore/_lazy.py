"""The results of lazy maps: tasks are handed out as their results are fetched."""

from __future__ import annotations

import collections
import threading
import weakref
from collections.abc import Iterable, Iterator
from multiprocessing import pool as _pool
from typing import TYPE_CHECKING, Any, NoReturn

from manycore import _engine
from manycore._ahead import Ahead, Bounds, Stride
from manycore._options import Attempts, Options
from manycore._results import checked, deadline
from manycore._seeds import Seed
from manycore.errors import TimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from manycore._calls import Calls

__all__ = ["IMapIterator", "IMapUnorderedIterator"]

_AT_ONCE = 256
"""Items that are handed out before signals are looked at, and other threads may run."""


class _Sending:
    """Hands out the tasks of a stream, and knows those without an answer.

    Its job refers to it, and it does not keep the job, nor who reads the stream: nobody has to
    break a cycle.
    """

    job: weakref.ref[_engine.Job]

    def __init__(
        self, crew: _engine.Crew, head: bytes, chunk: int, star: bool, priority: int
    ) -> None:
        self.open: dict[int, Any] = {}
        self._crew = crew
        self._head = head
        self._options = (chunk, star, priority)

    def send(
        self, job: _engine.Job, source: Iterator[Any], most: int, most_bytes: int
    ) -> tuple[bool, Exception | None]:
        """Hands out tasks; whether there are no more, and what the source has raised."""
        chunk, star, priority = self._options
        return self._crew.stream(
            job, self._head, source, self.open, chunk, star, most, most_bytes, priority
        )

    def send_again(self, task: int) -> None:
        """Hands out a task again."""
        job = self.job()
        if job is not None:
            self._crew.stream_again(job, self._head, task, self.open[task], *self._options)

    def about(self, task: int, item: int | None) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The arguments of an item of a task, or of a task of one item."""
        chunk, star, _ = self._options
        if item is None and chunk > 1:
            return None
        one = self.open[task] if chunk == 1 else self.open[task][item]
        return tuple(one) if star else (one,), {}


class IMapIterator(_pool.IMapIterator):  # type: ignore[type-arg]
    """The results of a lazy map, in order.

    At most a bounded number of items is taken from the iterable ahead of the results that were
    fetched, and at most a bounded number of bytes is on the way.
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
        bounds: Bounds,
        function: Callable[..., Any],
        options: Options,
        *,
        star: bool = False,
        seed: Seed | None = None,
    ) -> None:
        self._pool = pool
        self._source: Iterator[Any] | None = iter(iterable)
        self._chunk = chunk
        self._sending = _Sending(pool._crew, head, chunk, star, options.priority)
        self._job = _engine.Job(
            [],
            0,
            chunk,
            stream=True,
            function=function,
            about=self._sending.about,
            retry=Attempts(options, self._sending.send_again) if options.retries else None,
            timeout=options.timeout,
            returns_errors=options.on_error == "return",
            seed=seed,
        )
        self._sending.job = weakref.ref(self._job)
        self._ahead = Ahead(bounds, self._job)
        self._source_error: BaseException | None = None
        self._early: dict[int, tuple[bool, Any, int]] = {}
        self._items: collections.deque[tuple[bool, Any]] = collections.deque()
        # Whose turn it is to hand out and to take: whoever fetches, or joins the pool.
        self._turn = threading.RLock()
        self._is_eager = bounds.bytes == float("inf")
        self._stride = Stride(max(_AT_ONCE // chunk, 1))
        self._feed(begins=True)

    def _feed(self, *, keeping: bool = False, begins: bool = False) -> None:
        """Hands out tasks until as many are ahead as may be, or a slow iterable has given one."""
        job = self._job
        while self._source is not None:
            sent = job._sent
            most, most_bytes = self._ahead.room(keeping=keeping)
            if most:
                most = min(most, self._stride.length)
                source = self._stride.begin(self._source)
                is_over, error = self._sending.send(job, source, most, most_bytes)
                self._stride.end()
                if is_over:
                    # The iterable's own error comes after the results of what it gave before.
                    self._source, self._source_error = None, error
                    self._pool._forget_stream(self)
                is_patient = keeping or self._is_eager
                if self._stride.is_slow and not is_patient and (begins or self._has_some()):
                    return
            if job._sent == sent:
                return

    def _has_some(self) -> bool:
        """Whether there are results, after a look."""
        self._pool._crew.collect()
        return self._take_ready()

    @property
    def is_to_be_fed(self) -> bool:
        """Whether not all items have been taken."""
        return self._source is not None

    def finish(self) -> None:
        """Hands out all that is left, and keeps the results until somebody fetches them."""
        attendant = self._pool._attendant
        while self._source is not None and attendant.goes_on():
            with self._turn:
                self._feed(keeping=True)
                self._take_ready()
            if self._source is not None:
                attendant.wait_for_news(self._job, None)

    def __iter__(self) -> IMapIterator:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """The next result; waits for it.

        Raises:
            StopIteration: When there are no more.
            TimeoutError: When `timeout` seconds were not enough.
            Exception: What the task raised.
        """
        result = self._pop()
        if result is None:
            until = deadline(timeout)
            while (result := self.next_if_any()) is None:
                if not self._pool._attendant.wait_for_news(self._job, until):
                    raise self._timeout_error
        return self.open(result)

    __next__ = next

    def next_if_any(self) -> tuple[bool, Any] | None:
        """The next result, for `open`, if it is there; hands out tasks, too.

        Raises:
            StopIteration: When there are no more.
            Exception: What the iterable raised, when there are no more.
        """
        with self._turn:
            while self._advance():
                result = self._pop()
                if result is not None:
                    return result
                if self._is_over():  # else another thread was quicker
                    self._end()
        return None

    def open(self, result: tuple[bool, Any]) -> Any:
        """What the task returned.

        Raises:
            Exception: What it raised; `RuntimeError` in the place of a `StopIteration`.
        """
        succeeded, value = result
        if succeeded:
            return value
        if isinstance(value, StopIteration):
            raise RuntimeError("a task raised StopIteration, which would end the map") from value
        raise checked(value)

    def close(self) -> None:
        """Ends it: takes no more items, and withdraws the tasks that no worker has begun."""
        self._is_closed = True
        self._source = self._source_error = None
        self._items.clear()
        self._pool._forget_stream(self)
        if not self._job._is_done:
            self._pool._attendant.withdraw(self._job)

    def _advance(self) -> bool:
        """Hands out what is due, and takes what has come; whether there is a result, or the end."""
        while not self._items and not self._is_closed:
            if self._stride.is_slow and self._has_some():
                break
            self._feed()
            if not self._take_ready():
                return self._is_over()
        return True

    def _is_over(self) -> bool:
        """Whether nothing more will come."""
        is_fetched = self._ahead.fetched == self._job._sent and self._source is None
        return self._is_closed or is_fetched

    def _pop(self) -> tuple[bool, Any] | None:
        try:
            return self._items.popleft()
        except IndexError:
            return None

    def _end(self) -> NoReturn:
        if self._source_error is not None:
            error, self._source_error = self._source_error, None
            raise error
        raise StopIteration

    def _take_ready(self) -> bool:
        """Moves answers that may be fetched now; whether there were any."""
        ahead, are_lists = self._ahead, self._chunk > 1
        before = ahead.fetched
        early = self._early if self._ordered else None
        answers, longest = self._job._move_to(
            self._items, ahead, self._sending.open, early, are_lists
        )
        if answers:
            ahead.learn(answers, longest)
        return ahead.fetched > before


class IMapUnorderedIterator(IMapIterator, _pool.IMapUnorderedIterator):  # type: ignore[type-arg]
    """The results of a lazy map, as they come."""

    _ordered = False
