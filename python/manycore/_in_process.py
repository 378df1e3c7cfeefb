"""Pools without workers, to debug what a pool runs: `Pool(processes=0)`.

Whoever waits for a result runs the tasks, in the calling process: through the same rings, with the
same encodings and the same errors as a worker.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from manycore import _engine
from manycore._attendant import Attendant
from manycore._descriptions import describe, name_of
from manycore._insights import Insights
from manycore._seeds import set_back
from manycore._worker import Surroundings, Worker, being
from manycore.errors import WorkerDied

_ROW = 0


class InProcessCrew:
    """A crew whose tasks are run by whoever collects answers."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._crew = _engine.Crew(1, 1)
        self._surroundings = surroundings
        self._mine = threading.local()
        self._turn = threading.RLock()  # a task's callback may wait for another task
        self.worker = Worker(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._crew, name)

    @property
    def engine(self) -> _engine.Crew:
        """The engine's crew."""
        return self._crew

    def collect(self, most: int = sys.maxsize) -> int:
        """Runs one task, and delivers answers as a crew does; how many there were."""
        with self._turn:
            self._run_one()
        return self._crew.collect(most)

    def collect_for(self, job: _engine.Job) -> int:
        """As `collect`, by a thread that waits for `job`."""
        return self.collect() + self._crew.collect_for(job)

    def collect_all(self) -> None:
        """Runs all tasks that are there, and delivers their answers."""
        while self.collect() or self._crew.queued:
            pass

    def wait(self, *arguments: Any) -> None:
        """As a crew's, but not while there is a task to run."""
        if not self._crew.queued:
            self._crew.wait(*arguments)

    def _seat(self) -> _engine.Seat:
        """This thread's: a seat is not for others."""
        seat: _engine.Seat | None = getattr(self._mine, "seat", None)
        if seat is None:
            seat = self._mine.seat = _engine.Seat(*self._crew.seat(_ROW))
            self._surroundings.settle(seat, self.worker)
        return seat

    def _run_one(self) -> None:
        try:
            with being(self.worker), set_back():
                self._seat().run_if_any()
        except Exception:
            raise  # of the engine: those of tasks are answers
        except BaseException as error:
            self._crew.bury(_ROW, _deaths_of(error))
            if isinstance(error, KeyboardInterrupt):
                raise


def _deaths_of(error: BaseException) -> Callable[..., BaseException]:
    """What a task is answered with that raised what ends a worker."""

    def tell(
        _: int, job: _engine.Job, task: int, seconds: float | None, item: int
    ) -> BaseException:
        what = describe(job, task, item)
        said = traceback.format_exception_only(error)[-1].strip()
        code = error.code if isinstance(error, SystemExit) else 1
        return WorkerDied(
            f"{said} would have ended the worker while it ran {what}; the other tasks of the pool "
            "go on",
            None,
            code if isinstance(code, int) else int(code is not None),
            name_of(job._function),
            seconds,
        )

    return tell


class InProcessWorkers:
    """The workers of a pool that has none."""

    processes: tuple[Any, ...] = ()
    count = staying = busy = died = replaced = 0
    need_looks = grow_old = False

    def __init__(
        self, crew: InProcessCrew, surroundings: Surroundings, insights: Insights | None
    ) -> None:
        self._crew = crew
        self._surroundings = surroundings
        self._insights = insights

    def start(self) -> None:
        """Does what is done in a worker before its first task."""
        if self._insights is not None:
            self._insights.begin(_ROW, 0)
        with being(self._crew.worker):
            self._surroundings.begin()

    def resize(self, count: int) -> None:
        """Refused."""
        raise ValueError("a pool of 0 processes runs its tasks in this one: it cannot be resized")

    def look_after(self, replace: bool) -> float:
        """There is nobody to look after."""
        return 1.0

    def is_broken(self) -> bool:
        """Never."""
        return False

    def cancel(self, job: _engine.Job) -> bool:
        """A task that runs here is not given up."""
        return False

    def abandon(self, error: BaseException) -> None:
        """Answers every open task with an error."""
        for job, index in self._crew.abandon():
            job._answer(index, False, error)
        self._crew.ring()

    def join(self) -> None:
        """Does what is done in a worker after its last task."""
        surroundings, self._surroundings = self._surroundings, Surroundings()
        with being(self._crew.worker):
            surroundings.end()

    def terminate(self) -> None:
        """There is nobody to end."""


class InProcessAttendant(Attendant):
    """Runs and collects tasks in the threads of the program alone.

    There is a keeper's thread while it calls the program back, and no longer.
    """

    has_workers = False

    def need_keeper(self, *, collects: bool = False) -> None:
        """Where somebody is to be called with the answers, runs the tasks now."""
        if collects:
            self._crew.collect_all()  # type: ignore[attr-defined]  # an `InProcessCrew`

    def keep(self, rung: int) -> float | None:
        """Nothing is to be kept going."""
        return None
