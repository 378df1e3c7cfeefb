"""Pickling: what Python decides about bytes.

Messages are pickled with protocol 5, large buffers out of band. Reducers registered with
`copyreg` and with the standard library's `ForkingPickler` are honoured.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import threading
from collections.abc import Callable
from multiprocessing.pool import ExceptionWithTraceback, MaybeEncodingError  # type: ignore[attr-defined]
from multiprocessing.reduction import ForkingPickler
from types import BuiltinFunctionType, FunctionType
from typing import Any

from manycore import _engine

OUT_OF_BAND = 32 << 10
"""Buffers from this many bytes on travel outside the pickle."""

MOST_BUFFERS = 190
"""More buffers than this in one object stay inside the pickle."""


class _Reducers:
    """The registered reducers in one dict, made anew whenever one is registered."""

    def __init__(self) -> None:
        self._general: dict[type, Any] = {}
        self._extra: dict[type, Any] = {}
        self._table: dict[type, Any] = {memoryview: _reduce_view}

    def table(self) -> dict[type, Any]:
        general: dict[type, Any] = copyreg.dispatch_table
        extra: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
        if general != self._general or extra != self._extra:
            self._general, self._extra = dict(general), dict(extra)
            self._table = {memoryview: _reduce_view, **general, **extra}
        return self._table


def _reduce_view(view: memoryview) -> tuple[Callable[..., memoryview], tuple[Any, ...]]:
    """A `memoryview`, which pickle has no way for, as a copy of what it shows."""
    data = pickle.PickleBuffer(view if view.c_contiguous else view.tobytes())
    return _rebuild_view, (data, view.format, view.itemsize, view.shape)


def _rebuild_view(data: Any, format: str, itemsize: int, shape: tuple[int, ...]) -> memoryview:
    if isinstance(data, memoryview) and data.readonly:
        data = data.obj  # what was shown was read-only; the memory here is the receiver's own
    if isinstance(data, bytes):
        data = bytearray(data)
    shaped: Any = _engine.Shaped(data, format, itemsize, shape)
    return memoryview(shaped)


_reducers = _Reducers()


class _Encoder:
    """A pickler that is used again for every message of one thread."""

    __slots__ = ("buffers", "busy", "clear_memo", "dump", "pieces", "table")

    def __init__(self) -> None:
        self.busy = False
        self.table: dict[type, Any] | None = None

    def renew(self, table: dict[type, Any]) -> None:
        self.pieces = _engine.Pieces()
        self.buffers: list[memoryview] = []
        pickler = pickle.Pickler(self.pieces, 5, buffer_callback=self.keep_inside)
        pickler.dispatch_table = table
        self.table, self.dump, self.clear_memo = table, pickler.dump, pickler.clear_memo

    def keep_inside(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether a buffer stays inside the pickle; otherwise it is noted."""
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < OUT_OF_BAND or len(self.buffers) >= MOST_BUFFERS:
            return True
        self.buffers.append(raw)
        return False

    def dumps(self, obj: object) -> tuple[_engine.Pieces, list[memoryview]]:
        table = _reducers.table()
        self.busy = True
        try:
            if table is not self.table:
                self.renew(table)
            self.dump(obj)
            pickled = self.pieces.take(), self.buffers
            self.buffers = []
            self.clear_memo()
            return pickled
        except BaseException:
            self.table = None  # whatever it is in the middle of: the next object gets a new pickler
            raise
        finally:
            self.busy = False  # last: until here, who comes in between needs one of their own


class _Threads(threading.local):
    def __init__(self) -> None:
        self.encoder = _Encoder()


_threads = _Threads()


def dumps(obj: object) -> tuple[_engine.Pieces, list[memoryview]]:
    """A pickle of an object, in pieces, and the buffers that travel beside it."""
    encoder = _threads.encoder
    if encoder.busy:  # a reducer, a finalizer or a signal handler puts something into a queue
        encoder = _Encoder()
    return encoder.dumps(obj)


def dumps_function(function: Callable[..., object]) -> tuple[bytes, bool]:
    """A pickle of a function for workers, and whether they may keep it for later tasks.

    What pickle cannot name (lambdas, closures) travels by value. Only plain functions are kept: an
    instance with `__call__` may change, and every task gets a fresh copy as with `multiprocessing`.
    """
    keep = isinstance(function, FunctionType | BuiltinFunctionType)
    try:
        return bytes(ForkingPickler.dumps(function)), keep
    except (pickle.PicklingError, AttributeError, TypeError):
        if not isinstance(function, FunctionType):
            raise
        import cloudpickle  # takes longer to import than all of this package

        pickled: bytes = cloudpickle.dumps(function)
        return pickled, keep


def loads_object(pickled: bytes) -> object:
    """The object of a pickle that was sent as bytes."""
    obj: object = pickle.loads(pickled)
    return obj


def loads_function(pickled: bytes) -> Callable[..., object]:
    """The function of a pickle."""
    function: Callable[..., object] = pickle.loads(pickled)
    return function


def sendable_exception(error: BaseException) -> object:
    """An exception as a task's answer: with its traceback, in a form that will travel."""
    wrapped = ExceptionWithTraceback(error, error.__traceback__)
    try:
        pickle.loads(dumps_all(wrapped))
    except Exception as why:
        return _unsendable(why, error)
    return wrapped


def unsendable_result(why: BaseException, value: object) -> object:
    """The answer of a task whose result cannot be pickled."""
    return ExceptionWithTraceback(MaybeEncodingError(why, value), why.__traceback__)


def _unsendable(why: BaseException, error: BaseException) -> object:
    """The answer of a task whose exception cannot be pickled, or not be rebuilt."""
    return ExceptionWithTraceback(MaybeEncodingError(why, error), error.__traceback__)


def dumps_all(obj: object) -> bytes:
    """A pickle with everything inside."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5)
    pickler.dispatch_table = _reducers.table()
    pickler.dump(obj)
    return file.getvalue()
