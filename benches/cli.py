"""Arguments, and the order in which things are printed."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path

from benches import bars, facts, report
from benches.driver import ROOT, Plan, Result, measure
from benches.harness import Bench, load_benches

DESCRIPTION = "Benchmark manycore against the standard library's multiprocessing."
MODULES = ("manycore", "multiprocessing")
SAMPLE_SECONDS = 0.3
QUICK_SECONDS = 0.03
QUICK_ROUNDS = 3
ROUNDS = 7


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="benches/run.py", description=DESCRIPTION)
    add = parse.add_argument
    add("names", nargs="*", help="a group (queue) or a bench (queue.int); default all")
    add("--list", action="store_true", help="print the names of the benches")
    add("--rounds", type=int, help=f"rounds that count ({ROUNDS}, with --quick {QUICK_ROUNDS})")
    add("--quick", action="store_true", help="short samples: to see that it works, not to quote")
    add("--limit", type=float, default=120, metavar="SECONDS", help="time for one bench (120)")
    add("--pin", action="store_true", help="put the processes of a bench on CPUs of their own")
    add("--modules", nargs=2, default=MODULES, metavar=("TEST", "BASE"), help="what is compared")
    add("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    add("--markdown", action="store_true", help="print the table as Markdown")
    add("--bars", action="store_true", help="exit 1 if something required was missed")
    return parse


def matching(benches: list[Bench], names: list[str]) -> list[Bench]:
    """The benches that `names` mean, all if there are none.

    Raises:
        ValueError: A name means no bench.
    """
    known = {bench.name for bench in benches} | {bench.name.partition(".")[0] for bench in benches}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ValueError(f"no such bench: {', '.join(unknown)}; --list prints all names")
    wanted = set(names)
    return [
        b for b in benches if not names or b.name in wanted or b.name.partition(".")[0] in wanted
    ]


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan that the arguments ask for."""
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    seconds = QUICK_SECONDS if options.quick else SAMPLE_SECONDS
    return Plan(tuple(options.modules), rounds, seconds, options.limit, options.pin)


def run(benches: list[Bench], plan: Plan, markdown: bool) -> list[Result]:
    """Measure all benches, printing each row as soon as it is known, and errors in full."""
    table = report.MarkdownTable() if markdown else report.TextTable(benches)
    print(table.head(plan.modules), flush=True)
    results = []
    for bench in benches:
        result = measure(bench, plan)
        results.append(result)
        for cells in report.rows(result):
            print(table.row(cells), flush=True)
        for text in filter(None, (result.error, *result.notes)):
            print(f"[{bench.name}] {text}", file=sys.stderr, flush=True)
    return results


def print_facts(lines: dict[str, str], markdown: bool) -> None:
    """One fact per line."""
    for key, value in lines.items():
        print(f"- {key}: {value}" if markdown else f"{key:<12} {value}")


def judge(results: list[Result]) -> bool:
    """Print the verdict on each bench of which something is required; whether all were met."""
    verdicts = [verdict for verdict in map(bars.verdict, results) if verdict]
    for _, text in verdicts:
        print(text)
    return all(passed for passed, _ in verdicts)


def main() -> int:
    """Run the benches; the exit status is 1 if `--bars` was asked for and one was missed."""
    parse = parser()
    options = parse.parse_args()
    try:
        benches = matching(load_benches(), options.names)
    except ValueError as error:
        parse.error(str(error))
    if options.list:
        print("\n".join(f"{bench.name:<24}{bench.title}" for bench in benches))
        return 0
    missing = [name for name in options.modules if importlib.util.find_spec(name) is None]
    if missing:
        parse.error(
            f"cannot import {missing[0]}: build and install it first, or name others with --modules"
        )

    machine = facts.machine_facts(ROOT)
    print_facts(machine, options.markdown)
    print()
    plan = plan_of(options)
    results = run(benches, plan, options.markdown)
    machine["load after"] = facts.load_average()
    print()
    print_facts({"load after": machine["load after"]}, options.markdown)
    if options.json:
        options.json.write_text(json.dumps(report.as_json(machine, plan, results), indent=1) + "\n")
    print()
    passed = judge(results)
    return int(options.bars and not passed)
