"""Where a worker was when it crashed, or when it was told to stop and did not.

The pool has one file for that, which exists in memory only. Each worker writes to its own part of
it, through `faulthandler`, which does so also where no Python code can run any more.
"""

from __future__ import annotations

import faulthandler
import itertools
import os
import signal
import time
from collections.abc import Callable

SHOW = signal.SIGRTMAX - 5
"""Tells a worker to write where it is. Nobody else is known to use this signal."""

_PATIENCE = 0.05
"""Seconds that a worker has to do so: one that was stopped by a signal never does."""

_LOOK = 0.001
"""Seconds between two looks whether it has."""

_ROOM = 1 << 16
"""Bytes of each worker's part. What is longer runs into the next one's: text, and of no weight."""


Place = tuple[int, int, tuple[int, int]]
"""The process that has the file, its descriptor there, and which file it is."""


def _file_of(fd: int) -> tuple[int, int] | None:
    """Which file a descriptor leads to: programs close what is not theirs, and use its number."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class LastWords:
    """The owner's side. Where there can be no such file, nothing is ever said."""

    def __init__(self) -> None:
        try:
            self._fd = os.memfd_create("manycore-last-words", os.MFD_CLOEXEC)
        except OSError:
            self._fd = -1
        self._file = _file_of(self._fd)

    def _is_there(self) -> bool:
        return self._file is not None and _file_of(self._fd) == self._file

    @property
    def place(self) -> Place | None:
        """What workers need for it."""
        return None if self._file is None else (os.getpid(), self._fd, self._file)

    def ask(self, row: int, send: Callable[[int], object]) -> None:
        """Has the worker of a row, which is about to be killed, write where it is."""
        if not self._is_there():
            return
        send(SHOW)
        end, before = time.monotonic() + _PATIENCE, b""
        while time.monotonic() < end:
            time.sleep(_LOOK)
            words = os.pread(self._fd, _ROOM, row * _ROOM).strip(b"\0")
            if words and words == before:
                return
            before = words

    def take(self, row: int) -> str | None:
        """What the worker of a row has written; nothing is left of it."""
        if not self._is_there():
            return None
        words = os.pread(self._fd, _ROOM, row * _ROOM).strip(b"\0")
        if not words:
            return None
        os.pwrite(self._fd, bytes(_ROOM), row * _ROOM)
        # What is below the pool's own frames is of no use to anybody.
        lines = words.decode(errors="replace").splitlines()
        return "\n".join(itertools.takewhile(_is_the_programs, lines)).strip()

    def close(self) -> None:
        """Nothing more can be said."""
        if self._is_there():
            os.close(self._fd)
        self._file = None


_OWN_FRAMES = tuple(os.path.join("manycore", name) for name in ("_working.py", "_stage_workers.py"))


def speak(place: Place | None, row: int) -> None:
    """In a worker: has it write where it is when it crashes, or is asked.

    What the program itself has told `faulthandler` stays.
    """
    if place is None or faulthandler.is_enabled():
        return
    pid, theirs, file = place
    try:
        # Opened anew, so that it has a position of its own.
        fd = os.open(f"/proc/{pid}/fd/{theirs}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return  # the owner has ended, or the system does not let its children look at it
    if _file_of(fd) != file:
        os.close(fd)
        return
    os.lseek(fd, row * _ROOM, os.SEEK_SET)
    faulthandler.enable(fd)
    faulthandler.register(SHOW, fd, all_threads=False)


def _is_the_programs(line: str) -> bool:
    return not any(frame in line for frame in _OWN_FRAMES)
