"""What a task may take, how often it is tried, how many workers there are."""

import contextlib
import functools
import os
import random
import re
import signal
import threading
import time
import warnings
from concurrent.futures import CancelledError

import pytest

import demanding
import manycore
import targets
from calls import Tally
from eventually import until
from manycore._working import STOP, STOP_FOR_TIME
from manycore.pool import Lifetime
from processes import kill_and_confirm

pytestmark = pytest.mark.beyond_stdlib

SOON = 0.05
AMPLE = 1.0
"""Seconds for what takes no time, also on a machine that has much else to do."""


@pytest.fixture(params=["fork", "forkserver"])
def ctx(request):
    """Has a worker inherit what is used, or be sent it. `spawn` sends it, too, but takes longer."""
    return manycore.get_context(request.param)


@pytest.fixture(params=["spawn", "forkserver"])
def light_ctx(request):
    """Has a worker begin with little memory: one by `fork` has its part of what all tests take."""
    return manycore.get_context(request.param)


@pytest.fixture
def pool(ctx):
    with ctx.Pool(2) as pool:
        yield pool


@pytest.fixture
def note(tmp_path):
    """A file in which tasks note that they have begun."""
    return str(tmp_path / "begun")


# ---- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [demanding.sleep_for_ever, demanding.count_for_ever])
def test_a_task_is_told_when_its_time_is_up(pool, task):
    with pytest.raises(manycore.TaskTimeout) as caught:
        pool.apply(task, timeout=10 * SOON)  # a worker may have to import the task first
    assert f"in {task.__name__}" in str(caught.value.__cause__), "where it was"
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, manycore.TimeoutError)


@pytest.mark.parametrize("task", [demanding.hold_the_interpreter, demanding.refuse_to_stop])
def test_a_task_that_does_not_listen_is_killed(pool, task):
    before = {worker.pid for worker in pool._pool}
    with pytest.raises(manycore.TaskTimeout, match=f"{task.__name__}.* killed"):
        pool.apply(task, timeout=SOON)
    assert pool.map(targets.square, range(10)) == [n * n for n in range(10)]
    until(lambda: len({worker.pid for worker in pool._pool} - before) == 1)


def test_a_worker_survives_a_task_that_listens(ctx):
    with ctx.Pool(1) as pool:
        worker = pool.apply(demanding.process_id)
        with pytest.raises(manycore.TaskTimeout):
            pool.apply(demanding.sleep_for_ever, timeout=SOON)
        assert pool.apply(demanding.process_id) == worker


def test_a_task_that_misses_the_first_signal_is_told_again(ctx):
    with ctx.Pool(1) as pool:
        worker = pool.apply(demanding.process_id)
        with pytest.raises(manycore.TaskTimeout):
            pool.apply(demanding.miss_a_signal, (STOP_FOR_TIME,), timeout=SOON)
        result = pool.apply_async(demanding.miss_a_signal, (STOP,))
        until(lambda: is_begun(pool, result))
        assert result.cancel()
        with pytest.raises(manycore.TaskCancelled):
            result.get()
        assert pool.apply(demanding.process_id) == worker


def test_what_a_task_does_when_it_was_told_is_not_disturbed(ctx):
    with ctx.Pool(1) as pool:
        pool.apply(demanding.process_id)  # so that the task need not be imported in its time
        assert pool.apply(demanding.tidy_up_slowly, timeout=10 * SOON) == "tidy"
        assert pool.stats().died == 0


def test_a_task_may_tidy_up_and_answer_when_its_time_is_up(pool, tmp_path):
    path = tmp_path / "tidy"
    assert pool.apply(demanding.tidy_up, (str(path),), timeout=SOON) == "tidy"
    assert path.read_text() == "tidy"


