"""A pool of two workers with tasks so small that what is measured is the pool.

Each sample makes its own pool and warms it up before the clock starts. The calling process, which
is the consumer of the results, times from the call to the last result.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any

from benches.harness import (
    MEDIAN,
    P99,
    SHARE,
    Bench,
    Sample,
    Target,
    cost_sample,
    cpu,
    expect,
    latency_sample,
    stopwatch,
    time_calls,
)
from benches.tasks import Busy, square

WORKERS = 2
WARM_UP_TASKS = 500
BUSY_SECONDS = 2.5e-6
MANY = 5_000_000  # numbers in a list: 200 MB of memory
PENDING = 500_000  # result objects: about as much

Squares = list[int]


def take_place(places: int) -> None:
    """In a worker: pin to the next CPU named in the pipe `places`."""
    os.sched_setaffinity(0, {int.from_bytes(os.read(places, 2), "little")})


@contextmanager
def pinning(target: Target) -> Iterator[dict[str, Any]]:
    """Arguments for `Pool` that put each worker on its own CPU, if `--pin` asks for it."""
    if not target.pin:
        yield {}
        return
    read_end, write_end = os.pipe()
    os.write(write_end, b"".join(cpu(i).to_bytes(2, "little") for i in range(WORKERS)))
    try:
        yield {"initializer": take_place, "initargs": (read_end,)}
    finally:
        os.close(read_end)
        os.close(write_end)


@contextmanager
def warm_pool(target: Target) -> Iterator[Any]:
    """A pool whose workers have started and run tasks."""
    with pinning(target) as arguments, target.context().Pool(WORKERS, **arguments) as pool:
        pool.map(square, range(WARM_UP_TASKS), chunksize=1)
        yield pool


def map_one_by_one(pool: Any, n: int) -> Squares:
    """`map` with one task per message."""
    squares: Squares = pool.map(square, range(n), chunksize=1)
    return squares


def map_in_chunks(pool: Any, n: int) -> Squares:
    """`map` as it comes."""
    squares: Squares = pool.map(square, range(n))
    return squares


def submit_burst(pool: Any, n: int) -> Squares:
    """Submit everything, then collect everything."""
    pending = [pool.apply_async(square, (i,)) for i in range(n)]
    return [result.get() for result in pending]


@contextmanager
def warm_executor(target: Target) -> Iterator[Any]:
    """An executor whose workers have run tasks: ours, or that of `concurrent.futures`."""
    module = importlib.import_module(target.module)
    cls = getattr(module, "ProcessPoolExecutor", concurrent.futures.ProcessPoolExecutor)
    with pinning(target) as arguments, cls(WORKERS, target.context(), **arguments) as executor:
        list(executor.map(square, range(WARM_UP_TASKS)))
        yield executor


def future_burst(executor: Any, n: int) -> Squares:
    """Submit everything, then collect everything."""
    futures = [executor.submit(square, i) for i in range(n)]
    return [future.result() for future in futures]


def executor_map(executor: Any, n: int) -> Squares:
    """`Executor.map` with one task per message."""
    return list(executor.map(square, range(n)))


def imap_any_order(pool: Any, n: int) -> Squares:
    """`imap_unordered` with one task per message."""
    return list(pool.imap_unordered(square, range(n), chunksize=1))


def imap_in_order(pool: Any, n: int) -> Squares:
    """`imap` as it comes, which is one task per item."""
    return list(pool.imap(square, range(n)))


def bulk_sample(
    run: Callable[[Any, int], Squares], target: Target, n: int, warm: Any = warm_pool
) -> Sample:
    """Time `run(pool, n)`, which returns the squares up to `n` in any order."""
    with warm(target) as pool:
        begin = perf_counter()
        results = run(pool, n)
        seconds = perf_counter() - begin
    expect(len(results) == n and max(results) == (n - 1) ** 2, "squares")
    return cost_sample(n, seconds)


def apply_sample(target: Target, n: int) -> Sample:
    """Time `n` calls of `apply`, one after the other."""
    with warm_pool(target) as pool:
        return latency_sample(time_calls(lambda i: pool.apply(square, (i,)), range(n)))


def busy_seconds(n: int) -> float:
    """Seconds per busy task when this process runs `n` of them itself, without a pool."""
    return stopwatch(lambda: deque(map(Busy.task, range(n)), maxlen=0)) / n


def set_busy_loops() -> None:
    """Make the busy task last `BUSY_SECONDS` on this machine."""
    shortest = min(busy_seconds(2000) for _ in range(5))
    Busy.loops = max(1, round(Busy.loops * BUSY_SECONDS / shortest))


def scaling_sample(target: Target, n: int) -> Sample:
    """Run busy tasks one per message; report the share of the speed that all CPUs could reach."""
    set_busy_loops()
    alone = busy_seconds(20_000)
    with warm_pool(target) as pool:
        seconds = stopwatch(lambda: pool.map(Busy.task, range(n), chunksize=1))
    lanes = min(WORKERS, len(os.sched_getaffinity(0)))
    return Sample(n, seconds, {SHARE.key: alone * n / lanes / seconds})


def bulk_bench(name: str, title: str, run: Callable[[Any, int], Squares], max_n: int) -> Bench:
    """The bench of one way to have many squares."""
    return Bench(f"pool.{name}", title, partial(bulk_sample, run), max_n=max_n)


BENCHES = (
    bulk_bench("map-1", "Pool.map, chunksize=1", map_one_by_one, MANY),
    bulk_bench("map", "Pool.map, default chunksize", map_in_chunks, MANY),
    bulk_bench("apply-async", "apply_async burst", submit_burst, PENDING),
    Bench(
        "pool.submit",
        "executor submit burst",
        partial(bulk_sample, future_burst, warm=warm_executor),
        max_n=PENDING,
    ),
    Bench(
        "pool.executor-map",
        "executor map, chunksize=1",
        partial(bulk_sample, executor_map, warm=warm_executor),
        max_n=PENDING,
    ),
    bulk_bench("imap", "imap, as it comes", imap_in_order, MANY),
    bulk_bench("imap-unordered-1", "imap_unordered, chunksize=1", imap_any_order, MANY),
    Bench("pool.apply", "apply round trip", apply_sample, metrics=(MEDIAN, P99), max_n=1_000_000),
    Bench(
        "pool.scaling",
        "2.5 µs tasks, chunksize=1, share of perfect",
        scaling_sample,
        metrics=(SHARE,),
        max_n=MANY,
    ),
)
