"""Who collects a pool's answers and looks after its workers: whichever thread waits for one.

Where nobody waits, the keeper's thread does it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing.pool import CLOSE, RUN, TERMINATE

from manycore import _engine
from manycore._idle import Idle
from manycore._keeper import Keeper
from manycore._withdrawn import withdrawn
from manycore._workers import Workers

_MOMENT = 0.0005
"""Seconds that a lazy map waits for more than one answer."""

_MOUTHFUL = 1 << 20
"""Bytes of answers that are taken at a time for a lazy map, more or less: large ones are used while
the processor has them at hand, and then others are received into their memory."""

_LOOK_AFTER = 0.05
"""Seconds between two looks at whether all workers live."""

_SHORTEST = 0.001
"""The same at least, where tasks may run for so short a time."""


class Attendant:
    """Collects the answers of one pool, and has its workers looked after.

    Attributes:
        has_workers: Whether there can be any.
        collects: Whether the keeper collects answers, too: somebody is to be called with them.
        idle: Lets workers go while there is nothing to do, where that is wanted.
    """

    has_workers = True

    def __init__(self, crew: _engine.Crew, workers: Workers) -> None:
        self._crew = crew
        self.state = RUN
        self.collects = False
        self.keeper = Keeper(self, crew)
        self._workers = workers
        self._next_look = 0.0
        self.idle: Idle | None = None

    @property
    def state(self) -> str:
        """The standard library's `RUN`, `CLOSE` or `TERMINATE`."""
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state
        self._crew.is_open = state == RUN

    def poll(self) -> None:
        """Collects what is there."""
        self._crew.collect()
        if time.monotonic() >= self._next_look:
            self.look_after()

    def has_answer(self, job: _engine.Job) -> bool:
        """Whether a job is done. Within a callback also if its own is yet to be called."""
        if job._is_done:
            return True
        return job._left == 0 and (self.keeper.is_here or not self._crew.is_ours)

    def wait(self, job: _engine.Job, until: float | None) -> bool:
        """Waits until a job is done; false when `until` came first."""
        while not job._is_done:
            self._crew.collect_for(job)
            if self.has_answer(job):
                break
            if until is not None and time.monotonic() >= until:
                return False
            self.pause(job, job._open, until)
        if self._workers.need_looks:
            self.look_after()  # what one keeps while it has no task is not the fault of the next
        return True

    def wait_for_news(
        self,
        job: _engine.Job,
        until: float | None,
        is_due: Callable[[], bool] | None = None,
    ) -> bool:
        """Waits until a stream has answers to fetch; false when `until` came first.

        Or until it is done; with `is_due`, until that says so, which is asked now and then.
        """
        # First for half of what is open, for a moment: waking for each costs more than a tiny task,
        # and the workers have the other half meanwhile.
        handful = self._crew.open // 2
        while True:
            rung = self._crew.rung
            taken = self._crew.collect(_MOUTHFUL)
            seen = job._delivered
            if job._results or (job._is_done if is_due is None else is_due()):
                return True
            now = time.monotonic()
            if until is not None and now >= until:
                return False
            if taken:
                continue  # of other calls; there may be more
            if handful > 1:
                self._crew.wait(job, job._delivered, handful, _MOMENT)
                handful = 0
            else:
                self.pause(job, 1, until, rung, seen)

    def goes_on(self) -> bool:
        """Whether there are, or will be, workers for tasks that are handed out."""
        return self.state != TERMINATE and not self._workers.is_broken()

    def wait_for_all(self) -> None:
        """Waits until every task has its answer, and the program was called with those.

        Raises:
            RuntimeError: When it is called with one now.
        """
        self.check_not_called()
        while self._crew.open and not self._workers.is_broken():
            if not self._crew.collect():
                self.pause(None, self._crew.open, None)
        self.keeper.wait_until_called(self.keeper.due.added)

    def check_not_called(self) -> None:
        """Raises `RuntimeError` within a callback."""
        if self.keeper.is_calling_here:
            raise RuntimeError(
                "a callback cannot wait for the end of its pool, which waits for the callback"
            )

    def pause(
        self,
        job: _engine.Job | None,
        want: int,
        until: float | None,
        rung: int | None = None,
        seen: int | None = None,
    ) -> None:
        """Sleeps until there is something to do, and looks after the workers now and then.

        With `rung`, not if somebody has rung since that was read; with `seen`, not if the job has
        more answers than that.
        """
        now = time.monotonic()
        self._next_look = min(self._next_look, now + self._between_looks())
        if now >= self._next_look:
            self.look_after()
            now = time.monotonic()
        end = self._next_look if until is None else min(self._next_look, until)
        if seen is None:
            seen = job._delivered if job is not None else 0
        self._crew.wait(job, seen, max(want, 1), max(end - now, 0.0), rung)
        if self._crew.has_leaving():
            self.look_after()

    def _between_looks(self) -> float:
        """Seconds between two looks, at most: a worker may begin now with what has a short time."""
        shortest = self._crew.shortest
        return _LOOK_AFTER if shortest is None else min(max(shortest, _SHORTEST), _LOOK_AFTER)

    def look_after(self) -> None:
        """Buries, ends and starts workers as need be."""
        self._next_look = time.monotonic() + self._between_looks()
        if not self._crew.is_ours:
            return
        self.keeper.look_if_alone()
        soon = self._workers.look_after(replace=self.state == RUN or self._crew.open > 0)
        self._next_look = min(self._next_look, time.monotonic() + soon)
        if self.idle is not None and self.state == RUN:
            self.idle.tend()

    def look_if_any_died(self) -> None:
        """Looks after the workers at once if the kernel has marked one as ending."""
        if self._crew.seems_dead():
            self.look_after()

    def need_keeper(self, *, collects: bool = False) -> None:
        """Makes sure that a thread keeps the pool going while nobody waits for its answers."""
        if collects and not self.collects:
            self.collects = True
            self.keeper.hurry()
        if self._crew.has_backlog or (self._crew.shortest or _LOOK_AFTER) < _LOOK_AFTER:
            self.keeper.hurry()
        self.keeper.start()

    def cancel(self, job: _engine.Job) -> bool:
        """Withdraws the tasks of a job that no worker has begun, and has the others given up.

        Whether there were any.
        """
        withdrawn = self.withdraw(job)
        return self._workers.cancel(job) or withdrawn

    def withdraw(self, job: _engine.Job) -> bool:
        """Withdraws the tasks of a job that no worker has begun; whether there were any."""
        error = withdrawn()
        while (count := self._crew.withdraw(job, error)) is None:
            self.look_after()  # a worker was stopped that is about to take a task
        self.feed()
        return count > 0

    def withdraw_all(self, spare: int = 0) -> None:
        """Withdraws all tasks that no worker has begun, but for the next few."""
        if self._crew.open:
            error = withdrawn()
            while self._crew.withdraw_all(error, spare) is None:
                self.look_after()  # as above
            self.feed()

    def feed(self) -> None:
        """Gives the workers what waits here, and has somebody go on with that."""
        self._crew.feed()
        self._crew.ring()  # who waits may wait for what was withdrawn, or for too many answers
        if self._crew.has_backlog:
            self.keeper.hurry()
            self.keeper.start()

    def keep(self, rung: int) -> float | None:
        """One round of the keeper; seconds until the next, or None when there is no more to do.

        Does not sleep if somebody has rung since `rung` was read.
        """
        if self.state == TERMINATE or (self.state == CLOSE and not self._crew.open):
            return None
        if self.collects or self._crew.has_backlog:
            self._crew.collect()
            if not self.keeper.due:
                self.pause(None, 1, None, rung)
            return 0.0
        # Answers are collected by whoever waits for them, and now and then those for which nobody
        # does. The workers must live all the same.
        if self.is_needed():
            self._crew.collect()
            self.look_after()
        return max(self._next_look - time.monotonic(), 0.0) if self._crew.open else _LOOK_AFTER

    def is_needed(self) -> bool:
        """Whether there is something to do even if nobody waits."""
        is_awake = self.idle is not None and self.idle.is_awake
        return self._crew.open > 0 or self._workers.need_looks or is_awake
