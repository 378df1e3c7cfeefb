"""What a test may leave behind: no process, no descriptor, no name in /dev/shm."""

import collections
import contextlib
import dataclasses
import gc
import multiprocessing
import os
import signal
import time

import processes

_PATIENCE = 10.0  # seconds that things which end by themselves may take
_STANDARD_LIBRARYS_OWN = "multiprocessing.resource_tracker"


@dataclasses.dataclass
class Belongings:
    """What this process has at one moment."""

    processes: set[int]
    descriptors: collections.Counter
    names: set[str]

    @classmethod
    def now(cls) -> "Belongings":
        for child in multiprocessing.active_children():
            _ = child.pid  # one that was asked for is there by then
        return cls(_processes(), _descriptors(), _names())

    def __sub__(self, before: "Belongings") -> "Belongings":
        return Belongings(
            self.processes - before.processes,
            self.descriptors - before.descriptors,
            self.names - before.names,
        )

    def __bool__(self) -> bool:
        return bool(self.processes or self.descriptors or self.names)

    def __str__(self) -> str:
        lines = [f"process {processes.describe(pid)}" for pid in sorted(self.processes)]
        lines += [f"{n} × descriptor {target}" for target, n in self.descriptors.items()]
        lines += [f"/dev/shm/{name}" for name in sorted(self.names)]
        return "\n".join(lines)


def since(before: Belongings) -> Belongings:
    """What was added since `before` and did not go away in a while."""
    give_up = time.monotonic() + _PATIENCE
    while (left := Belongings.now() - before) and time.monotonic() < give_up:
        gc.collect()
        multiprocessing.active_children()  # reaps those that nobody joined
        time.sleep(0.01)
    return left


def end(left: Belongings) -> None:
    """Kills the processes, so that the next test starts clean."""
    for pid in left.processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    processes.wait_for_end(left.processes)


def _processes() -> set[int]:
    found = set()
    for pid in processes.descendants():
        if processes.is_spare(pid):
            with contextlib.suppress(ChildProcessError):  # unless a dead zygote's, and ours now
                os.waitpid(pid, os.WNOHANG)
        elif _STANDARD_LIBRARYS_OWN not in processes.describe(pid):
            found.add(pid)
    return found


def _names() -> set[str]:
    # Those of the standard library's semaphores are gone as soon as they are made; any that are
    # seen are most likely another program's.
    return {name for name in os.listdir("/dev/shm") if not name.startswith("sem.mp-")}


def _descriptors() -> collections.Counter:
    """How many descriptors lead to each target."""
    targets: collections.Counter = collections.Counter()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that listed the folder
            targets[os.readlink(f"/proc/self/fd/{descriptor}")] += 1
    return targets