@pytest.mark.parametrize(
    "way",
    [
        lambda pool, items, **options: pool.starmap(demanding.wait_if, items, **options),
        lambda pool, items, **options: pool.starmap_async(
            demanding.wait_if, items, **options
        ).get(),
    ],
    ids=["starmap", "starmap_async"],
)
def test_only_the_task_that_takes_too_long_fails(pool, way):
    results = way(pool, [(3, n) for n in range(10)], timeout=AMPLE, on_error="return")
    assert isinstance(results.pop(3), manycore.TaskTimeout)
    assert results == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_only_the_number_of_a_range_fails_whose_worker_dies(pool):
    fatal = demanding.Fixed(demanding.die_if_equal, (signal.SIGKILL,))
    results = pool.map(fatal, range(13, 3, -2), on_error="return")
    assert isinstance(results.pop(2), manycore.WorkerDied)
    assert results == [13, 11, 7, 5]


def test_lazy_maps_have_time_outs(pool):
    results = pool.imap(time.sleep, [0, 3600, 0], timeout=AMPLE)
    assert results.next() is None
    with pytest.raises(manycore.TaskTimeout):
        results.next()
    assert results.next() is None
    (late,) = pool.imap_unordered(time.sleep, [3600], timeout=SOON, on_error="return")
    assert isinstance(late, manycore.TaskTimeout)


def test_time_is_counted_from_when_a_worker_begins(ctx):
    with ctx.Pool(1) as pool:
        assert pool.map(time.sleep, [AMPLE / 5] * 10, timeout=AMPLE) == [None] * 10


def test_a_time_out_of_the_pool_is_for_all_its_calls(ctx):
    with ctx.Pool(1, timeout=SOON) as pool:
        for call in (
            lambda: pool.apply(demanding.sleep_for_ever),
            lambda: pool.apply_async(demanding.sleep_for_ever).get(),
            lambda: pool.map(time.sleep, [3600]),
        ):
            with pytest.raises(manycore.TaskTimeout):
                call()
        assert pool.apply(time.sleep, (SOON * 3,), timeout=None) is None


def test_a_callback_is_told_of_a_time_out(pool):
    errors = []
    pool.apply_async(demanding.sleep_for_ever, error_callback=errors.append, timeout=SOON)
    until(lambda: errors)
    assert isinstance(errors[0], manycore.TaskTimeout)


def test_looks_are_as_frequent_as_the_shortest_time_wants(ctx, gate):
    with ctx.Pool(1) as pool:
        assert pool._crew.overdue() == ([], None)
        results = [pool.apply_async(targets.stop_at, (gate, 1))]
        gate.arrived()
        for timeout in (5.0, 0.01, 3.0):  # a worker may begin with them at any moment
            results.append(pool.apply_async(targets.square, (1,), timeout=timeout))
        assert pool._crew.overdue() == ([], 0.01)
        assert pool._crew.shortest == 0.01
        pool._attendant.pause(None, 1 << 30, None)
        assert pool._attendant._next_look <= time.monotonic() + 0.01
        assert results[2].cancel()
        assert pool._crew.overdue() == ([], 3.0)
        gate.let_go()
        for result in results:
            result.wait()
        assert pool._crew.overdue() == ([], None)


def test_a_stopped_worker_is_reported_and_its_task_given_up(pool, gate):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = pool.apply_async(targets.stop_at, (gate, 1), timeout=2)
        (worker,) = gate.arrived()
        os.kill(worker, signal.SIGSTOP)
        with pytest.raises(manycore.TaskTimeout):
            result.get()
    stalled = [it for it in caught if it.category is manycore.ProcessStalled]
    assert f"worker {worker} was stopped" in str(stalled[0].message)
    assert worker not in pool.map(demanding.process_id, range(20))


def stop_the_only_worker(pool, wait):
    """What is said of it while it has no task and `wait` waits; then it goes on."""
    worker = pool._pool[0].pid
    os.kill(worker, signal.SIGSTOP)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: caught)
        os.kill(worker, signal.SIGCONT)
        waiting.join()
    assert [it.category for it in caught] == [manycore.ProcessStalled]
    assert f"worker {worker} was stopped" in str(caught[0].message)


@pytest.mark.parametrize(
    "wait",
    [
        lambda pool: pool.apply(targets.square, (3,)),
        lambda pool: (pool.close(), pool.join()),
    ],
    ids=["call", "join"],
)
def test_a_worker_that_was_stopped_while_it_has_no_task_is_reported(ctx, wait):
    with ctx.Pool(1) as pool:
        pool.map(targets.square, range(3))
        stop_the_only_worker(pool, lambda: wait(pool))


