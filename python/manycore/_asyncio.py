"""Pools in asyncio: a call that is awaited, and a stream of results.

An answer is collected by the pool's keeper, which wakes the event loop. A task that is cancelled
cancels its call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from manycore import _engine

if TYPE_CHECKING:
    from manycore._attendant import Attendant
    from manycore._lazy import IMapIterator


def _waker(waiter: asyncio.Future[None]) -> Callable[[], None]:
    """What ends the wait for a future of the running loop; any thread may call it."""
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_finish, waiter)

    return wake


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def wait_for(attendant: Attendant, job: _engine.Job) -> None:
    """Waits until a job is done. It is cancelled if the waiting task is."""
    waiter = asyncio.get_running_loop().create_future()
    if job._when_done(_waker(waiter)):
        attendant.need_keeper(collects=True)
        try:
            await waiter
        except asyncio.CancelledError:
            if not job._is_done:
                attendant.cancel(job)
            raise


class ResultStream(AsyncIterator[Any]):
    """The results of `Pool.stream`, as they are asked for."""

    def __init__(self, attendant: Attendant, results: IMapIterator) -> None:
        self._attendant = attendant
        self._results = results
        self._is_awaited = False

    async def __anext__(self) -> Any:
        if self._is_awaited:
            raise RuntimeError("another task waits for this stream's next result already")
        results = self._results
        try:
            while (result := results.next_if_any()) is None:
                self._attendant.poll()
                if (result := results.next_if_any()) is not None:
                    break
                await self._wait()
        except StopIteration:
            raise StopAsyncIteration from None
        return results.open(result)

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        if self._results._job._when_news(_waker(waiter)):
            self._attendant.need_keeper(collects=True)
            self._is_awaited = True
            try:
                await waiter
            except asyncio.CancelledError:
                self._results.close()  # as an asynchronous generator ends by it
                self._attendant.cancel(self._results._job)
                raise
            finally:
                self._is_awaited = False

    async def aclose(self) -> None:
        """Ends it: takes no more items, and withdraws the calls that no worker has begun."""
        self._results.close()

    def __del__(self) -> None:
        results = self.__dict__.get("_results")
        if results is not None:
            results.close()
