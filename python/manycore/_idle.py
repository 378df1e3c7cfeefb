"""Pools that have few workers, or none, while there is nothing to do."""

from __future__ import annotations

import time

from manycore import _engine
from manycore._options import is_above_0
from manycore._workers import Workers


def check(seconds: float | None, least: int, count: int) -> None:
    """Raises ValueError when a pool of so many workers cannot be idle like that."""
    if seconds is not None and not is_above_0(seconds):
        raise ValueError(f"idle_seconds must be above 0, not {seconds!r}")
    if not 0 <= least <= count:
        raise ValueError(f"min_processes must be 0 to {count}, not {least!r}")
    if least and seconds is None:
        raise ValueError("min_processes says how many workers stay, but idle_seconds is not given")


class Idle:
    """Lets the workers of a pool go that has had no task for a while, and has them back later.

    Args:
        crew: The pool's.
        workers: The pool's.
        seconds: How long the while is.
        least: How many workers stay.
    """

    def __init__(self, crew: _engine.Crew, workers: Workers, seconds: float, least: int) -> None:
        self.most = workers.count
        self._crew = crew
        self._workers = workers
        self._seconds = seconds
        self._least = least
        self._since = time.monotonic()

    @property
    def is_awake(self) -> bool:
        """Whether there are workers that may be let go."""
        return self._workers.count > self._least

    def wake(self) -> None:
        """There are to be tasks: has all workers back."""
        self._since = time.monotonic()
        if self._workers.count < self.most:
            self._workers.resize(self.most)

    def tend(self) -> None:
        """Looks whether workers are to go or to come. Does nothing while others see to the workers.

        A task may come just when the workers go: then the next look has them back.
        """
        now = time.monotonic()
        if self._crew.open:
            self._since = now
            if self._workers.count < self.most:
                self._workers.resize(self.most, at_once=True)
        elif self.is_awake and now - self._since >= self._seconds:
            self._workers.resize(min(self._least, self._workers.count), at_once=True)
