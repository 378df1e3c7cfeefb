"""Locks and shared values that nobody else wants: the cost of the call itself.

The loop is written out as a user would write it; the time of an empty one is taken off.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any

from benches.harness import Bench, Sample, Target, cost_sample, expect, stopwatch


def empty_loop(n: int) -> None:
    """What the loops below cost by themselves."""
    for _ in repeat(None, n):
        pass


def acquire_release(context: Any, n: int) -> Callable[[], None]:
    """`lock.acquire()` and `lock.release()`."""
    lock = context.Lock()

    def loop() -> None:
        for _ in repeat(None, n):
            lock.acquire()
            lock.release()

    return loop


def with_lock(context: Any, n: int) -> Callable[[], None]:
    """`with lock`."""
    lock = context.Lock()

    def loop() -> None:
        for _ in repeat(None, n):
            with lock:
                pass

    return loop


def increment(context: Any, n: int) -> Callable[[], None]:
    """The increment of a shared value under its lock."""
    value = context.Value("i", 0)

    def loop() -> None:
        for _ in repeat(None, n):
            with value.get_lock():
                value.value += 1
        expect(value.value == n, "the count")

    return loop


def add(context: Any, n: int) -> Callable[[], None]:
    """The same in one step without the lock, where that is possible."""
    if not hasattr(context, "atomic"):
        return increment(context, n)
    value = context.Value("i", 0)

    def loop() -> None:
        for _ in repeat(None, n):
            value.add(1)
        expect(value.value == n, "the count")

    return loop


def loop_sample(
    prepare: Callable[[Any, int], Callable[[], None]], target: Target, n: int
) -> Sample:
    """Time the loop that `prepare` returns, less an empty one."""
    home = target.pinned_cpu(0)
    if home is not None:
        os.sched_setaffinity(0, {home})
    loop = prepare(target.context(), n)
    overhead = stopwatch(lambda: empty_loop(n))
    return cost_sample(n, stopwatch(loop) - overhead)


BENCHES = (
    Bench(
        "sync.lock", "Lock acquire + release", partial(loop_sample, acquire_release), first_n=10_000
    ),
    Bench("sync.with-lock", "with lock", partial(loop_sample, with_lock), first_n=10_000),
    Bench(
        "sync.value",
        "with v.get_lock(): v.value += 1",
        partial(loop_sample, increment),
        first_n=10_000,
    ),
    Bench(
        "sync.atomic-add",
        "v.add(1), against the same",
        partial(loop_sample, add),
        first_n=10_000,
    ),
)
