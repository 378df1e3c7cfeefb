"""Pickling: what Python decides about bytes.

Messages are pickled by the engine (`pickler.rs`) with protocol 5, large buffers out of band.
Reducers registered with `copyreg` and with the standard library's `ForkingPickler` are honoured.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

from manycore import _engine
from manycore._by_value import ByValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def reduce_view(view: memoryview) -> tuple[Callable[..., memoryview], tuple[Any, ...]]:
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


def dumps_function(
    function: Callable[..., object], is_known: Callable[[object], bool]
) -> tuple[bytes, bool]:
    """A pickle of a function for workers, and whether they may keep it for later tasks.

    What pickle cannot name (lambdas, closures) travels by value, and so does what is defined in
    the main module and is not known to the workers. What has no state is kept: functions, classes
    and class methods. An instance with `__call__`, or one's method, may change, and every task gets
    a fresh copy as with `multiprocessing`.
    """
    keep = isinstance(function, FunctionType | type) or (
        isinstance(function, BuiltinFunctionType | MethodType)
        and isinstance(function.__self__, ModuleType | type | None)
    )
    if not is_known(function):
        return bytes(ForkingPickler.dumps(ByValue(function, is_known))), keep
    try:
        return bytes(ForkingPickler.dumps(function)), keep
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        try:
            return bytes(ForkingPickler.dumps(ByValue(function, is_known))), keep
        except Exception as other:
            error.add_note(f"It cannot travel by value, with what it refers to, either: {other!r}")
        raise


def loads_object(pickled: bytes) -> object:
    """The object of a pickle that was sent as bytes."""
    obj: object = pickle.loads(pickled)
    return obj


def loads_function(pickled: bytes) -> Callable[..., object]:
    """The function of a pickle."""
    function: Callable[..., object] = pickle.loads(pickled)
    return function


def dumps_all(obj: object) -> bytes:
    """A pickle with everything inside."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5)
    pickler.dispatch_table = _engine.Reducers()  # type: ignore[assignment]  # looked up by item only
    pickler.dump(obj)
    return file.getvalue()
