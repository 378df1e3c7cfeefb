"""mpire's pool with the face of the standard library's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import mpire

from benches.rivals.executors import Context


class MpirePool:
    """A pool of mpire's, whose workers stay from call to call."""

    def __init__(self, processes: int, method: str) -> None:
        self._pool = mpire.WorkerPool(processes, start_method=method, keep_alive=True)

    def __enter__(self) -> MpirePool:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()

    def map(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None = None
    ) -> Any:
        """The results in order; with chunks as the package makes them if none are asked for."""
        return self._pool.map(func, items, chunk_size=chunksize)

    def apply_async(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """The result of one call, later."""
        return self._pool.apply_async(func, args)

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """The result of one call."""
        return self._pool.apply(func, args)


def get_context(method: str) -> Context:
    """The context of a start method."""
    return Context(lambda processes: MpirePool(processes, method))
