"""A dict that processes share."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from typing import Any, Self

from manycore import _engine

__all__ = ["SharedDict"]

Handle = tuple[int, int, int]


class _Values(ValuesView[Any]):
    """The values, each as it is when it is come to."""

    __slots__ = ()
    _mapping: SharedDict

    def __iter__(self) -> Iterator[Any]:
        return self._mapping._values()


class _Items(ItemsView[Any, Any]):
    """The items, each as it is when it is come to."""

    __slots__ = ()
    _mapping: SharedDict

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping._items()


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
        return f"{type(self).__name__}({self.copy()!r})"

    def values(self) -> ValuesView[Any]:
        """The values, as a view of what there is at any time."""
        return _Values(self)

    def items(self) -> ItemsView[Any, Any]:
        """Pairs of keys and values, as a view of what there is at any time."""
        return _Items(self)

    def copy(self) -> dict[Any, Any]:
        """What is in it, as a plain `dict` of this process's own."""
        return dict(self._items())

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None) -> Self:
        """A new one with these keys, all of which have the same value."""
        return cls((key, value) for key in keys)

    def __or__(self, other: Any) -> dict[Any, Any]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.copy() | dict(other)

    def __ror__(self, other: Any) -> dict[Any, Any]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return dict(other) | self.copy()

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self
