"""Pools that let their workers go while there is nothing to do."""

import os
import signal
import time

import pytest

import manycore
import processes
import targets
from eventually import until

pytestmark = pytest.mark.beyond_stdlib


def sleeps(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2][0] == "S"


@pytest.mark.parametrize("least", [0, 1])
def test_idle_workers_go_and_come_back_for_the_next_call(ctx, least):
    with ctx.Pool(3, idle_seconds=0.05, min_processes=least) as pool:
        for _ in range(3):
            assert pool.map(targets.square, range(6), chunksize=1) == [0, 1, 4, 9, 16, 25]
            until(lambda: len(pool._pool) == least)
        result = pool.apply_async(targets.square, (5,))
        assert len(pool._pool) >= 3
        assert result.get() == 25


def test_a_worker_that_was_let_go_has_ended_in_order(gate):
    with manycore.Pool(2, idle_seconds=0.02) as pool:
        for number in range(2):
            pool.apply_async(targets.stop_at, (gate, number))
        gate.arrived(2)
        workers = pool._pool  # two of them are not idle
        gate.let_go(2)
        until(lambda: not pool._pool)
        assert not {worker.pid for worker in workers} & processes.descendants()
        assert {worker.exitcode for worker in workers} == {0}
        assert pool.stats().died == 0


def test_a_worker_that_came_while_others_were_let_go_is_let_go_as_well():
    with manycore.get_context("fork").Pool(2) as pool:
        workers, look_after = pool._workers, pool._attendant.look_after
        second = pool._pool[1]
        # Asleep, it holds no lock that the other would wait for.
        until(lambda: pool._crew.was_ready(1) and sleeps(second.pid))
        os.kill(second.pid, signal.SIGSTOP)
        workers.resize(0)
        until(lambda: look_after() or pool._pool == [second])
        workers.resize(2)
        (third,) = set(pool._pool) - {second}
        os.kill(second.pid, signal.SIGCONT)
        until(lambda: not (second.is_alive() and third.is_alive()))  # whichever was told
        workers.resize(0)
        until(lambda: look_after() or not pool._pool)
        assert pool.stats().died == 0


def test_a_pool_that_was_never_used_lets_its_workers_go():
    with manycore.Pool(2, idle_seconds=0.02) as pool:
        until(lambda: not pool._pool)
        pool.close()
        pool.join()


def test_workers_stay_while_a_task_runs(gate):
    with manycore.Pool(2, idle_seconds=0.01) as pool:
        result = pool.apply_async(targets.stop_at, (gate, "done"))
        gate.arrived()
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            assert pool._processes == 2
            time.sleep(0.005)
        gate.let_go()
        assert result.get() == "done"


def test_calls_that_come_while_workers_go_are_answered():
    with manycore.Pool(2, idle_seconds=0.001) as pool:
        for pause in range(150):
            time.sleep(pause % 15 / 1000)
            assert pool.apply(targets.square, (pause,)) == pause * pause


def test_a_lazy_map_that_is_left_alone_keeps_its_workers():
    with manycore.Pool(2, idle_seconds=0.01) as pool:
        results = pool.imap(targets.square, range(200))
        assert next(results) == 0
        time.sleep(0.1)
        assert list(results) == [x * x for x in range(1, 200)]


def test_a_pool_that_was_resized_has_that_size_when_it_wakes():
    with manycore.Pool(1, idle_seconds=0.02) as pool:
        pool.resize(3)
        until(lambda: not pool._pool)
        pool.apply(targets.square, (1,))
        assert pool._processes == 3


@pytest.mark.parametrize(
    "options",
    [{"idle_seconds": 0}, {"idle_seconds": -1}, {"idle_seconds": 1, "min_processes": 3},
     {"idle_seconds": 1, "min_processes": -1}, {"idle_seconds": "1"}, {"min_processes": 1}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(ValueError, match=r"idle_seconds|min_processes"):
        manycore.Pool(2, **options)
