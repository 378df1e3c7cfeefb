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
from statistics import harmonic_mean
from time import perf_counter, thread_time
from typing import Any

from benches.harness import (
    JOBLIB,
    LOKY,
    MEDIAN,
    MPIRE,
    P99,
    PEBBLE,
    SHARE,
    Bench,
    Rival,
    Sample,
    Target,
    cost_sample,
    cpu,
    expect,
    latency_sample,
    stopwatch,
    time_calls,
)
from benches.tasks import Busy, ones, size_of, square

WORKERS = 2
WARM_UP_TASKS = 500
BUSY_SECONDS = 2.5e-6
MEASURABLE = (
    5e-5  # tasks that are longer measure themselves: CPUs are not equally quick at all times
)
SHORT, LONGER = 1e-5, 100  # seconds of a short task, and how many times that a long one takes
UNDISTURBED = 20_000  # tasks of a worker's, before and after each part of the others
PARTS = 3  # of what is compared with these: how quick a shared machine is changes within a second
FEWEST = 200  # tasks, at whose end a worker waits for half a task of the other one
READINGS = 1000
MEGABYTE = 1 << 17  # numbers in an array
MANY = 5_000_000  # numbers in a list: 200 MB of memory
PENDING = 500_000  # result objects: about as much
BURST = 10_000
"""Calls that are pending at a time, of all modules: their samples are of different length."""

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


def bursts(n: int) -> Iterator[range]:
    """The numbers up to `n`, a burst at a time."""
    return (range(start, min(start + BURST, n)) for start in range(0, n, BURST))


def submit_burst(pool: Any, n: int) -> Squares:
    """Submit a burst, then collect it, and so on."""
    squares: Squares = []
    for burst in bursts(n):
        pending = [pool.apply_async(square, (i,)) for i in burst]
        squares += [result.get() for result in pending]
    return squares


@contextmanager
def warm_executor(target: Target) -> Iterator[Any]:
    """An executor whose workers have run tasks: ours, or that of `concurrent.futures`."""
    module = importlib.import_module(target.module)
    cls = getattr(module, "ProcessPoolExecutor", concurrent.futures.ProcessPoolExecutor)
    with pinning(target) as arguments, cls(WORKERS, target.context(), **arguments) as executor:
        list(executor.map(square, range(WARM_UP_TASKS)))
        yield executor


def future_burst(executor: Any, n: int) -> Squares:
    """Submit a burst, then collect it, and so on."""
    squares: Squares = []
    for burst in bursts(n):
        futures = [executor.submit(square, i) for i in burst]
        squares += [future.result() for future in futures]
    return squares


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


def reading_seconds() -> float:
    """Seconds of one reading of the clock by which busy tasks time themselves."""

    def read() -> None:
        for _ in range(READINGS):
            thread_time()

    return min(stopwatch(read) for _ in range(5)) / READINGS


def set_busy_loops(seconds: float) -> None:
    """Make the busy task last so long on this machine."""
    Busy.reading = reading_seconds()
    Busy.loops = 100
    for _ in range(2):  # the first time from afar
        shortest = min(busy_seconds(max(5, min(2000, round(0.005 / seconds)))) for _ in range(5))
        Busy.loops = max(1, round(Busy.loops * seconds / shortest))


def undisturbed_seconds(pool: Any) -> float:
    """Seconds per busy task when all workers run them at once, each by itself, without the pool.

    One process alone would not do: on a shared machine CPUs are not equally quick, and slower
    together.
    """
    return harmonic_mean(pool.map(busy_seconds, [UNDISTURBED] * WORKERS, chunksize=1))


