"""Where a worker was when it crashed, or when it was told to stop and did not.

The pool has one file for that, which exists in memory only. Each worker writes to its own part of
it, through `faulthandler`, which does so also where no Python code can run any more.
"""

from __future__ import annotations

import faulthandler
import itertools
import os

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
        return "\n".join(itertools.takewhile(lambda line: _OWN_FRAME not in line, lines)).strip()

    def close(self) -> None:
        """Nothing more can be said."""
        if self._is_there():
            os.close(self._fd)
        self._file = None


_OWN_FRAME = os.path.join("manycore", "_working.py")

_mine: tuple[int, int] | None = None


def speak(place: Place | None, row: int, *numbers: int) -> None:
    """In a worker: has crashes, and these signals, written about.

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
    global _mine
    _mine = fd, row * _ROOM
    os.lseek(*_mine, os.SEEK_SET)
    faulthandler.enable(fd)
    for number in numbers:
        faulthandler.register(number, fd, all_threads=False, chain=True)


def take_back() -> None:
    """In a worker: forgets what was written. It could be told to stop, after all."""
    if _mine is not None:
        fd, start = _mine
        os.pwrite(fd, bytes(max(os.lseek(fd, 0, os.SEEK_CUR) - start, 0)), start)
        os.lseek(fd, start, os.SEEK_SET)
