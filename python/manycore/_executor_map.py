"""The maps of executors."""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from manycore._lazy import IMapIterator

if TYPE_CHECKING:
    from manycore._executor_pool import ExecutorPool


class Results(IMapIterator):
    """The results of a `map`, in order; fed by who fetches them."""

    _pool: ExecutorPool
    _timeout_error = TimeoutError
    end: float | None = None
    """When it is too late for another result."""

    @property
    def source_error(self) -> BaseException | None:
        """What the iterables raised."""
        return self.feed.error

    def _go_on(self, *, keeping: bool = False, begins: bool = False) -> None:
        if not self.feed.is_over and self._job._sent:
            self._pool._check_running()
        super()._go_on(keeping=keeping, begins=begins)
        if self._pool.is_growing:
            self._pool.grow()

    def __next__(self) -> Any:  # type: ignore[override]
        try:
            return self.next(None if self.end is None else self.end - time.monotonic())
        except StopIteration:
            raise
        except Exception as error:
            self.close()
            raise self._pool.as_broken(error, self._job)  # noqa: B904 - most often the same

    def close(self) -> None:
        """Ends it: takes no more items, and withdraws the calls that no worker has begun."""
        if self._pool.is_ours():
            super().close()

    def __del__(self) -> None:
        if "_job" in self.__dict__:  # its iterables were some
            self.close()


def chunks_of(items: Iterator[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """The items in tuples of so many."""
    return iter(lambda: tuple(itertools.islice(items, size)), ())


def call_for_each(fn: Callable[..., Any], chunk: tuple[Any, ...]) -> list[Any]:
    """What a worker does with such a tuple, whose items are tuples of arguments."""
    return [fn(*args) for args in chunk]


def map_by(
    submit: Callable[[Any], Any],
    chunks: Iterator[Any],
    most_ahead: int | None,
    end: float | None,
) -> Iterator[Any]:
    """The results of a `map` whose calls go through a `submit` that is not ours.

    It is a subclass's, or somebody has put it in the place of ours: what it does with each call
    and its future is to be done, as where the standard library's `map` calls it.
    """
    futures = collections.deque(map(submit, itertools.islice(chunks, most_ahead)))

    def results() -> Iterator[Any]:
        try:
            while futures:
                futures.extend(map(submit, itertools.islice(chunks, 1)))
                left = None if end is None else end - time.monotonic()
                yield from futures[0].result(left)
                futures.popleft()
        finally:
            for future in futures:
                future.cancel()

    return results()
