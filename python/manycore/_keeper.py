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
    from collections.abc import Callable

    from manycore import _engine
    from manycore._attendant import Attendant


_LOOK_AGAIN = 0.001
"""Seconds after which who waits for the thread to end looks whether it is in a callback."""

_here = threading.local()


def call_outside(function: Callable[..., object], *arguments: object) -> None:
    """Calls a function of the program's, which may take its time, or wait for a thread that forks.

    In a keeper's thread, forks do not wait for it then.
    """
    keeper: Keeper | None = getattr(_here, "keeper", None)
    if keeper is None:
        function(*arguments)
        return
    was_outside, keeper.is_outside = keeper.is_outside, True
    try:
        function(*arguments)
    finally:
        keeper.is_outside = was_outside


class Keeper:
    """Looks after a pool from a thread of its own. Does not keep the pool alive.

    Attributes:
        is_outside: Whether the thread runs code of the program.
    """

    def __init__(self, attendant: Attendant, crew: _engine.Crew) -> None:
        self._crew = crew
        self._attendant = weakref.ref(attendant)
        self._thread: threading.Thread | None = None
        self._rests = False
        self._news = threading.Event()
        self.is_outside = False

    @property
    def runs(self) -> bool:
        """Whether there is the thread."""
        return self._crew.is_kept

    def start(self) -> None:
        """Starts the thread, unless it runs."""
        if not self.runs:
            rest_across_forks(self)
            self._rests = False
            self._news.clear()
            self._crew.is_kept = True
            self._thread = threading.Thread(target=self._keep, name=KEEPER, daemon=True)
            self._thread.start()

    def rest(self) -> bool:
        """Ends the thread; whether there was one to end.

        Does nothing in the thread itself, nor while it runs code of the program: it is like any
        other thread then, and may even wait for this one.
        """
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return False
        self._ask_to_rest()
        while thread.is_alive():
            if self.is_outside:
                self._rests = False
                if self.is_outside:  # so it has not looked whether to rest since it was asked
                    return False
                self._ask_to_rest()  # type: ignore[unreachable]  # it has come back meanwhile
            thread.join(_LOOK_AGAIN)
        wait_until_gone(thread)
        self._thread = None
        return True

    def _ask_to_rest(self) -> None:
        self._rests = True
        self._news.set()
        attendant = self._attendant()
        if attendant is not None:
            attendant.ring()

    def hurry(self) -> None:
        """Has the thread look at once at what there is to do."""
        self._news.set()

    def _keep(self) -> None:
        _here.keeper = self
        try:
            while not self._rests:
                attendant = self._attendant()
                pause = None if attendant is None else attendant.keep()
                if pause is None:
                    return
                del attendant
                if pause:
                    self._news.wait(pause)
                    self._news.clear()
        finally:
            self._crew.is_kept = False

    def is_needed(self) -> bool:
        """Whether there is something to do even if nobody waits."""
        attendant = self._attendant()
        return attendant is not None and attendant.is_needed()