# ---- cancelling ---------------------------------------------------------------------------------


def is_begun(pool, result):
    """Whether a worker runs it: what is only taken yet never runs once it is cancelled."""
    running = [pool._crew.running(row) for row in range(len(pool._pool))]
    return any(task is not None and task[1] is result for task in running)


@pytest.mark.parametrize("task", [demanding.sleep_for_ever, demanding.refuse_to_stop])
def test_a_task_that_runs_is_cancelled(pool, task):
    result = pool.apply_async(task)
    until(lambda: is_begun(pool, result))
    assert result.cancel()
    with pytest.raises(manycore.TaskCancelled):
        result.get()
    assert pool.map(targets.square, range(4)) == [0, 1, 4, 9]


@pytest.mark.parametrize("task", [demanding.sleep_for_ever, demanding.refuse_to_stop])
def test_a_task_that_was_cancelled_is_not_tried_again(ctx, task):
    with ctx.Pool(1, retries=3, retry_on=Exception) as pool:
        result = pool.apply_async(task)
        until(lambda: is_begun(pool, result))
        assert result.cancel()
        with pytest.raises(manycore.TaskCancelled):
            result.get()
        assert pool.apply(targets.square, (3,)) == 9


def test_a_task_is_cancelled_from_when_a_worker_takes_it(ctx):
    with ctx.Pool(1) as pool:
        for _ in range(100):
            result = pool.apply_async(demanding.sleep_for_ever)
            until(functools.partial(pool._crew.is_running, result))
            assert result.cancel()
            with pytest.raises((manycore.TaskCancelled, CancelledError)):
                result.get()
        assert pool.stats().died == 0


def is_answered(pool, result, count):
    """Whether the only worker has taken so many tasks, and is done with this one."""
    return pool._crew.taken(0) == count and pool._crew.holding(result, 0) is None


def test_a_task_that_was_answered_is_not_cancelled(ctx):
    with ctx.Pool(1) as pool:
        for n in range(100):
            result = pool.apply_async(targets.square, (n,))
            until(functools.partial(is_answered, pool, result, n + 1))
            assert not result.cancel()
            assert result.get() == n * n


def how_it_ended(call):
    """The class of what a call raises; None where it has a result."""
    try:
        call.get()
    except Exception as error:
        return type(error)
    return None


@pytest.mark.parametrize("seed", range(2))
def test_a_call_that_is_cancelled_at_any_time_ran_if_its_answer_says_so(ctx, tmp_path, seed):
    tally, moments = Tally(tmp_path), random.Random(seed)
    calls, were_cancelled = [], []
    with ctx.Pool(2) as pool:
        pool.apply(targets.square, (3,))  # now there are workers
        for n in range(2000):
            calls.append(pool.apply_async(targets.tally, (tally.path, n)))
            end = time.perf_counter() + moments.uniform(0, 1e-4)
            while time.perf_counter() < end:
                pass
            were_cancelled.append(calls[n].cancel())
            if n % 2:
                calls[n].wait()
        ends = [how_it_ended(call) for call in calls]
    ran = tally.take()
    assert set(ran.values()) <= {1}
    assert {end for end, was in zip(ends, were_cancelled, strict=True) if not was} <= {None}
    assert set(ends) <= {None, CancelledError, manycore.TaskCancelled}
    assert not ran.keys() & {n for n, end in enumerate(ends) if end is CancelledError}
    assert ran.keys() >= {n for n, end in enumerate(ends) if end is None}


# ---- again --------------------------------------------------------------------------------------


def apply(pool, task, arguments, **options):
    return [pool.apply(task, (*arguments, n), **options) for n in range(4)]


def starmap(pool, task, arguments, **options):
    return pool.starmap(task, [(*arguments, n) for n in range(4)], **options)


def starmap_async(pool, task, arguments, **options):
    return pool.starmap_async(task, [(*arguments, n) for n in range(4)], **options).get()


def map_a_range(pool, task, arguments, **options):
    return pool.map(demanding.Fixed(task, arguments), range(4), **options)


