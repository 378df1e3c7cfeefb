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

    tests, maxsize, kills = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sys.path.insert(0, tests)
    import arena

    def kill(it):
        number = it.chance.choice([signal.SIGKILL, signal.SIGSEGV])
        it.kill_one(number=number, times_paused=it.chance.randrange(3))

    for killed in (["producer"], ["consumer"], ["producer", "consumer"]):
        arena.kill_many(killed, maxsize, kills, kill)
"""


@pytest.mark.parametrize("maxsize", [0, 16])
@pytest.mark.parametrize("deny", ["nothing", *FEATURES, "all"])
def test_no_way_to_die_loses_anything(run_script, monkeypatch, deny, maxsize):
    monkeypatch.setenv("MANYCORE_DENY", deny)
    kills = 200 if deny == "nothing" else 50
    done = run_script(SCRIPT, TESTS, str(maxsize), str(kills), timeout=500)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
