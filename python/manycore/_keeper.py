"""The thread that keeps a pool going while nobody waits for its answers.

A pool that is only used by calls that wait has no thread. The first asynchronous call starts one.
It ends before a `fork` of this process, and starts again afterwards if it is needed.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manycore.pool import Pool

_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


class Keeper:
    """Looks after a pool from a thread of its own. Does not keep the pool alive."""

    def __init__(self, pool: Pool) -> None:
        self._pool = weakref.ref(pool)
        self._thread: threading.Thread | None = None
        self._rests = threading.Event()
        _keepers.add(self)

    def start(self) -> None:
        """Starts the thread, unless it runs."""
        if self._thread is None or not self._thread.is_alive():
            self._rests.clear()
            self._thread = threading.Thread(target=self._keep, name="manycore-keeper", daemon=True)
            self._thread.start()

    def rest(self) -> bool:
        """Ends the thread; whether there was one to end. Does nothing in the thread itself."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return False
        self._rests.set()
        pool = self._pool()
        if pool is not None:
            pool._crew.ring()
        thread.join()
        self._thread = None
        return True

    def _keep(self) -> None:
        while not self._rests.is_set():
            pool = self._pool()
            pause = None if pool is None else pool._keep()
            if pause is None:
                return
            del pool
            self._rests.wait(pause)

    def is_needed(self) -> bool:
        """Whether there are tasks without an answer."""
        pool = self._pool()
        return pool is not None and pool._crew.open > 0


_resting: list[Keeper] = []


def _before_fork() -> None:
    _resting.extend(keeper for keeper in list(_keepers) if keeper.rest())


def _after_fork_in_parent() -> None:
    while _resting:
        keeper = _resting.pop()
        if keeper.is_needed():
            keeper.start()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_resting.clear,
)
