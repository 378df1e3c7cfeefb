"""A dict that processes share."""

from __future__ import annotations

import threading
from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    ValuesView,
)
from typing import Any, Self

from manycore import _engine

__all__ = ["SharedDict"]

Handle = tuple[int, int, int]


# Which dicts are being shown, and by which thread.
_shown: set[tuple[Handle, int]] = set()


class _Keys(KeysView[Any]):
    """The keys. Threads may share an iterator, which no generator allows."""

    __slots__ = ()
    _mapping: SharedDict

    def __iter__(self) -> Iterator[Any]:
        return iter(self._mapping)


class _Values(ValuesView[Any]):
    """The values, each as it is when it is come to."""

    __slots__ = ()
    _mapping: SharedDict

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)

    def __iter__(self) -> Iterator[Any]:
        return self._mapping._values()


class _Items(ItemsView[Any, Any]):
    """The items, each as it is when it is come to."""

    __slots__ = ()
    _mapping: SharedDict

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping._items()


def _pairs(other: Any) -> Any:
    """What may be looked up key by key, or else the pairs: others may remove a key meanwhile."""
    return other.items() if isinstance(other, SharedDict) else other


def _rebuild(cls: type[SharedDict], handle: Handle) -> SharedDict:
    return _engine.SharedMap.__new__(cls, handle=handle)


class SharedDict(_engine.SharedMap, MutableMapping[Any, Any]):
    """A dict in shared memory, used by any number of processes at once without a server.

    It is passed to other processes like a queue: as an argument, inside a message, as an
    attribute of another object. Values are copied, when they are put in and when they are got:
    changing a list that was got does not change the dict. A process that is killed in the midst
    of a change leaves the old value or the new one.

    A key is a `str`, `bytes`, `int`, `float`, `bool`, `None`, or a tuple of such keys. Keys that
    are equal are one key, and come back in their simplest form: `True` as `1`, `2.0` as `2`.

    Each call is done as a whole or not at all, but for `update` and `clear`, which go on entry
    by entry. Who iterates meets once what is there all the time; what comes or goes meanwhile
    may be met or not. The order is none in particular.

    Args:
        mapping: What is in it at the beginning, as for `dict`.
        **items: More of it.
    """

    __hash__ = None  # type: ignore[assignment]

    def __new__(cls, mapping: Any = (), /, **items: Any) -> Self:
        """Makes an empty one in the heap."""
        return super().__new__(cls)

    def __init__(self, mapping: Any = (), /, **items: Any) -> None:
        """Puts in what it shall have at the beginning."""
        self.update(mapping, **items)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.handle)

    def __repr__(self) -> str:
        shown = (self.handle, threading.get_ident())
        if shown in _shown:
            return f"{type(self).__name__}({{...}})"
        _shown.add(shown)
        try:
            return f"{type(self).__name__}({self.copy()!r})"
        finally:
            _shown.discard(shown)

    def __eq__(self, other: object) -> bool:
        # The same dict, which may lie in itself: what is got from it is another object each time.
        if isinstance(other, SharedDict) and other.handle == self.handle:
            return True
        return super().__eq__(other)

    def keys(self) -> KeysView[Any]:
        """The keys, as a view of what there is at any time."""
        return _Keys(self)

    def values(self) -> ValuesView[Any]:
        """The values, as a view of what there is at any time."""
        return _Values(self)

    def items(self) -> ItemsView[Any, Any]:
        """Pairs of keys and values, as a view of what there is at any time."""
        return _Items(self)

    def copy(self) -> dict[Any, Any]:
        """What is in it, as a plain `dict` of this process's own."""
        return dict(self._items())

    def update(self, other: Any = (), /, **items: Any) -> None:
        """Sets what is in a mapping, or in pairs of keys and values, one after the other."""
        super().update(_pairs(other), **items)

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None) -> Self:
        """A new one with these keys, all of which have the same value."""
        return cls((key, value) for key in keys)

    def __or__(self, other: Any) -> dict[Any, Any]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.copy() | dict(_pairs(other))

    def __ror__(self, other: Any) -> dict[Any, Any]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return dict(_pairs(other)) | self.copy()

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self
