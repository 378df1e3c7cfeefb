"""Workers that were stopped by a signal, while they have no task or are about to take one."""

import contextlib
import os
import signal
import sys
import threading
import warnings
from concurrent.futures import CancelledError

import pytest

import manycore
import stages
import targets
from calls import Tally
from eventually import until
from manycore import (
    ProcessStalled,
    TaskCancelled,
    TaskTimeout,
    WorkerDied,
    _tending,
    pipeline,
    stage,
)

pytestmark = [
    pytest.mark.beyond_stdlib,
    pytest.mark.filterwarnings("ignore::manycore.ProcessStalled"),
]

SQUARES = [n * n for n in range(200)]
GIVEN_UP = (CancelledError, TaskCancelled, TaskTimeout, WorkerDied)


@pytest.fixture
def hurry(monkeypatch):
    """Has workers be replaced as soon as it is seen twice that they are stopped."""
    monkeypatch.setattr(_tending, "_STOPPED", 0.0)


def stop(pool):
    """Stops the first worker of a pool, which has no task; its id."""
    pid = pool._pool[0].pid
    os.kill(pid, signal.SIGSTOP)
    return pid


def by_apply(pool):
    return pool.apply(targets.square, (3,))


def by_a_lazy_map(pool):
    return next(pool.imap(targets.square, [3]))


WAYS = [by_apply, by_a_lazy_map]


@pytest.mark.parametrize("way", WAYS)
def test_one_that_has_no_task_is_replaced_after_the_time_out_of_those_that_wait(ctx, way):
    with ctx.Pool(1, timeout=0.5) as pool:
        pool.apply(targets.square, (1,))
        stopped = stop(pool)
        assert way(pool) == 9
        assert [it.pid for it in pool._pool] != [stopped]
        assert (pool.stats().died, pool.stats().failed) == (1, 0)


@pytest.mark.parametrize("way", WAYS)
def test_without_a_time_out_it_is_replaced_after_a_while(ctx, way, hurry):
    with ctx.Pool(1) as pool:
        pool.apply(targets.square, (1,))
        stop(pool)
        assert way(pool) == 9


def test_that_of_an_executor_is_replaced(ctx):
    with manycore.ProcessPoolExecutor(1, ctx, timeout=0.5) as executor:
        executor.submit(targets.square, 1).result()
        os.kill(next(iter(executor._processes)), signal.SIGSTOP)
        assert executor.submit(targets.square, 3).result() == 9


def test_that_of_a_stage_is_replaced(ctx):
    doubled = pipeline(range(5), stage(stages.double, maxsize=1, timeout=0.5), context=ctx)
    assert next(doubled) == 0
    until(lambda: doubled._advance(keep=True) and len(doubled._results) > 0)
    (worker,) = doubled._workers[0].processes
    os.kill(worker.pid, signal.SIGSTOP)
    assert list(doubled)[-1] == 8


def test_one_that_is_left_when_the_pool_is_made_smaller_is_replaced(hurry):
    with manycore.Pool(2) as pool:
        pool.map(targets.square, range(10))
        stopped = stop(pool)
        pool.resize(1)
        assert pool.map(targets.square, range(200)) == SQUARES
        until(lambda: pool._attendant.poll() or stopped not in {it.pid for it in pool._pool})


def test_who_waits_for_the_end_of_a_pool_does_not_wait_for_it_for_ever(ctx, hurry):
    with ctx.Pool(2) as pool:
        pool.map(targets.square, range(10))
        stop(pool)
        pool.close()
        pool.join()


def test_one_for_which_nobody_waits_is_only_reported(gate, hurry):
    with manycore.Pool(2) as pool, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = pool.apply_async(targets.stop_at, (gate, 1))
        (busy,) = gate.arrived()
        (stopped,) = {it.pid for it in pool._pool} - {busy}
        os.kill(stopped, signal.SIGSTOP)
        until(lambda: pool._attendant.poll() or caught)
        assert f"worker {stopped} was stopped" in str(caught[0].message)
        pool._attendant.look_after()
        assert {it.pid for it in pool._pool} == {busy, stopped}
        os.kill(stopped, signal.SIGCONT)
        gate.let_go()
        result.get()
        assert [it.category for it in caught] == [ProcessStalled]


