"""Takes the samples of a bench: sizes them, interleaves the modules, stops what hangs."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from benches.harness import Bench, Metric, Rival, Sample

ROOT = Path(__file__).resolve().parent.parent
LAST_WORDS_SECONDS = 1.0
GOODBYE_SECONDS = 10.0


class BenchError(Exception):
    """A bench could not be measured; the text says on which module and why."""


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Args:
        modules: The module under test and the one it is compared with.
        rounds: Rounds that count; one more is dropped.
        seconds: What a sample should last.
        limit: Seconds after which a bench is given up.
        pin: Whether processes are put on CPUs of their own.
    """

    modules: tuple[str, str]
    rounds: int
    seconds: float
    limit: float
    pin: bool


@dataclass
class Result:
    """What came of a bench: rounds of a sample per module, or the reason why there are none.

    In a round the samples of the plan's two modules come first, then those of `rivals`.
    """

    bench: Bench
    rounds: list[tuple[Sample, ...]] = field(default_factory=list)
    rivals: tuple[Rival, ...] = ()
    skipped: str | None = None
    error: str | None = None
    notes: list[str] = field(default_factory=list)

    def values(self, metric: Metric, module: int) -> list[float]:
        """The figure of one module in each round."""
        return [samples[module].values[metric.key] for samples in self.rounds]

    def ratios(self, metric: Metric, base: int = 1) -> list[float]:
        """How many times better the first module was than module `base`, round by round."""
        if not metric.has_ratio:
            return []
        return [
            metric.ratio(samples[0].values[metric.key], samples[base].values[metric.key])
            for samples in self.rounds
        ]


class Arm:
    """A fresh interpreter that takes the samples of one bench on one module."""

    def __init__(self, bench: Bench, module: str, pin: bool, deadline: float) -> None:
        self._deadline = deadline
        self._module = module
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`
        self._process = subprocess.Popen(
            [sys.executable, "-m", bench.program, bench.name, module, "pin" if pin else "free"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            start_new_session=True,  # its children can be ended with it
        )
        assert self._process.stdin and self._process.stdout  # pipes were asked for
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def sample(self, n: int) -> Sample:
        """Take a sample of `n` items.

        Raises:
            BenchError: It raised, its process ended, or the deadline passed.
        """
        with suppress(BrokenPipeError):  # then the answer is missing too
            self._requests.write(b"%d\n" % n)
        remaining = max(0.0, self._deadline - monotonic())
        if not select.select([self._answers], [], [], remaining)[0]:
            self._abort()
            raise BenchError(f"{self._module}: time limit passed with n={n}\n{self._last_words()}")
        line = self._answers.readline()
        if not line:
            code = self._process.wait()
            raise BenchError(f"{self._module}: process ended with {code}\n{self._last_words()}")
        reply = json.loads(line)
        if "error" in reply:
            raise BenchError(f"{self._module}: {reply['error']}{self._last_words()}")
        return Sample(**reply["sample"])

    def finish(self) -> str:
        """Let the process end by itself; return what it wrote to standard error."""
        self._requests.close()
        try:
            self._process.wait(GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            self._abort()
            return f"did not end by itself\n{self._last_words()}"
        return self._last_words()

    def close(self) -> None:
        """End the process and all it has started, if that has not happened yet."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._requests.close()
        self._answers.close()
        self._stderr.close()

    def _abort(self) -> None:
        """Have every process of the arm print its stack and end."""
        self._signal(signal.SIGABRT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LAST_WORDS_SECONDS)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _last_words(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace").strip()


def calibrate(arm: Arm, bench: Bench, seconds: float) -> int:
    """The number of items with which a sample lasts about `seconds` (two thirds to five thirds)."""
    n = bench.first_n
    for _ in range(10):
        taken = arm.sample(n).seconds
        wanted = n * min(10.0, seconds / max(taken, 1e-9))
        following = min(bench.max_n, max(bench.min_n, round(wanted)))
        if 0.66 * seconds <= taken <= 1.66 * seconds or following == n:
            break
        n = following
    return n


def take_round(arms: list[Arm], sizes: list[int], number: int) -> tuple[Sample, ...]:
    """One sample of each arm; in which order alternates with the number of the round."""
    order = list(range(len(arms)))
    taken = {i: arms[i].sample(sizes[i]) for i in (order if number % 2 == 0 else order[::-1])}
    return tuple(taken[i] for i in order)


def measure(bench: Bench, plan: Plan) -> Result:
    """Measure one bench on all modules. Never raises because of the bench and never hangs."""
    rivals = tuple(rival for rival in bench.rivals if rival.is_installed())
    result = Result(bench, rivals=rivals, skipped=bench.why_skipped())
    if result.skipped:
        return result
    deadline = monotonic() + plan.limit
    with ExitStack() as stack:
        modules = [*plan.modules, *(rival.module for rival in rivals)]
        arms = [Arm(bench, module, plan.pin, deadline) for module in modules]
        for arm in arms:
            stack.callback(arm.close)
        try:
            sizes = [calibrate(arm, bench, plan.seconds) for arm in arms]
            rounds = [take_round(arms, sizes, number) for number in range(plan.rounds + 1)]
            result.rounds = rounds[1:]
            result.notes = [note for note in (arm.finish() for arm in arms) if note]
        except BenchError as failure:
            result.error = str(failure)
    return result
