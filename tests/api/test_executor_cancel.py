"""Calls that no worker has begun: cancelled, or begun in the order of their priority."""

import concurrent.futures
import functools
import os
import random
import threading
from concurrent.futures import CancelledError

import pytest

import manycore
import targets
from manycore.executor import ProcessPoolExecutor

pytestmark = pytest.mark.beyond_stdlib


@pytest.fixture
def executor(ctx):
    with ProcessPoolExecutor(1, ctx) as executor:
        yield executor


@pytest.fixture
def pool():
    with manycore.get_context("fork").Pool(1) as pool:
        yield pool


class Line:
    """A file to which calls add a line; tells which calls ran, in their order."""

    def __init__(self, path):
        self._path = str(path)

    @property
    def task(self):
        return functools.partial(targets.append_number, self._path)

    def ran(self):
        if not os.path.exists(self._path):
            return []
        with open(self._path) as lines:
            return [int(line) for line in lines]


@pytest.fixture
def line(tmp_path):
    return Line(tmp_path / "line")


# ---- cancelling --------------------------------------------------------------------------------


def test_a_call_that_waits_is_cancelled_and_never_runs(executor, gate, line):
    running = executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    futures = [executor.submit(line.task, n) for n in range(100)]
    assert futures[50].cancel()
    assert futures[50].cancel(), "it is cancelled still"
    assert futures[50].cancelled()
    assert futures[50].done()
    assert not futures[50].running()
    gate.let_go()
    assert running.result() == 1
    others = [future for future in futures if not future.cancelled()]
    assert [future.result() for future in others] == [n for n in range(100) if n != 50]
    assert line.ran() == [n for n in range(100) if n != 50]
    with pytest.raises(CancelledError):
        futures[50].result()
    with pytest.raises(CancelledError):
        futures[50].exception()
    assert "state=cancelled>" in repr(futures[50])


def test_a_call_that_runs_or_has_run_is_not_cancelled(executor, gate):
    future = executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    assert not future.cancel()
    assert future.running()
    gate.let_go()
    assert future.result() == 1
    assert not future.cancel()
    assert not future.cancelled()


def test_what_was_cancelled_is_told_to_all_who_wait(executor, gate):
    executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    future = executor.submit(targets.square, 1)
    seen, outcomes = [], []
    future.add_done_callback(seen.append)

    def wait():
        try:
            future.result()
        except CancelledError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert future.cancel()
    for thread in threads:
        thread.join()
    assert seen == [future]
    assert len(outcomes) == 3
    assert concurrent.futures.wait([future]).done == {future}
    assert list(concurrent.futures.as_completed([future])) == [future]
    gate.let_go()


def test_calls_with_blocks_and_handles_wait_and_arrive_whole(executor, gate):
    """What does not fit into the ring is handed on as it is; what is cancelled is given back."""
    running = executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    blob = os.urandom(3 << 20)
    large = [executor.submit(targets.identity, (n, blob)) for n in range(10)]
    queues = [manycore.SimpleQueue() for _ in range(10)]
    answers = [executor.submit(targets.put, queue, n) for n, queue in enumerate(queues)]
    assert large[3].cancel()
    assert answers[3].cancel()
    gate.let_go()
    assert running.result() == 1
    assert [f.result() for f in large if not f.cancelled()] == [
        (n, blob) for n in range(10) if n != 3
    ]
    concurrent.futures.wait(answers)
    assert [q.get() for n, q in enumerate(queues) if n != 3] == [n for n in range(10) if n != 3]
    assert queues[3].empty()


def test_calls_submitted_after_a_cancel_run_in_their_turn(executor, gate, line):
    executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    first = [executor.submit(line.task, n) for n in range(50)]
    assert first[-1].cancel()
    later = [executor.submit(line.task, n) for n in range(50, 100)]
    gate.let_go()
    assert [future.result() for future in later] == list(range(50, 100))
    assert line.ran() == list(range(49)) + list(range(50, 100))


def test_everything_is_cancelled_at_once(executor, gate, line):
    running = executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    futures = [executor.submit(line.task, n) for n in range(5000)]
    random.Random(1).shuffle(futures)
    assert all(future.cancel() for future in futures)
    gate.let_go()
    assert running.result() == 1
    assert executor.submit(targets.square, 3).result() == 9
    assert line.ran() == []


def test_whatever_is_cancelled_while_workers_take_runs_or_is_cancelled_and_never_both(ctx, line):
    with ProcessPoolExecutor(2, ctx) as executor:
        futures = {executor.submit(line.task, n): n for n in range(3000)}
        order = list(futures)
        random.Random(2).shuffle(order)
        cancelled = {futures[future] for future in order[:1500] if future.cancel()}
    done = {n for future, n in futures.items() if not future.cancelled()}
    assert {futures[f] for f in futures if f.cancelled()} == cancelled
    assert sorted(line.ran()) == sorted(done)
    assert done | cancelled == set(range(3000))


