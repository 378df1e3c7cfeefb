"""How much a lazy map may have ahead of what was fetched: in tasks, and in bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from time import monotonic
from typing import Any, NamedTuple

from manycore import _engine

_USUAL_BYTES = 64 << 20
"""What a lazy map has ahead at most where nothing is said: little for a machine, and enough for 16
tasks of 1 MB for each of four workers."""

_USUAL_RESULT = 1 << 20
"""What counts for a result as long as none has come, where nothing is said of bytes."""

_ANY = 1 << 62
"""More than there can be."""

_LEAST = 16
"""Tasks for each worker that a lazy map has ahead where nothing is said."""

_FEWEST = 4
"""Tasks for each worker that it has ahead at least then, where answers are long."""

_PLENTY = 4 << 20
"""Bytes of answers for each worker that are enough where nothing is said. With more of them memory
is used before what was is used again, so that it is in no processor's cache."""

_MOST = 256
"""Items for each worker that it has ahead at most then, where tasks take microseconds. With fewer
the workers would go to sleep all the time, and to wake them takes longer than the tasks."""

_SHORT = 0.001
"""What is ahead shall last for so many seconds, if that takes no more than `_MOST` items."""

_LONG = 0.004
"""Where it lasts for longer than that, it becomes less again."""

_SLOW = 0.02
"""Seconds after which an iterable takes its time, if it does so twice."""

_VERY_SLOW = 0.1
"""Seconds after which it does, if it does so once."""

_FEW = 8
"""Items at a time, up to which it is measured how long the iterable alone takes."""


class Stride:
    """How many items an iterable is asked for at a time.

    One at first and twice as many each time, but one after the other where they take their time:
    results that have come are given out in between.

    Attributes:
        length: How many.
        is_slow: Whether they take their time.
    """

    __slots__ = ("_began", "_longest", "_slow", "_timed", "is_slow", "length")

    def __init__(self, longest: int) -> None:
        self.length, self._longest = 1, longest
        self._slow, self.is_slow = 0, False
        self._timed: _Timed | None = None
        self._began = 0.0

    def begin(self, source: Iterator[Any]) -> Iterator[Any]:
        """What is to be asked for `length` items now."""
        # What is done with long items takes time, too. It is told apart where that costs little.
        self._timed = _Timed(source) if self.length <= _FEW else None
        self._began = monotonic()
        return self._timed or source

    def end(self) -> None:
        """It has given them."""
        timed = self._timed
        seconds = monotonic() - self._began if timed is None else timed.seconds
        if seconds > _SLOW:
            self.length = 1
            self._slow += timed is not None
            self.is_slow = self._slow > 1 or (timed is not None and seconds > _VERY_SLOW)
        else:
            self.length = min(2 * self.length, self._longest)
            self._slow, self.is_slow = 0, False


class _Timed:
    """An iterator, and for how many seconds it was asked for items."""

    __slots__ = ("_source", "seconds")

    def __init__(self, source: Iterator[Any]) -> None:
        self._source = source
        self.seconds = 0.0

    def __iter__(self) -> _Timed:
        return self

    def __next__(self) -> Any:
        began = monotonic()
        try:
            return next(self._source)
        finally:
            self.seconds += monotonic() - began


