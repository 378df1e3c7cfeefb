"""As `test_queue_kill.py`, for minutes: more ways to die, and without newer kernel features.

Each run is a program of its own, because a process asks only once which features are denied.
"""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.soak, pytest.mark.slow]

TESTS = str(Path(__file__).parent.parent)
FEATURES = ["populate_write", "wipe_on_fork", "pidfd", "robust_list", "noexec_seal"]

SCRIPT = """
    import signal, sys

    tests, kind, make, maxsize, pairs, kills = sys.argv[1:]
    sys.path.insert(0, tests)
    import arena

    maxsize, pairs, kills = int(maxsize), int(pairs), int(kills)

    def kill(it):
        number = it.chance.choice([signal.SIGKILL, signal.SIGSEGV])
        it.kill_one(number=number, times_paused=it.chance.randrange(3))

    for killed in (["producer"], ["consumer"], ["producer", "consumer"]):
        options = {"kind": kind, "make": getattr(arena, make), "pairs": pairs}
        arena.kill_many(killed, maxsize, kills, kill, **options)
"""


@pytest.mark.parametrize("maxsize", [0, 16])
@pytest.mark.parametrize("deny", ["nothing", *FEATURES, "all"])
def test_no_way_to_die_loses_anything(run_script, monkeypatch, deny, maxsize):
    monkeypatch.setenv("MANYCORE_DENY", deny)
    kills = 200 if deny == "nothing" else 50
    soak(run_script, "Queue", "item", maxsize, 2, kills)


@pytest.mark.parametrize("deny", ["nothing", "all"])
@pytest.mark.parametrize("make", ["item", "item_with_buffers"])
@pytest.mark.parametrize(
    ("kind", "maxsize"), [("Queue", 0), ("Queue", 16), ("JoinableQueue", 3), ("SimpleQueue", 0)]
)
def test_four_producers_and_four_consumers_lose_nothing(
    run_script, monkeypatch, deny, make, kind, maxsize
):
    monkeypatch.setenv("MANYCORE_DENY", deny)
    soak(run_script, kind, make, maxsize, 4, 100)


def soak(run_script, *arguments):
    done = run_script(SCRIPT, TESTS, *map(str, arguments), timeout=500)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
