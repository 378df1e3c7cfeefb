"""Log records of workers, handled by the process that started them.

Each call of `log_to_parent` makes a queue. A process started afterwards is told of it together
with its work; before it runs that, its loggers lose what handlers they have, and get one that puts
records into the queue. A thread of the parent takes them out. It starts with the first such
process, and is not there while this process forks (`_resting.py`).
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import pickle
import queue
import sys
import threading
import traceback
from contextlib import suppress
from types import CodeType, FrameType
from typing import Any, NamedTuple, Self

from manycore._pickling import dumps_all
from manycore._resting import RECORDS, begin, rest_across_forks, wait_until_gone
from manycore.errors import ShutDown
from manycore.queues import Queue
from manycore.util import Finalize

_PATIENCE = 1.0
"""Seconds that a fork waits for a handler to be done with a record: it may wait for the fork."""

_AFTER_CHILDREN = -5
"""The priority of a finalizer that runs when children have been joined: it is negative."""

_PLUMBING = ("manycore", "multiprocessing", "concurrent")
"""The packages of what stands, among a worker's frames, between its start and its task."""


class Sending(NamedTuple):
    """What a worker is told: which records to send, and where to."""

    records: Queue
    logger: str | None
    level: int
    levels: dict[str, int]
    disabled: int

    def begin(self, start: CodeType) -> None:
        """In a worker: has its loggers send their records.

        Args:
            start: Of the function that runs what the worker is for.
        """
        logging.disable(self.disabled)
        for name, level in self.levels.items():
            logging.getLogger(name).setLevel(level)
        top = logging.getLogger(self.logger)
        top.propagate = False
        sender = _Sender(self.records, start)
        sender.setLevel(self.level)
        for logger in [top, *_below(top)]:
            # They would write down what the parent's write down as well.
            for handler in [*logger.handlers]:
                logger.removeHandler(handler)
            if not logger.propagate or logger is top:
                logger.addHandler(sender)
        _sent[self.logger] = self


class _Sender(logging.handlers.QueueHandler):
    """Puts records into a queue; names the task."""

    def __init__(self, records: Queue, start: CodeType) -> None:
        super().__init__(records)
        self._records = records
        self._start = start

    def prepare(self, record: logging.LogRecord) -> Any:
        # Its state and not itself: its class may be one that only this process has.
        state = vars(super().prepare(record)).copy()
        if state.get("taskName") is None:
            state["taskName"] = _task(self._start)
        return state

    def enqueue(self, record: Any) -> None:
        with suppress(ShutDown):  # nobody wants them any more
            try:
                self._records.put(record)
            except (pickle.PicklingError, AttributeError, TypeError):
                self._records.put({name: _sendable(value) for name, value in record.items()})


def _sendable(value: object) -> object:
    """A value of a record, or what it looks like, where it cannot be pickled."""
    try:
        dumps_all(value)
    except Exception:
        return repr(value)
    return value


def _task(start: CodeType) -> str | None:
    """The name of the function for which a worker calls what logs; None in other threads of it.

    Nothing is noted for that when a task begins: it is seen in the frames.
    """
    frame: FrameType | None = sys._getframe()
    outermost = None
    while frame is not None and frame.f_code is not start:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _PLUMBING:
            outermost = frame.f_code.co_qualname
        frame = frame.f_back
    return outermost if frame is not None else None


def _below(top: logging.Logger) -> list[logging.Logger]:
    """The loggers that a logger is above of."""
    known = [
        it for it in logging.root.manager.loggerDict.values() if isinstance(it, logging.Logger)
    ]
    if top is logging.root:
        return known
    return [logger for logger in known if logger.name.startswith(f"{top.name}.")]


class LogReceiver:
    """Handles what workers log, until it is stopped. Made by `manycore.log_to_parent`."""

    def __init__(self, logger: str | logging.Logger | None, level: int | str) -> None:
        top = logger if isinstance(logger, logging.Logger) else logging.getLogger(logger)
        self._logger = None if top is logging.root else top.name
        self._level: int = logging.Handler(level).level
        self._records = Queue()
        self._owner = os.getpid()
        self._thread: threading.Thread | None = None
        self._rests = threading.Event()
        self._turn = threading.Lock()
        _receivers.append(self)
        self._at_exit = Finalize(None, self.stop, exitpriority=_AFTER_CHILDREN)

    def __repr__(self) -> str:
        state = "receiving" if self.is_needed() else "stopped"
        return f"<{type(self).__qualname__} logger={self._logger or 'root'} {state}>"

    def sending(self) -> Sending:
        """What a new worker is told."""
        top = logging.getLogger(self._logger)
        levels = {it.name: it.level for it in _below(top) if it.level}
        levels[top.name] = top.getEffectiveLevel()
        disabled = logging.root.manager.disable
        return Sending(self._records, self._logger, self._level, levels, disabled)

    def stop(self) -> None:
        """Handles all that workers have logged until now, and no more of it.

        What they log afterwards is dropped. Stopping twice is no error.
        """
        if self._owner != os.getpid() or self not in _receivers:
            return  # a forked copy has nothing to receive
        _receivers.remove(self)
        self._at_exit.cancel()
        self._records.shutdown()
        self.rest()
        self._receive(threading.Event())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- the thread -------------------------------------------------------------------------

    def is_needed(self) -> bool:
        """Whether there will be records."""
        return self in _receivers

    def start(self) -> None:
        """Starts the thread, unless it runs."""
        with self._turn:
            if self._thread is None:
                rest_across_forks(self)
                self._rests = threading.Event()
                self._thread = threading.Thread(
                    target=self._receive, args=(self._rests,), name=RECORDS, daemon=True
                )
                begin(self._thread)

    def rest(self) -> bool:
        """Ends the thread; whether there was one to end. Does nothing in the thread itself."""
        with self._turn:
            thread = self._thread
            if thread is None or thread is threading.current_thread():
                return False
            self._thread = None
            self._rests.set()
        with suppress(ShutDown):
            self._records.put(None)  # which wakes it
        thread.join(_PATIENCE)
        if not thread.is_alive():
            wait_until_gone(thread)
        return True

    def _receive(self, rests: threading.Event) -> None:
        while not rests.is_set():
            try:
                state = self._records.get(timeout=_PATIENCE)
                if state is not None:
                    _handle(logging.makeLogRecord(state))
            except queue.Empty:
                continue
            except ShutDown:
                return
            except Exception:  # of a handler or a filter, or what was sent cannot be unpickled
                if logging.raiseExceptions:
                    traceback.print_exc()


def _handle(record: logging.LogRecord) -> None:
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


_receivers: list[LogReceiver] = []
_sent: dict[str | None, Sending] = {}
"""What this process itself sends to its parent, by the logger's name."""


def for_child() -> list[Sending]:
    """What a process that is started now is told: to send records here, or where ours go."""
    return [*_sent.values(), *(receiver.sending() for receiver in _receivers)]


def child_started() -> None:
    """Has records received from now on."""
    for receiver in [*_receivers]:
        receiver.start()


os.register_at_fork(after_in_child=_receivers.clear)
