"""The results of lazy maps: tasks are handed out as their results are fetched."""

from __future__ import annotations

import collections
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from multiprocessing import pool as _pool
from typing import TYPE_CHECKING, Any, NoReturn

from manycore import _engine
from manycore._ahead import Ahead, Bounds
from manycore._feeding import Feed, Feeder, may_wait
from manycore._options import Attempts, Options
from manycore._results import checked, deadline
from manycore._seeds import Seed
from manycore.errors import TimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from manycore._calls import Calls

__all__ = ["IMapIterator", "IMapUnorderedIterator"]

_LOOK_AGAIN = 1.0
"""Seconds after which who joins a pool, and waits for an iterable, looks whether there is a use."""


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
        answered = job._delivered
        try:
            return self._crew.stream(
                job, self._head, source, self.open, chunk, star, most, most_bytes, priority
            )
        finally:
            if job._delivered != answered:
                self._crew.ring()  # what cannot be sent is answered at once

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
    fetched, and at most a bounded number of bytes is on the way. The items of an iterable that may
    wait are taken in a thread of their own, if that is wanted.
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
        source = iter(iterable)
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
        self.feed = Feed(source, self._job, self._ahead, self._sending.send, chunk)
        self._feeder: Feeder | None = None
        self._waiting: list[None] = []  # as long as there are readers that wait for the feeder
        self._early: dict[int, tuple[bool, Any, int]] = {}
        self._items: collections.deque[tuple[bool, Any]] = collections.deque()
        # Whose turn it is to hand out and to take: whoever fetches, or joins the pool.
        self._turn = threading.RLock()
        self._is_eager = bounds.bytes == float("inf")

    def begin(self, *, has_thread: bool = False) -> None:
        """Hands out the first tasks.

        Args:
            has_thread: Whether a thread takes the items if the iterable may wait.
        """
        if has_thread and may_wait(self.feed.source):
            self.feed.allow()
            self._feeder = Feeder.start(self)
        if self._feeder is None:
            self._go_on(begins=True)

    def _go_on(self, *, keeping: bool = False, begins: bool = False) -> None:
        """Hands out tasks until as many are ahead as may be, or a slow iterable has given one."""
        feed, feeder = self.feed, self._feeder
        if feeder is not None:
            if not feed.is_over:
                self._pool._crew.check_ours()  # else the thread is not there
            if feed.allow(keeping=keeping):
                feeder.wake()
            return
        is_patient = keeping or self._is_eager
        while feed.allow(keeping=keeping) and feed.hand_out():
            if feed.is_slow and not is_patient and (begins or self._has_some()):
                break
        if feed.is_over:
            self._pool._forget_stream(self)

    def note_over(self) -> None:
        """No more items are taken."""
        self._pool._forget_stream(self)
        self._pool._crew.ring()  # who waits for a result may wait for the end

    def _has_some(self) -> bool:
        """Whether there are results, after a look."""
        self._pool._crew.collect()
        return self._take_ready()

    def finish(self) -> None:
        """Hands out all that is left, and keeps the results until somebody fetches them."""

        def is_due() -> bool:
            self._go_on(keeping=True)  # readers may have allowed less meanwhile
            return self._job._is_done

        attendant = self._pool._attendant
        while not self.feed.is_over and attendant.goes_on():
            with self._turn:
                self._go_on(keeping=True)
                self._take_ready()
            if not self.feed.is_over:
                attendant.wait_for_news(
                    self._job,
                    time.monotonic() + _LOOK_AGAIN,
                    None if self._feeder is None else is_due,
                )

    def give_up(self, error: BaseException | None) -> None:
        """Takes no more items, and raises this behind the results of those that were taken."""
        self._job._note_unwanted()
        self.feed.end(error)
        if self._feeder is not None:
            self._feeder.wake()
        self.note_over()

    def _wait_for_news(self, until: float | None) -> bool:
        """Waits until there may be a result, or the end; false when `until` came first."""
        wait = self._pool._attendant.wait_for_news
        if self._feeder is None:
            return wait(self._job, until)
        self._waiting.append(None)
        try:
            return wait(self._job, until, self._is_due)
        finally:
            self._waiting.pop()

    def _is_due(self) -> bool:
        """Whether a reader may find something; else lets the feeder go on."""
        if self._items or self._is_closed or self._job._is_done:
            return True
        if self._turn.acquire(blocking=False):  # else another reader does that
            try:
                if not self._items:
                    self._go_on()
            finally:
                self._turn.release()
        return False

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
                if not self._wait_for_news(until):
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
        self.give_up(None)
        self._items.clear()
        if not self._job._is_done:
            self._pool._attendant.withdraw(self._job)

    def _advance(self) -> bool:
        """Hands out what is due, and takes what has come; whether there is a result, or the end."""
        while not self._items and not self._is_closed:
            if self._feeder is None and self.feed.is_slow and self._has_some():
                break
            self._go_on()
            if not self._take_ready():
                return self._is_over()
        return True

    def _is_over(self) -> bool:
        """Whether nothing more will come."""
        # In this order: another thread may hand out the last one just now.
        return self._is_closed or (self.feed.is_over and self._ahead.fetched == self._job._sent)

    def _pop(self) -> tuple[bool, Any] | None:
        try:
            return self._items.popleft()
        except IndexError:
            return None

    def _end(self) -> NoReturn:
        error, self.feed.error = self.feed.error, None
        if error is not None and not self._is_closed:
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
            if self._waiting:
                self._pool._crew.ring()  # there is a result for another reader, or room
        return ahead.fetched > before


class IMapUnorderedIterator(IMapIterator, _pool.IMapUnorderedIterator):  # type: ignore[type-arg]
    """The results of a lazy map, as they come."""

    _ordered = False
