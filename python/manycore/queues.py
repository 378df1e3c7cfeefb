"""Queues in the family's heap.

They are the standard library's `Queue`, `JoinableQueue` and `SimpleQueue`, with these differences:
`put` completes in the caller, so a pickling error is raised there and a process may exit at once
afterwards; joining a process never deadlocks on an undrained queue; a queue can be sent through
queues, and to pools, and back; and a process that is killed inside `put` or `get` damages nothing.
"""

from __future__ import annotations

from queue import Empty, Full
from types import GenericAlias
from typing import Any, ClassVar, Self

from manycore import _engine
from manycore import _pickling as _pickling  # for the engine, and whole before there is a queue

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

Empty = Empty
Full = Full

Handle = tuple[int, int, int]


def _rebuild(cls: type, handle: Handle) -> Any:
    return cls(handle=handle)


class Queue(_engine.RingQueue):
    """A first-in first-out queue for any number of processes.

    Args:
        maxsize: The most items at a time; zero or less for any number.
        ctx: Taken for the standard library's signature; not needed.
        handle: For unpickling.
    """

    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)

    def __new__(cls, maxsize: int = 0, *, ctx: object = None, handle: Handle | None = None) -> Self:
        """Makes the queue in the heap, or leads to one that exists."""
        return super().__new__(cls, maxsize, handle=handle)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.handle)

    def close(self) -> None:
        """Says that this process puts and gets no more. Others may go on."""
        self._close()

    def join_thread(self) -> None:
        """Does nothing but check that the queue was closed: `put` has completed when it returns."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """Does nothing: there is no thread that a process would wait for at its exit."""


class JoinableQueue(Queue):
    """A queue whose consumers say when an item is done, and whose producers can wait for that."""

    def task_done(self) -> None:
        """Says that an item that was got is done.

        Raises:
            ValueError: When called more often than there were items.
        """
        if not self._mark_done():
            raise ValueError("task_done() called too many times")

    def join(self) -> None:
        """Waits until every item is done."""
        self._wait_finished()


class SimpleQueue(_engine.RingQueue):
    """A queue with `put`, `get` and `empty` only."""

    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)

    def __new__(cls, *, ctx: object = None, handle: Handle | None = None) -> Self:
        """Makes the queue in the heap, or leads to one that exists."""
        return super().__new__(cls, 0, handle=handle, simple=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.handle)

    def close(self) -> None:
        """Says that this process puts and gets no more. Others may go on."""
        self._close()
