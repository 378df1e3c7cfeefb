"""Queues in asyncio, which is imported at the first need: it is larger than all of this package."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Full
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from manycore.errors import ShutDown

if TYPE_CHECKING:
    import asyncio

LOOK_AGAIN = 0.25
"""Seconds after which a waiting task looks by itself: a killed producer tells nobody of its end."""


class _Readiness:
    """Tasks of one event loop that wait until a descriptor is readable.

    It keeps neither the loop nor its tasks alive: a loop may be left with tasks that still wait.
    """

    def __init__(self) -> None:
        self._waiting: WeakSet[asyncio.Future[None]] = WeakSet()
        self._fd = -1

    async def wait(self, loop: asyncio.AbstractEventLoop, fileno: Callable[[], int]) -> None:
        """Waits until it may be worth while to look again."""
        fd = fileno()
        if fd != self._fd:  # also if tasks that were woken have not run yet
            self._stop(loop)
            loop.add_reader(fd, self._wake, loop)
            self._fd = fd
        future = loop.create_future()
        self._waiting.add(future)
        timer = loop.call_later(LOOK_AGAIN, _finish, future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.discard(future)
            if not self._waiting:
                self._stop(loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        # All of them: which one the item is for is decided by who takes it.
        self._stop(loop)
        for future in tuple(self._waiting):
            _finish(future)

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._fd >= 0:
            loop.remove_reader(self._fd)
            self._fd = -1


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Awaiting:
    """The methods of a queue that are awaited: without a thread, and cancelling loses no item."""

    async def _readable(self, what: str, fileno: Callable[[], int]) -> None:
        from asyncio import get_running_loop

        loop = get_running_loop()
        loops = _readiness.setdefault(self, WeakKeyDictionary())
        known = loops.setdefault(loop, {})
        if what not in known:
            known[what] = _Readiness()
        await known[what].wait(loop, fileno)

    async def aget(self) -> Any:
        """The next item, as soon as there is one.

        Raises:
            ShutDown: When the queue is empty, and shut down or without the producers that it had.
        """
        queue: Any = self
        while True:
            with suppress(Empty):
                return queue.get_nowait()
            await self._readable("message", queue.fileno)

    async def aput(self, obj: object) -> None:
        """Puts an item, as soon as there is room.

        Args:
            obj: What is put; it is pickled in this call, without letting the loop go on.

        Raises:
            ShutDown: When the queue is shut down.
        """
        queue: Any = self
        while True:
            with suppress(Full):
                queue.put_nowait(obj)
                return
            await self._readable("room", queue._room_fileno)

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.aget()
        except ShutDown:
            raise StopAsyncIteration from None


# Beside the queues and not on them, where it would be pickled.
_readiness: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
