"""What lazy maps take their items from.

Most often whoever asks for results takes the items as well. An iterable that may wait has a thread
for that: its next item may be one that only a result brings, and results are not to wait for it.
"""

from __future__ import annotations

import array
import collections
import itertools
import queue
import threading
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from manycore import _engine
from manycore._ahead import Ahead, Grant, Stride
from manycore._resting import begin, leave

if TYPE_CHECKING:
    from collections.abc import Callable

    from manycore._lazy import IMapIterator

_AT_ONCE = 256
"""Items that are handed out before signals are looked at, and other threads may run."""

_FEEDER = "manycore-feeder"
"""What the threads are called."""

_CONTAINERS: tuple[Any, ...] = (
    *([], (), range(0), range(1 << 70), "", "\N{BULLET}", b"", bytearray(), memoryview(b"")),
    *({}, {}.values(), {}.items(), set(), collections.deque(), array.array("i"), reversed([])),
)

_AT_HAND = {
    *(type(iter(container)) for container in _CONTAINERS),
    *(itertools.count, itertools.repeat),
}
"""Iterators that never wait for an item."""


def may_wait(source: Iterator[Any] | None) -> bool:
    """Whether it may take its time to give an item, for all that is known."""
    return type(source) not in _AT_HAND


class Feed:
    """What a lazy map takes its items from, and how far it is with that.

    Attributes:
        source: The iterator, until it has ended.
        error: What that has raised: it comes behind the results of what it gave before.
    """

    def __init__(
        self,
        source: Iterator[Any],
        job: _engine.Job,
        ahead: Ahead,
        send: Callable[..., tuple[bool, BaseException | None]],
        chunk: int,
    ) -> None:
        self.source: Iterator[Any] | None = source
        self.error: BaseException | None = None
        self._job = job
        self._ahead = ahead
        self._send = send
        self._stride = Stride(max(_AT_ONCE // chunk, 1))
        self._grant: Grant | None = None
        self._ends = [None]

    @property
    def is_over(self) -> bool:
        """Whether no more items will be taken."""
        return self.source is None

    @property
    def is_slow(self) -> bool:
        """Whether the iterator takes its time."""
        return self._stride.is_slow

    def allow(self, *, keeping: bool = False) -> bool:
        """Lets it go as far as it may now, until the next time; whether there is anything to do.

        Args:
            keeping: Whether answers count no more, since nobody fetches them.
        """
        self._grant = grant = self._ahead.grant(keeping=keeping)
        return not self.is_over and grant.room(self._job._sent)[0] > 0

    def hand_out(self) -> bool:
        """Takes items for as many tasks as was allowed, or some of these; whether any."""
        source, grant, sent = self.source, self._grant, self._job._sent
        if source is None or grant is None:
            return False
        most, most_bytes = grant.room(sent)
        if not most:
            return False
        most = min(most, self._stride.length)
        is_over, error = self._send(self._job, self._stride.begin(source), most, most_bytes)
        self._stride.end()
        if is_over:
            self.end(error)
        return self._job._sent > sent

    def hold(self) -> None:
        """The map is not done before the end, even if all its tasks are."""
        self._job._hold()

    def let_go(self) -> None:
        """The map is done when its tasks are."""
        self._job._let_go()

    def end(self, error: BaseException | None) -> None:
        """No more items are taken, and this is raised behind the results. Only once."""
        try:
            self._ends.pop()
        except IndexError:
            return  # another thread was quicker
        self.error = error  # first: who sees that it is over raises it
        self.source = None
        self.let_go()


class Feeder:
    """A thread that takes the items of one lazy map, as far as it was allowed to.

    It keeps neither the map nor its pool, nor the iterable but while that is asked for an item.
    """

    def __init__(self, stream: IMapIterator) -> None:
        # A queue, since it may be used by whatever interrupts one who uses it.
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        news = self._news
        self._stream = weakref.ref(stream, lambda _: news.put(None))
        self._thread = threading.Thread(target=self._run, name=_FEEDER, daemon=True)

    @classmethod
    def start(cls, stream: IMapIterator) -> Feeder | None:
        """The feeder of a map; None where there can be no other thread."""
        feeder = cls(stream)
        stream.feed.hold()
        try:
            begin(feeder._thread)
        except RuntimeError:
            stream.feed.let_go()
            return None
        return feeder

    def wake(self) -> None:
        """Has it look what was allowed, or whether it is to end."""
        if self._news.empty():
            self._news.put(None)

    def _run(self) -> None:
        while self._hand_out():
            pass
        stream = self._stream()
        if stream is not None:
            stream.note_over()
            del stream
        leave()

    def _hand_out(self) -> bool:
        """Hands out what was allowed, and waits for more; whether it is to go on."""
        stream = self._stream()
        if stream is None or stream.feed.is_over:
            return False
        feed = stream.feed
        del stream
        try:
            has_some = feed.hand_out()
        except BaseException as error:  # whatever it is, it is for who asks for results
            feed.end(error.with_traceback(_behind_ours(error)))
            return False
        is_over = feed.is_over
        del feed
        if not has_some and not is_over:
            self._news.get()
        return not is_over


def _behind_ours(error: BaseException) -> TracebackType | None:
    """Its traceback without the frame of the feeder, which refers to the map."""
    return error.__traceback__ and error.__traceback__.tb_next
