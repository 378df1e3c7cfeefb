"""What is said of a worker that has died."""

from __future__ import annotations

import signal
from typing import Any, NamedTuple

from manycore._last_words import LastWords
from manycore._memory import killed_for_memory
from manycore.errors import WorkerDied, describe_exit, describe_peak, peak_memory_of


class EarlyDeath(NamedTuple):
    """How a worker ended that had no work yet."""

    pid: int | None
    code: int | None
    peak_memory: int | None
    evidence: str | None

    def error(self, count: int, workers: str) -> WorkerDied:
        """What all work is answered with when one worker after the other ends like this.

        Args:
            count: How many there were.
            workers: What they are, and what they could not take.
        """
        message = f"the last {count} {workers}"
        if self.pid is not None:
            message += f"; the last one, {self.pid}, {describe_exit(self.code)}"
        message += f": look at what they printed{_told(self.code, self.evidence)}"
        peak, evidence = self.peak_memory, self.evidence
        return WorkerDied(message, self.pid, self.code, peak_memory=peak, evidence=evidence)


class Deaths:
    """Tells of the deaths of one pool's workers, or of one stage's.

    Attributes:
        last_words: What they have said themselves.
    """

    def __init__(self) -> None:
        self.last_words = LastWords()
        self._killed_for_memory = killed_for_memory()

    def error(
        self,
        process: Any,
        row: int,
        what: str,
        function: str | None,
        seconds: float | None,
        others: str,
    ) -> WorkerDied:
        """What the work is answered with that the worker of a row died with.

        Args:
            process: The worker.
            row: Its row.
            what: What it ran, in words.
            function: The function's name, where known.
            seconds: For how long it had run, where known.
            others: What becomes of all else, in words.
        """
        code, stack = process.exitcode, self.last_words.take(row)
        peak, evidence = peak_memory_of(process), self._evidence(code)
        message = f"worker {process.pid} {describe_exit(code)} while it ran {what}"
        if seconds is not None:
            message += f", after {seconds:.2g} s"
        message += f"{describe_peak(peak)}; {others}{_told(code, evidence)}"
        if stack:
            message += f" \n{stack}"
        details = process.pid, code, function, seconds, stack, peak, what, evidence
        return WorkerDied(message, *details)

    def early(self, process: Any, before: EarlyDeath | None) -> EarlyDeath:
        """Notes the end of a worker that had no work yet, behind another such one, if there was."""
        code = process.exitcode
        evidence = self._evidence(code) or (None if before is None else before.evidence)
        return EarlyDeath(process.pid, code, peak_memory_of(process), evidence)

    def _evidence(self, code: int | None) -> str | None:
        return self._killed_for_memory() if code == -signal.SIGKILL else None


def _told(code: int | None, evidence: str | None) -> str:
    if code != -signal.SIGKILL:
        return ""
    return f" ({evidence or 'SIGKILL often means that the system ran out of memory'})"