# Behind the second a worker has a task, which it has not begun with; at the third it has done it,
# and without a time-out nobody can tell that it is not at it still.
TAKING = ["ring.get.copied", "ring.get.committed"]
ANSWERING = ["ring.put.written", "ring.put.committed"]
PLACES = [*((place, 0.5) for place in TAKING + ANSWERING), *((place, None) for place in TAKING)]


@pytest.mark.slow
@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize(("place", "timeout"), PLACES)
def test_one_that_is_stopped_inside_keeps_the_others_waiting_for_a_while_only(
    tmp_path, monkeypatch, hurry, place, timeout, retries
):
    once = tmp_path / "once"
    manycore.Queue()  # this process is a member of the family before the fault is armed
    monkeypatch.setenv("MANYCORE_FAULT", f"stop@{place}:5+{once}")
    with manycore.get_context("spawn").Pool(2, timeout=timeout, retries=retries) as pool:
        result = pool.map_async(targets.square, range(200), chunksize=1, on_error="return")
        answers = result.get()
        assert once.exists(), "no worker was stopped"
        failed = [n for n, answer in enumerate(answers) if answer != SQUARES[n]]
        if place == "ring.get.committed":
            assert [type(answers[n]) for n in failed] == ([] if retries else [manycore.WorkerDied])
            assert all("was not begun" in str(answers[n]) for n in failed)
        else:
            assert [type(answers[n]) for n in failed] == [TaskTimeout] * len(failed)
            assert len(failed) <= (place == "ring.put.written")
        assert pool.map(targets.square, range(200)) == SQUARES


@contextlib.contextmanager
def one_stopped_inside(tmp_path, monkeypatch, place, **options):
    """A pool with a worker that was stopped amid a take, a map's result, and both ids."""
    once = tmp_path / "once"
    manycore.Queue()
    monkeypatch.setenv("MANYCORE_FAULT", f"stop@{place}:5+{once}")
    with manycore.get_context("spawn").Pool(2, **options) as pool:
        result = pool.map_async(targets.square, range(200), chunksize=1, on_error="return")
        until(lambda: _stopped(pool))
        (stopped,) = _stopped(pool)
        (other,) = {it.pid for it in pool._pool} - {stopped}
        yield pool, result, stopped, other
    assert once.exists()


def _stopped(pool):
    return [it.pid for it in pool._pool if _tending._state(it.pid) == "T"]


@contextlib.contextmanager
def continued_once_others_run(pid):
    """Has a process go on as soon as this thread waits without the interpreter."""

    def send():
        waits.wait()
        os.kill(pid, signal.SIGCONT)

    waits, interval = threading.Event(), sys.getswitchinterval()
    sender = threading.Thread(target=send)
    sender.start()
    sys.setswitchinterval(1000)  # nobody takes the interpreter from this thread
    try:
        waits.set()
        yield
    finally:
        sys.setswitchinterval(interval)
        sender.join()


@pytest.mark.parametrize("place", TAKING)
def test_a_death_beside_one_that_is_stopped_inside_is_seen_to_once_that_is_ended(
    tmp_path, monkeypatch, hurry, place
):
    with one_stopped_inside(tmp_path, monkeypatch, place, timeout=0.5) as (pool, result, _, other):
        os.kill(other, signal.SIGKILL)
        answers = result.get()
        failed = [n for n, answer in enumerate(answers) if answer != SQUARES[n]]
        assert len(failed) <= 2
        assert all(isinstance(answers[n], WorkerDied | TaskTimeout) for n in failed)
        assert pool.stats().died == 2


