"""Locks that survive their holders."""

from __future__ import annotations

import threading
from typing import Any, Self

from manycore import _engine
from manycore.process import current_process

__all__ = ["Lock", "RLock"]

Handle = tuple[int, int, int]


def _rebuild(cls: type, handle: Handle) -> Any:
    return cls(handle=handle)


def _name_of_this_thread() -> str:
    name = current_process().name
    if threading.current_thread() is not threading.main_thread():
        name += "|" + threading.current_thread().name
    return name


@_engine.quick
class Lock(_engine.PlainLock):
    """A lock for any number of processes. Any thread of any process may release it.

    When its holder is killed, the next one to acquire it gets it, with a `LockOwnerDied` warning; a
    process that exits in order leaves it held, as with the standard library.

    Args:
        ctx: Taken for the standard library's signature; not needed.
        handle: For unpickling.
    """

    def __new__(cls, *, ctx: object = None, handle: Handle | None = None) -> Self:
        """Makes the lock in the heap, or leads to one that exists."""
        return super().__new__(cls, handle=handle)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.handle)

    def __repr__(self) -> str:
        holder, me = self._holder()
        if holder is None:
            owner = "None"
        else:
            owner = _name_of_this_thread() if holder == me else "SomeOtherProcess"
        return f"<{type(self).__name__}(owner={owner})>"


@_engine.quick
class RLock(_engine.RecursiveLock):
    """A lock that its owning thread may acquire again. See `Lock` for what a killed owner does.

    Args:
        ctx: Taken for the standard library's signature; not needed.
        handle: For unpickling.
    """

    def __new__(cls, *, ctx: object = None, handle: Handle | None = None) -> Self:
        """Makes the lock in the heap, or leads to one that exists."""
        return super().__new__(cls, handle=handle)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.handle)

    def __repr__(self) -> str:
        holder, me, depth, mine = self._holder()
        if holder is None:
            owner, count = "None", "0"
        elif mine:
            owner, count = _name_of_this_thread(), str(depth)
        else:
            owner, count = ("SomeOtherThread" if holder == me else "SomeOtherProcess"), "nonzero"
        return f"<{type(self).__name__}({owner}, {count})>"
