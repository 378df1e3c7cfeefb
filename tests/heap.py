"""The family's shared memory as a file: how much there is of it, and a way to scribble on it."""

import os
import struct
from typing import Self

from manycore import _engine

_NAME = "memfd:manycore-heap"
_WORD = struct.Struct("<Q")
_NEAR = 1 << 16  # bytes around the last place where one is likely to be the next
_RECORD = 16  # bytes of a record's header, in front of its payload


def backed() -> int:
    """Bytes of memory that the kernel has behind it, used or not."""
    descriptor = _engine.heap_fd()
    try:
        return os.fstat(descriptor).st_blocks * 512
    finally:
        os.close(descriptor)


def used() -> int:
    """Bytes in blocks that somebody uses."""
    return _engine.heap_usage()[1]


def blocks_in_use() -> int:
    """How many blocks somebody uses."""
    return _engine.heap_usage()[0]


class Heap:
    """The heap of this process's family. What is to be hit is found by its bytes."""

    def __enter__(self) -> Self:
        self._fd = os.open(_path(), os.O_RDWR | os.O_CLOEXEC)
        self._last = 0
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def find(self, marker: bytes) -> int:
        """Where these bytes are; there is one such place."""
        near = max(self._last - _NEAR, 0)
        at = self.read(near, 2 * _NEAR).find(marker)
        if at < 0:
            near, at = next((start, at) for start, at in self._found(marker) if at >= 0)
        self._last = near + at
        return self._last

    def find_word(self, value: int) -> int:
        return self.find(_WORD.pack(value))

    def read(self, at: int, length: int) -> bytes:
        return os.pread(self._fd, length, at)

    def write(self, at: int, data: bytes) -> None:
        assert os.pwrite(self._fd, data, at) == len(data)

    def write_word(self, at: int, value: int) -> None:
        self.write(at, _WORD.pack(value))

    def _found(self, marker: bytes):
        """The pieces that have memory: where each begins, and where in it the marker is."""
        end, at = os.fstat(self._fd).st_size, 0
        while at < end:
            start = os.lseek(self._fd, at, os.SEEK_DATA)
            at = os.lseek(self._fd, start, os.SEEK_HOLE)
            yield start, self.read(start, at - start).find(marker)


class Record:
    """A message in a queue whose payload has `marker` in it, `inside` bytes from its beginning."""

    def __init__(self, heap: Heap, marker: bytes, inside: int):
        self._heap, self.payload = heap, heap.find(marker) - inside
        self.header = self.payload - _RECORD

    def __len__(self) -> int:
        """Bytes of payload."""
        return struct.unpack("<I", self._heap.read(self.header, 4))[0]

    def replace(self, payload: bytes) -> None:
        """Writes over the payload, with zeros behind what is too short."""
        self._heap.write(self.payload, payload[: len(self)].ljust(len(self), b"\0"))

    def set_header(self, at: int, data: bytes) -> None:
        self._heap.write(self.header + at, data)


def _path() -> str:
    for name in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{name}"
        try:
            if _NAME in os.readlink(path):
                return path
        except OSError:  # the descriptor of the listing itself
            pass
    raise AssertionError("this process has no family")
