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
from typing import TYPE_CHECKING, Any

from manycore import _engine
from manycore._ahead import Ahead, Stride
from manycore._resting import begin, wait_until_gone

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

    It does not keep the map, nor its pool.

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

    @property
    def is_over(self) -> bool:
        """Whether no more items will be taken."""
        return self.source is None

    @property
    def is_slow(self) -> bool:
        """Whether the iterator takes its time."""
        return self._stride.is_slow

    def has_room(self, *, keeping: bool = False) -> bool:
        """Whether more may be taken; with `keeping`, nobody fetches results."""
        return self._ahead.room(keeping=keeping)[0] > 0

    def hand_out(self, *, keeping: bool = False) -> bool:
        """Takes items for as many tasks as may be, or some of these; whether there were any."""
        source = self.source
        most, most_bytes = self._ahead.room(keeping=keeping)
        if source is None or not most:
            return False
        sent = self._job._sent
        most = min(most, self._stride.length)
        is_over, error = self._send(self._job, self._stride.begin(source), most, most_bytes)
        self._stride.end()
        if is_over and self.source is not None:
            self.end(error)
        return self._job._sent > sent

    def hold(self) -> None:
        """The map is not done before the end, even if all its tasks are."""
        self._job._hold()

    def let_go(self) -> None:
        """The map is done when its tasks are."""
        self._job._let_go()

    def end(self, error: BaseException | None) -> None:
        """No more items are taken, and this is raised behind the results."""
        self.error = error  # first: who sees that it is over raises it
        self.source = None
        self.let_go()


class Feeder:
    """A thread that takes the items of one lazy map. It does not keep the map, nor its pool."""

    def __init__(self, feed: Feed, stream: IMapIterator) -> None:
        self._feed = feed
        # A queue, since it may be used by whatever interrupts one who uses it.
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_keeping = self._is_cut_short = False
        news = self._news
        self._stream = weakref.ref(stream, lambda _: news.put(None))
        self._thread = threading.Thread(target=self._run, name=_FEEDER, daemon=True)

    @classmethod
    def start(cls, feed: Feed, stream: IMapIterator) -> Feeder | None:
        """The feeder of a map; None where there can be no other thread."""
        feeder = cls(feed, stream)
        feed.hold()
        try:
            begin(feeder._thread)
        except RuntimeError:
            feed.let_go()
            return None
        return feeder

    def hurry(self, *, keeping: bool = False) -> None:
        """Has it go on if there is room; with `keeping`, from now on as if nobody fetched."""
        self._is_keeping = self._is_keeping or keeping
        if self._news.empty() and self._feed.has_room(keeping=self._is_keeping):
            self._news.put(None)

    def end(self) -> None:
        """Has it end, though not while the iterable is asked for an item."""
        self._is_cut_short = True
        self._news.put(None)

    def join(self) -> None:
        """Waits until it has ended, if the iterable has."""
        if not self._is_cut_short and self._thread is not threading.current_thread():
            self._thread.join()
            wait_until_gone(self._thread)

    def _run(self) -> None:
        feed, error = self._feed, None
        try:
            while not feed.is_over and self._stream() is not None:
                if not feed.hand_out(keeping=self._is_keeping):
                    self._news.get()
        except BaseException as raised:  # whatever it is, it is for who asks for results
            error = raised
        if not feed.is_over:
            feed.end(error)
        stream = self._stream()
        if stream is not None:
            stream.note_over()
