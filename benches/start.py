"""How long it takes to have a process: the calling process times its own waiting.

One process or pool is started before the clock, so that what the module starts only once (a
forkserver, a resource tracker) is not counted; but for the cold ones, before each of which the
forkserver is ended. With NumPy means that the measured program imports it at its beginning.
"""

from __future__ import annotations

import importlib
import os
from functools import partial
from time import perf_counter
from typing import Any

from benches.harness import Bench, Sample, Target, cost_sample, expect, stopwatch
from benches.tasks import noop, square

PROGRAMS = ("benches.arm", "benches.arm_with_numpy")
"""Without NumPy, and with it."""


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


def bare_fork_sample(target: Target, n: int) -> Sample:
    """Fork and collect `n` processes that do nothing at all: what any start method has to pay."""
    start_and_join(target.context("fork"))  # imports what a program has imported by then

    def fork_and_wait() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    return cost_sample(n, sum(stopwatch(fork_and_wait) for _ in range(n)))


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


def cold_pool_sample(target: Target, n: int) -> Sample:
    """Create `n` pools by `forkserver`, each with a server of its own."""
    context = target.context("forkserver")
    pool_and_map(context)
    server = importlib.import_module(f"{target.module}.forkserver")._forkserver
    seconds = 0.0
    for _ in range(n):
        server._stop()
        seconds += pool_and_map(context)
    return cost_sample(n, seconds)


def warm_pool_sample(target: Target, n: int) -> Sample:
    """Create `n` pools: by `forkserver`, and by what is quickest in the standard library."""
    method = "fork" if target.module == "multiprocessing" else "forkserver"
    return pool_sample(method, target, n)


def process_bench(method: str, with_numpy: bool = False) -> Bench:
    """The bench of `Process` with one start method."""
    title = f"Process start + join, {method}{', with NumPy' * with_numpy}"
    name = f"start.{method}{'-numpy' * with_numpy}"
    return Bench(
        name, title, partial(process_sample, method), first_n=2, program=PROGRAMS[with_numpy]
    )


def pool_bench(method: str) -> Bench:
    """The bench of `Pool` with one start method."""
    title = f"Pool(2) + first map, {method}"
    return Bench(f"start.pool-{method}", title, partial(pool_sample, method), first_n=2)


def warm_pool_bench(with_numpy: bool = False) -> Bench:
    """The bench of a pool by `forkserver` beside the standard library's by `fork`."""
    title = f"Pool(2) + first map, forkserver beside fork{', with NumPy' * with_numpy}"
    name = f"start.pool-warm{'-numpy' * with_numpy}"
    return Bench(name, title, warm_pool_sample, first_n=2, program=PROGRAMS[with_numpy])


BARE_FORK = Bench(
    "start.bare-fork", "os.fork + os._exit + os.waitpid, and no more", bare_fork_sample, first_n=2
)

COLD_POOL = Bench(
    "start.pool-cold", "Pool(2) + first map, forkserver to be started", cold_pool_sample, first_n=1
)

BENCHES = (
    BARE_FORK,
    *map(process_bench, ("fork", "forkserver", "spawn")),
    process_bench("forkserver", with_numpy=True),
    *map(pool_bench, ("fork", "forkserver", "spawn")),
    warm_pool_bench(),
    warm_pool_bench(with_numpy=True),
    COLD_POOL,
)
