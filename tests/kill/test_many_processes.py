"""Processes by the hundred: nothing of them is left, in the program or in the forkserver."""

import contextlib
import gc
import os
from pathlib import Path

import pytest

import manycore
import targets
from manycore import forkserver
from processes import is_spare, running, spare_of

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.slow]


@pytest.fixture
def server():
    return manycore.get_context("forkserver")


class Held:
    """What this process and its zygote hold: descriptors, children, and private memory."""

    def __init__(self, server):
        with running(server, targets.nothing):
            pass
        gc.collect()
        spare_of(forkserver._forkserver._zygote.pid)
        self.pids = (os.getpid(), forkserver._forkserver._zygote.pid)
        self.descriptors = [len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids]
        self.zombies = [_zombies(pid) for pid in self.pids]
        self.memory = [_private(pid) for pid in self.pids]
        self.slots = len(manycore._engine.other_members())


def _zombies(parent):
    """The children of a process that have ended and not been waited for."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[0] == "Z" and int(fields[1]) == parent and not is_spare(pid):
                found.append(pid)
    return found


def _private(pid):
    """Bytes of memory that a process has for itself."""
    kib = {
        line.split(":")[0]: int(line.split()[1])
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    }
    return 1024 * (kib["Private_Dirty"] + kib["Private_Clean"])


def assert_same(before, after):
    assert after.pids == before.pids
    assert after.descriptors == before.descriptors
    assert after.zombies == [[], []]
    assert after.slots == before.slots
    growth = [now - then for now, then in zip(after.memory, before.memory, strict=True)]
    print(f"\nprivate memory grew by {[f'{it / 1024:.0f} KiB' for it in growth]}")
    assert max(growth) < 2 << 20  # 2 KiB for each of a thousand would be a leak


def test_a_thousand_processes_in_a_row_leave_nothing(server):
    for _ in range(20):
        with running(server, targets.nothing):
            pass
    before = Held(server)
    for _ in range(1000):
        with running(server, targets.nothing) as process:
            pass
        assert process.exitcode == 0
    del process  # it keeps its descriptors
    assert_same(before, Held(server))


def test_two_hundred_processes_at_once_leave_nothing(server, gate):
    before = Held(server)
    processes = [server.Process(target=targets.stop_at, args=(gate,)) for _ in range(200)]
    for process in processes:
        process.start()
    assert sorted(gate.arrived(200)) == sorted(process.pid for process in processes)
    gate.let_go(200)
    for process in processes:
        process.join()
    assert {process.exitcode for process in processes} == {0}
    del process, processes
    assert_same(before, Held(server))
