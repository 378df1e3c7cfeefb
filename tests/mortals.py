"""Processes that do one thing again and again, and are killed at random instructions."""

import itertools
import os
import random
import select
import struct
import time

import manycore
from journal import Journal
from processes import kill_and_confirm


class Tally(Journal):
    """How often a process has begun and ended something, beside what it has done and when."""

    def __init__(self):
        super().__init__(1 << 12)

    def end(self, number):
        self._cells[1] = number

    @property
    def ended(self):
        return self._cells[1]


class Mortals:
    """Some processes, each of which has a number and a tally.

    Each says, at a turn that was drawn for it, that it may be killed. It goes on meanwhile, so the
    kill meets it anywhere in the turns after that.

    Args:
        work: What each process does: called with its number, its tally and an iterator of turns,
            which ends when all shall end.
        seed: What is drawn depends on this alone.
    """

    def __init__(self, work, seed):
        self._work, self._chance = work, random.Random(seed)
        self._stop = Journal(0)
        self._announced, self._announce = os.pipe()
        self._processes = []
        self.tallies = []
        self.killed_at = {}  # by number, in nanoseconds

    def start(self):
        tally, announce_at = Tally(), self._chance.randrange(1, 300)
        process = manycore.get_context("fork").Process(
            target=self._live, args=(len(self._processes), tally, announce_at), daemon=True
        )
        process.start()
        self._processes.append(process)
        self.tallies.append(tally)

    def _live(self, me, tally, announce_at):
        self._work(me, tally, self._turns(me, announce_at))

    def _turns(self, me, announce_at):
        for number in itertools.count(1):
            if self.are_to_end:
                return
            if number == announce_at:
                os.write(self._announce, struct.pack("I", me))
            yield number

    @property
    def are_to_end(self):
        return bool(self._stop.begun)

    def kill_one(self, meanwhile=None):
        """Kills the next that comes; its number. `meanwhile` runs often while none does."""
        while meanwhile and not select.select([self._announced], [], [], 0.001)[0]:
            meanwhile()
        (me,) = struct.unpack("I", os.read(self._announced, 4))
        process = self._processes[me]
        self.killed_at[me] = time.monotonic_ns()
        kill_and_confirm(process.pid)
        process.join()
        process.close()  # there will be many
        return me

    def finish(self, wake=None):
        """Lets those that live end; their exit codes."""
        self._stop.begin(1)
        if wake:
            wake()
        rest = [it for me, it in enumerate(self._processes) if me not in self.killed_at]
        for process in rest:
            process.join()
        os.close(self._announced)
        os.close(self._announce)
        return [process.exitcode for process in rest]
