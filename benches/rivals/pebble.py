"""Pebble's pool with the face of the standard library's."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from typing import Any

import pebble

from benches.rivals.executors import Context, Pool, Result


class PebblePool(Pool):
    """A pool of Pebble's."""

    def __exit__(self, *_: object) -> None:
        self._executor.stop()
        self._executor.join()

    def map(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """The results in order."""
        options = {} if chunksize is None else {"chunksize": chunksize}
        return list(self._executor.map(func, items, **options).result())

    def apply_async(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Result:
        """The result of one call, later."""
        return Result(self._executor.schedule(func, args=args))

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """The result of one call."""
        return self._executor.schedule(func, args=args).result()


def get_context(method: str) -> Context:
    """The context of a start method."""
    context = multiprocessing.get_context(method)
    return Context(lambda processes: PebblePool(pebble.ProcessPool(processes, context=context)))
