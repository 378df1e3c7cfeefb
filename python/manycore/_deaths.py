"""What is said of a worker that has died."""

from __future__ import annotations

import signal
from typing import Any

from manycore._last_words import LastWords
from manycore._memory import killed_for_memory
from manycore.errors import WorkerDied, describe_exit, describe_peak, peak_memory_of


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
        peak = peak_memory_of(process)
        message = [f"worker {process.pid} {describe_exit(code)} while it ran {what}"]
        if seconds is not None:
            message[0] += f", after {seconds:.2g} s"
        message[0] += f"{describe_peak(peak)}; {others}"
        if code == -signal.SIGKILL:
            evidence = self._killed_for_memory()
            message.append(
                f"({evidence or 'SIGKILL often means that the system ran out of memory'})"
            )
        if stack:
            message.append(f"\n{stack}")
        return WorkerDied(" ".join(message), process.pid, code, function, seconds, stack, peak)