def test_threads_that_cancel_one_future_agree(executor, gate):
    executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    for _ in range(50):
        future = executor.submit(targets.square, 2)
        meet, seen = threading.Barrier(4), []

        def cancel(future=future, meet=meet, seen=seen):
            meet.wait()
            seen.append(future.cancel())

        threads = [threading.Thread(target=cancel) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [True] * 4
    gate.let_go()


def test_a_shutdown_cancels_what_waits(executor, gate, line):
    running = executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    futures = [executor.submit(line.task, n) for n in range(100)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    gate.let_go()
    assert running.result() == 1
    executor.shutdown()
    assert line.ran() == []


@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
def test_a_call_for_which_a_worker_is_starting_is_not_cancelled(method):
    executor = ProcessPoolExecutor(2, manycore.get_context(method))
    futures = [executor.submit(targets.square, n) for n in range(10)]
    executor.shutdown(cancel_futures=True)
    answered = [future for future in futures if not future.cancelled()]
    assert 0 < len(answered) < 10
    assert [future.result() for future in answered] == [n * n for n in range(len(answered))]


def test_a_call_can_be_cancelled_after_a_shutdown_that_does_not_wait(executor, gate, line):
    executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    futures = [executor.submit(line.task, n) for n in range(10)]
    executor.shutdown(wait=False)
    assert futures[4].cancel()
    gate.let_go()
    executor.shutdown()
    assert line.ran() == [n for n in range(10) if n != 4]


@pytest.mark.parametrize("end", ["close", "__del__"])
def test_a_map_that_is_left_withdraws_what_waits(executor, gate, line, end):
    executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    results = executor.map(line.task, range(100))
    getattr(results, end)()
    gate.let_go()
    assert executor.submit(targets.square, 3).result() == 9
    assert line.ran() == []
    assert list(results) == []


def test_a_map_that_fails_withdraws_what_waits(executor, gate, line):
    results = executor.map(targets.fail_then_stop, [gate] * 100, range(100))
    gate.arrived()
    with pytest.raises(ValueError, match="0 is bad"):
        next(results)
    gate.let_go()
    assert executor.submit(targets.square, 3).result() == 9


# ---- the same of a Pool ------------------------------------------------------------------------


def test_a_result_of_a_pool_is_cancelled(pool, gate, line):
    running = pool.apply_async(targets.stop_at, (gate, 1))
    gate.arrived()
    called = threading.Event()
    result = pool.apply_async(
        line.task, (1,), callback=pytest.fail, error_callback=lambda _: called.set()
    )
    assert result.cancel()
    assert not result.cancel(), "there is nothing more to withdraw"
    called.wait()
    with pytest.raises(CancelledError):
        result.get()
    assert running.cancel(), "it is told to stop"
    with pytest.raises(manycore.TaskCancelled):
        running.get()
    assert not running.cancel(), "it has an answer"
    pool.close()
    pool.join()
    assert line.ran() == []


def test_a_map_of_a_pool_is_cancelled_as_far_as_it_waits(pool, gate, line):
    pool.apply_async(targets.stop_at, (gate, 1))
    gate.arrived()
    result = pool.map_async(line.task, range(100), 10)
    kept = pool.map_async(line.task, range(100, 110))
    assert result.cancel()
    gate.let_go()
    with pytest.raises(CancelledError):
        result.get()
    assert kept.get() == list(range(100, 110))
    assert line.ran() == list(range(100, 110))


def test_nobody_waits_and_what_waits_runs_all_the_same(pool, gate, tmp_path):
    """After a cancel tasks wait here, and only the keeper is there to hand them out."""
    pool.apply_async(targets.stop_at, (gate, 1))
    gate.arrived()
    results = [pool.apply_async(targets.square, (n,)) for n in range(500)]
    last = pool.apply_async(targets.stop_at, (gate, 2))
    assert results[0].cancel()
    gate.let_go()
    gate.arrived()  # all others have run
    gate.let_go()
    assert last.get() == 2


def test_a_closed_pool_hands_out_what_waits(pool, gate, line):
    pool.apply_async(targets.stop_at, (gate, 1))
    gate.arrived()
    results = [pool.apply_async(line.task, (n,)) for n in range(100)]
    assert results[0].cancel()
    pool.close()
    assert results[1].cancel(), "it waits here still"
    gate.let_go()
    pool.join()
    assert line.ran() == list(range(2, 100))


def test_a_terminated_pool_fails_what_waits(pool, gate):
    pool.apply_async(targets.stop_at, (gate, 1))
    gate.arrived()
    results = [pool.apply_async(targets.identity, (bytes(100_000),)) for _ in range(100)]
    assert results[0].cancel()
    pool.terminate()
    for result in results[1:]:
        with pytest.raises(RuntimeError, match="terminated"):
            result.get()


# ---- priority ----------------------------------------------------------------------------------


def test_what_has_the_highest_priority_is_begun_first(executor, gate, line):
    executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    views = {p: executor.with_options(priority=p) for p in (-1, 0, 5)}
    order = [(p, 100 * p + n) for p in views for n in range(50)]
    random.Random(3).shuffle(order)
    futures = [views[p].submit(line.task, n) for p, n in order]
    gate.let_go()
    concurrent.futures.wait(futures)
    wanted = sorted(order, key=lambda pair: -pair[0])  # among the same, in their order
    assert line.ran() == [n for _, n in wanted]


def test_what_is_urgent_overtakes_what_the_workers_were_given(executor, gate, line):
    executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    slow = executor.with_options(priority=-1)
    late = [slow.submit(line.task, n) for n in range(3)]  # they are in the ring
    assert executor.with_options(priority=9).submit(line.task, 99).running() is False
    gate.let_go()
    concurrent.futures.wait(late)
    assert line.ran() == [99, 0, 1, 2]


@pytest.mark.parametrize(
    "priorities", [(-1, 0), (-1, -2, 0), (5, -1, 0), (-5, 0, 1, 0, -1, 0), (-1,) * 8 + (0,) * 2]
)
def test_what_has_none_comes_before_what_has_less(executor, gate, line, priorities):
    executor.submit(gate.stop)
    gate.arrived()
    futures = []
    for n, priority in enumerate(priorities):
        view = executor.with_options(priority=priority) if priority else executor
        futures.append(view.submit(line.task, n))
    gate.let_go()
    concurrent.futures.wait(futures)
    wanted = sorted(enumerate(priorities), key=lambda pair: -pair[1])
    assert line.ran() == [n for n, _ in wanted]


def test_a_map_has_a_priority(executor, gate, line):
    executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    low = executor.map(line.task, range(40))
    high = executor.with_options(priority=1).map(line.task, range(100, 140), chunksize=3)
    gate.let_go()
    assert list(low) == list(range(40))
    assert list(high) == list(range(100, 140))
    assert line.ran() == [*range(100, 140), *range(40)]


WAYS = {
    "apply_async": lambda pool, task, p: [pool.apply_async(task, (n,), priority=p) for n in (7, 8)],
    "map_async": lambda pool, task, p: pool.map_async(task, [7, 8], 1, priority=p),
    "starmap_async": lambda pool, task, p: pool.starmap_async(task, [(7,), (8,)], 1, priority=p),
    "imap": lambda pool, task, p: pool.imap(task, [7, 8], priority=p),
    "imap_unordered": lambda pool, task, p: pool.imap_unordered(task, [7, 8], priority=p),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_calls_of_a_pool_have_a_priority(pool, gate, line, way):
    pool.apply_async(targets.stop_at, (gate, 1))
    gate.arrived()
    low = pool.map_async(line.task, range(5), 1)
    kept = way(pool, line.task, 2)
    gate.let_go()
    assert low.get() == list(range(5))
    assert line.ran() == [7, 8, 0, 1, 2, 3, 4]
    del kept


@pytest.mark.parametrize("way", ["map", "starmap"])
def test_calls_that_wait_have_a_priority(pool, way):
    items = [(2,), (3,)] if way == "starmap" else [2, 3]
    assert getattr(pool, way)(targets.square, items, priority=3) == [4, 9]


def test_what_cannot_be_pickled_fails_alone_behind_others(executor, gate):
    executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    urgent = executor.with_options(priority=1)
    bad, good = urgent.submit(targets.square, threading.Lock()), urgent.submit(targets.square, 4)
    gate.let_go()
    with pytest.raises(TypeError, match="pickle"):
        bad.result()
    assert good.result() == 16


def test_a_forked_child_does_not_hand_out_what_waits_here(pool, gate, line):
    pool.apply_async(targets.stop_at, (gate, 1))
    gate.arrived()
    results = [pool.apply_async(line.task, (n,)) for n in range(50)]
    assert results[0].cancel()
    child = os.fork()
    if child == 0:
        results[1].ready()  # looks, collects, and would hand out
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.let_go()
    assert [result.get() for result in results[1:]] == list(range(1, 50))
    assert line.ran() == list(range(1, 50))
