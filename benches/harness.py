"""What a bench, a metric and a sample are, and the helpers that all benches share."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import perf_counter, perf_counter_ns
from typing import Any, Literal

GROUPS = (
    "pool",
    "pipeline",
    "queue",
    "roundtrip",
    "pipe",
    "idle",
    "sync",
    "shared",
    "start",
    "clients",
)


@dataclass(frozen=True)
class Metric:
    """One figure of a sample, and one row of the table.

    `cost` is seconds per item and shown with its rate, `latency` is seconds of a single call,
    `share` is a fraction where more is better, `size` bytes where less is. `portion`, `bytes` and
    `count` are what something costs and stand for themselves, without a ratio.
    """

    key: str
    label: str
    kind: Literal["cost", "latency", "share", "size", "portion", "bytes", "count"]

    @property
    def has_ratio(self) -> bool:
        """Whether modules are compared by it."""
        return self.kind in ("cost", "latency", "share", "size")

    def ratio(self, subject: float, baseline: float) -> float:
        """How many times better `subject` is than `baseline`."""
        return subject / baseline if self.kind == "share" else baseline / subject


COST = Metric("cost", "", "cost")
MEDIAN = Metric("median", "median", "latency")
P99 = Metric("p99", "p99", "latency")
SHARE = Metric("share", "", "share")


@dataclass(frozen=True)
class Sample:
    """`n` items took `seconds`; `values` holds the figure of each metric of the bench."""

    n: int
    seconds: float
    values: dict[str, float] = field(default_factory=dict)


def cost_sample(n: int, seconds: float) -> Sample:
    """A sample of which only the time per item matters."""
    return Sample(n, seconds, {COST.key: seconds / n})


def latency_sample(nanoseconds: list[int]) -> Sample:
    """A sample of single calls, given the duration of each. The clock's own 20-50 ns are in it."""
    ordered = sorted(nanoseconds)
    n = len(ordered)
    values = {MEDIAN.key: ordered[n // 2] / 1e9, P99.key: ordered[n * 99 // 100] / 1e9}
    return Sample(n, sum(ordered) / 1e9, values)


def time_calls(call: Callable[[int], object], numbers: Iterable[int]) -> list[int]:
    """Nanoseconds that `call(i)` took for each of `numbers`."""
    clock = perf_counter_ns
    durations = []
    for i in numbers:
        begin = clock()
        call(i)
        durations.append(clock() - begin)
    return durations


def stopwatch(work: Callable[[], object]) -> float:
    """Seconds that one call of `work` takes."""
    begin = perf_counter()
    work()
    return perf_counter() - begin


def expect(condition: bool, what: str) -> None:
    """Fail the bench if what came back is wrong: a fast wrong answer is no figure."""
    if not condition:
        raise AssertionError(f"wrong result: {what}")


def cpu(index: int) -> int:
    """The `index`-th CPU that this process may use, counted round."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[index % len(allowed)]


@dataclass(frozen=True)
class Rival:
    """Another package that some benches are measured on as well.

    Args:
        name: What the table calls it.
        module: The module here that gives it the face of a context.
        package: What has to be installed.
    """

    name: str
    module: str
    package: str

    def is_installed(self) -> bool:
        """Whether it can be measured here."""
        return importlib.util.find_spec(self.package) is not None


FASTER_FIFO = Rival("faster-fifo", "benches.rivals.fasterfifo", "faster_fifo")
JOBLIB = Rival("joblib", "benches.rivals.joblib", "joblib")
LOKY = Rival("loky", "benches.rivals.loky", "loky")
MPIRE = Rival("mpire", "benches.rivals.mpire", "mpire")
PEBBLE = Rival("pebble", "benches.rivals.pebble", "pebble")
RIVALS = (FASTER_FIFO, JOBLIB, LOKY, MPIRE, PEBBLE)


@dataclass(frozen=True)
class Target:
    """The module under measurement, and whether `--pin` was asked for."""

    module: str
    pin: bool = False

    def context(self, method: str = "fork") -> Any:
        """The module's context for a start method."""
        return importlib.import_module(self.module).get_context(method)

    def queue(self, maxsize: int = 0, size: int = 0) -> Any:
        """A queue for forked children; `size` is for packages that have to know the items'."""
        sizes = {"size": size} if self.module == FASTER_FIFO.module else {}
        return self.context().Queue(maxsize, **sizes)

    def pinned_cpu(self, index: int) -> int | None:
        """The CPU for the `index`-th process of a bench, or None where the scheduler decides."""
        return cpu(index) if self.pin else None


@dataclass(frozen=True)
class Bench:
    """One benchmark: `take(target, n)` sets up, times `n` items, tears down.

    Args:
        name: `group.what`, as typed on the command line.
        title: What the table calls it.
        take: Takes one sample.
        metrics: The figures of a sample; the first is the one that bars judge.
        payload: Bytes per item, where the rate is better given in bytes.
        first_n: Where calibration starts.
        max_n: Where it ends, for items that need much memory.
        min_n: How many there are at least, for items of which the last ones would count too much.
        needs: A module without which the bench is skipped.
        needs_cpus: The number of CPUs without which it is skipped.
        program: The main module of the process that takes the samples.
        rivals: Other packages that it is measured on as well, where they are installed.
    """

    name: str
    title: str
    take: Callable[[Target, int], Sample]
    metrics: tuple[Metric, ...] = (COST,)
    payload: int = 0
    first_n: int = 100
    max_n: int = 20_000_000
    min_n: int = 1
    needs: str | None = None
    needs_cpus: int = 1
    program: str = "benches.arm"
    rivals: tuple[Rival, ...] = ()

    def why_skipped(self) -> str | None:
        """Why this bench cannot run here, or None if it can."""
        if self.needs and importlib.util.find_spec(self.needs) is None:
            return f"{self.needs} is not installed"
        if len(os.sched_getaffinity(0)) < self.needs_cpus:
            return f"needs {self.needs_cpus} CPUs"
        return None


def load_benches() -> list[Bench]:
    """All benches, in the order of the table."""
    modules = [importlib.import_module(f"benches.{group}") for group in GROUPS]
    return [bench for module in modules for bench in module.BENCHES]


def load_bench(name: str) -> Bench:
    """The bench called `name`."""
    module = importlib.import_module(f"benches.{name.partition('.')[0]}")
    benches: tuple[Bench, ...] = module.BENCHES
    return next(bench for bench in benches if bench.name == name)
