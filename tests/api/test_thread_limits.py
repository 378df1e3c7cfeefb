"""The variables that give numerical libraries in workers their share of the CPUs."""

import concurrent.futures
import os

import pytest

import manycore
import targets
from manycore import _thread_limits
from processes import running

pytestmark = pytest.mark.beyond_stdlib

CPUS = 8


@pytest.fixture(autouse=True)
def of_eight_cpus(monkeypatch):
    monkeypatch.setattr(_thread_limits, "available_cpus", lambda: CPUS)
    for name in (*_thread_limits.VARIABLES, _thread_limits.SWITCH):
        monkeypatch.delenv(name, raising=False)


def all_of(value):
    return dict.fromkeys(_thread_limits.VARIABLES, value)


@pytest.mark.parametrize(("workers", "threads"), [(1, "8"), (2, "4"), (3, "2"), (9, "1")])
def test_workers_times_threads_are_not_more_than_the_cpus(workers, threads):
    assert _thread_limits.for_workers(workers) == all_of(threads)


def test_a_pools_workers_have_the_variables(ctx):
    with ctx.Pool(2) as pool:
        assert pool.apply(targets.thread_variables) == all_of("4")
    assert targets.thread_variables() == all_of(None)


def test_what_the_user_has_set_stays(ctx, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with ctx.Pool(1) as pool:
        assert pool.apply(targets.thread_variables) == all_of("8") | {"OMP_NUM_THREADS": "7"}


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_they_can_be_left_out(way, monkeypatch):
    if way == "variable":
        monkeypatch.setenv(_thread_limits.SWITCH, "0")
    with manycore.get_context("fork").Pool(1, limit_threads=way != "argument") as pool:
        assert pool.apply(targets.thread_variables) == all_of(None)


def test_a_process_that_is_no_worker_has_none(ctx):
    queue = ctx.Queue()
    with running(ctx, targets.put_thread_variables, queue):
        assert queue.get() == all_of(None)


@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
def test_an_executors_workers_have_them(method):
    context = manycore.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        assert executor.submit(targets.thread_variables).result() == all_of("4")


def test_workers_of_a_worker_share_what_that_has(ctx):
    with ctx.Pool(2) as pool:
        assert pool.apply(targets.thread_variables_of_a_worker, (2,)) == all_of("2")


def test_numba_that_is_loaded_already_keeps_its_number():
    with manycore.get_context("fork").Pool(1, targets.nothing) as pool:
        assert pool.apply(os.getenv, ("NUMBA_NUM_THREADS",)) == "8"
    with running(manycore.get_context("fork"), targets.check_that_numba_keeps_its_number) as p:
        pass
    assert p.exitcode == 0


PROGRAM = """
import os, sys
import manycore
import watches

def seen(_):
    return watches.SEEN

if __name__ == "__main__":
    context = manycore.get_context(sys.argv[1])
    context.set_forkserver_preload(["__main__"])
    with context.Pool(1) as pool:
        print(pool.map(seen, [0]))
"""


@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
def test_they_are_set_before_the_first_import(run_script, method):
    """Also in the process that forks for `forkserver`, which imports what workers need."""
    script = "import os\nSEEN = os.environ.get('OMP_NUM_THREADS')\n"
    (run_script.folder / "watches.py").write_text(script)
    done = run_script(PROGRAM, method)
    assert (done.stdout, done.stderr) == (f"['{manycore.available_cpus()}']\n", "")
