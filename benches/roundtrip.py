"""Round trip over two queues: `put` a number, the other process puts it back, `get` it.

Where the scheduler puts the two processes changes the figure more than anything the module does,
so it is measured in three ways: left alone, both on one core, each on its own core. `--pin` has no
effect here. Every call is timed by itself in the calling child.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benches.children import run_children
from benches.harness import (
    FASTER_FIFO,
    MEDIAN,
    P99,
    Bench,
    Sample,
    Target,
    cpu,
    latency_sample,
    time_calls,
)

Placement = tuple[int | None, int | None]
"""Indices of the CPUs of caller and echo; None leaves it to the scheduler."""


def round_trip(placement: Placement, target: Target, n: int) -> Sample:
    """Time `n` round trips, after a tenth as many to warm up."""
    there, back = target.queue(), target.queue()
    warm_up = 10 + n // 10

    def call(i: int) -> None:
        there.put(i)
        if back.get() != i:
            raise AssertionError(f"wrong reply to {i}")

    def caller(start: Callable[[], None]) -> Sample:
        start()
        time_calls(call, range(warm_up))
        return latency_sample(time_calls(call, range(n)))

    def echo(start: Callable[[], None]) -> None:
        start()
        for _ in range(warm_up + n):
            back.put(there.get())

    first, second = (None if index is None else cpu(index) for index in placement)
    (sample,) = run_children(target.context(), (caller, echo), (first, second))
    return sample


def bench(name: str, title: str, placement: Placement, needs_cpus: int = 1) -> Bench:
    """The bench for one placement."""
    return Bench(
        f"roundtrip.{name}",
        f"put + get round trip, {title}",
        partial(round_trip, placement),
        metrics=(MEDIAN, P99),
        max_n=1_000_000,
        needs_cpus=needs_cpus,
        rivals=(FASTER_FIFO,),
    )


BENCHES = (
    bench("unpinned", "unpinned", (None, None)),
    bench("one-core", "one core", (0, 0)),
    bench("two-cores", "two cores", (0, 1), needs_cpus=2),
)