def imap(pool, task, arguments, **options):
    return list(pool.imap(demanding.Fixed(task, arguments), range(4), **options))


again = pytest.mark.parametrize("way", [apply, starmap, starmap_async, map_a_range, imap])


@again
def test_a_task_whose_worker_dies_is_tried_again(pool, note, way):
    assert way(pool, demanding.die_at_first, (note, 1), retries=1) == [0, 1, 2, 3]


@again
def test_a_task_that_fails_is_tried_again_if_that_was_asked(pool, note, way):
    options = {"retries": 2, "retry_on": (ConnectionError, KeyError)}
    assert way(pool, demanding.fail_at_first, (note, 2), **options) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("task", "options"),
    [(demanding.die_at_first, {}), (demanding.fail_at_first, {"retry_on": ConnectionError})],
)
def test_a_task_that_is_tried_again_is_answered_once(ctx, note, task, options):
    with ctx.Pool(1) as pool:
        pool.apply(task, (note, 2, 1), retries=2, **options)
        stats = pool.stats()
        assert (stats.done, stats.failed) == (1, 0)


@again
def test_other_errors_are_final(pool, note, way):
    with pytest.raises(ConnectionError):
        way(pool, demanding.fail_at_first, (note, 1), retries=9, retry_on=KeyError)


def test_a_task_is_tried_as_often_as_was_asked_and_not_more(pool, note):
    with pytest.raises(manycore.WorkerDied):
        pool.apply(demanding.die_at_first, (note, 9, 1), retries=2)
    with open(note) as lines:
        assert lines.read().split() == ["1"] * 3


def test_without_retries_a_task_runs_once(pool, note):
    with pytest.raises(manycore.WorkerDied):
        pool.apply(demanding.die_at_first, (note, 1, 1))
    with open(note) as lines:
        assert lines.read().split() == ["1"]


def test_a_task_that_took_too_long_is_tried_again_if_that_was_asked(pool, note):
    options = {"timeout": SOON, "retries": 1, "retry_on": manycore.TaskTimeout}
    with pytest.raises(manycore.TaskTimeout):
        pool.apply(demanding.sleep_for_ever, **options)


def test_join_waits_for_tasks_that_are_tried_again(ctx, note):
    with ctx.Pool(2, retries=3) as pool:
        results = [pool.apply_async(demanding.die_at_first, (note, 3, n)) for n in range(3)]
        pool.close()
        pool.join()
        assert [result.get() for result in results] == [0, 1, 2]


def test_a_lazy_map_that_was_idle_in_between_still_tries_again(pool, note):
    def slowly():
        for number in range(3):
            yield number
            until(lambda: pool._attendant.poll() or pool._crew.open == 0)

    task = demanding.Fixed(demanding.die_at_first, (note, 1))
    assert list(pool.imap(task, slowly(), retries=1)) == [0, 1, 2]


# ---- errors -------------------------------------------------------------------------------------


def test_errors_may_be_results(pool):
    results = pool.map(int, ["1", "x", "3"], on_error="return")
    assert (results[0], results[2]) == (1, 3)
    assert isinstance(results[1], ValueError)
    assert "in int" not in repr(results[1])
    kinds = [type(it) for it in pool.imap(int, ["1", "x"], on_error="return")]
    assert kinds == [int, ValueError]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"timeout": 0}, ValueError, "timeout must be"),
        ({"retries": -1}, ValueError, "retries must be"),
        ({"retry_on": KeyError}, ValueError, "retries is 0"),
        ({"retries": 1, "retry_on": 7}, TypeError, "retry_on"),
        ({"on_error": "ignore"}, ValueError, "'raise' or 'return'"),
        ({"priority": "high"}, TypeError, "priority must be"),
        ({"time_out": 1}, TypeError, "unknown option 'time_out'"),
    ],
)
def test_wrong_options_are_refused(pool, options, error, words):
    with pytest.raises(error, match=words):
        pool.map(targets.square, range(3), **options)
    if "time_out" not in options:
        with pytest.raises(error, match=words):
            manycore.Pool(1, **options)


