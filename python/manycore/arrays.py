"""NumPy arrays in the family's heap, which travel by handle. Only this module imports NumPy."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

import numpy as np

from manycore import _engine

__all__ = ["SharedArray", "ndarray", "share"]

Handle = tuple[int, int, int]


class SharedArray(np.ndarray):
    """An array in the family's heap: who receives it, or a part of it, has the same memory.

    Slices, transposes and other views are such arrays, too. What is computed from one is an
    ordinary array, and so is a copy when it is sent. Any process may write, at any time: take a
    lock where that matters.
    """

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """What NumPy's functions return: an ordinary array, unless they were given this one."""
        if array is self or _memory_of(array) is not None:
            return array
        return array[()] if return_scalar else np.asarray(array)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        memory = _memory_of(self)
        if memory is None:
            return np.asarray(self).__reduce_ex__(protocol)
        start, strides = 0, None
        if self.size:
            start, strides = self.__array_interface__["data"][0] - memory.address, self.strides
        layout = self.shape, self.dtype, start, strides, self.flags.writeable
        return _rebuild, (type(self), memory.handle, *layout)


def _rebuild(
    cls: type[SharedArray],
    handle: Handle,
    shape: tuple[int, ...],
    dtype: Any,
    start: int,
    strides: tuple[int, ...] | None,
    writeable: bool,
) -> Any:
    memory: Any = _engine.Memory(handle=handle)
    array = cls(shape, dtype, memory, start, strides)
    array.flags.writeable = writeable
    return array


def _memory_of(array: Any) -> _engine.Memory | None:
    """The memory of the heap that an array is a view of."""
    base = array.base
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, _engine.Memory) else None


def ndarray(
    shape: SupportsIndex | Iterable[SupportsIndex], dtype: Any = float, *, fill: Any = None
) -> Any:
    """A new array in shared memory.

    Args:
        shape: Its length in each dimension, or in the only one.
        dtype: The type of its items; no Python objects.
        fill: What all items are; zero if it is not given.

    Raises:
        TypeError: When the items would be Python objects.
        ValueError: When a length is negative.
        HeapFull: When there is not enough memory.
    """
    lengths = _lengths(shape)
    array = _new(lengths, np.dtype(dtype))
    if fill is not None:
        array[...] = fill
    return array


def _lengths(shape: Any) -> tuple[int, ...]:
    try:
        lengths: tuple[int, ...] = (operator.index(shape),)
    except TypeError:
        lengths = tuple(map(operator.index, shape))
    if min(lengths, default=0) < 0:
        raise ValueError(f"a length of {lengths} is negative")
    return lengths


def _new(shape: tuple[int, ...], dtype: Any, order: Any = "C") -> Any:
    if dtype.hasobject:
        raise TypeError(
            f"items of type {dtype} are Python objects, which each process has its own of"
        )
    memory: Any = _engine.Memory(math.prod(shape) * dtype.itemsize)
    return SharedArray(shape, dtype, memory, order=order)


def share(array: Any) -> Any:
    """A copy of an array in shared memory; the array itself if it is there already.

    Raises:
        TypeError: When it is no array, or one of Python objects, or of a class that knows more.
        HeapFull: When there is not enough memory.
    """
    if isinstance(array, SharedArray) and _memory_of(array) is not None:
        return array
    if type(array) not in (np.ndarray, np.memmap, SharedArray):
        raise TypeError(f"{type(array).__name__} is no plain NumPy array")
    is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    shared = _new(array.shape, array.dtype, "F" if is_fortran else "C")
    shared[...] = array
    return shared
