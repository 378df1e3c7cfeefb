"""Processes killed in the midst of changing a dict that others use."""

import gc
import random
import signal
import time

import pytest

import manycore
import targets
from mortals import Mortals
from processes import kill_and_confirm, running

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.engine]

# Where a change can be interrupted.
PLACES = [
    "map.binding",
    "map.written",
    "map.committed",
    "map.freed",
    "map.table.named",
    "map.table.bound",
    "map.table.replaced",
    "map.removed",
]


def used():
    """Blocks in use, after all the dead have been cleaned up after."""
    manycore._engine.reap()
    return manycore._engine.heap_usage()[0]


def check_what_is_left(d, before):
    """It has what it shows, can be emptied, and is nothing then but the tables of its parts."""
    assert len(d) == len(list(d)) == len(d.copy())
    d.clear()
    assert dict(d) == {}
    d.update((number, None) for number in range(200))  # each part has a table now, a short one
    d.clear()
    assert used() - before == 8


@pytest.mark.parametrize("passing", [1, 3])  # the first record that is written has a block
@pytest.mark.parametrize("place", PLACES)
def test_a_process_killed_at_any_place_leaves_the_old_value_or_the_new_one(
    place, passing, monkeypatch
):
    before = used()
    d = manycore.SharedDict(a="old", b="kept")
    monkeypatch.setenv("MANYCORE_FAULT", f"{place}:{passing}")
    with running(manycore.get_context("spawn"), targets.change_all, d) as victim:
        victim.join()
    assert victim.exitcode == -signal.SIGKILL
    assert d["a"] in ("old", targets.LARGE, "new")
    assert d["b"] == "kept"
    assert {d[key] for key in d if isinstance(key, int)} <= {"new"}
    check_what_is_left(d, before)
    targets.change_all(d)
    assert d == {"a": "new"}


def check(d):
    """What is true of the dict at any time, whoever was killed."""
    for account in range(7):
        whole = d.get(("whole", account))
        if whole is not None:
            first, second, large, third = whole
            assert first == second == third
            assert large in (b"", bytes(40_000))
    assert all(isinstance(d.get(key, 0), (int, tuple)) for key in d)


@pytest.mark.slow
def test_whoever_is_killed_the_others_go_on_with_whole_values(ctx, gate):
    before = used()
    d = ctx.SharedDict()
    rounds = 100 if ctx.get_start_method() == "fork" else 5
    dice = random.Random(5)
    with running(ctx, targets.move_about, d, gate) as lives:
        gate.arrived()
        for _ in range(rounds):
            with running(ctx, targets.move_about, d, gate) as victim:
                gate.arrived()
                counted = sum(d.get(("account", account), 0) for account in range(7))
                for _ in range(dice.randrange(3)):
                    check(d)
                kill_and_confirm(victim.pid)
            check(d)
            assert sum(d.get(("account", account), 0) for account in range(7)) >= counted
        kill_and_confirm(lives.pid)
    check_what_is_left(d, before)
    del d
    assert used() == before


FULL = """
    import os, signal
    import manycore

    def hoard(ready):
        mine = manycore.SharedDict(large=bytes(40_000_000))
        ready.put(None)
        signal.pause()

    ctx = manycore.get_context("fork")
    ready = ctx.SimpleQueue()
    child = ctx.Process(target=hoard, args=(ready,))
    child.start()
    ready.get()
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    d = manycore.SharedDict()
    for number in range(600):
        d[number] = "x" * 30_000
    child.join()
    print(len(d))
"""


def test_what_a_killed_one_had_makes_room_before_the_heap_counts_as_full(run_script, monkeypatch):
    monkeypatch.setenv("MANYCORE_HEAP_LIMIT", "64M")
    done = run_script(FULL)
    assert (done.stdout, done.stderr) == ("600\n", "")


class Trading:
    """Processes that move amounts within entries, count that, and replace values of all sizes."""

    ENTRIES = 5
    SIZES = (10, 3_000, 40_000, 300_000)  # in the table, and in blocks of their own

    def __init__(self, seed):
        self.dict = manycore.SharedDict({("amounts", n): (0, 0, 0) for n in range(self.ENTRIES)})
        self.crew = Mortals(self.trade, seed)

    def trade(self, me, tally, turns):
        d = self.dict
        for number in turns:
            tally.begin(number)
            key = "amounts", number % self.ENTRIES
            while True:
                left, right, moves = old = d[key]
                if d.compare_and_set(key, old, (left - number, right + number, moves + 1)):
                    break
            d.incr("moves")
            d["large", number % 3] = bytes([number % 256]) * self.SIZES[number % 4]
            d[me, number % 20] = "x" * number
            d.pop((me, number * 31 % 20), None)
            tally.end(number)

    def check(self):
        """What is true at any time. How often amounts were moved before that."""
        moves = self.dict.get("moves", 0)
        amounts = [self.dict["amounts", n] for n in range(self.ENTRIES)]
        assert all(left + right == 0 for left, right, _ in amounts)
        for n in range(3):
            large = self.dict.get(("large", n))
            assert large is None or (len(set(large)) == 1 and len(large) in self.SIZES)
        return moves


@pytest.mark.slow
@pytest.mark.parametrize("kills", [50, pytest.param(1000, marks=pytest.mark.soak)])
def test_kills_at_any_instruction_stop_nobody_and_lose_nothing_that_was_done(kills):
    gc.collect()  # what the test before has left in cycles
    before = used()
    trading = Trading(kills)
    crew, d, waits, moves = trading.crew, trading.dict, [], 0
    looked_at = {("looked at", number): None for number in range(50)}  # in all parts of the dict
    for _ in range(3):
        crew.start()
    for _ in range(kills):
        crew.kill_one()
        ended = time.monotonic_ns()
        d.update(looked_at)
        waits.append((time.monotonic_ns() - ended) / 1e6)
        moves, earlier = trading.check(), moves
        assert moves >= earlier
        crew.start()
    assert crew.finish() == [0, 0, 0]
    done = sum(tally.ended for tally in crew.tallies)
    begun = sum(tally.begun for tally in crew.tallies)
    assert begun <= done + kills
    assert done <= trading.check() <= begun
    assert done <= sum(d["amounts", n][2] for n in range(trading.ENTRIES)) <= begun
    waits.sort()
    median, worst = waits[len(waits) // 2], waits[-1]
    print(
        f"{kills} kills, {begun} moves; from each until all parts had been changed: "
        f"{median=:.1f} ms, {worst=:.1f} ms"
    )
    if kills > 50:
        assert median < 100
    check_what_is_left(d, before)
    del d, trading, crew
    gc.collect()
    assert used() == before
