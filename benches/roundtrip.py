"""Round trip: send a number, the other process sends it back, receive it. Here over two queues.

Where the scheduler puts the two processes changes the figure more than anything the module does,
so it is measured in three ways: left alone, both on one core, each on its own core. `--pin` has no
effect here. Every call is timed by itself in the calling child.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from benches.children import run_children
from benches.harness import (
    FASTER_FIFO,
    MEDIAN,
    P99,
    Bench,
    Rival,
    Sample,
    Target,
    cpu,
    latency_sample,
    time_calls,
)

Placement = tuple[int | None, int | None]
"""Indices of the CPUs of caller and echo; None leaves it to the scheduler."""


class End(NamedTuple):
    """What one of the two processes sends and receives with."""

    send: Callable[[int], object]
    receive: Callable[[], int]


Connect = Callable[[Target], tuple[End, End]]
"""Makes the ends of caller and echo."""


def two_queues(target: Target) -> tuple[End, End]:
    """One queue for each direction."""
    there, back = target.queue(), target.queue()
    return End(there.put, back.get), End(back.put, there.get)


def round_trip(connect: Connect, placement: Placement, target: Target, n: int) -> Sample:
    """Time `n` round trips, after a tenth as many to warm up."""
    (send, receive), other = connect(target)
    warm_up = 10 + n // 10

    def call(i: int) -> None:
        send(i)
        if receive() != i:
            raise AssertionError(f"wrong reply to {i}")

    def caller(start: Callable[[], None]) -> Sample:
        start()
        time_calls(call, range(warm_up))
        return latency_sample(time_calls(call, range(n)))

    def echo(start: Callable[[], None]) -> None:
        start()
        for _ in range(warm_up + n):
            other.send(other.receive())

    first, second = (None if index is None else cpu(index) for index in placement)
    (sample,) = run_children(target.context(), (caller, echo), (first, second))
    return sample


def placements(
    prefix: str, title: str, connect: Connect, rivals: tuple[Rival, ...] = ()
) -> tuple[Bench, ...]:
    """The benches for all placements."""

    def bench(name: str, where: str, placement: Placement, needs_cpus: int = 1) -> Bench:
        return Bench(
            f"{prefix}{name}",
            f"{title} round trip, {where}",
            partial(round_trip, connect, placement),
            metrics=(MEDIAN, P99),
            max_n=1_000_000,
            needs_cpus=needs_cpus,
            rivals=rivals,
        )

    return (
        bench("unpinned", "unpinned", (None, None)),
        bench("one-core", "one core", (0, 0)),
        bench("two-cores", "two cores", (0, 1), needs_cpus=2),
    )


BENCHES = placements("roundtrip.", "put + get", two_queues, (FASTER_FIFO,))
