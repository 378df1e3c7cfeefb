"""Turns results into rows: aligned text, Markdown, JSON."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import Any

from benches.driver import Plan, Result
from benches.harness import Bench, Metric

CELL = 26
BESIDE = "    beside "


def scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    """`value` in the first unit of `steps` that is not too large for it, with three digits."""
    size, unit = next((step for step in steps if value >= step[0]), steps[-1])
    number = value / size
    digits = 0 if number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f} {unit}"


def duration(seconds: float) -> str:
    """Seconds as ns, µs, ms or s."""
    return scaled(seconds, ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")))


def rate(per_second: float, payload: int) -> str:
    """Items per second, or bytes per second where items have a size."""
    if payload:
        return scaled(per_second * payload, ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")))
    return scaled(per_second, ((1e6, "M/s"), (1e3, "k/s"), (1, "/s")))


def figure(metric: Metric, value: float, payload: int) -> str:
    """One cell of the table."""
    if metric.kind == "share":
        return f"{value:.0%}"
    if metric.kind == "portion":
        return f"{value:.3%}"
    if metric.kind in ("size", "bytes"):
        return scaled(value, ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")))
    if metric.kind == "count":
        return f"{value:.0f}"
    if metric.kind == "latency":
        return duration(value)
    return f"{duration(value)} ({rate(1 / value, payload)})"


def ratio_text(ratios: list[float]) -> str:
    """Median of the ratios, with the least and the greatest; nothing if there are none."""
    if not ratios:
        return ""
    figures = (median(ratios), min(ratios), max(ratios))
    middle, least, greatest = (
        f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}" for ratio in figures
    )
    return f"{middle}x [{least}..{greatest}]"


def row_title(bench: Bench, metric: Metric) -> str:
    """What the row is called."""
    return f"{bench.title}, {metric.label}" if metric.label else bench.title


Row = tuple[str, str, str, str]


def rows(result: Result) -> list[Row]:
    """A row per metric, also beside each rival, or one that says why there is none."""
    title = result.bench.title
    if result.skipped:
        return [(title, "skipped", "skipped", result.skipped)]
    if result.error:
        return [(title, "failed", "failed", result.error.splitlines()[0])]
    found = [metric_row(result, metric) for metric in result.bench.metrics]
    for base, rival in enumerate(result.rivals, start=2):
        for metric in result.bench.metrics:
            _, *cells = metric_row(result, metric, base)
            label = f", {metric.label}" if metric.label else ""
            found.append((f"{BESIDE}{rival.name}{label}", *cells))
    return found


def metric_row(result: Result, metric: Metric, base: int = 1) -> Row:
    """The row of one metric: medians over rounds, and the ratios within rounds."""
    subject, baseline = (
        figure(metric, median(result.values(metric, module)), result.bench.payload)
        for module in (0, base)
    )
    ratios = ratio_text(result.ratios(metric, base))
    return row_title(result.bench, metric), subject, baseline, ratios


class TextTable:
    """An aligned table that can be printed while it is measured."""

    def __init__(self, benches: list[Bench]) -> None:
        self._width = max(
            len(row_title(bench, metric)) for bench in benches for metric in bench.metrics
        )

    def head(self, modules: tuple[str, str]) -> str:
        """Column names and a rule."""
        line = self.row(("bench", *modules, "ratio median [min..max]"))
        return f"{line}\n{'-' * len(line)}"

    def row(self, cells: tuple[str, str, str, str]) -> str:
        """One line."""
        title, subject, baseline, ratio = cells
        return f"{title:<{self._width}}  {subject:>{CELL}}  {baseline:>{CELL}}  {ratio}"


class MarkdownTable:
    """The same table for a README."""

    def head(self, modules: tuple[str, str]) -> str:
        """Column names and alignment."""
        return self.row(("bench", *modules, "ratio median [min..max]")) + "\n|---|---:|---:|---:|"

    def row(self, cells: tuple[str, str, str, str]) -> str:
        """One line."""
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def as_json(facts: dict[str, str], plan: Plan, results: list[Result]) -> dict[str, Any]:
    """Everything that was measured, sample by sample."""
    return {
        "facts": facts,
        "plan": asdict(plan),
        "benches": [result_as_json(result) for result in results],
    }


def result_as_json(result: Result) -> dict[str, Any]:
    """One bench: in a round the samples are in the order of `plan.modules` and `rivals`."""
    return {
        "name": result.bench.name,
        "title": result.bench.title,
        "skipped": result.skipped,
        "error": result.error,
        "notes": result.notes,
        "rivals": [rival.name for rival in result.rivals],
        "rounds": [[asdict(sample) for sample in samples] for samples in result.rounds],
        "ratios": {metric.key: result.ratios(metric) for metric in result.bench.metrics},
    }
