"""A dict that processes share: the standard library's is reached through a server process.

The loops are written out as a user would write them; the time of an empty one is taken off.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from typing import Any

from benches.harness import Bench, Sample, Target, cost_sample, expect, stopwatch
from benches.sync import empty_loop

KEYS = [f"key {number}" for number in range(1000)]


@contextmanager
def shared_dict(context: Any) -> Iterator[Any]:
    """The dict of a context, with entries."""
    entries = dict.fromkeys(KEYS, 7)
    if hasattr(context, "SharedDict"):
        yield context.SharedDict(entries)
        return
    with context.Manager() as manager:
        yield manager.dict(entries)


def get(shared: Any, n: int) -> None:
    """`d[key]`."""
    key = KEYS[500]
    for _ in repeat(None, n):
        shared[key]
    expect(shared[key] == 7, "the value")


def put(shared: Any, n: int) -> None:
    """`d[key] = value`."""
    key = KEYS[500]
    for _ in repeat(None, n):
        shared[key] = 8
    expect(shared[key] == 8, "the value")


def put_many(shared: Any, n: int) -> None:
    """`d[key] = value` for one key after the other."""
    for number in range(n):
        shared[KEYS[number % 1000]] = number
    expect(len(shared) == 1000, "the keys")


def loop_sample(loop: Callable[[Any, int], None], target: Target, n: int) -> Sample:
    """Time the loop, less an empty one."""
    home = target.pinned_cpu(0)
    if home is not None:
        os.sched_setaffinity(0, {home})
    with shared_dict(target.context()) as shared:
        overhead = stopwatch(lambda: empty_loop(n))
        return cost_sample(n, stopwatch(lambda: loop(shared, n)) - overhead)


BENCHES = (
    Bench("shared.get", "SharedDict: d[key]", partial(loop_sample, get), first_n=1_000),
    Bench("shared.set", "SharedDict: d[key] = value", partial(loop_sample, put), first_n=1_000),
    Bench(
        "shared.set-many",
        "SharedDict: d[key] = value, 1000 keys",
        partial(loop_sample, put_many),
        first_n=1_000,
    ),
)
