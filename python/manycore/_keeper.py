"""The thread that keeps a pool going while nobody waits for its answers.

A pool that is only used by calls that wait has no thread. The first asynchronous call starts one.
It ends before a `fork` of this process, and starts again afterwards if it is needed.

It alone calls the program back: who collects an answer may hold a lock that its callback wants.
"""

from __future__ import annotations

import collections
import threading
import weakref
from multiprocessing import util
from typing import TYPE_CHECKING

from manycore import _engine
from manycore._resting import KEEPER, rest_across_forks, wait_until_gone

if TYPE_CHECKING:
    from collections.abc import Callable

    from manycore._attendant import Attendant


_LOOK_AGAIN = 0.001
"""Seconds after which who waits for the thread to end looks whether it is in a callback."""


class Keeper:
    """Looks after a pool from a thread of its own. Does not keep the pool alive.

    Attributes:
        is_outside: Whether the thread runs code of the program. That may take its time, or wait for
            a thread that forks, so forks do not wait for it then.
    """

    def __init__(self, attendant: Attendant, crew: _engine.Crew) -> None:
        self._crew = crew
        self._attendant = weakref.ref(attendant)
        self._thread: threading.Thread | None = None
        self._rests = False
        self._news = threading.Event()
        self._due: collections.deque[Callable[[], object]] = collections.deque()
        self._is_called = False
        self.is_outside = False

    @property
    def runs(self) -> bool:
        """Whether there is the thread."""
        return self._crew.is_kept

    @property
    def is_here(self) -> bool:
        """Whether this is the thread."""
        return threading.current_thread() is self._thread

    @property
    def has_calls(self) -> bool:
        """Whether there is something to call, or that runs."""
        return self.is_outside or bool(self._due)

    def start(self) -> None:
        """Starts the thread, unless it runs.

        Raises:
            RuntimeError: When there can be no other thread.
        """
        if not self.runs:
            rest_across_forks(self)
            self._rests = False
            self._news.clear()
            self._crew.is_kept = True
            self._thread = threading.Thread(target=self._keep, name=KEEPER, daemon=True)
            try:
                self._thread.start()
            except BaseException:
                self._crew.is_kept = False
                raise

    def call(self, function: Callable[[], object]) -> None:
        """Has the thread call a function, soon: for callbacks of the program."""
        self._due.append(function)
        if self.is_here:
            return  # it looks before it sleeps
        if not self._crew.is_ours or util.is_exiting():
            self._call_due()  # in a fork, and at the end of the program, there is no such thread
        elif not self._is_called:
            self._is_called = True  # after the function was added: the thread looks after this
            self._news.set()
            self._crew.ring()
            try:
                self.start()
            except RuntimeError:
                self._call_due()

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
        try:
            while not self._rests:
                self._is_called = False
                rung = self._crew.rung
                self._call_due()
                attendant = self._attendant()
                pause = None if attendant is None else attendant.keep(rung)
                del attendant
                if self._due:
                    continue
                if pause is None:
                    break
                if pause:
                    self._news.wait(pause)
                    self._news.clear()
        finally:
            self._crew.is_kept = False
        if self._due and not self._rests:
            self.start()  # who has called this meanwhile has seen that it ran

    def _call_due(self) -> None:
        if not self._due:
            return
        self.is_outside = True
        try:
            while self._due and not (self._rests and self.is_here):
                try:
                    function = self._due.popleft()
                except IndexError:
                    break  # at the end of the program two threads are here
                _engine.call_showing_errors(function)
                del function
        finally:
            self.is_outside = False
        self._crew.ring()  # for who waits until all was called

    def is_needed(self) -> bool:
        """Whether there is something to do even if nobody waits."""
        attendant = self._attendant()
        return bool(self._due) or (attendant is not None and attendant.is_needed())
