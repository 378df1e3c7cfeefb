"""Workers that take too much: their tasks are told to stop, then they are killed.

Only the kernel knows whether a process has ended; what is decided here is only that one shall end.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import signal
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from manycore._last_words import LastWords
from manycore._memory import private_bytes
from manycore._options import Limits
from manycore._working import STOP, STOP_FOR_TIME
from manycore.errors import (
    MemoryLimitExceeded,
    ProcessStalled,
    TaskCancelled,
    TaskTimeout,
    WorkerDied,
)

_GRACE = 1.0
"""Seconds that a task has to end once it was told to."""

_REPEAT = 0.1
"""Seconds until it is told again. A signal that comes right before a call of the kernel that sleeps
does not end that sleep."""

_STALL = 1.0
"""Seconds between two looks at whether workers were stopped; who is at both is reported."""

_STOPPED = 10.0
"""Seconds after which a worker is replaced that was stopped between tasks while others wait."""


class Tended(Protocol):
    """What is asked of, and told to, the workers that are watched: of a pool, or of a stage."""

    def overdue(self) -> tuple[list[tuple[int, int, float]], float | None]:
        """Rows whose tasks have run for too long, their tags and by how much; when to ask again."""

    def running(self, row: int) -> tuple[Any, ...] | None:
        """The tag of what the worker of a row runs, and what else is known of it."""

    def patience(self) -> float | None:
        """How many seconds tasks may wait that no worker runs; None where there are none."""

    def interrupt(self, row: int, tag: int) -> None:
        """Asks the worker of a row to give up a task, when it is told to look."""

    def doom(self, row: int, tag: int) -> bool:
        """Decides that it is to be killed for a task, unless it is done with that."""

    def retire(self, row: int, shall: bool) -> None:
        """Asks it to leave after its task, or not to."""


Verdict = Callable[[str, str | None], BaseException]
"""The error for the task of a worker that was killed, given the task and the stack as texts."""


class _Stopped:
    """A worker that was found stopped."""

    __slots__ = ("is_reported", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.is_reported = False


class _Told(NamedTuple):
    """A task that was told to stop."""

    tag: int
    number: int  # of the signal
    verdict: Verdict
    repeat_at: float
    kill_at: float


class Tending:
    """Watches what the workers of one pool, or of one stage, use.

    Args:
        crew: The pool's, or the stage's.
        limits: What the workers may use.
        last_words: Where they write where they are, if they are asked.
    """

    def __init__(self, crew: Tended, limits: Limits, last_words: LastWords) -> None:
        self._crew = crew
        self._limits = limits
        self._last_words = last_words
        self._told: dict[int, _Told] = {}
        self._sentenced: dict[int, tuple[int | None, Verdict]] = {}
        self._born: dict[int, float] = {}
        self._kept: dict[int, int] = {}
        self._next_stall_look = 0.0
        self._still: dict[int, _Stopped] = {}

    def begin(self, row: int) -> None:
        """A worker was started in a row."""
        self._sentenced.pop(row, None)
        self._born[row] = time.monotonic()

    def end(self, row: int) -> tuple[int | None, Verdict] | None:
        """The worker of a row has ended; the task for which it was killed, and what that means.

        Without a task, it was killed before it began with any: one that it may have taken can be
        tried again.
        """
        for known in (self._told, self._born, self._kept, self._still):
            known.pop(row, None)
        return self._sentenced.pop(row, None)

    def tend(self, workers: Mapping[int, Any]) -> float:
        """Looks at all workers, by row; seconds until it is to be done again."""
        now = time.monotonic()
        overdue, soonest = self._crew.overdue()
        for row, tag, _ in overdue:
            if row in workers:
                self._stop(workers[row], row, tag, STOP_FOR_TIME, _too_long)
        for row, told in list(self._told.items()):
            if now >= told.kill_at:
                del self._told[row]
                if row in workers:
                    self._kill(workers[row], row, told.tag, told.verdict)
            elif now >= told.repeat_at:
                self._told[row] = told._replace(repeat_at=now + _REPEAT)
                running = self._crew.running(row)
                if row in workers and running is not None and running[0] == told.tag:
                    _send(workers[row], told.number)
        if self._limits.need_looks:
            for row, worker in workers.items():
                self._weigh(row, worker, now)
        self.report_stopped(workers)
        waits = [min(told.repeat_at, told.kill_at) - now for told in self._told.values()]
        return max(min([soonest, *waits] if soonest is not None else waits, default=1.0), 0.001)

    def cancel(self, row: int, worker: Any, tag: int) -> None:
        """Has a task given up that a worker has: it looks before it begins, and when told."""
        self._stop(worker, row, tag, STOP, _cancelled)

    def _stop(self, worker: Any, row: int, tag: int, number: int, verdict: Verdict) -> None:
        told = self._told.get(row)
        is_known = told is not None and told.tag == tag
        if is_known or self._sentenced.get(row, (0,))[0] == tag:
            return
        now = time.monotonic()
        self._told[row] = _Told(tag, number, verdict, now + _REPEAT, now + _GRACE)
        self._crew.interrupt(row, tag)
        _send(worker, number)

    def _kill(self, worker: Any, row: int, tag: int, verdict: Verdict) -> None:
        """Kills a worker for a task, unless it is done with it by now."""
        if self._crew.doom(row, tag):
            self._sentenced[row] = (tag, verdict)
            if verdict is _too_long:
                self._last_words.ask(row, functools.partial(_send, worker))
            _send(worker, signal.SIGKILL)

    def _weigh(self, row: int, worker: Any, now: float) -> None:
        lifetime, lightest = self._limits.lifetime, self._limits.lightest
        is_over = lifetime.seconds is not None and now - self._born.get(row, now) > lifetime.seconds
        if lightest is not None:
            before = self._crew.running(row)
            used = private_bytes(worker.pid, lightest) or 0
            is_over = is_over or (lifetime.memory is not None and used > lifetime.memory)
            limit = self._limits.memory
            if limit is not None and used > limit + self._kept.get(row, 0):
                running = self._crew.running(row)
                if running is None or before is None or running[0] != before[0]:
                    # What it keeps without a task is too much. It has one more, which may need as
                    # much as any: that is not its fault, nor if it has begun with it meanwhile.
                    self._kept[row] = used
                    is_over = True
                else:
                    self._kill(worker, row, running[0], _too_much(used, limit))
        if is_over:
            self._crew.retire(row, True)

    def report_stopped(self, workers: Mapping[int, Any], *, are_to_end: bool = False) -> None:
        """Warns once of each worker that was stopped at two looks, which are a second apart.

        One that was stopped between two tasks is killed when others have waited for too long. With
        `are_to_end`, who waits is whoever has them end.
        """
        now = time.monotonic()
        if now < self._next_stall_look:
            return
        self._next_stall_look = now + _STALL
        for row, worker in workers.items():
            state = _state(_known_pid(worker))
            if state not in ("T", "t"):
                self._still.pop(row, None)
                continue
            stopped = self._still.setdefault(row, _Stopped(now))
            if stopped.since < now:
                self._see_to_stopped(row, worker, stopped, state == "t", are_to_end)

    def _see_to_stopped(
        self, row: int, worker: Any, stopped: _Stopped, is_traced: bool, is_to_end: bool
    ) -> None:
        has_task = self._crew.running(row) is not None
        if not stopped.is_reported:
            stopped.is_reported = True
            if has_task:
                what, then = "runs a task", "a task with a `timeout` is given up then"
            else:
                what, then = "has no task", "it is replaced if tasks wait for it"
            warnings.warn(
                f"worker {worker.pid} was stopped by a signal or a debugger while it {what}: "
                f"continue or kill it; {then}",
                ProcessStalled,
                stacklevel=2,
            )
        if has_task or is_traced:
            return  # a program that is debugged takes its time
        # It may have taken a task, or hold what others need to take one.
        patience = self._crew.patience()
        if patience is None and not is_to_end:
            return
        waited = time.monotonic() - stopped.since
        if waited >= min(_STOPPED, math.inf if patience is None else patience):
            self._sentenced[row] = (None, _stopped)
            _send(worker, signal.SIGKILL)


def _send(worker: Any, number: int) -> None:
    """Sends a signal to a worker, unless it has ended."""
    send = getattr(worker._popen, "_send_signal", None)
    if send is not None:
        send(number)
        return
    with contextlib.suppress(ProcessLookupError):  # a context with processes of its own kind
        os.kill(worker.pid, number)


def _known_pid(worker: Any) -> int | None:
    """The id of a worker, unless that would have to be waited for."""
    popen = getattr(worker, "_popen", None)
    pid: int | None = worker.pid if popen is None else vars(popen).get("pid")
    return pid


def _state(pid: int | None) -> str:
    """The letter for what a process does, as in `proc(5)`; empty where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1].decode()
    except OSError:
        return ""


def _too_long(task: str, stack: str | None) -> BaseException:
    message = f"{task} did not end within its timeout, nor when told to: its worker was killed"
    return TaskTimeout(f"{message}\n{stack}" if stack else message)


def _stopped(task: str, stack: str | None) -> BaseException:
    return WorkerDied(
        f"{task} was not begun: its worker had been stopped by a signal, and was killed since "
        "others waited for it",
        exitcode=-signal.SIGKILL,
        task=task,
    )


def _cancelled(task: str, stack: str | None) -> BaseException:
    return TaskCancelled(f"{task} was cancelled; its worker was killed since it did not end")


def _too_much(used: int, limit: int) -> Verdict:
    def verdict(task: str, stack: str | None) -> BaseException:
        return MemoryLimitExceeded(
            f"{task} was given up: its worker had {used >> 20} MiB of private memory, and "
            f"max_memory allows {limit >> 20} MiB",
            used,
            limit,
        )

    return verdict
