"""Shared `ctypes` objects in the family's heap."""

from __future__ import annotations

import ctypes
from multiprocessing import sharedctypes as _sharedctypes
from multiprocessing.reduction import ForkingPickler
from multiprocessing.sharedctypes import typecode_to_type  # type: ignore[attr-defined]
from typing import Any

from manycore import _engine
from manycore.synchronize import RLock

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

Handle = tuple[int, int, int]


def _type_of(typecode_or_type: Any) -> Any:
    type_ = typecode_to_type.get(typecode_or_type, typecode_or_type)
    try:
        ctypes.sizeof(type_)
    except TypeError:
        raise TypeError(
            f"{typecode_or_type!r} is no type of shared memory: give a ctypes type, or one of the "
            f"typecodes {', '.join(map(repr, typecode_to_type))}"
        ) from None
    return type_


def _lay_over(type_: Any, memory: _engine.Memory) -> Any:
    """A ctypes object whose bytes are shared memory."""
    ForkingPickler.register(type_, _reduce_raw)
    obj = type_.from_buffer(memory)
    obj._wrapper = memory
    return obj


def _spec(obj: Any) -> tuple[Any, int | None]:
    """The type of a ctypes object in a form that can be pickled: arrays by item type and length."""
    type_: Any = type(obj)
    if isinstance(obj, ctypes.Array):
        return type_._type_, type_._length_
    return type_, None


def _reduce_raw(obj: Any) -> tuple[Any, ...]:
    memory = getattr(obj, "_wrapper", None)
    if not isinstance(memory, _engine.Memory):
        return _sharedctypes.reduce_ctype(obj)  # type: ignore[no-any-return, attr-defined]
    return _rebuild_raw, (*_spec(obj), memory.handle)


def _rebuild_raw(type_: Any, length: int | None, handle: Handle) -> Any:
    return _lay_over(type_ if length is None else type_ * length, _engine.Memory(handle=handle))


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """A ctypes object in shared memory, without a lock."""
    type_ = _type_of(typecode_or_type)
    obj = _lay_over(type_, _engine.Memory(ctypes.sizeof(type_)))
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:
    """A ctypes array in shared memory, without a lock.

    Raises:
        ValueError: When the size is negative.
    """
    item = _type_of(typecode_or_type)
    if isinstance(size_or_initializer, int):
        if size_or_initializer < 0:
            raise ValueError(
                f"length must be >= 0, not {size_or_initializer}: "
                "give the number of items, or the items"
            )
        type_ = item * size_or_initializer
        return _lay_over(type_, _engine.Memory(ctypes.sizeof(type_)))
    items = list(size_or_initializer)
    type_ = item * len(items)
    obj = _lay_over(type_, _engine.Memory(ctypes.sizeof(type_)))
    obj.__init__(*items)
    return obj


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """A ctypes object in shared memory, with a lock unless `lock` is false.

    Args:
        typecode_or_type: A ctypes type, or a typecode as of the `array` module.
        *args: What the type is made with.
        lock: True for a lock of its own, a lock, or false for none.
        ctx: Taken for the standard library's signature; not needed.
    """
    return _guarded(RawValue(typecode_or_type, *args), lock)


def Array(
    typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None
) -> Any:
    """A ctypes array in shared memory, with a lock unless `lock` is false."""
    return _guarded(RawArray(typecode_or_type, size_or_initializer), lock)


def _guarded(obj: Any, lock: Any) -> Any:
    if lock is False:
        return obj
    if lock in (True, None):
        lock = RLock()
    elif not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock)


def copy(obj: Any) -> Any:
    """A copy of a shared object, in shared memory of its own, without a lock."""
    new = _lay_over(type(obj), _engine.Memory(ctypes.sizeof(obj)))
    ctypes.pointer(new)[0] = obj
    return new


class _Shared:
    """What a guarded object adds to the standard library's: it may be pickled anywhere."""

    _obj: Any
    _lock: Any

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (*_spec(self._obj), self._obj._wrapper.handle, self._lock)


class Synchronized(_Shared, _sharedctypes.Synchronized):  # type: ignore[type-arg]
    """A guarded simple value."""


class SynchronizedArray(_Shared, _sharedctypes.SynchronizedArray):  # type: ignore[type-arg]
    """A guarded array."""


class SynchronizedString(_Shared, _sharedctypes.SynchronizedString):
    """A guarded array of characters."""


class SynchronizedBase(_Shared, _sharedctypes.SynchronizedBase):  # type: ignore[type-arg]
    """A guarded structure."""


_structures: dict[type, type] = {}


def _class_for(obj: Any) -> Any:
    type_: Any = type(obj)
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized
    if isinstance(obj, ctypes.Array):
        return SynchronizedString if type_._type_ is ctypes.c_char else SynchronizedArray
    if type_ not in _structures:
        names = [field[0] for field in type_._fields_]
        properties = {name: _sharedctypes.make_property(name) for name in names}  # type: ignore[attr-defined]
        _structures[type_] = type(f"Synchronized{type_.__name__}", (SynchronizedBase,), properties)
    return _structures[type_]


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """A shared object together with the lock that guards it."""
    return _class_for(obj)(obj, lock or RLock())


def _rebuild(type_: Any, length: int | None, handle: Handle, lock: Any) -> Any:
    return synchronized(_rebuild_raw(type_, length, handle), lock)
