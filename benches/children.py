"""Child processes that start together; some of them report a sample.

Everything here goes over plain pipes of the operating system, so that it costs all modules the
same and does not wake what is being measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from benches.harness import Sample, cost_sample

Role = Callable[[Callable[[], None]], Sample | None]
"""A child's work. It prepares, calls its argument to wait for the other children, then runs.

Where there are several phases, each begins with such a call.
"""


class Gate:
    """Holds children back until all of them have arrived."""

    def __init__(self) -> None:
        self._arrived = os.pipe()
        self._go = os.pipe()

    def arrive(self) -> None:
        """In a child: say so, and wait for `open`."""
        os.write(self._arrived[1], b".")
        os.read(self._go[0], 1)

    def open(self, parties: int) -> None:
        """In the parent: wait for all, then let them go."""
        for _ in range(parties):
            os.read(self._arrived[0], 1)
        os.write(self._go[1], b"." * parties)

    def close(self) -> None:
        """Give the pipes back."""
        for end in (*self._arrived, *self._go):
            os.close(end)


def _play(role: Role, cpu: int | None, gates: Sequence[Gate], report: int) -> None:
    """Run one role in a child and write the sample it returns, if any, to the pipe `report`."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    ahead = iter(gates)
    sample = role(lambda: next(ahead).arrive())
    if sample is not None:
        os.write(report, json.dumps(asdict(sample)).encode() + b"\n")  # in one piece, it is short


def run_children(
    context: Any, roles: Sequence[Role], cpus: Sequence[int | None], phases: int = 1
) -> list[Sample]:
    """Fork a child for each role, pinned to its CPU if it has one; return the samples reported.

    Args:
        context: The `fork` context of the module under measurement: roles may be closures.
        roles: The work of the children; at least one returns a sample.
        cpus: Where the children run; None leaves it to the scheduler.
        phases: How often each child waits for the others.
    """
    gates = [Gate() for _ in range(phases)]  # at one and the same, the first would pass twice
    read_end, write_end = os.pipe()
    children = [
        context.Process(target=_play, args=(role, cpu, gates, write_end))
        for role, cpu in zip(roles, cpus, strict=True)
    ]
    for child in children:
        child.start()
    os.close(write_end)
    for gate in gates:
        gate.open(len(children))
    with os.fdopen(read_end, "rb") as report:
        lines = report.read().splitlines()  # ends when all children have
    for child in children:
        child.join()
    for gate in gates:
        gate.close()
    exit_codes = [child.exitcode for child in children]
    if any(exit_codes):
        raise RuntimeError(f"children ended with exit codes {exit_codes}")
    return [Sample(**json.loads(line)) for line in lines]


def together(samples: list[Sample]) -> Sample:
    """From when the first child that reports started its clock until the last stopped it."""
    begin = min(sample.values["begin"] for sample in samples)
    end = max(sample.values["end"] for sample in samples)
    return cost_sample(sum(sample.n for sample in samples), end - begin)
