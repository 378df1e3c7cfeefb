"""Processes killed in the midst of changing a dict that others use."""

import random
import signal

import pytest

import manycore
import targets
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


@pytest.mark.parametrize("place", PLACES)
def test_a_process_killed_at_any_place_leaves_the_old_value_or_the_new_one(place, monkeypatch):
    d = manycore.SharedDict(a="old", b="kept")
    monkeypatch.setenv("MANYCORE_FAULT", f"{place}:3")
    with running(manycore.get_context("spawn"), targets.change_all, d) as victim:
        victim.join()
    assert victim.exitcode == -signal.SIGKILL
    assert d["a"] in ("old", targets.LARGE, "new")
    assert d["b"] == "kept"
    assert {d[key] for key in d if isinstance(key, int)} <= {"new"}
    assert len(d) == len(list(d)) == len(d.copy())
    targets.change_all(d)
    assert d == {"a": "new", "b": "kept"}


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
    d = ctx.SharedDict()
    rounds = 100 if ctx.get_start_method() == "fork" else 5
    dice = random.Random(5)
    with running(ctx, targets.move_about, d, gate) as lives:
        gate.arrived()
        for _ in range(rounds):
            with running(ctx, targets.move_about, d, gate) as victim:
                gate.arrived()
                before = sum(d.get(("account", account), 0) for account in range(7))
                for _ in range(dice.randrange(3)):
                    check(d)
                kill_and_confirm(victim.pid)
            check(d)
            assert sum(d.get(("account", account), 0) for account in range(7)) >= before
        kill_and_confirm(lives.pid)
    manycore._engine.reap()
    assert len(d) == len(list(d)) == len(d.copy())
    d.clear()
    assert dict(d) == {}
    used = manycore._engine.heap_usage()[0]
    del d
    # Its tables, and nothing that the dead had in hand.
    assert used - manycore._engine.heap_usage()[0] <= 8
