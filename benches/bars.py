"""What is required of the first metric of a bench: a ratio, or a limit where there is none."""

from __future__ import annotations

from statistics import median

from benches.driver import Result
from benches.report import figure

BARS = {
    "pool.map-1": 40.0,
    "pool.map": 1.0,
    "pool.apply-async": 40.0,
    "pool.submit": 100.0,
    "pool.apply": 10.0,
    "pool.large-arguments": 15.0,
    "pool.large-results": 15.0,
    "queue.int": 40.0,
    "queue.dict": 15.0,
    "queue.object": 8.0,
    "queue.array-1m": 15.0,
    "queue.array-64m": 8.0,
    "roundtrip.unpinned": 10.0,
    "roundtrip.one-core": 10.0,
    "roundtrip.two-cores": 10.0,
    "sync.lock": 1 / 1.1,
    "sync.with-lock": 2.0,
    "sync.contended": 1.0,
    "sync.value": 3.0,
    "sync.atomic-add": 20.0,
    "sync.event-wake-unpinned": 1.0,
    "sync.event-wake-one-core": 1.0,
    "sync.event-wake-two-cores": 1.0,
    "shared.get": 10.0,
    "shared.set": 10.0,
    "idle.worker": 1.0,
    "start.forkserver": 8.0,
    "start.forkserver-numpy": 8.0,
    "start.pool-warm": 1.0,
    "start.pool-warm-numpy": 1.0,
    "start.pool-cold": 1.0,
    "start.spawn": 1.0,
}
"""How many times better than the second module the first has to be, in the median of all rounds."""

LIMITS = {
    "idle.get": 0.002,
    "idle.queues": 20e6,
}
"""What the first module may cost at most, in the median of all rounds."""

FLOORS = {
    "pool.scaling": 0.80,
    "pool.scaling-100us": 0.97,
    "pool.scaling-1ms": 0.97,
    "pool.scaling-10ms": 0.97,
}
"""What the first module has to reach at least, in the median of all rounds."""


def verdict(result: Result) -> tuple[bool, str] | None:
    """Whether a bench reached what is required, in words too; None if it need not or cannot run."""
    name = result.bench.name
    bar, limit, floor = BARS.get(name), LIMITS.get(name), FLOORS.get(name)
    if (bar is None and limit is None and floor is None) or result.skipped:
        return None
    metric = result.bench.metrics[0]
    if bar is not None:
        required = f"needs {bar:.3g}x"
    elif limit is not None:
        required = f"at most {figure(metric, limit, 0)}"
    else:
        required = f"at least {figure(metric, floor, 0)}"
    if result.error:
        return False, f"FAIL  {name}: not measured, {required}"
    if bar is not None:
        ratio = median(result.ratios(metric))
        reached, passed = f"{ratio:.1f}x", ratio >= bar
    else:
        value = median(result.values(metric, 0))
        reached = figure(metric, value, 0)
        passed = value <= limit if limit is not None else value >= floor
    return passed, f"{'PASS' if passed else 'FAIL'}  {name}: {reached}, {required}"