@pytest.mark.parametrize("place", TAKING)
def test_a_call_is_cancelled_though_one_is_stopped_inside_once_that_is_ended(
    tmp_path, monkeypatch, hurry, place
):
    with one_stopped_inside(tmp_path, monkeypatch, place, timeout=0.5) as (pool, result, _, _):
        call = pool.apply_async(targets.square, (3,))
        result.cancel()
        call.cancel()
        answers = result.get()
        for n, answer in enumerate(answers):
            assert answer == SQUARES[n] or isinstance(answer, GIVEN_UP)
        assert not _stopped(pool)


@pytest.fixture
def about_to_begin(tmp_path, monkeypatch):
    """Has a worker be stopped that has taken its third task and is about to begin with it."""
    once = tmp_path / "once"
    manycore.Queue()  # as above
    monkeypatch.setenv("MANYCORE_FAULT", f"stop@row.taken:3+{once}")
    yield once
    assert once.exists()


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_call_is_cancelled_that_a_worker_is_about_to_begin(about_to_begin, tmp_path, is_killed):
    tally = Tally(tmp_path)
    with manycore.get_context("spawn").Pool(1, retries=1) as pool:
        assert pool.map(targets.square, range(2), chunksize=1) == [0, 1]
        call = pool.apply_async(targets.tally, (tally.path, 1))
        until(lambda: _stopped(pool))
        assert call.cancel()
        assert not call.ready()
        os.kill(pool._pool[0].pid, signal.SIGKILL if is_killed else signal.SIGCONT)
        with pytest.raises(WorkerDied if is_killed else CancelledError):
            call.get()
        assert pool.apply(targets.square, (3,)) == 9
        assert pool.stats().died == is_killed
    assert not tally.take()


@pytest.mark.parametrize("place", TAKING)
def test_one_that_is_stopped_inside_does_not_keep_who_hands_out_with_a_priority(
    tmp_path, monkeypatch, hurry, place
):
    with one_stopped_inside(tmp_path, monkeypatch, place, timeout=0.5) as (pool, result, _, _):
        call = pool.apply_async(targets.square, (3,), priority=1)
        assert len(_stopped(pool)) == 1
        assert call.get() == 9
        result.wait()


def by_cancelling(pool, result):
    result.cancel()


def by_a_burial(pool, result):
    pool._attendant.look_after()


@pytest.mark.parametrize("place", TAKING)
@pytest.mark.parametrize("way", [by_cancelling, by_a_burial])
def test_one_that_is_stopped_inside_is_waited_for_without_the_interpreter(
    tmp_path, monkeypatch, place, way
):
    with one_stopped_inside(tmp_path, monkeypatch, place) as (pool, result, stopped, other):
        if way is by_a_burial:
            os.kill(other, signal.SIGKILL)
            os.waitid(os.P_PID, other, os.WEXITED | os.WNOWAIT)
        with continued_once_others_run(stopped):
            way(pool, result)
        result.wait()
        assert stopped in {it.pid for it in pool._pool}


@pytest.mark.parametrize("place", TAKING)
def test_a_death_beside_one_of_a_stage_that_is_stopped_inside_is_seen_to(
    tmp_path, monkeypatch, hurry, place
):
    once = tmp_path / "once"
    manycore.Queue()
    monkeypatch.setenv("MANYCORE_FAULT", f"stop@{place}:5+{once}")
    doubling = stage(stages.double, workers=2, maxsize=50, timeout=0.5, on_error="skip")
    with pipeline(range(200), doubling, context=manycore.get_context("spawn")) as doubled:
        first = next(doubled)
        pids = {it.pid for it in doubled._workers[0].processes}

        def stopped():
            return {pid for pid in pids if _tending._state(pid) == "T"}

        until(stopped)
        (other,) = pids - stopped()
        os.kill(other, signal.SIGKILL)
        answers = [first, *doubled]
    assert set(answers) <= {2 * n for n in range(200)}
    assert len(set(answers)) == len(answers) >= 198