@pytest.mark.parametrize("options", [{"timeout": 1}, {"retries": 1}, {"on_error": "return"}])
def test_what_is_for_each_item_is_refused_for_chunks(pool, options):
    with pytest.raises(ValueError, match="leave chunksize out"):
        pool.map(targets.square, range(10), 5, **options)
    with pytest.raises(ValueError, match="leave chunksize out"):
        pool.imap(targets.square, range(10), 5, **options)


# ---- memory and age -----------------------------------------------------------------------------


def test_a_greedy_task_is_given_up(light_ctx):
    with light_ctx.Pool(2, max_memory=200 << 20) as pool:
        results = pool.map(demanding.fill, [1, 400, 2], on_error="return")
        assert (results[0], results[2]) == (1, 2)
        error = results[1]
        assert isinstance(error, manycore.MemoryLimitExceeded)
        assert isinstance(error, MemoryError)
        assert error.used > error.limit == 200 << 20
        assert "fill(400)" in str(error)
        assert pool.map(targets.square, range(4)) == [0, 1, 4, 9]


def test_memory_that_is_still_that_of_the_owner_is_not_counted(run_script):
    shown = run_script("""
        import time
        import manycore

        ballast = b"x" * (300 << 20)
        with manycore.get_context("fork").Pool(2, max_memory=250 << 20) as pool:
            print(pool.map(time.sleep, [0.2, 0.2]), len(ballast) >> 20)
        """).stdout
    assert shown == "[None, None] 300\n"


def test_shared_memory_is_not_counted(light_ctx):
    with light_ctx.Pool(1, max_memory=150 << 20) as pool:
        shared = light_ctx.RawArray("b", 500 << 20)
        assert pool.apply(demanding.look_at, (shared,)) == (500 << 20) // 4096


def test_a_worker_that_keeps_too_much_is_replaced_after_its_task(light_ctx):
    with light_ctx.Pool(1, worker_lifetime=Lifetime(memory=150 << 20)) as pool:
        workers = {pool.apply(demanding.keep, (1,))}
        while len(workers) < 2:
            workers.add(pool.apply(demanding.keep, (40,)))
            time.sleep(0.06)


@pytest.mark.parametrize("megabytes", [130, 160, 180])
def test_what_one_task_has_left_in_memory_is_not_the_fault_of_the_next(light_ctx, megabytes):
    with light_ctx.Pool(1, max_memory=150 << 20) as pool:
        with contextlib.suppress(manycore.MemoryLimitExceeded):
            pool.apply(demanding.keep, (megabytes,))
        pool.apply(time.sleep, (0.2,))


def test_a_worker_is_replaced_when_it_is_old(ctx):
    with ctx.Pool(1, worker_lifetime=Lifetime(seconds=0.2)) as pool:
        workers = set()
        while len(workers) < 3:
            workers.add(pool.apply(demanding.process_id))


def test_a_worker_that_grew_old_without_a_task_has_one_more(ctx):
    with ctx.Pool(1, worker_lifetime=Lifetime(seconds=0.1)) as pool:
        first = pool.apply(demanding.process_id)
        old = time.monotonic() + 0.1
        until(lambda: pool._attendant._next_look > old + 0.2)  # the look before was when it was old
        assert pool.apply(demanding.process_id) == first
        assert pool.apply(demanding.process_id) != first


def test_the_smaller_number_of_tasks_counts(ctx):
    with ctx.Pool(1, maxtasksperchild=5, worker_lifetime=Lifetime(tasks=2)) as pool:
        workers = pool.map(demanding.process_id, range(8), 1)
    assert [workers.count(worker) for worker in dict.fromkeys(workers)] == [2] * 4


@pytest.mark.parametrize("lifetime", [Lifetime(tasks=0), Lifetime(memory=-1), Lifetime(seconds=0)])
def test_a_lifetime_must_be_one(lifetime):
    with pytest.raises(ValueError, match="worker_lifetime"):
        manycore.Pool(1, worker_lifetime=lifetime)


def test_a_lifetime_is_of_whole_tasks():
    with pytest.raises(TypeError, match="whole number"):
        manycore.Pool(1, worker_lifetime=Lifetime(tasks=1.5))


