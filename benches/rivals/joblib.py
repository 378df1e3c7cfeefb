"""joblib's `Parallel`, on its default backend, with as much of a pool's face as it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import joblib

from benches.rivals.executors import Context


class JoblibPool:
    """A `Parallel` that keeps its workers from call to call."""

    def __init__(self, processes: int) -> None:
        self._processes = processes

    def __enter__(self) -> JoblibPool:
        return self

    def __exit__(self, *_: object) -> None:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)

    def map(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None = None
    ) -> Any:
        """The results in order; with batches as joblib makes them if no chunks are asked for."""
        run = joblib.Parallel(self._processes, backend="loky", batch_size=chunksize or "auto")
        return run(joblib.delayed(func)(item) for item in items)


def get_context(method: str) -> Context:
    """The context; joblib's workers have a start method of their own."""
    return Context(JoblibPool)
