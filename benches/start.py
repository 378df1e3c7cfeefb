"""How long it takes to have a process: the calling process times its own waiting.

One process or pool is started before the clock, so that what the module starts only once (a
forkserver, a resource tracker) is not counted.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import Any

from benches.harness import Bench, Sample, Target, cost_sample, expect, stopwatch
from benches.tasks import noop, square


def start_and_join(context: Any) -> None:
    """One process, from its creation to its end."""
    process = context.Process(target=noop)
    process.start()
    process.join()
    expect(process.exitcode == 0, f"exit code {process.exitcode}")


def process_sample(method: str, target: Target, n: int) -> Sample:
    """Start and join `n` processes, one after the other."""
    context = target.context(method)
    start_and_join(context)
    return cost_sample(n, sum(stopwatch(lambda: start_and_join(context)) for _ in range(n)))


def pool_and_map(context: Any) -> float:
    """Seconds to create a pool and have the results of a first `map`. Ending it is not timed."""
    begin = perf_counter()
    pool = context.Pool(2)
    results = pool.map(square, range(4))
    seconds = perf_counter() - begin
    pool.terminate()
    pool.join()
    expect(results == [0, 1, 4, 9], "squares")
    return seconds


def pool_sample(method: str, target: Target, n: int) -> Sample:
    """Create `n` pools, one after the other."""
    context = target.context(method)
    pool_and_map(context)
    return cost_sample(n, sum(pool_and_map(context) for _ in range(n)))


def process_bench(method: str) -> Bench:
    """The bench of `Process` with one start method."""
    title = f"Process start + join, {method}"
    return Bench(f"start.{method}", title, partial(process_sample, method), first_n=2)


def pool_bench(method: str) -> Bench:
    """The bench of `Pool` with one start method."""
    title = f"Pool(2) + first map, {method}"
    return Bench(f"start.pool-{method}", title, partial(pool_sample, method), first_n=2)


BENCHES = (
    *map(process_bench, ("fork", "forkserver", "spawn")),
    *map(pool_bench, ("fork", "spawn")),
)