def test_a_lifetime_is_no_number():
    with pytest.raises(TypeError, match=r"worker_lifetime must be a manycore.pool.Lifetime.*not 5"):
        manycore.Pool(1, worker_lifetime=5)


def test_a_memory_limit_must_be_one():
    with pytest.raises(ValueError, match="max_memory"):
        manycore.Pool(1, max_memory=0)


# ---- how many -----------------------------------------------------------------------------------


def together(pool, gate, count):
    """As many tasks as `count` run at the same time; the workers."""
    results = [pool.apply_async(targets.stop_at, (gate, n)) for n in range(count)]
    workers = set(gate.arrived(count))
    gate.let_go(count)
    assert [result.get() for result in results] == list(range(count))
    return workers


def test_a_pool_grows(pool, gate):
    pool.resize(5)
    assert len(together(pool, gate, 5)) == 5
    assert pool._processes == 5


def test_a_pool_without_tasks_shrinks(pool):
    pool.resize(4)
    pool.resize(1)
    until(lambda: len(pool._pool) == 1)
    assert len(set(pool.map(demanding.process_id, range(20), 1))) == 1


def test_a_busy_pool_shrinks_after_its_tasks(ctx, gate):
    with ctx.Pool(4) as pool:
        results = [pool.apply_async(targets.stop_at, (gate, n)) for n in range(8)]
        gate.arrived(4)
        pool.resize(2)
        gate.let_go(8)
        assert [result.get() for result in results] == list(range(8))
        until(lambda: len(pool._pool) == 2)
        gate.arrived(4)
        assert len(together(pool, gate, 2)) == 2


def test_a_pool_can_be_resized_again_and_again(pool, gate):
    for count in (3, 1, 6, 2, 4):
        pool.resize(count)
        assert len(together(pool, gate, count)) == count


@pytest.mark.parametrize("count", [0, 65])
def test_a_pool_has_a_least_and_a_most_size(pool, count):
    with pytest.raises(ValueError, match=r"at least 1|room for 64"):
        pool.resize(count)


def test_a_closed_pool_is_not_resized(pool):
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.resize(3)


# ---- what is said of the dead -------------------------------------------------------------------


def test_the_error_says_with_what_arguments_the_worker_died(pool):
    with pytest.raises(manycore.WorkerDied, match=r"die_of\(9\), after 0\.\d+ s") as caught:
        pool.apply(demanding.die_of, (9,))
    assert caught.value.seconds > 0
    with pytest.raises(manycore.WorkerDied, match=r"die_of\(number=9\)"):
        pool.apply(demanding.die_of, kwds={"number": 9})
    with pytest.raises(manycore.WorkerDied, match=r"die_of\(9\)"):
        pool.map(demanding.die_of, [9])
    with pytest.raises(manycore.WorkerDied, match=r"die_of\(9\)"):
        list(pool.imap(demanding.die_of, [9]))


@pytest.mark.parametrize(
    "way",
    [
        lambda pool: pool.map(demanding.die_if, [(9, n) for n in range(20)], 5),
        lambda pool: pool.starmap(demanding.die_if_equal, [(9, n) for n in range(20)], 5),
        lambda pool: list(pool.imap(demanding.die_if, [(9, n) for n in range(20)], 5)),
    ],
    ids=["map", "starmap", "imap"],
)
def test_the_error_says_which_item_of_a_chunk_it_was(pool, way):
    with pytest.raises(manycore.WorkerDied, match=r"die_if\S*\(\(?9, 9\)"):
        way(pool)


def test_long_arguments_are_told_in_short(pool):
    with pytest.raises(manycore.WorkerDied) as caught:
        pool.apply(demanding.die_with, (b"x" * 100_000,))
    assert len(str(caught.value)) < 1000


def test_the_last_stack_of_a_crash_is_told(run_script):
    shown = run_script(
        """
        import ctypes, faulthandler
        import manycore

        faulthandler.disable()  # as it is where nobody has set PYTHONFAULTHANDLER

        def crash():
            ctypes.string_at(0)

        if __name__ == "__main__":
            with manycore.Pool(1) as pool:
                try:
                    pool.apply(crash)
                except manycore.WorkerDied as died:
                    print(died.stack)
                    pool.map(abs, [1])
                    try:
                        pool.apply(exit)
                    except manycore.WorkerDied as died:
                        print(died.stack)
        """
    ).stdout
    assert re.search(r"Segmentation fault.*in string_at.*in crash", shown, re.DOTALL)
    assert shown.rstrip().endswith("None"), "each worker has its own"


