"""The thread that keeps a pool going while nobody waits for its answers.

A pool that is only used by calls that wait has no thread. The first asynchronous call starts one.
It ends before a `fork` of this process, and starts again afterwards if it is needed.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from manycore._resting import KEEPER, rest_across_forks, wait_until_gone

if TYPE_CHECKING:
    from manycore.pool import Pool


class Keeper:
    """Looks after a pool from a thread of its own. Does not keep the pool alive."""

    def __init__(self, pool: Pool) -> None:
        self._pool = weakref.ref(pool)
        self.thread: threading.Thread | None = None
        self._rests = False
        self._news = threading.Event()

    def start(self) -> None:
        """Starts the thread, unless it runs."""
        if self.thread is None or not self.thread.is_alive():
            rest_across_forks(self)
            self._rests = False
            self._news.clear()
            self.thread = threading.Thread(target=self._keep, name=KEEPER, daemon=True)
            self.thread.start()

    def rest(self) -> bool:
        """Ends the thread; whether there was one to end. Does nothing in the thread itself."""
        thread = self.thread
        if thread is None or thread is threading.current_thread():
            return False
        self._rests = True
        self._news.set()
        pool = self._pool()
        if pool is not None:
            pool._crew.ring()
        thread.join()
        wait_until_gone(thread)
        self.thread = None
        return True

    def hurry(self) -> None:
        """Has the thread look at once at what there is to do."""
        self._news.set()

    def _keep(self) -> None:
        while not self._rests:
            pool = self._pool()
            pause = None if pool is None else pool._keep()
            if pause is None:
                return
            del pool
            if pause:
                self._news.wait(pause)
                self._news.clear()

    def is_needed(self) -> bool:
        """Whether the pool has something to do."""
        pool = self._pool()
        return pool is not None and pool._is_busy()
