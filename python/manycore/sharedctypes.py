"""Shared `ctypes` objects in the family's heap, and integers that change in one step."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable
from multiprocessing import heap
from multiprocessing import sharedctypes as _sharedctypes
from multiprocessing.reduction import ForkingPickler
from multiprocessing.sharedctypes import typecode_to_type  # type: ignore[attr-defined]
from typing import Any

from manycore import _engine
from manycore._rest import pass_on_rest
from manycore.synchronize import RLock

__all__ = [
    "Array",
    "Atomic",
    "RawArray",
    "RawValue",
    "Value",
    "atomic",
    "copy",
    "synchronized",
]

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


def _memory_of(obj: Any) -> _engine.Memory | None:
    """The shared memory that a ctypes object lies in, if it is ours: a copy only has its name."""
    memory = getattr(obj, "_wrapper", None)
    is_there = isinstance(memory, _engine.Memory) and ctypes.addressof(obj) == memory.address
    return memory if is_there else None


def _spec(obj: Any) -> tuple[Any, int | None]:
    """The type of a ctypes object in a form that can be pickled: arrays by item type and length."""
    type_: Any = type(obj)
    if isinstance(obj, ctypes.Array):
        return type_._type_, type_._length_
    return type_, None


_reduce_standard: Any = _sharedctypes.reduce_ctype  # type: ignore[attr-defined]


def _reduce_raw(obj: Any) -> Any:
    """The reducer of each type that there are shared objects of, whosever they are."""
    memory = _memory_of(obj)
    if memory is not None:
        return _rebuild_raw, (*_spec(obj), memory.handle)
    if isinstance(getattr(obj, "_wrapper", None), heap.BufferWrapper):
        return _reduce_standard(obj)
    return obj.__reduce_ex__(2)  # as if its type had no reducer: it is in no shared memory


# The standard library registers its reducer for a type whenever it makes an object of that, so also
# behind ours. What it registers from now on is ours, which leaves its objects to its own.
_sharedctypes.reduce_ctype = _reduce_raw  # type: ignore[attr-defined]


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


@_engine.quick
class SynchronizedBase(_engine.Guarded, _sharedctypes.SynchronizedBase):  # type: ignore[type-arg]
    """A guarded structure. It may be pickled anywhere."""

    _obj: Any
    _lock: Any

    def __init__(self, obj: Any, lock: Any = None, ctx: Any = None) -> None:
        own: Any = lock or RLock()
        super().__init__(obj, own, ctx)
        is_value = getattr(type(self._obj), "value", None) is _VALUE
        # Not by its name in `self`, which a structure's field may have.
        _engine.Guarded._guard(self, self._obj, self._lock, _place(self._obj), is_value)

    def __reduce__(self) -> tuple[Any, ...]:
        memory = _memory_of(self._obj)
        if memory is None:
            raise TypeError(
                f"{self!r} cannot be pickled: what it guards was not made by manycore's RawValue "
                "or RawArray, so that its memory does not travel"
            )
        return _rebuild, (*_spec(self._obj), memory.handle, self._lock)


@_engine.quick
@_engine.quick_value
class Synchronized(SynchronizedBase, _sharedctypes.Synchronized):  # type: ignore[type-arg]
    """A guarded simple value. If it is an integer, it changes in one step without the lock, too."""


@_engine.quick
class SynchronizedArray(SynchronizedBase, _sharedctypes.SynchronizedArray):  # type: ignore[type-arg]
    """A guarded array."""


@_engine.quick
class SynchronizedString(SynchronizedArray, _sharedctypes.SynchronizedString):
    """A guarded array of characters."""

    value: Any = _engine.GuardedField("value")
    raw: Any = _engine.GuardedField("raw")


_structures: weakref.WeakKeyDictionary[type, type] = weakref.WeakKeyDictionary()


def _class_for(obj: Any) -> Any:
    type_: Any = type(obj)
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized
    if isinstance(obj, ctypes.Array):
        return SynchronizedString if type_._type_ is ctypes.c_char else SynchronizedArray
    if type_ not in _structures:
        class_: type = _engine.quick(type(f"Synchronized{type_.__name__}", (SynchronizedBase,), {}))
        for name, *_ in type_._fields_:  # behind the methods of integers, whose names they may have
            setattr(class_, name, _engine.GuardedField(name))
        _structures[type_] = class_
    return _structures[type_]


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """A shared object together with the lock that guards it.

    Raises:
        AssertionError: When it has one already.
    """
    assert not isinstance(obj, _sharedctypes.SynchronizedBase), "object already synchronized"
    return _class_for(obj)(obj, lock or RLock())


def _rebuild(type_: Any, length: int | None, handle: Handle, lock: Any) -> Any:
    return synchronized(_rebuild_raw(type_, length, handle), lock)


_VALUE = vars(ctypes._SimpleCData)["value"]
_LETTERS = frozenset("bBhHiIlLqQ?")
_NATIVE = f"__ctype_{sys.byteorder[0]}e__"


def _letter_of(type_: Any) -> str | None:
    """The letter by which `ctypes` names a type, if it is an integer of this byte order."""
    letter = getattr(type_, "_type_", None)
    is_integer = isinstance(letter, str) and letter in _LETTERS
    return letter if is_integer and issubclass(type_, getattr(type_, _NATIVE, type_)) else None


def _place(obj: Any) -> tuple[_engine.Memory, int, int, str] | None:
    """Where a simple value lies, if it is an integer in shared memory."""
    memory, letter = _memory_of(obj), _letter_of(type(obj))
    if letter is None or memory is None:
        return None
    return memory, 0, ctypes.sizeof(obj), letter


def _step(type_: Any, key: int | str) -> tuple[Any, int]:
    """The type of an item of an array, or of a field of a structure, and where in it that lies."""
    if isinstance(key, str):
        for class_ in type_.__mro__:
            for name, field, *bits in vars(class_).get("_fields_", ()):
                if name == key and not bits:
                    return field, getattr(class_, name).offset
        raise AttributeError(f"{type_.__name__} has no field {key!r} of whole bytes")
    if not issubclass(type_, ctypes.Array):
        raise TypeError(f"{type_.__name__} is no array: it has no item {key!r}")
    item = type_._type_
    return item, range(type_._length_)[key] * ctypes.sizeof(item)


@_engine.quick
class Atomic(_engine.SharedInteger):
    """An integer in shared memory that any process changes in one step; made by `atomic`.

    Each operation returns what the integer was before, and wraps as its C type does.
    """

    # Given by `quick`.
    load: Callable[[], int]
    store: Callable[[int], int]
    exchange: Callable[[int], int]
    add: Callable[[int], int]
    sub: Callable[[int], int]

    def __reduce__(self) -> tuple[Any, ...]:
        memory, *rest = self._place()
        return _rebuild_atomic, (memory.handle, *rest)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self.load()})>"


def atomic(shared: Any, *path: int | str) -> Atomic:
    """An integer that lies in shared memory, to be changed in one step without a lock.

    Args:
        shared: A `Value`, `RawValue`, `Array`, `RawArray`, or a structure made by one of them.
        *path: Leads to the integer: indices of arrays and names of fields.

    Raises:
        TypeError: When it is no integer, or not in shared memory.
        IndexError: When an array has no such item.
        AttributeError: When a structure has no such field, or it is one of single bits.
        ValueError: When the integer is not aligned, as in a packed structure.
    """
    obj: Any = shared
    if isinstance(shared, _sharedctypes.SynchronizedBase):
        obj = shared._obj  # type: ignore[attr-defined]  # a field may be called `get_obj`
    memory = _memory_of(obj)
    if memory is None:
        raise TypeError(f"{shared!r} was not made by Value, Array, RawValue or RawArray")
    type_, at = type(obj), 0
    for key in path:
        type_, start = _step(type_, key)
        at += start
    letter = _letter_of(type_)
    if letter is None:
        raise TypeError(f"{type_.__name__} is no integer of this machine's byte order")
    return Atomic(memory, at, ctypes.sizeof(type_), letter)


def _rebuild_atomic(handle: Handle, at: int, size: int, letter: str) -> Atomic:
    return Atomic(_engine.Memory(handle=handle), at, size, letter)


pass_on_rest(__name__)
