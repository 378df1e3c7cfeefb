"""The worker processes of a pipeline's stages."""

from __future__ import annotations

import contextlib
import math
import reprlib
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from typing import Any, NamedTuple

from manycore import _engine, _last_words, _thread_limits
from manycore._by_value import what_children_know
from manycore._deaths import Deaths, EarlyDeath
from manycore._failures import sendable_exception
from manycore._options import Limits
from manycore._pickling import dumps_function, loads_function
from manycore._tending import Tending, Verdict
from manycore._working import ENDED_BY_CTRL_C, obey
from manycore.errors import WorkerDied, describe_exit, peak_memory_of
from manycore.process import start_soon, why_not_started

GRACE = 0.5
"""Seconds that workers have to end once they are told to."""


class Work(NamedTuple):
    """What the workers of a stage do, as it travels."""

    function: bytes
    init: bytes | None
    is_source: bool

    @classmethod
    def pickled(
        cls,
        function: Callable[..., Any],
        init: Callable[[], Any] | None,
        is_source: bool,
        method: str,
    ) -> Work:
        """It, for children that are started by that method."""
        is_known = what_children_know(method)
        begin = None if init is None else dumps_function(init, is_known)[0]
        return cls(dumps_function(function, is_known)[0], begin, is_source)


def run(seat: tuple[Any, ...], work: Work, row: int, last_words: _last_words.Place | None) -> None:
    """What a worker process runs."""
    _engine.volunteer_for_oom()
    place = _engine.StageSeat(*seat)
    obey(place)
    _last_words.speak(last_words, row)
    try:
        with _state(work.init) as state:
            place.run(loads_function(work.function), state, work.is_source)
    except KeyboardInterrupt:
        # As in a pool: the owner decides and says what happens.
        raise SystemExit(ENDED_BY_CTRL_C) from None
    except Exception as error:
        place.report(failed(error))
        raise SystemExit(1) from None


@contextlib.contextmanager
def _state(init: bytes | None) -> Iterator[tuple[Any, ...]]:
    """What a worker sets up once, as the last argument of each call."""
    if init is None:
        yield ()
        return
    with contextlib.ExitStack() as ends:
        made: Any = loads_function(init)()
        state = made
        close = getattr(made, "close", None)
        if callable(close):
            ends.callback(close)
        if hasattr(type(made), "__enter__"):
            state = ends.enter_context(made)
        yield (state,)


def failed(error: BaseException, item: object = None) -> tuple[str, object]:
    """What a worker says about an error: the item in short, and the error, to be rebuilt."""
    return in_short(item), sendable_exception(error)


def in_short(item: object) -> str:
    """An item for a message."""
    try:
        return _short.repr(item)
    except Exception:
        return f"<{type(item).__qualname__}>"


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100


class _Crew:
    """The crew of one stage, as those are asked that see to time-outs."""

    def __init__(self, stages: _engine.Stages, index: int, count: int, timeout: float | None):
        self._stages = stages
        self._index = index
        self._count = count
        self._timeout = timeout

    def overdue(self) -> tuple[list[tuple[int, int, float]], float | None]:
        if self._timeout is None:
            return [], None
        overdue, left = [], [self._timeout]  # one may begin now
        for row in range(self._count):
            running = self.running(row)
            if running is not None:
                beyond = running[1] - self._timeout
                if beyond >= 0:
                    overdue.append((row, running[0], beyond))
                else:
                    left.append(-beyond)
        return overdue, min(left)

    def running(self, row: int) -> tuple[int, float] | None:
        return self._stages.running(self._index, row)

    def patience(self) -> float | None:
        busy = sum(self.running(row) is not None for row in range(self._count))
        if self._stages.open(self._index) > busy or self._stages.is_dismissed(self._index):
            return math.inf if self._timeout is None else self._timeout
        return None

    def interrupt(self, row: int, tag: int) -> None:
        self._stages.interrupt(self._index, row, tag)

    def doom(self, row: int, tag: int) -> bool:
        return self._stages.doom(self._index, row, tag)

    def retire(self, row: int, shall: bool) -> None:
        """Nothing: these workers have no limits but time."""


Teller = Callable[[str, str], BaseException]
"""Makes the error for an item whose worker died, of the stage's name and what becomes of others."""

OnLost = Callable[[_engine.LostItem, Teller], None]
"""What is called with an item that is lost."""


