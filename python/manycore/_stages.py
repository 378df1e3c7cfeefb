"""What a pipeline consists of: its stages, and what gives the items."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from manycore._options import is_above_0

POLICIES = ("raise", "skip", "return")
"""What may become of an item that fails."""

_ITEMS = 256
"""Items of a stage, for each worker, that may be inside."""

_BYTES = 64 << 20
"""Bytes of a stage's items that may be inside."""


class Stage:
    """What `manycore.stage` returns: a stage of a pipeline."""

    def __init__(
        self,
        function: Any,
        *,
        workers: int = 1,
        ordered: bool = True,
        init: Callable[[], Any] | None = None,
        retries: int = 0,
        on_error: str | None = None,
        maxsize: int = 0,
        maxbytes: int = 0,
        in_caller: bool = False,
        name: str | None = None,
        timeout: float | None = None,
    ) -> None:
        counts = {"workers": workers, "retries": retries, "maxsize": maxsize, "maxbytes": maxbytes}
        for what, count in counts.items():
            try:
                operator.index(count)
            except TypeError:
                raise TypeError(f"{what} must be an integer, not {count!r}") from None
            if count < 0:
                raise ValueError(f"{what} must not be negative: {count}")
        if workers < 1:
            raise ValueError(f"a stage needs a worker or more, not {workers}")
        if on_error is not None and on_error not in POLICIES:
            raise ValueError(f"on_error must be one of {POLICIES}, not {on_error!r}")
        if timeout is not None and not is_above_0(timeout):
            raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
        if init is not None and not callable(init):
            raise TypeError("init must be a callable")
        if in_caller and (workers != 1 or retries or init is not None or timeout is not None):
            raise ValueError(
                "a stage in the caller has no workers, and so no retries, init or timeout"
            )
        self.function = function
        self.workers = int(workers)
        self.ordered = ordered
        self.init = init
        self.retries = int(retries)
        self.on_error = on_error
        self.maxsize = int(maxsize) or _ITEMS * self.workers
        self.maxbytes = int(maxbytes) or _BYTES
        self.in_caller = in_caller
        self.timeout = timeout
        inner = getattr(function, "func", function)  # functools.partial
        self.name = name or getattr(inner, "__name__", None) or type(inner).__name__

    def __repr__(self) -> str:
        return f"<stage {self.name} workers={self.workers}>"


class StageStats(NamedTuple):
    """What a stage has done so far."""

    name: str
    workers: int
    items_in: int
    """Items that it was given."""
    items_out: int
    """Results that it has made."""
    failures: int
    """Items that failed."""
    deaths: int
    """Workers that died of an item."""
    busy: float
    """The share of the time since the start that its workers have worked, from 0 to 1."""
    inside: int
    """Items in it now: waiting, in work, or waiting for the next stage."""
    inside_bytes: int
    """Bytes of such items."""


def sorted_out(first: Any, rest: list[Any]) -> tuple[Iterator[Any] | None, list[Stage]]:
    """What gives the items, if that is not a stage, and the stages."""
    found = [it if isinstance(it, Stage) else Stage(it) for it in rest]
    source = None
    if isinstance(first, Stage):
        found.insert(0, first)
        if first.workers != 1:
            raise ValueError("what gives the items runs once: each worker would give them all")
        if first.timeout is not None:
            raise ValueError("what gives the items has no timeout, which is for each item")
    elif callable(first):
        found.insert(0, Stage(first))
    else:
        source = iter(first)
    if not rest:
        raise TypeError("a pipeline needs what gives items, and a stage or more that take them")
    for it in found:
        if not callable(it.function):
            raise TypeError(f"{it.function!r} is not callable: an iterable comes first, as it is")
    if any(it.in_caller for it in found[:-1]) or found[0].in_caller:
        raise ValueError("only the last stage can run in the caller, behind one that does not")
    return source, found
