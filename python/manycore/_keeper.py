"""The thread that keeps a pool going while nobody waits for its answers.

A pool that is only used by calls that wait has no thread. The first asynchronous call starts one.
It ends before a `fork` of this process, and starts again afterwards if it is needed.

It alone calls the program back: who collects an answer may hold a lock that its callback wants.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import weakref
from multiprocessing import util
from typing import TYPE_CHECKING

from manycore import _engine
from manycore._resting import KEEPER, begin, rest_across_forks, wait_until_gone

if TYPE_CHECKING:
    from manycore._attendant import Attendant

_LOOK_AGAIN = 0.001
"""Seconds after which who waits for the thread to end looks whether it is in a callback."""

_LOOK_AT_CALLS = 0.05
"""Seconds after which who waits for calls looks again, though nobody has rung."""


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
        self.due = _engine.Due(getattr(crew, "engine", crew))
        self.due.when_alone(functools.partial(_start_or_call, weakref.ref(self)))
        self.is_outside = False
        self._awaited = 0

    @property
    def runs(self) -> bool:
        """Whether there is the thread."""
        return self._crew.is_kept

    @property
    def is_here(self) -> bool:
        """Whether this is the thread."""
        return self.due.is_here

    @property
    def is_calling_here(self) -> bool:
        """Whether this is the thread, and runs code of the program."""
        return self.is_outside and self.due.is_here

    def start(self) -> None:
        """Starts the thread, unless it runs.

        Raises:
            RuntimeError: When there can be no other thread.
        """
        if not self.due.begin():
            return
        rest_across_forks(self)
        self._rests = False
        self._news.clear()
        thread = threading.Thread(target=self._keep, name=KEEPER, daemon=True)
        self._thread = thread
        try:
            begin(thread)
        except BaseException:
            self.due.give_up()
            raise

    def rest(self) -> bool:
        """Ends the thread; whether there was one to end.

        Does nothing in the thread itself, nor while it runs code of the program: it is like any
        other thread then, and may even wait for this one.
        """
        has_rested = False
        while True:
            thread = self._thread
            if thread is None or thread is threading.current_thread() or not thread.ident:
                return has_rested
            self._ask_to_rest()
            while thread.is_alive():
                if self.is_outside:
                    self._rests = False
                    if self.is_outside:  # so it has not looked whether to rest since it was asked
                        return has_rested
                    self._ask_to_rest()  # type: ignore[unreachable]  # it is back meanwhile
                thread.join(_LOOK_AGAIN)
            wait_until_gone(thread)
            has_rested = True
            if self._thread is thread:  # and no other was started meanwhile
                self._thread = None

    def _ask_to_rest(self) -> None:
        self._rests = True
        self._news.set()
        self._crew.ring()

    def hurry(self) -> None:
        """Has the thread look at once at what there is to do."""
        self._news.set()

    def look_if_alone(self) -> None:
        """Has functions called that wait though there is no thread: its start was interrupted."""
        if self.due and not self._crew.is_kept:
            self._start_or_call()

    def _start_or_call(self) -> None:
        """Has a function called that was added while there was no thread."""
        if not util.is_exiting():
            with contextlib.suppress(RuntimeError):
                self.start()
                return
        self._call_due()  # there can be none

    def _keep(self) -> None:
        if not self.due.settle():
            return
        self._thread = threading.current_thread()
        try:
            while not self._rests:
                rung = self._crew.rung
                self._call_due()
                attendant = self._attendant()
                pause = None if attendant is None else attendant.keep(rung)
                del attendant
                if self.due:
                    continue
                if pause is None:
                    break
                if pause:
                    self._news.wait(pause)
                    self._news.clear()
        finally:
            self.due.leave()
        if self.due and not self._rests:
            self._start_or_call()  # who has added it has seen that this thread was there

    def _call_due(self) -> None:
        is_here = self.due.is_here
        has_called = False
        while not (is_here and self._rests):
            self.is_outside = self.is_outside or is_here
            function = self.due.next()
            if function is not None:
                _engine.call_showing_errors(function)
                self.due.note_called()
                has_called = True
            if is_here:
                self.is_outside = False
            if function is None:
                break
            del function
            if self._awaited:
                self._crew.ring()
        if has_called:
            self._crew.ring()  # for who waits until all was called

    def wait_until_called(self, number: int, until: float | None = None) -> None:
        """Waits until so many functions have been called, or until then; not in a callback."""
        if self.due.is_here or not self._crew.is_ours:
            return
        self._awaited += 1
        try:
            while self.due.called < number and (until is None or time.monotonic() < until):
                rung = self._crew.rung
                self.look_if_alone()
                if self.due.called < number:
                    self._crew.wait(None, 0, 1, _LOOK_AT_CALLS, rung)
        finally:
            self._awaited -= 1

    def is_needed(self) -> bool:
        """Whether there is something to do even if nobody waits."""
        attendant = self._attendant()
        return bool(self.due) or (attendant is not None and attendant.is_needed())


def _start_or_call(keeper: weakref.ref[Keeper]) -> None:
    """What the engine calls, which does not keep the keeper alive, nor a pool's memory with it."""
    it = keeper()
    if it is not None:
        it._start_or_call()
