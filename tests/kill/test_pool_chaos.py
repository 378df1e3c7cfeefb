"""Pools whose workers are killed at random, again and again, and pools by the hundred."""

import gc
import itertools
import os
import resource
import threading
import time

import pytest

import heap
import manycore
import targets
from calls import Tally, outcome
from killer import Killer, tally_and_return
from leftovers import Belongings, since
from manycore._memory import private_bytes
from processes import wait_for_end

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.slow]

WORKERS = 4
SMALL, LARGE = 10, 1 << 20
MOST_BYTES = 100 << 20  # in tasks that are handed out at a time


@pytest.fixture(autouse=True)
def no_core_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def chaos(method, size, retries, count, seed, tally):
    """Runs many tasks while workers die; returns how many died."""
    failed = set()
    pause = 0.004 if size == SMALL else 0.02
    with manycore.get_context(method).Pool(WORKERS, targets.die_quietly) as pool:
        with Killer(pool, seed, pause) as killer:
            at_a_time = min(count, MOST_BYTES // size)
            for first in range(0, count, at_a_time):
                numbers = range(first, min(first + at_a_time, count))
                failed |= answer_each_once(
                    pool, numbers, bytes([seed % 256]) * size, retries, tally
                )
        pool.close()
        pool.join()
    ran, killed = tally.take(), len(killer.killed)
    assert max(ran.values()) <= 1 + retries, "a task ran once too often"
    assert len(failed) * (1 + retries) <= killed, "more tasks failed than workers were killed"
    assert set(ran) | failed == set(range(count)), "a task was answered that never ran"
    print(f"\n{method}, {size} bytes: {count} tasks, {killed} killed, {len(failed)} tasks failed")
    return killed


def answer_each_once(pool, numbers, payload, retries, tally):
    """Runs some tasks; returns which died with their workers."""
    options = {"retries": retries} if retries else {}
    results = [
        pool.apply_async(tally_and_return, (tally.path, number, payload), **options)
        for number in numbers
    ]
    failed = set()
    for number, result in zip(numbers, results, strict=True):
        answer = outcome(result.get)
        if isinstance(answer, manycore.WorkerDied):
            failed.add(number)
        else:
            assert answer == (number, payload), "an answer of another task"
    return failed


def memory_after(work):
    """Bytes in blocks of the heap, once what has died and what nobody needs was cleaned up."""
    work()
    for _ in range(
        3
    ):  # a worker had forgotten pools, too, if it was forked before they were collected
        gc.collect()
        manycore.Queue().put(None)
        manycore._engine.reap()
    return heap.used()


methods = pytest.mark.parametrize("method", ["fork", "forkserver"])
sizes = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "1 MB"])
retrying = pytest.mark.parametrize("retries", [0, 2], ids=["once", "retries"])


def chaos_until(killed, method, size, retries, count, tally):
    """Runs many tasks, again and again, until so many workers have died; memory comes back."""
    before = memory_after(lambda: chaos(method, size, retries, 50, 0, tally))
    for seed in itertools.count(1):
        killed -= chaos(method, size, retries, count, seed, tally)
        if killed <= 0:
            break
    assert memory_after(lambda: None) <= before + LARGE


@methods
@sizes
@retrying
def test_while_workers_die_each_task_gets_one_answer(tmp_path, method, size, retries):
    count = 10_000 if size == SMALL else 300
    chaos_until(20, method, size, retries, count, Tally(tmp_path))


@pytest.mark.soak
@methods
@sizes
@retrying
def test_until_a_thousand_workers_have_died_each_of_ten_thousand_tasks_gets_one_answer(
    tmp_path, method, size, retries
):
    chaos_until(1000, method, size, retries, 10_000, Tally(tmp_path))


# ---- pools by the hundred -------------------------------------------------------------------


LEAST_LEAK = 2 << 20  # bytes; less is what allocators keep


def threads():
    return len(os.listdir("/proc/self/task")), threading.active_count()


def use_and_close(pool):
    assert pool.map(targets.square, range(10)) == [x * x for x in range(10)]
    pool.close()
    pool.join()


def use_and_terminate(pool):
    results = [pool.apply_async(targets.square, (x,), callback=targets.nothing) for x in range(10)]
    assert results[-1].get() == 81
    pool.terminate()
    pool.join()


def use_and_raise(pool):
    with pytest.raises(ZeroDivisionError), pool:
        pool.map_async(targets.square, range(1000))
        raise ZeroDivisionError


