"""The worker processes of a pool: started, watched, replaced, ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import wait as wait_for
from typing import Any

from manycore import _engine
from manycore.errors import WorkerDied, describe_exit

_PATIENCE = 1.0
"""Seconds that a terminated worker has before it is killed."""


def work(
    seat: tuple[Any, ...],
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    most_tasks: int | None,
) -> None:
    """What a worker process runs."""
    _engine.volunteer_for_oom()
    try:
        if initializer is not None:
            initializer(*initargs)
        _engine.Seat(*seat).run(most_tasks)
    except KeyboardInterrupt:
        # Ctrl-C reaches every process of the terminal; the owner decides and says what happens.
        raise SystemExit(130) from None


class Workers:
    """The worker processes of a pool.

    There are twice as many rows as workers, so that a worker that leaves is replaced before its
    process has ended.
    """

    def __init__(
        self,
        context: Any,
        crew: _engine.Crew,
        count: int,
        initializer: Callable[..., object] | None,
        initargs: Iterable[Any],
        most_tasks: int | None,
        variables: dict[str, str],
    ) -> None:
        self._context = context
        self._crew = crew
        self._count = count
        self._task = (initializer, initargs, most_tasks)
        self._variables = variables
        self._rows: dict[int, Any] = {}
        self._leaving: set[int] = set()
        self._early_deaths = 0
        self._turn = threading.Lock()

    @property
    def processes(self) -> list[Any]:
        """The worker processes, those on their way out included."""
        return list(self._rows.values())

    @property
    def staying(self) -> list[Any]:
        """The worker processes that may take another task."""
        rows = list(self._rows.items())
        return [process for row, process in rows if row not in self._leaving]

    def start(self) -> None:
        """Starts as many workers as are missing."""
        with self._turn:
            self._start_missing()

    def resize(self, count: int) -> None:
        """Has that many workers from now on. Starts those that are missing, and ends none."""
        with self._turn:
            self._count = count
            self._start_missing()

    def _start_missing(self) -> None:
        free = (row for row in range(self._crew.rows) if row not in self._rows)
        missing = self._count - (len(self._rows) - len(self._leaving))
        for row, _ in zip(free, range(missing), strict=False):
            self._crew.clear_row(row)
            process = self._context.Process(target=work, args=(self._crew.seat(row), *self._task))
            process.name = process.name.replace("Process", "PoolWorker")
            process.daemon = True
            process._variables = self._variables
            process.start()
            self._rows[row] = process

    def look_after(self, replace: bool) -> None:
        """Buries workers that have ended, answers the tasks that died with them, replaces them.

        Does nothing while another thread is doing it.
        """
        if not self._turn.acquire(blocking=False):
            return
        try:
            for row, process in list(self._rows.items()):
                if process.exitcode is not None:
                    self._bury(row, process)
                elif self._crew.is_leaving(row):
                    self._crew.note_leaving(row)
                    self._leaving.add(row)
            if self._early_deaths > 2 * self._count + 2:
                self._give_up()
            elif replace:
                self._start_missing()
        finally:
            self._turn.release()

    def _bury(self, row: int, process: Any) -> None:
        took_none = self._crew.taken(row) == 0
        self._early_deaths = self._early_deaths + 1 if took_none and process.exitcode else 0
        item = self._crew.item(row)
        died_with_it = self._crew.bury(row)
        del self._rows[row]
        self._leaving.discard(row)
        if died_with_it is not None:
            job, index = died_with_it
            job.resend_after(index, item)
            job.answer(index, False, WorkerDied.of(process.pid, process.exitcode, job.name))
            self._crew.ring()

    def _give_up(self) -> None:
        """Answers all tasks: workers end before they have taken one, and new ones would too."""
        error = WorkerDied(
            f"the last {self._early_deaths} workers ended before they could take a task; look at "
            "what they printed, and at the initializer"
        )
        self.abandon(error)

    def abandon(self, error: BaseException) -> None:
        """Answers every open task with an error."""
        for job, index in self._crew.abandon():
            job.answer(index, False, error)
        self._crew.ring()

    def is_broken(self) -> bool:
        """Whether workers die before they take a task, again and again."""
        return self._early_deaths > 2 * self._count + 2

    def join(self) -> None:
        """Waits until all workers have ended."""
        for process in self.processes:
            process.join()

    def terminate(self, *, wait: bool = True) -> bool:
        """Ends all workers now. Without `wait`, only if no thread is looking after them.

        The keeper must not wait for that one: it may be about to fork, and wait for the keeper.
        """
        if not self._turn.acquire(blocking=wait):
            return False
        try:
            processes = self.processes
            for process in processes:
                process.terminate()
            end = time.monotonic() + _PATIENCE
            for process in processes:
                # A context may have processes of its own kind, which can do less.
                sentinel = getattr(process, "sentinel", None)
                left = max(end - time.monotonic(), 0.0)
                if sentinel is not None and not wait_for([sentinel], left):
                    process.kill()
                process.join()
            self._rows.clear()
            self._leaving.clear()
            return True
        finally:
            self._turn.release()

    def describe(self) -> str:
        """The workers' states in words."""
        return ", ".join(
            "running" if process.exitcode is None else describe_exit(process.exitcode)
            for process in self.processes
        )
