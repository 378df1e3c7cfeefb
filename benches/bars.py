"""The ratios that `--bars` requires. They judge the first metric of a bench."""

from __future__ import annotations

from statistics import median

from benches.driver import Result

BARS = {
    "pool.map-1": 25.0,
    "queue.int": 25.0,
    "roundtrip.unpinned": 10.0,
    "roundtrip.one-core": 10.0,
    "roundtrip.two-cores": 10.0,
}


def verdict(result: Result) -> tuple[bool, str] | None:
    """Whether a bench reached its bar, in words too; None if it has none or cannot run here."""
    bar = BARS.get(result.bench.name)
    if bar is None or result.skipped:
        return None
    if result.error:
        return False, f"FAIL  {result.bench.name}: not measured, needs {bar:g}x"
    reached = median(result.ratios(result.bench.metrics[0]))
    word = "PASS" if reached >= bar else "FAIL"
    return reached >= bar, f"{word}  {result.bench.name}: {reached:.1f}x, needs {bar:g}x"