class StageWorkers:
    """The worker processes of one stage."""

    def __init__(
        self,
        context: Any,
        stages: _engine.Stages,
        index: int,
        count: int,
        name: str,
        work: Work,
        timeout: float | None,
    ) -> None:
        self._context = context
        self._stages = stages
        self._index = index
        self._count = count
        self._name = name
        self._work = work
        self._variables = _thread_limits.for_workers(count)
        self._rows: dict[int, Any] = {}
        self._early_deaths = 0
        self._early: EarlyDeath | None = None
        self._not_started: BaseException | None = None
        self._deaths = Deaths()
        crew = _Crew(stages, index, count, timeout)
        self._tending = Tending(crew, Limits(), self._deaths.last_words)

    @property
    def processes(self) -> list[Any]:
        """The worker processes."""
        return list(self._rows.values())

    def start_missing(self) -> None:
        """Starts as many workers as are missing."""
        for row in range(self._count):
            if row not in self._rows:
                self._rows[row] = self._start(row)

    def _start(self, row: int) -> Any:
        self._stages.clear_row(self._index, row)
        seat = self._stages.seat(self._index, row)
        self._deaths.last_words.take(row)
        arguments = (seat, self._work, row, self._deaths.last_words.place)
        process = self._context.Process(target=run, args=arguments)
        process.name = process.name.replace("Process", f"Stage-{self._name}")
        process.daemon = True
        process._variables = self._variables
        start_soon(process)
        self._tending.begin(row)
        return process

    def look_after(self, on_lost: OnLost) -> float:
        """Has items given up that take too long, buries workers, and starts others as needed.

        Returns after how many seconds it is to be done again.

        Raises:
            WorkerDied: When workers end before they have taken an item, again and again, or one
                was killed while it was closing what it had set up.
        """
        soon = self._tending.tend(self._rows)
        ended = [it for it in list(self._rows.items()) if it[1].exitcode is not None]
        if ended and self._stages.settle(self._index):  # else with the next look, as a pool's
            for row, process in ended:
                self._bury(row, process, on_lost)
        if not self._stages.is_dismissed(self._index):
            if self._early_deaths > 2 * self._count + 2:
                workers = f"workers of stage {self._name!r} ended before they could take an item"
                assert self._early is not None
                raise self._early.error(self._early_deaths, workers) from self._not_started
            self.start_missing()
        return soon

    def _bury(self, row: int, process: Any, on_lost: OnLost) -> None:
        was_dismissed = self._stages.is_dismissed(self._index)
        took_none = self._stages.taken(self._index, row) == 0
        self._early_deaths = self._early_deaths + 1 if took_none else 0
        self._early = self._deaths.early(process, self._early) if took_none else None
        self._not_started = why_not_started(process)
        tag, verdict = self._tending.end(row) or (0, None)
        running = self._stages.running(self._index, row)
        is_given_up = verdict is not None and tag is not None
        lost = self._stages.bury(self._index, row, is_given_up)
        del self._rows[row]
        if lost is not None:
            on_lost(lost, self._teller(process, row, running, verdict))
        elif was_dismissed and process.exitcode < 0 and self._work.init is not None:
            raise WorkerDied(
                f"worker {process.pid} {describe_exit(process.exitcode)} before stage {self._name} "
                "had closed what it had set up: what it wrote may not be there",
                process.pid,
                process.exitcode,
                peak_memory=peak_memory_of(process),
            )

    def _teller(
        self,
        process: Any,
        row: int,
        running: tuple[int, float] | None,
        verdict: Verdict | None,
    ) -> Teller:
        def tell(name: str, others: str) -> BaseException:
            if verdict is not None:
                return verdict(name, self._deaths.last_words.take(row))
            seconds = None if running is None else running[1]
            return self._deaths.error(process, row, name, name, seconds, others)

        return tell

    def await_ends(self, timeout: float) -> None:
        """Waits until a worker has ended."""
        wait([process.sentinel for process in self.processes], timeout)

    def forget_ended(self) -> None:
        """Has done with those that have ended."""
        for row, process in list(self._rows.items()):
            if process.exitcode is not None:
                del self._rows[row]

    def join_or_kill(self, end: float) -> None:
        """Waits for the workers to end; kills those that have not at that time."""
        for process in self.processes:
            if not wait([process.sentinel], max(end - time.monotonic(), 0.0)):
                process.kill()
            process.join()
        self._rows.clear()
        self._deaths.last_words.close()