def work_and_seconds(pool: Any, n: int) -> tuple[float, float]:
    """Run busy tasks one per message; the seconds that they take undisturbed, and that passed."""
    work = seconds = 0.0
    before = undisturbed_seconds(pool)
    for part in range(PARTS):
        tasks = range(n * part // PARTS, n * (part + 1) // PARTS)
        seconds += stopwatch(lambda tasks=tasks: pool.map(Busy.task, tasks, chunksize=1))
        after = undisturbed_seconds(pool)
        work += len(tasks) * (before + after) / 2
        before = after
    return work, seconds


def scaling_sample(task_seconds: float, target: Target, n: int) -> Sample:
    """Run busy tasks one per message; report the share of the speed that all CPUs could reach."""
    set_busy_loops(task_seconds)
    n += -n % WORKERS  # of 51 long tasks one worker has 26, and the other one waits for it
    with warm_pool(target) as pool:
        if task_seconds >= MEASURABLE:
            begin = perf_counter()
            work = sum(pool.map(Busy.timed, range(n), chunksize=1))
            seconds = perf_counter() - begin
            lanes = min(WORKERS, len(os.sched_getaffinity(0)))
        else:
            work, seconds = work_and_seconds(pool, n)
            lanes = WORKERS  # which had to share the CPUs undisturbed, too
    return Sample(n, seconds, {SHARE.key: work / lanes / seconds})


def uneven_sample(target: Target, n: int) -> Sample:
    """Run busy tasks as `map` cuts them, one in eight of which is long, all of them at the end."""
    set_busy_loops(SHORT)
    times = [1] * (n - n // 8) + [LONGER] * (n // 8)
    with warm_pool(target) as pool:
        begin = perf_counter()
        work = sum(pool.map(Busy.timed_for, times))
        seconds = perf_counter() - begin
        lanes = min(WORKERS, len(os.sched_getaffinity(0)))
    return Sample(n, seconds, {SHARE.key: work / lanes / seconds})


def large_arguments_sample(target: Target, n: int) -> Sample:
    """Time `n` tasks that are each given an array of their own."""
    import numpy

    arrays = [numpy.ones(MEGABYTE) for _ in range(min(n, 64))]
    with warm_pool(target) as pool:
        begin = perf_counter()
        sizes = list(pool.imap(size_of, (arrays[i % len(arrays)] for i in range(n))))
        seconds = perf_counter() - begin
    expect(sizes == [MEGABYTE] * n, "sizes")
    return cost_sample(n, seconds)


def large_results_sample(target: Target, n: int) -> Sample:
    """Time `n` tasks that each return an array."""
    import numpy  # noqa: F401  # before the workers begin, which would take their time over it

    with warm_pool(target) as pool:
        begin = perf_counter()
        sizes = [array.size for array in pool.imap(ones, [MEGABYTE] * n)]
        seconds = perf_counter() - begin
    expect(sizes == [MEGABYTE] * n, "sizes")
    return cost_sample(n, seconds)


def large_bench(name: str, title: str, take: Callable[[Target, int], Sample]) -> Bench:
    """The bench of tasks with large arguments or results."""
    return Bench(f"pool.{name}", title, take, payload=8 * MEGABYTE, first_n=50, needs="numpy")


def scaling_bench(name: str, title: str, task_seconds: float) -> Bench:
    """The bench of work in one task per message, of that length."""
    return Bench(
        f"pool.{name}",
        f"{title} tasks, chunksize=1, share of perfect",
        partial(scaling_sample, task_seconds),
        metrics=(SHARE,),
        first_n=FEWEST,
        max_n=MANY,
        min_n=FEWEST,
    )


def bulk_bench(
    name: str,
    title: str,
    run: Callable[[Any, int], Squares],
    max_n: int,
    rivals: tuple[Rival, ...] = (),
) -> Bench:
    """The bench of one way to have many squares."""
    return Bench(f"pool.{name}", title, partial(bulk_sample, run), max_n=max_n, rivals=rivals)


POOLS = (LOKY, MPIRE, PEBBLE)
"""Rivals that are called as pools are."""

BENCHES = (
    bulk_bench("map-1", "Pool.map, chunksize=1", map_one_by_one, MANY, (JOBLIB, *POOLS)),
    bulk_bench("map", "Pool.map, default chunksize", map_in_chunks, MANY, (JOBLIB, *POOLS)),
    bulk_bench("apply-async", "apply_async burst", submit_burst, PENDING, POOLS),
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
    Bench(
        "pool.apply",
        "apply round trip",
        apply_sample,
        metrics=(MEDIAN, P99),
        max_n=1_000_000,
        rivals=POOLS,
    ),
    large_bench("large-arguments", "arrays of 1 MB as arguments", large_arguments_sample),
    large_bench("large-results", "arrays of 1 MB as results", large_results_sample),
    scaling_bench("scaling", "2.5 µs", BUSY_SECONDS),
    scaling_bench("scaling-100us", "0.1 ms", 1e-4),
    scaling_bench("scaling-1ms", "1 ms", 1e-3),
    scaling_bench("scaling-10ms", "10 ms", 1e-2),
    Bench(
        "pool.uneven",
        "some tasks long, default chunksize, share of perfect",
        uneven_sample,
        metrics=(SHARE,),
        first_n=200,
        max_n=MANY,
    ),
)
