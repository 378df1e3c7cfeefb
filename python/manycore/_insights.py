"""What a pool has done so far: numbers that cost nothing, and times where they are measured."""

from __future__ import annotations

import heapq
import itertools
import time
import weakref
from typing import Any, NamedTuple

from manycore import _engine
from manycore._descriptions import describe

_MOST = 10
"""Slow tasks that are remembered."""

_NEVER = (1 << 64) - 1
"""Nanoseconds that no task takes."""


class PoolStats(NamedTuple):
    """What a pool is doing, and what it has done.

    Attributes:
        workers: Worker processes that do not leave.
        busy: How many of them run a task.
        queued: Tasks that no worker has taken.
        open: Tasks without an answer that was collected: those queued and those that run, too.
        done: Tasks that were answered with a result. A chunk of a map is one task, and
            what was left of one is another.
        failed: Tasks that were answered with an error.
        died: Workers that ended otherwise than in order.
        replaced: Workers that were started in the place of another.
    """

    workers: int
    busy: int
    queued: int
    open: int
    done: int
    failed: int
    died: int
    replaced: int


class SlowTask(NamedTuple):
    """A task that took long.

    Attributes:
        seconds: How long it ran.
        task: Its function and its arguments in short.
    """

    seconds: float
    task: str


class WorkerInsights(NamedTuple):
    """What the workers of one place in a pool have spent their time on, in seconds.

    Attributes:
        id: The place.
        workers: How many workers have been there, one after the other.
        tasks: Tasks that they took.
        starting: From the start of each process until it asked for a task, initializer included.
        waiting: For tasks.
        working: In the functions.
        transfer: Reading arguments and writing results.
    """

    id: int
    workers: int = 0
    tasks: int = 0
    starting: float = 0.0
    waiting: float = 0.0
    working: float = 0.0
    transfer: float = 0.0


class PoolInsights(NamedTuple):
    """Where the time of a pool went.

    Attributes:
        workers: For each place in the pool.
        slowest: The tasks that took longest, the slowest first.
        utilisation: Which part of their time the workers were in functions, start-up not counted.
    """

    workers: list[WorkerInsights]
    slowest: list[SlowTask]
    utilisation: float


class Insights:
    """Adds up what the workers of one pool measure."""

    def __init__(self, crew: _engine.Crew) -> None:
        self._crew = crew
        self._started: dict[int, tuple[int, float]] = {}
        self._past: dict[int, WorkerInsights] = {}
        self._past_seconds = 0.0
        self._closed: float | None = None
        self._slowest: list[tuple[float, int, str]] = []
        self._order = itertools.count()
        itself = weakref.ref(self)  # a crew is not seen through by the garbage collection

        def listen(nanoseconds: int, job: _engine.Job, task: int) -> int:
            insights = itself()
            return _NEVER if insights is None else insights._note_long(nanoseconds, job, task)

        crew.listen(listen)

    def begin(self, row: int, id: int) -> None:
        """A worker is being started in a row."""
        self._started[row] = id, time.monotonic()

    def end(self, row: int) -> None:
        """The worker of a row has ended."""
        id, seconds = self._started[row][0], self._seconds(row)
        self._past[id] = self._with(self._past.get(id, WorkerInsights(id)), row)
        self._past_seconds += seconds
        del self._started[row]

    def _with(self, before: WorkerInsights, row: int) -> WorkerInsights:
        waited, worked, moved, ready = self._crew.spent(row)
        starting = 0.0 if ready is None else ready - self._started[row][1]
        return WorkerInsights(
            before.id,
            before.workers + 1,
            before.tasks + self._crew.taken(row),
            before.starting + max(starting, 0.0),
            before.waiting + waited,
            before.working + worked,
            before.transfer + moved,
        )

    def _seconds(self, row: int) -> float:
        """For how long the worker of a row has been able to work."""
        ready = self._crew.spent(row)[3]
        if ready is None:
            return 0.0
        return max((self._closed or time.monotonic()) - ready, 0.0)

    def close(self) -> None:
        """The pool has ended."""
        if self._closed is None:
            self._closed = time.monotonic()

    def _note_long(self, nanoseconds: int, job: _engine.Job, task: int) -> int:
        """Notes a task that took long; from how many nanoseconds on others do."""
        entry = (nanoseconds / 1e9, -next(self._order), describe(job, task))
        if len(self._slowest) < _MOST:
            heapq.heappush(self._slowest, entry)
        else:
            heapq.heappushpop(self._slowest, entry)
        return int(self._slowest[0][0] * 1e9) + 1 if len(self._slowest) == _MOST else 0

    def now(self) -> PoolInsights:
        """What is known by now."""
        places = dict(self._past)
        seconds = self._past_seconds
        for row, (id, _) in list(self._started.items()):
            places[id] = self._with(places.get(id, WorkerInsights(id)), row)
            seconds += self._seconds(row)
        workers = [places[id] for id in sorted(places)]
        worked = sum(it.working for it in workers)
        slowest = [SlowTask(seconds, task) for seconds, _, task in sorted(self._slowest)[::-1]]
        return PoolInsights(workers, slowest, min(worked / seconds, 1.0) if seconds else 0.0)


def stats(crew: Any, workers: Any) -> PoolStats:
    """What a pool is doing."""
    done, failed = crew.answered
    return PoolStats(
        workers.staying,
        workers.busy,
        crew.queued,
        crew.open,
        done,
        failed,
        workers.died,
        workers.replaced,
    )
