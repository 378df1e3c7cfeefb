"""Locks and semaphores that survive their holders, and waiting for what others say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from manycore import _engine
from manycore._rest import pass_on_rest
from manycore._semlock import StandIn
from manycore.process import current_process

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Lock",
    "RLock",
    "RWLock",
    "Semaphore",
]

Handle = tuple[int, int, int]
_T = TypeVar("_T")


def _rebuild(cls: type, handle: Handle) -> Any:
    return cls(handle=handle)


def _is_second(choice: str, first: str, second: str) -> bool:
    """Whether an owner's death has the second of two consequences."""
    if choice not in (first, second):
        raise ValueError(f"on_owner_death must be {first!r} or {second!r}, not {choice!r}")
    return choice == second


def _name_of_this_thread() -> str:
    name = current_process().name
    if threading.current_thread() is not threading.main_thread():
        name += "|" + threading.current_thread().name
    return name


class _Owned:
    """What locks have that somebody holds."""

    _semlock = property(StandIn)

    def __new__(
        cls,
        *,
        ctx: object = None,
        on_owner_death: str = "warn",
        handle: Handle | None = None,
    ) -> Self:
        """Makes the lock in the heap, or leads to one that exists."""
        refuses = _is_second(on_owner_death, "warn", "raise")
        make: Any = super().__new__
        lock: Self = make(cls, refuses=refuses, handle=handle)
        return lock

    @contextmanager
    def repairing(self: Any) -> Iterator[int | None]:
        """Holds the lock, as `with` does, to repair what it guards.

        `with lock.repairing() as pid` waits for the lock and gets it without a warning and without
        an exception; `pid` is that of the holder that was killed, or `None`. At the end of the
        block what the lock guards counts as repaired. If the block raises, it does not: the next
        one is told of the death, too.
        """
        pid = self._acquire_to_repair()
        try:
            yield pid
        except BaseException:
            if pid is None:
                self.release()
            else:
                self._release_unrepaired()
            raise
        self.release()

    def __reduce__(self: Any) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.handle)


@_engine.quick
class Lock(_Owned, _engine.PlainLock):
    """A lock for any number of processes. Any thread of any process may release it.

    When its holder is killed, the next one to acquire it gets it, with a `LockOwnerDied` warning; a
    process that exits in order leaves it held, as with the standard library.

    Args:
        ctx: Taken for the standard library's signature; not needed.
        on_owner_death: With `"raise"`, `LockOwnerDied` is raised in place of the warning, and
            nobody gets the lock before what it guards has been repaired, see `repairing`.
        handle: For unpickling.

    Attributes:
        dead_owner: Process id of the holder that was killed, if nobody has had the lock since.
    """

    def __repr__(self) -> str:
        holder, me = self._holder()
        if holder is None:
            owner = "None"
        else:
            owner = _name_of_this_thread() if holder == me else "SomeOtherProcess"
        return f"<{type(self).__name__}(owner={owner})>"


@_engine.quick
class RLock(_Owned, _engine.RecursiveLock):
    """A lock that its owning thread may acquire again. See `Lock` for what a killed owner does.

    Args:
        ctx: Taken for the standard library's signature; not needed.
        on_owner_death: As of `Lock`.
        handle: For unpickling.

    Attributes:
        dead_owner: As of `Lock`.
    """

    def __repr__(self) -> str:
        holder, me, depth, mine = self._holder()
        if holder is None:
            owner, count = "None", "0"
        elif mine:
            owner, count = _name_of_this_thread(), str(depth)
        else:
            owner, count = ("SomeOtherThread" if holder == me else "SomeOtherProcess"), "nonzero"
        return f"<{type(self).__name__}({owner}, {count})>"


class Semaphore(_engine.CountingSemaphore):
    """A number of tokens that processes take and give.

    What a process has taken by `with semaphore` comes back when it is killed inside. What it has
    taken by `acquire` does not, since that may be a signal, which another process has given and
    nobody gives back. A process that exits in order gives nothing back, as with the standard
    library.

    Args:
        value: How many tokens there are.
        ctx: Taken for the standard library's signature; not needed.
        on_owner_death: With `"return"`, what was taken by `acquire` comes back as well.
        handle: For unpickling.

    Raises:
        OSError: When the value is negative.
    """

    _semlock = property(StandIn)
    _bounded = False

    def __new__(
        cls,
        value: int = 1,
        *,
        ctx: object = None,
        on_owner_death: str = "keep",
        handle: Handle | None = None,
    ) -> Self:
        """Makes the semaphore in the heap, or leads to one that exists."""
        returns = _is_second(on_owner_death, "keep", "return")
        return super().__new__(cls, value, bounded=cls._bounded, returns=returns, handle=handle)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.handle)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={self.get_value()})>"


class BoundedSemaphore(Semaphore):
    """A semaphore that never has more tokens than it was made with. See `Semaphore`.

    Raises:
        ValueError: By `release`, when it has all of its tokens.
    """

    _bounded = True

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={self.get_value()}, maxvalue={self._most()})>"