def use_and_forget(pool):
    iterator = pool.imap(targets.square, range(1000))
    assert next(iterator) == 0


def use_and_fail(pool):
    with pytest.raises(manycore.WorkerDied):
        pool.apply(targets.ends_as, ("SIGKILL",))
    pool.terminate()
    pool.join()


WAYS = [use_and_close, use_and_terminate, use_and_raise, use_and_forget, use_and_fail]


def come_and_go(context, use, count):
    def one():
        use(context.Pool(2))

    def settled():
        used = memory_after(one)
        return used, threads(), Belongings.now()

    used, running, belongings = settled()
    private = private_bytes(os.getpid())
    for _ in range(count):
        one()
    # A thread that looks after a forgotten pool may have it in hand for a moment longer.
    give_up = time.monotonic() + 5
    while True:
        used_after, running_after = memory_after(lambda: None), threads()
        if (used_after <= used and running_after <= running) or time.monotonic() > give_up:
            break
        time.sleep(0.01)
    assert used_after <= used
    assert running_after <= running
    assert not since(belongings)  # what other programs have in /dev/shm meanwhile goes away
    grown = private_bytes(os.getpid()) - private
    print(f"\n{count} pools, {use.__name__}: {grown >> 10} KiB of memory more")
    assert grown < LEAST_LEAK


def test_a_pool_that_is_collected_while_its_workers_are_looked_after_ends(monkeypatch):
    pool = manycore.get_context("fork").Pool(2)
    workers = pool._workers
    pids = [process.pid for process in workers.processes]
    tend = workers._tending.tend

    def collect_and_tend(rows):
        pool._terminate()  # as the collector does, in whichever thread it runs
        return tend(rows)

    monkeypatch.setattr(workers._tending, "tend", collect_and_tend)
    workers.look_after(replace=True)
    assert workers.processes == []
    wait_for_end(pids)
    pool.terminate()
    pool.join()


forgetting = pytest.mark.filterwarnings("ignore:unclosed running multiprocessing pool")
uses = pytest.mark.parametrize("use", WAYS)


def test_a_hundred_pools_come_and_go_and_leave_nothing():
    come_and_go(manycore.get_context("fork"), use_and_close, 100)


@methods
@uses
@forgetting
def test_however_a_pool_ends_it_leaves_nothing(method, use):
    come_and_go(manycore.get_context(method), use, 10)


@pytest.mark.soak
@methods
@uses
@forgetting
def test_a_hundred_pools_leave_nothing_however_they_end(method, use):
    come_and_go(manycore.get_context(method), use, 100)


# ---- exits with work pending ------------------------------------------------------------------

EXIT = """
    import sys, threading, time
    import manycore

    def work(seconds):
        time.sleep(seconds)
        return seconds

    def endless():
        while True:
            yield 0.001

    if __name__ == "__main__":
        method, way = sys.argv[1:]
        pool = manycore.get_context(method).Pool(2)
        first = pool.apply_async(work, (0,))
        if way == "callbacks":
            for _ in range(100):
                pool.apply_async(work, (0.01,), callback=print, error_callback=print)
        elif way == "lazy":
            results = pool.imap(work, endless())
            next(results)
        elif way == "waiting thread":
            stuck = pool.apply_async(work, (1000,))
            threading.Thread(target=stuck.wait, daemon=True).start()
        elif way == "closed":
            pending = pool.map_async(work, [1000] * 100)
            pool.close()
        elif way == "raise":
            pool.map_async(work, [1000] * 100)
            first.get()
            raise SystemExit(3)
        else:
            pool.map_async(work, [1000] * 100)
        first.get()
"""

ENDS = ["callbacks", "lazy", "waiting thread", "closed", "raise", "forgotten"]


def exit_with_work(run_script, method, way):
    done = run_script(EXIT, method, way)
    assert done.returncode == (3 if way == "raise" else 0)
    assert done.stderr == ""


@pytest.mark.parametrize("way", ENDS)
@methods
def test_a_program_ends_though_work_is_pending(run_script, method, way):
    exit_with_work(run_script, method, way)


@pytest.mark.soak
def test_five_hundred_programs_end_though_work_is_pending(tmp_path_factory):
    from scripts import Scripts

    for number in range(500):
        run_script = Scripts(tmp_path_factory.mktemp("exit"))
        exit_with_work(run_script, ["fork", "forkserver"][number % 2], ENDS[number % len(ENDS)])
