"""Executors of other packages with the face of a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any


class Result:
    """A future with the face of what `apply_async` returns."""

    def __init__(self, future: Future[Any]) -> None:
        self.get = future.result


class Context:
    """What benches want of a context: its pools."""

    def __init__(self, pool: Callable[[int], Any]) -> None:
        self._pool = pool

    def Pool(self, processes: int, **_: Any) -> Any:
        """A pool; its workers are not pinned."""
        return self._pool(processes)


class Pool:
    """A pool on an executor. Its calls are made as that package's users make them."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=True)

    def map(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """The results in order; with chunks as the package makes them if none are asked for."""
        options = {} if chunksize is None else {"chunksize": chunksize}
        return list(self._executor.map(func, items, **options))

    def apply_async(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Result:
        """The result of one call, later."""
        return Result(self._executor.submit(func, *args))

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """The result of one call."""
        return self._executor.submit(func, *args).result()
