"""Queues in the family's heap.

They are the standard library's `Queue`, `JoinableQueue` and `SimpleQueue`, with these differences:
`put` completes in the caller, so a pickling error is raised there and a process may exit at once
afterwards; joining a process never deadlocks on an undrained queue; a queue can be sent through
queues, and to pools, and back; and a process that is killed inside `put` or `get` damages nothing.

They can also do more: many items at once, iteration, a limit in bytes, an end when the last
producer has closed or died, shutting down as Python 3.13's `queue.Queue`, `await`, and being
polled. The page docs/api/queues.md says when each call waits, and what a crash does.
"""

from __future__ import annotations

from collections.abc import Iterable
from queue import Empty, Full
from types import GenericAlias
from typing import Any, ClassVar, NamedTuple, Self

from manycore import _engine
from manycore import _pickling as _pickling  # for the engine, and whole before there is a queue
from manycore._awaiting import Awaiting
from manycore._rest import pass_on_rest
from manycore.errors import ShutDown

__all__ = ["JoinableQueue", "Producer", "Queue", "QueueStats", "SimpleQueue"]

Empty = Empty
Full = Full
ShutDown = ShutDown

Handle = tuple[int, int, int]


class QueueStats(NamedTuple):
    """What a queue has done since it was made, in all processes together.

    Attributes:
        put: Items that were put.
        got: Items that were got.
        put_bytes: Bytes that these took in shared memory, with what is kept beside each item.
        got_bytes: Likewise.
        put_waits: How often a process slept in `put` until there was room.
        get_waits: How often a process slept in `get` until there was an item.
        depth: Items in the queue now.
        high_water: The most items that were found waiting.
    """

    put: int
    got: int
    put_bytes: int
    got_bytes: int
    put_waits: int
    get_waits: int
    depth: int
    high_water: int


def _new(cls: type[_Base]) -> _Base:
    return cls.__new__(cls)


class _Base(_engine.RingQueue):
    """What all queues have."""

    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)

    _simple: ClassVar[bool] = False

    # The object is made by `__init__`, and by `__setstate__`: a subclass may have arguments and a
    # state of its own, as with the standard library's.

    def __getstate__(self) -> Any:
        """What a pickle consists of: the handle, and what the program has set on the object."""
        return self.handle, vars(self).copy()

    def __setstate__(self, state: Any) -> None:
        handle, attributes = state
        self._attach(handle, self._simple)
        vars(self).update(attributes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _new, (type(self),), self.__getstate__()

    def close(self) -> None:
        """Says that this process puts and gets no more. Others may go on; see `Queue.shutdown`."""
        self._close()

    @property
    def _reader(self) -> _End:
        """What stands in for the connection that the standard library's queues read from."""
        return _End(self)

    @property
    def _writer(self) -> _End:
        """What stands in for the connection that the standard library's queues write to."""
        return _End(self)


@_engine.quick
class Queue(Awaiting, _Base):
    """A first-in first-out queue for any number of processes.

    Iterating takes items until the queue has ended and is empty.

    Args:
        maxsize: The most items at a time; zero or less for any number.
        ctx: Taken for the standard library's signature; not needed.
        maxbytes: The most bytes of items at a time, as they lie in shared memory; zero or less for
            any number. An item that is larger by itself is put when the queue is empty.
    """

    def __init__(self, maxsize: int = 0, *, ctx: object = None, maxbytes: int = 0) -> None:
        self._make(maxsize, maxbytes)

    def producer(self) -> Producer:
        """Opens a producer: the queue ends when all are closed, or their processes have died.

        What ends is the stream of items: `get` raises `ShutDown` once the queue is empty, and
        iterating stops. A producer that is opened after that begins a new one. Each belongs to the
        process that opened it: a forked child has none of its parent's. To be sure that no consumer
        sees an end before the first item, keep one open where the others are started:

            with queue.producer():
                for process in processes:
                    process.start()
                for process in processes:
                    process.join()

        Raises:
            ValueError: When this process has closed the queue.
        """
        return Producer(self)

    def shutdown(self, immediate: bool = False) -> None:
        """Ends the queue in all processes: `put` raises `ShutDown`, as does `get` once it is empty.

        Processes that wait in either are woken.

        Args:
            immediate: Also throws away what is in the queue. In a `JoinableQueue` that is done.
        """
        self._shut_down(immediate)

    @property
    def is_shutdown(self) -> bool:
        """Whether the queue was shut down."""
        return self._is_shut_down

    def stats(self) -> QueueStats:
        """What the queue has done so far."""
        return QueueStats(*self._stats())

    def join_thread(self) -> None:
        """Does nothing but check that the queue was closed: `put` has completed when it returns.

        Raises:
            AssertionError: When this process has not closed it.
        """
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """Does nothing: there is no thread that a process would wait for at its exit."""


@_engine.quick
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
        """Waits until every item is done that was put.

        A process that is killed before it calls `task_done` leaves its item undone.
        """
        self._wait_finished()


@_engine.quick
class SimpleQueue(_Base):
    """A queue without limits, ends and counts.

    Args:
        ctx: Taken for the standard library's signature; not needed.
    """

    _simple = True

    def __init__(self, *, ctx: object = None) -> None:
        self._make(simple=True)


class Producer:
    """What keeps a queue from ending: open until it is closed, collected, or its process ends.

    It belongs to the process that opened it. `Queue.producer` says more.

    Args:
        queue: The queue that it is a producer of.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._open: _engine.OpenProducer | None = queue._open_producer()

    def _checked(self) -> Queue:
        if self._open is None:
            raise ValueError("this producer is closed")
        if not self._open.is_own:
            raise ValueError("this producer was opened in another process: open one here")
        return self._queue

    def put(self, obj: object, block: bool = True, timeout: float | None = None) -> None:
        """As `Queue.put`.

        Raises:
            ValueError: When the producer is closed, or another process's.
        """
        self._checked().put(obj, block, timeout)

    def put_nowait(self, obj: object) -> None:
        """As `Queue.put_nowait`.

        Raises:
            ValueError: As `put`.
        """
        self._checked().put_nowait(obj)

    def put_many(
        self, iterable: Iterable[object], block: bool = True, timeout: float | None = None
    ) -> int:
        """As `Queue.put_many`.

        Raises:
            ValueError: As `put`.
        """
        return self._checked().put_many(iterable, block, timeout)

    def close(self) -> None:
        """Puts nothing more. The queue ends with the last producer; closing twice is no error."""
        self._open = None

    def __enter__(self) -> Self:
        self._checked()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a producer cannot be sent: open one in the process that puts")


class _End:
    """A queue as one end of a pipe: for programs that look behind the standard library's queues."""

    def __init__(self, queue: _Base) -> None:
        self._queue = queue

    def fileno(self) -> int:
        """A descriptor that is readable while there is an item."""
        return self._queue.fileno()

    def recv(self) -> Any:
        """The next item."""
        return self._queue.get()

    def send(self, obj: object) -> None:
        """Puts an item."""
        self._queue.put(obj)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether there is an item, at the latest after `timeout` seconds."""
        from manycore.connection import wait

        return not self._queue.empty() or bool(wait([self.fileno()], timeout))

    def close(self) -> None:
        """Does nothing: a queue has no descriptors that must be closed."""

    @property
    def closed(self) -> bool:
        """Whether the queue is closed in this process."""
        return self._queue._closed


pass_on_rest(__name__)
