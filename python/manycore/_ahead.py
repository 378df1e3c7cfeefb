"""How much a lazy map may have ahead of what was fetched: in tasks, and in bytes."""

from __future__ import annotations

from typing import NamedTuple

_USUAL_BYTES = 64 << 20
"""What a lazy map has ahead at most where nothing is said: little for a machine, and enough for 16
tasks of 1 MB for each of four workers."""

_USUAL_RESULT = 1 << 20
"""What counts for a result as long as none has come, where nothing is said of bytes."""


class Bounds(NamedTuple):
    """The most that a lazy map may have ahead.

    Attributes:
        tasks: Tasks.
        bytes: Bytes of their messages and of those of their answers.
        result: Bytes that count for an answer until the first one has come.
    """

    tasks: float
    bytes: float
    result: int

    @classmethod
    def of(cls, tasks: float, bufferbytes: int | None, workers: int) -> Bounds:
        """The bounds for so many tasks and bytes.

        Raises:
            TypeError, ValueError: When that is no number of bytes.
        """
        if bufferbytes is None:
            # All at once is what was asked for then.
            is_bounded = tasks != float("inf")
            return cls(tasks, _USUAL_BYTES if is_bounded else tasks, _USUAL_RESULT)
        if not isinstance(bufferbytes, int):
            raise TypeError("bufferbytes must be an integer or None")
        if bufferbytes < 1:
            raise ValueError(f"bufferbytes must be 1 or more, not {bufferbytes}")
        return cls(tasks, bufferbytes, max(bufferbytes // max(workers, 1), 1))


class Ahead:
    """What a lazy map has ahead.

    Attributes:
        sent: Tasks that were handed out.
        answered: How many of them have been answered.
        fetched: How many of them have been fetched.
    """

    __slots__ = ("_bounds", "_lens", "_open", "_result", "_unread", "answered", "fetched", "sent")

    def __init__(self, bounds: Bounds) -> None:
        self.sent = self.answered = self.fetched = 0
        self._bounds = bounds
        self._result: float = bounds.result
        self._lens: dict[int, int] = {}
        self._open = 0
        self._unread = 0

    def has_room(self, *, keeping: bool = False) -> bool:
        """Whether another task may be handed out.

        Args:
            keeping: Whether results count no more, since nobody fetches them.
        """
        open = self.sent - self.answered
        tasks = open if keeping else self.sent - self.fetched
        if tasks == 0:
            return True
        bounds = self._bounds
        # An open task is its message, and later its answer: as long as the longest of late.
        bytes = max(self._open, open * self._result)
        if not keeping:
            bytes += self._unread
        return tasks < bounds.tasks and bytes < bounds.bytes

    def send(self, task: int, len: int) -> None:
        """A task of so many bytes was handed out."""
        self.sent += 1
        self._lens[task] = len
        self._open += len

    def answer(self, task: int, len: int) -> None:
        """The answer of a task has come, which has so many bytes. It is not fetched yet."""
        if self.answered == 0:
            self._result = len
        self.answered += 1
        self._open -= self._lens.pop(task)
        self._unread += len
        self._result = max(len, self._result * 0.98)

    def fetch(self, len: int) -> None:
        """An answer of so many bytes was fetched."""
        self.fetched += 1
        self._unread -= len
