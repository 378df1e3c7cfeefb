"""How joblib's batches of calls travel: functions by name or value, large arrays in shared memory.

What stands for a function or an array in a batch unpickles as that function or array.
"""

from __future__ import annotations

import copy
import functools
import sys
import weakref
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any

from joblib._memmapping_reducer import _get_backing_memmap, _reduce_memmap_backed

from manycore._by_value import what_children_know
from manycore._pickling import dumps_function, loads_function
from manycore.sharing import SharedObject, share

_KEPT = 64
"""Functions that a worker keeps for later batches."""


def run(batch: Callable[[], list[Any]]) -> list[Any]:
    """What a worker does with a batch."""
    try:
        return batch()
    finally:
        # The worker is ended by a signal once the last call is answered, and would not flush then.
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()


class Batches:
    """Makes batches ready to travel to the workers of one pool.

    Args:
        method: The start method of the workers.
        least: From how many bytes on an array is lent; None if no array is.
    """

    def __init__(self, method: str, least: int | None) -> None:
        self._is_known = what_children_know(method)
        self._functions: dict[Callable[..., Any], _Function] = {}
        self._lending = Lending(least)

    def pack(self, batch: Any) -> Any:
        """What is sent for a batch. Whoever sends it has to keep it until it has been answered."""
        if not hasattr(batch, "items"):
            return batch
        packed = copy.copy(batch)
        packed.items = items = []
        numpy = sys.modules.get("numpy")
        array = () if numpy is None else numpy.ndarray
        lend = self._lending.lend
        for function, arguments, keywords in batch.items:
            # Most have none, and are not built anew: these few steps are taken for every call.
            for argument in arguments:
                if isinstance(argument, array):
                    arguments = tuple(map(lend, arguments))
                    break
            if keywords:
                keywords = {name: lend(value) for name, value in keywords.items()}
            items.append((self._function(function), arguments, keywords))
        return packed

    def _function(self, function: Any) -> Any:
        if type(function) not in (FunctionType, BuiltinFunctionType):
            return function  # it may change, so that it travels as the arguments do
        known = self._functions.get(function)
        if known is None:
            pickled, _ = dumps_function(function, self._is_known)
            known = self._functions[function] = _Function(pickled)
        return known

    def forget(self) -> None:
        """Lends all arrays anew from now on: they may have changed."""
        self._lending.forget()


class _Function:
    """Stands for a function."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled

    def __reduce__(self) -> tuple[Callable[[bytes], object], tuple[bytes]]:
        return _load, (self._pickled,)


@functools.lru_cache(_KEPT)
def _load(pickled: bytes) -> Callable[..., object]:
    return loads_function(pickled)


class Lending:
    """Puts arrays into shared memory, each once, for as long as this process has it."""

    def __init__(self, least: int | None) -> None:
        self._least = least
        self._lent: dict[int, tuple[weakref.ref[Any], Lent]] = {}

    def lend(self, value: Any) -> Any:
        """What travels instead of a value: the value itself, unless it is a large array."""
        numpy = sys.modules.get("numpy")
        if numpy is None or not isinstance(value, numpy.ndarray):
            return value
        mapped = _get_backing_memmap(value)
        if mapped is not None:
            return Mapped(value, mapped)
        is_plain = type(value) is numpy.ndarray and not value.dtype.hasobject
        if self._least is None or not is_plain or value.nbytes < self._least:
            return value
        known, lent = self._lent.get(id(value), (None, None))
        if known is None or lent is None or known() is not value:
            lent = Lent(share(value))
            self._lent[id(value)] = weakref.ref(value, self._forgetter(id(value))), lent
        return lent

    def _forgetter(self, number: int) -> Callable[[weakref.ref[Any]], None]:
        lent = self._lent  # not `self`, which the entry would keep

        def forget(gone: weakref.ref[Any]) -> None:
            if lent.get(number, (None,))[0] is gone:
                del lent[number]

        return forget

    def forget(self) -> None:
        """Takes nothing for known any more."""
        self._lent.clear()


class Lent:
    """Stands for an array in shared memory, which arrives read-only."""

    def __init__(self, shared: SharedObject) -> None:
        self._shared = shared

    def __reduce__(self) -> tuple[Callable[[SharedObject], Any], tuple[SharedObject]]:
        return _value, (self._shared,)


def _value(shared: SharedObject) -> Any:
    return shared.value


class Mapped:
    """Stands for an array in a file, which workers map as this process does."""

    def __init__(self, array: Any, mapped: Any) -> None:
        self._place = array, mapped

    def __reduce__(self) -> Any:
        return _reduce_memmap_backed(*self._place)
