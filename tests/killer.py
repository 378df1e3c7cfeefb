"""A thread that kills workers of a pool in all ways, and what they do meanwhile."""

import contextlib
import os
import random
import signal
import threading

import targets

WAYS = ("SIGKILL", "SIGSEGV", "SIGSTOP and SIGKILL", "SIGSTOP and SIGCONT")

MOST_UNUSED = 3
"""Workers in a row that are killed though they have taken no task."""


def tally_and_return(path, number, payload):
    targets.tally(path, number)
    return number, payload


class Killer:
    """Within its block, workers of the pool die by chance, one after the other.

    Args:
        pool: Whose workers they are.
        seed: What is drawn depends on this alone.
        pause: Seconds between two of them, at most.
    """

    def __init__(self, pool, seed, pause=0.02):
        self._pool, self._chance, self._pause = pool, random.Random(seed), pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._kill_some)
        self._unused = 0
        self.killed = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _kill_some(self):
        while not self._stop.wait(self._chance.uniform(0, self._pause)):
            with contextlib.suppress(ProcessLookupError, IndexError):  # it has ended, or all have
                self._kill(*self._choose())

    def _choose(self):
        """A worker, and in which way it dies.

        After some that had taken no task it is one that has: else the pool would give up. Those
        that have not may still have the fault handler of the tests.
        """
        rows = dict(self._pool._workers._rows)
        worked = [row for row in rows if self._pool._crew.taken(row)]
        among = worked if self._unused >= MOST_UNUSED else list(rows)
        row = self._chance.choice(among)
        self._unused = 0 if row in worked else self._unused + 1
        return rows[row], self._chance.choice(WAYS if row in worked else WAYS[:1])

    def _kill(self, process, way):
        pidfd = os.pidfd_open(process.pid)
        try:
            # Not reaped until now, so it is this process whose descriptor we have.
            if process.exitcode is None:
                self._end(pidfd, process.pid, way)
        finally:
            os.close(pidfd)

    def _end(self, pidfd, pid, way):
        if way.startswith("SIGSTOP"):
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
            self._stop.wait(self._chance.uniform(0, 0.005))
            if way.endswith("SIGCONT"):
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)
                return
        number = signal.SIGSEGV if way == "SIGSEGV" else signal.SIGKILL
        self.killed.append(pid)
        signal.pidfd_send_signal(pidfd, number)