class _Access:
    """One kind of access to what a reader-writer lock guards, for `with`."""

    def __init__(self, acquire: Any, release: Any) -> None:
        self._acquire, self._release = acquire, release

    def __enter__(self) -> bool:
        return self._acquire()  # type: ignore[no-any-return]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()


class RWLock(_engine.ReadWriteLock):
    """A lock that many hold at a time to read, or one alone to write.

    Writers come first: while one waits, nobody begins to read but processes that read already.
    What a process has acquired is released by the same process, by any of its threads. Who reads
    and wants to write releases first: two that did not would wait for each other.

    When a reader is killed, its hold ends. When a writer is killed, so does its hold, and all who
    come get a `LockOwnerDied` warning, up to and with the next writer.

    Args:
        ctx: Taken as by `Lock`; not needed.
        handle: For unpickling.

    Attributes:
        dead_owner: Process id of a writer that was killed, if no other has come since.
    """

    def __new__(cls, *, ctx: object = None, handle: Handle | None = None) -> Self:
        """Makes the lock in the heap, or leads to one that exists."""
        return super().__new__(cls, handle=handle)

    def read(self) -> AbstractContextManager[bool]:
        """Holds the lock to read, in a `with`."""
        return _Access(self.acquire_read, self.release_read)

    def write(self) -> AbstractContextManager[bool]:
        """Holds the lock to write, in a `with`."""
        return _Access(self.acquire_write, self.release_write)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.handle)

    def __repr__(self) -> str:
        readers, writes = self._holders()
        return f"<{type(self).__name__}({'writing' if writes else f'readers={readers}'})>"


def _rebuild_condition(cls: type, lock: Any, handle: Handle) -> Any:
    return cls(lock, handle=handle)


class Event(_engine.EventFlag):
    """A flag that any process sets and clears, and others wait for.

    All that wait when it is set return, also when it is cleared at once. Who is killed while it
    waits, or while it sets the event, costs nobody else a wake-up.

    Args:
        ctx: Taken for the standard library's signature; not needed.
        handle: For unpickling.
    """

    def __new__(cls, *, ctx: object = None, handle: Handle | None = None) -> Self:
        """Makes the event in the heap, or leads to one that exists."""
        return super().__new__(cls, handle=handle)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.handle)

    def __repr__(self) -> str:
        status = "set" if self.is_set() else "unset"
        return f"<{type(self).__qualname__} at {id(self):#x} {status}>"


class Condition(_engine.WaitRoll):
    """A lock, and those who wait to be notified of a change to what it guards.

    `notify` wakes those who have waited longest. When one is killed before it has the lock back,
    its notification goes to the next.

    Args:
        lock: A `Lock` or an `RLock`; a new `RLock` if it is not given.
        ctx: Taken for the standard library's signature; not needed.
        handle: For unpickling.
    """

    def __new__(cls, lock: Any = None, *, ctx: object = None, handle: Handle | None = None) -> Self:
        """Makes the condition in the heap, or leads to one that exists."""
        return super().__new__(cls, RLock() if lock is None else lock, handle=handle)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_condition, (type(self), self._lock, self.handle)

    def locked(self) -> bool:
        """Whether anybody holds the lock."""
        held: bool = self._lock.locked()
        return held

    def wait_for(self, predicate: Callable[[], _T], timeout: float | None = None) -> _T:
        """Waits until `predicate` is true, or for `timeout` seconds; its last result."""
        end = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._lock}, {self._waiting()})>"


class Barrier(_engine.MeetingPoint):
    """A place where a number of parties wait for each other.

    It breaks for all when one of them waits too long, raises in the action, or is killed: while it
    waits, or while it runs the action.

    Args:
        parties: How many have to come.
        action: What the last one to come calls before anybody passes.
        timeout: How long to wait where `wait` is not told, in seconds.
        ctx: Taken for the standard library's signature; not needed.
        handle: For unpickling.
    """

    def __new__(
        cls,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: object = None,
        handle: Handle | None = None,
    ) -> Self:
        """Makes the barrier in the heap, or leads to one that exists."""
        if parties < 1:
            raise ValueError("parties must be > 0")
        return super().__new__(cls, parties, handle=handle)

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: object = None,
        handle: Handle | None = None,
    ) -> None:
        self._action = action
        self._timeout = timeout

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (type(self), self.parties, self._action, self._timeout, self.handle)
        return _rebuild_barrier, parts

    def wait(self, timeout: float | None = None) -> int:
        """Waits until all parties have come; the number of those that came before.

        Raises:
            threading.BrokenBarrierError: When the barrier is broken, or breaks, or is reset
                meanwhile. It breaks when `timeout` seconds have passed.
        """
        index = self._meet(self._action or None, self._timeout if timeout is None else timeout)
        if index is None:
            raise threading.BrokenBarrierError
        return index

    def __repr__(self) -> str:
        cls = type(self)
        state = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        return f"<{cls.__module__}.{cls.__qualname__} at {id(self):#x}: {state}>"


def _rebuild_barrier(
    cls: type, parties: int, action: Any, timeout: float | None, handle: Handle
) -> Any:
    return cls(parties, action, timeout, handle=handle)


pass_on_rest(__name__)
