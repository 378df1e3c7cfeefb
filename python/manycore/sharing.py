"""Objects that are encoded once, into the family's heap, and decoded where somebody has them."""

from __future__ import annotations

import io
import itertools
import pickle
import struct
import weakref
from typing import Any

from manycore import _engine
from manycore.errors import Corrupted

__all__ = ["SharedObject", "share"]

Handle = tuple[int, int, int]

# One for each that this process has, so that it is decoded once as long as somebody has it.
_known: weakref.WeakValueDictionary[Handle, SharedObject] = weakref.WeakValueDictionary()

_COUNT = struct.Struct("<Q")  # of lengths, and each of them
_LEAST = 1024  # shorter buffers stay inside the pickle
_LINE = 64  # where buffers begin


class SharedObject:
    """An object in shared memory that all may read; made by `share(obj, readonly=True)`.

    It travels by handle: a queue, or a pool's task, carries no copy. In each process it is one and
    the same as long as somebody there has it.
    """

    def __init__(self, memory: _engine.Memory) -> None:
        self._memory = memory

    @property
    def value(self) -> Any:
        """The object, decoded at the first use in this process.

        Its buffers are the shared memory itself, read-only.

        Raises:
            Corrupted: When the shared memory was scribbled on.
        """
        kept = vars(self)
        if "_value" not in kept:
            kept.setdefault("_value", _decode(self._memory))  # another thread's, if it was first
        return kept["_value"]

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._memory.handle,)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._memory)} bytes>"


def share(obj: object) -> SharedObject:
    """Encodes an object into shared memory.

    Raises:
        TypeError: When there is something shared in it, as a queue or a lock.
        HeapFull: When there is not enough memory.
    """
    (pickled, buffers), handles = _engine.collect_handles(lambda: _pickle(obj))
    if handles:
        raise TypeError("what is shared read-only cannot have queues, locks or shared arrays in it")
    return _known_as(_encode([memoryview(pickled), *buffers]))


def _pickle(obj: object) -> tuple[bytes, list[memoryview]]:
    buffers: list[memoryview] = []

    def is_inside(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # it is not contiguous
            return True
        if raw.nbytes >= _LEAST:
            buffers.append(raw)
        return raw.nbytes < _LEAST

    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5, buffer_callback=is_inside)
    reducers: Any = _engine.Reducers()  # looked into by class, like a dict
    pickler.dispatch_table = reducers
    pickler.dump(obj)
    return file.getvalue(), buffers


def _places(lengths: list[int]) -> list[int]:
    """Where pieces begin that lie behind the list of their lengths; and where the last ends."""
    first = _COUNT.size * (1 + len(lengths))
    behind = itertools.accumulate(lengths, lambda at, length: _aligned(at) + length, initial=first)
    ends = list(behind)
    return [*map(_aligned, ends[:-1]), ends[-1]]


def _aligned(at: int) -> int:
    return -(-at // _LINE) * _LINE


def _view(memory: Any) -> memoryview:
    return memoryview(memory)


def _encode(pieces: list[memoryview]) -> _engine.Memory:
    lengths = [piece.nbytes for piece in pieces]
    *places, end = _places(lengths)
    memory = _engine.Memory(end)
    with _view(memory) as view:
        struct.pack_into(f"<{1 + len(lengths)}Q", view, 0, len(lengths), *lengths)
        for at, length, piece in zip(places, lengths, pieces, strict=True):
            view[at : at + length] = piece
    return memory


def _decode(memory: _engine.Memory) -> Any:
    view = _view(memory).toreadonly()
    most = len(view) // _COUNT.size - 1
    (count,) = _COUNT.unpack_from(view) if most >= 0 else (0,)
    if not 1 <= count <= most:
        raise Corrupted("a shared object does not say what it consists of")
    lengths = list(struct.unpack_from(f"<{count}Q", view, _COUNT.size))
    *places, end = _places(lengths)
    if end != len(view):
        raise Corrupted("a shared object is not as long as its parts")
    pickled, *buffers = (view[at : at + length] for at, length in zip(places, lengths, strict=True))
    return pickle.loads(bytes(pickled), buffers=buffers)  # a copy, which does not change meanwhile


def _known_as(memory: _engine.Memory) -> SharedObject:
    return _known.setdefault(memory.handle, SharedObject(memory))


def _rebuild(handle: Handle) -> SharedObject:
    known = _known.get(handle)
    return _known_as(_engine.Memory(handle=handle)) if known is None else known