class Bounds(NamedTuple):
    """The most that a lazy map may have ahead.

    Attributes:
        tasks: Tasks.
        short_tasks: Tasks, when they take microseconds.
        bytes: Bytes of their messages and of those of their answers.
        result: Bytes that count for an answer until the first one has come.
        workers: Workers, if fewer tasks are ahead where answers are long.
    """

    tasks: float
    short_tasks: float
    bytes: float
    result: int
    workers: int = 0

    @classmethod
    def usual(cls, workers: int, chunk: int, bufferbytes: int | None) -> Bounds:
        """The bounds for tasks of so many items where nothing is said about their number."""
        tasks = _LEAST * workers or 1
        short_tasks = max(_MOST // chunk, _LEAST) * workers or 1
        return cls(tasks, short_tasks, *_in_bytes(bufferbytes, workers), workers)

    @classmethod
    def of(cls, tasks: float, bufferbytes: int | None, workers: int) -> Bounds:
        """The bounds that are asked for.

        Raises:
            TypeError, ValueError: When that is no number of bytes.
        """
        if bufferbytes is None and tasks == float("inf"):
            return cls(tasks, tasks, tasks, 0)  # all at once
        return cls(tasks, tasks, *_in_bytes(bufferbytes, workers))


def _in_bytes(bufferbytes: int | None, workers: int) -> tuple[int, int]:
    """How many bytes may be ahead, and what counts for an unknown result."""
    if bufferbytes is None:
        return _USUAL_BYTES, _USUAL_RESULT
    if not isinstance(bufferbytes, int):
        raise TypeError("bufferbytes must be an integer or None")
    if bufferbytes < 1:
        raise ValueError(f"bufferbytes must be 1 or more, not {bufferbytes}")
    return bufferbytes, max(bufferbytes // max(workers, 1), 1)


class Grant(NamedTuple):
    """How far a lazy map may go until the next one.

    Attributes:
        tasks: How many tasks may have been handed out then.
        bytes: As long as messages of fewer bytes have no answer.
        base: How many tasks were over: one more than that may be handed out, however long it is.
    """

    tasks: int
    bytes: int
    base: int

    def room(self, sent: int) -> tuple[int, int]:
        """How many more tasks may be handed out after so many, and as long as how many bytes."""
        if sent <= self.base:
            return 1, _ANY
        return max(self.tasks - sent, 0), self.bytes


class Ahead:
    """What a lazy map has ahead.

    Attributes:
        answered: Tasks whose answers have been looked at.
        fetched: Tasks that have been fetched.
        early: Bytes of answers that came before those that are fetched first.
    """

    __slots__ = ("_bounds", "_job", "_result", "_tasks", "_then", "answered", "early", "fetched")

    def __init__(self, bounds: Bounds, job: _engine.Job) -> None:
        self.answered = self.fetched = self.early = 0
        self._bounds = bounds
        self._job = job
        self._result: float = bounds.result
        self._tasks = bounds.tasks
        self._then = monotonic()

    def room(self, *, keeping: bool = False) -> tuple[int, int]:
        """How many more tasks may be handed out, and as long as how many bytes have no answer.

        Args:
            keeping: Whether answers count no more, since nobody fetches them.
        """
        return self.grant(keeping=keeping).room(self._job._sent)

    def grant(self, *, keeping: bool = False) -> Grant:
        """How far it may go, as things are; with `keeping` as above."""
        sent = self._job._sent
        open = sent - self.answered
        tasks = open if keeping else sent - self.fetched
        bounds = self._bounds
        bytes = bounds.bytes if keeping else bounds.bytes - self.early
        # An open task is its message, and later its answer: as long as the longest of late.
        most = min(self._tasks - tasks, self._enough - open, bytes / max(self._result, 1) - open)
        return Grant(sent + math.ceil(min(most, _ANY)), max(int(min(bytes, _ANY)), 0), sent - tasks)

    @property
    def _enough(self) -> float:
        """Tasks without an answer that keep the workers busy."""
        workers = self._bounds.workers
        if not workers or not self.answered:
            return self._tasks
        return max(_FEWEST * workers, min(self._tasks, _PLENTY * workers / max(self._result, 1)))

    def learn(self, tasks: int, longest: int) -> None:
        """The answers of so many tasks have come, and this is how long the longest is."""
        forgotten = self._result * 0.98**tasks if self.answered > tasks else 0
        self._result = max(longest, forgotten)
        self._pace(tasks)

    def _pace(self, tasks: int) -> None:
        """So many tasks were done since the last time: has more ahead if that went quickly."""
        bounds, now = self._bounds, monotonic()
        if bounds.short_tasks > bounds.tasks:
            lasts = self._tasks * (now - self._then) / tasks
            if lasts < _SHORT:
                self._tasks = min(2 * self._tasks, bounds.short_tasks)
            elif lasts > _LONG:
                self._tasks = max(self._tasks // 2, bounds.tasks)
        self._then = now