STUCK = {
    "in C": "sum(range(10**12))",
    "in spite of the exception": """
            while True:
                try:
                    time.sleep(600)
                except Exception:
                    pass
    """,
}


@pytest.mark.parametrize("how", STUCK.values(), ids=STUCK)
def test_where_a_task_was_stuck_is_told(run_script, how):
    shown = run_script(
        """
        import faulthandler
        import time
        import manycore

        faulthandler.disable()

        def stuck():
            HOW

        if __name__ == "__main__":
            with manycore.Pool(1) as pool:
                try:
                    pool.apply(stuck, timeout=0.1)
                except manycore.TaskTimeout as late:
                    print(late)
        """.replace("HOW", how)
    ).stdout
    assert "in stuck" in shown


def test_a_failing_initializer_is_told_to_who_waits(ctx, capfd):
    with ctx.Pool(2, initializer=demanding.refuse) as pool:
        with pytest.raises(
            manycore.WorkerDied, match=r"initializer.*PermissionError: no licence"
        ) as caught:
            pool.map(targets.square, range(3))
        assert isinstance(caught.value.__cause__, PermissionError)
        assert "in refuse" in str(caught.value.__cause__.__cause__)
    capfd.readouterr()


def test_a_worker_killed_by_others_while_a_task_is_told_to_stop_fails_it_once(pool, gate):
    errors = []
    pool.apply_async(demanding.refuse_to_stop, timeout=SOON, error_callback=errors.append)
    until(lambda: pool._workers._tending._told)
    (row,) = pool._workers._tending._told
    kill_and_confirm(pool._workers._rows[row].pid)
    until(lambda: errors)
    assert [type(error) for error in errors] == [manycore.WorkerDied]


# ---- how far ahead ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
@pytest.mark.parametrize(("chunksize", "buffersize"), [(1, 3), (1, 1), (4, 9)])
def test_a_lazy_map_takes_as_many_chunks_ahead_as_was_asked(pool, way, chunksize, buffersize):
    taken, ahead = [], chunksize * buffersize

    def endless():
        while True:
            taken.append(len(taken))
            yield len(taken)

    results = getattr(pool, way)(targets.square, endless(), chunksize, buffersize)
    until(lambda: len(taken) == ahead)
    for fetched in range(1, 50):
        next(results)
        assert len(taken) <= fetched + ahead + chunksize - 1
    results.close()


def test_a_buffer_must_be_one(pool):
    with pytest.raises(ValueError, match="buffersize must be 1"):
        pool.imap(targets.square, [1], buffersize=0)
    with pytest.raises(TypeError, match="buffersize must be an integer"):
        pool.imap(targets.square, [1], buffersize=1.5)


# ---- the end of it ------------------------------------------------------------------------------


def test_a_task_of_a_terminated_pool_is_not_tried_again(ctx):
    with ctx.Pool(1, retries=5, retry_on=Exception) as pool:
        results = [pool.apply_async(demanding.sleep_for_ever) for _ in range(3)]
    for result in results:
        with pytest.raises(RuntimeError, match="terminated"):
            result.get()


def test_a_file_that_has_the_descriptor_of_last_words_now_is_left_alone(ctx, tmp_path):
    path = tmp_path / "theirs"
    path.write_bytes(b"theirs")
    with ctx.Pool(1) as pool:
        fd = pool._workers._deaths.last_words._fd
        with open(path, "r+b") as theirs:
            os.dup2(theirs.fileno(), fd)
            with pytest.raises(manycore.WorkerDied):
                pool.apply(demanding.die_of, (signal.SIGSEGV,))
            assert pool.apply(demanding.process_id)
            assert os.fstat(fd).st_ino == os.fstat(theirs.fileno()).st_ino
    assert path.read_bytes() == b"theirs"
    os.close(fd)  # the pool has not closed it
