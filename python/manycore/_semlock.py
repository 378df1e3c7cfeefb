"""What stands in for the C semaphore that the standard library itself looks for behind a lock."""

from __future__ import annotations

from typing import Any


class StandIn:
    """The questions that `multiprocessing.queues` and `concurrent.futures` ask of `_semlock`."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self.acquire = lock.acquire
        self.release = lock.release

    def _get_value(self) -> int:
        if hasattr(self._lock, "get_value"):
            value: int = self._lock.get_value()
            return value
        return int(not self._lock.locked())

    def _is_zero(self) -> bool:
        return self._get_value() == 0

    def _count(self) -> int:
        """How often the calling thread holds it; this process, of a lock that has no thread."""
        if not hasattr(self._lock, "_holder"):
            return 0
        holder, me, *recursion = self._lock._holder()
        if not recursion:
            return int(holder == me)
        depth, is_mine = recursion
        return depth if is_mine else 0

    def _is_mine(self) -> bool:
        return self._count() > 0
