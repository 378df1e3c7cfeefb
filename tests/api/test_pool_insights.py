"""What a pool says about itself: `stats`, `insights`, and the doctor."""

import gc
import os
import time
import weakref

import pytest

import manycore
import manycore.pool
import pool_targets
import targets
from eventually import until
from manycore import doctor

pytestmark = pytest.mark.beyond_stdlib


def test_stats_count_what_was_answered_and_what_is_open(ctx, gate):
    with ctx.Pool(2) as pool:
        pool.map(targets.square, range(10), chunksize=1)
        with pytest.raises(KeyError):
            pool.apply(targets.fail, (KeyError("x"),))
        stats = pool.stats()
        assert (stats.workers, stats.done, stats.failed) == (2, 10, 1)
        assert (stats.busy, stats.queued, stats.open) == (0, 0, 0)
        results = [pool.apply_async(targets.stop_at, (gate,)) for _ in range(5)]
        gate.arrived(2)
        stats = pool.stats()
        assert (stats.busy, stats.queued, stats.open) == (2, 3, 5)
        gate.let_go(5)
        for result in results:
            result.get()
        assert pool.stats()[1:6] == (0, 0, 0, 15, 1)


def test_stats_count_workers_that_died_and_those_in_their_place():
    with manycore.Pool(2) as pool:
        for _ in range(3):
            with pytest.raises(manycore.WorkerDied):
                pool.apply(targets.ends_as, ("SIGKILL",))
        until(lambda: pool.stats().replaced == 3)
        assert pool.stats() == (2, 0, 0, 0, 0, 3, 3, 3)


def test_a_worker_that_has_run_its_tasks_has_not_died():
    with manycore.Pool(1, maxtasksperchild=1) as pool:
        pool.map(targets.square, range(3), chunksize=1)
        until(lambda: pool.stats().replaced == 3)
        assert pool.stats().died == 0


def test_a_pool_that_was_resized_has_replaced_nobody():
    with manycore.Pool(1) as pool:
        pool.resize(3)
        pool.resize(1)
        until(lambda: pool.stats().workers == 1)
        pool.resize(2)
        assert pool.stats().replaced == 0


def test_stats_can_be_asked_for_when_the_pool_has_ended():
    with manycore.Pool(1) as pool:
        pool.map(targets.square, range(3), chunksize=1)
    assert pool.stats().done == 3


def test_insights_say_where_the_time_went(ctx):
    with ctx.Pool(2, insights=True) as pool:
        pool.map(pool_targets.sleep_for, [0.02] * 4, chunksize=1)
        until(
            lambda: all(it.starting > 0 for it in pool.insights().workers)
        )  # one alone may have run all
        insights = pool.insights()
    workers = insights.workers
    assert len(workers) == 2
    assert sum(it.tasks for it in workers) == 4
    assert sum(it.working for it in workers) >= 0.08
    assert {it.id for it in workers} <= {0, 1}
    assert 0 < insights.utilisation <= 1
    assert sum(it.transfer for it in workers) > 0


def test_the_slowest_tasks_are_named_with_their_arguments():
    with manycore.Pool(2, insights=True) as pool:
        pool.map(targets.square, range(100), chunksize=1)
        pool.apply(pool_targets.sleep_for, (0.02,))
        pool.apply(pool_targets.sleep_for, (), {"seconds": 0.04})
        slowest = pool.insights().slowest
    assert [it.task for it in slowest[:2]] == ["sleep_for(seconds=0.04)", "sleep_for(0.02)"]
    assert len(slowest) == 10
    assert [it.seconds for it in slowest] == sorted((it.seconds for it in slowest), reverse=True)


def test_waiting_is_no_work():
    with manycore.Pool(1, insights=True) as pool:
        pool.apply(targets.square, (1,))
        time.sleep(0.1)  # for most of which the worker asks for the next task, whenever it begins
        pool.apply(targets.square, (1,))
        [worker] = pool.insights().workers
    assert worker.waiting >= 0.05
    assert worker.working < worker.waiting


def test_workers_that_were_replaced_count():
    with manycore.Pool(1, maxtasksperchild=2, insights=True) as pool:
        pool.map(pool_targets.sleep_for, [0.01] * 6, chunksize=1)
        until(lambda: pool.insights().workers[0].workers >= 3)
        [place] = pool.insights().workers
    assert place.tasks == 6
    assert place.working >= 0.06


@pytest.mark.parametrize(
    "value",
    [None, "text" * 20_000, [b"x" * 50_000] * 2, {"a": (1, 2.5)}, {1, 2}, bytes(5_000_000)],
    ids=["none", "text", "parts", "dict", "pickle", "large"],
)
def test_results_of_every_size_come_from_a_worker_that_measures(value):
    with manycore.Pool(1, insights=True) as pool:
        assert pool.apply(targets.identity, (value,)) == value


@pytest.mark.parametrize("text", ["short", "long" * 50_000])
def test_errors_come_from_a_worker_that_measures(text):
    with manycore.Pool(1, insights=True) as pool:
        with pytest.raises(KeyError) as info:
            pool.apply(targets.fail, (KeyError(text),))
        assert info.value.args == (text,)
        with pytest.raises(manycore.pool.MaybeEncodingError):
            pool.apply(targets.unpicklable, (0,))


def test_a_worker_that_dies_while_it_measures_fails_its_task():
    with manycore.Pool(1, insights=True) as pool:
        with pytest.raises(manycore.WorkerDied):
            pool.apply(targets.ends_as, ("SIGKILL",))
        assert pool.apply(targets.square, (3,)) == 9
        assert pool.insights().workers[0].workers == 2


@pytest.mark.parametrize("count", [0, 1])
def test_a_pool_that_measures_is_forgotten_like_any_other(count):
    with manycore.Pool(count, insights=True) as pool:
        pool.map(targets.square, range(5), chunksize=1)
    insights = weakref.ref(pool._insights)
    del pool
    gc.collect()
    assert insights() is None


def test_nothing_is_told_that_was_not_measured():
    with manycore.Pool(1) as pool, pytest.raises(ValueError, match="insights=True"):
        pool.insights()


def test_the_doctor_says_for_how_long_a_task_has_run(gate):
    gc.collect()  # pools of tests before, whose rows name this one's workers by now
    with manycore.Pool(2) as pool:
        result = pool.apply_async(targets.stop_at, (gate,))
        [pid] = gate.arrived()
        runs = f"{pid} (has run a task for 0."
        [line] = [line for line in doctor.report(os.getpid()).splitlines() if runs in line]
        assert line.count("has run a task for") == 1
        gate.let_go()
        result.get()
        until(lambda: f"{pid} (has run a task" not in doctor.report(os.getpid()))
