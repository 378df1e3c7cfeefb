"""How the items of a map become tasks, and how workers share them."""

import functools
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest

import manycore
import pool_targets
import targets
from calls import Tally
from eventually import until

pytestmark = pytest.mark.beyond_stdlib

WORKERS = 2
LONG = 0.02
"""Seconds after which a worker leaves the rest of its items to others."""


@pytest.fixture(params=["fork", "forkserver"])
def ctx(request):
    return manycore.get_context(request.param)


@pytest.fixture
def pool(ctx):
    with ctx.Pool(WORKERS) as pool:
        pool.map(targets.square, range(10))
        yield pool


def tasks_of(pool, run):
    """How many tasks it takes."""
    before = pool.stats().done
    run()
    return pool.stats().done - before


# ---- how many -----------------------------------------------------------------------------------


def items_not_done(pool, gate, count):
    """Has so many items mapped, of which the first one is stopped; those that wait for it."""
    result = pool.map_async(functools.partial(targets.stop_on, gate, 0), range(count))
    gate.arrived()
    until(lambda: pool._attendant.poll() or result._open == 1)
    left = sum(value is None for value in result._results)
    gate.let_go()
    assert result.get() == list(range(count))
    return left


@pytest.mark.parametrize(("count", "most"), [(64, 1), (100, 2), (1000, 16), (10_000, 128)])
def test_few_items_wait_for_a_long_one(pool, gate, count, most):
    assert items_not_done(pool, gate, count) <= most


def test_tasks_begin_with_few_items_and_have_more_and_more(pool):
    # One, two and four, and then eight at most: an eighth of what a worker does. There are more
    # where a worker is kept from working.
    assert 3 + 16 <= tasks_of(pool, lambda: pool.map(targets.square, range(128))) < 64


def test_large_items_are_tasks_of_their_own(pool):
    large = [numpy.zeros(1 << 17, numpy.uint8) for _ in range(64)]
    assert tasks_of(pool, lambda: pool.map(len, large)) == 64
    small = [numpy.zeros(1 << 13, numpy.uint8) for _ in range(1000)]
    assert 1000 // 8 <= tasks_of(pool, lambda: pool.map(len, small)) < 500
    assert tasks_of(pool, lambda: pool.map_async(len, 2 * large).get()) == 128


def test_who_asks_for_a_size_gets_it(pool):
    assert tasks_of(pool, lambda: pool.map(time.sleep, [LONG / 4] * 20, 5)) == 4
    assert tasks_of(pool, lambda: pool.map(time.sleep, [LONG / 4] * 20, 20)) == 1


@pytest.mark.parametrize("options", [{"processes": 1}, {"processes": 2, "maxtasksperchild": 1}])
def test_where_tasks_count_or_nobody_could_share_they_are_as_large_as_ever(options):
    with manycore.get_context("fork").Pool(**options) as pool:
        pool.map(targets.square, range(10))
        chunk = -(-40 // (8 * options["processes"]))
        count = tasks_of(pool, lambda: pool.map(time.sleep, [LONG / 4] * 40))
        assert count == -(-40 // chunk)


def test_one_worker_keeps_the_order(tmp_path):
    numbers = tmp_path / "numbers"
    with manycore.Pool(1) as pool:
        pool.map(functools.partial(targets.append_number, str(numbers)), range(100))
    assert numbers.read_text().split() == [str(number) for number in range(100)]


# ---- sharing ------------------------------------------------------------------------------------


def run_beside(function, *args):
    executor = ThreadPoolExecutor(1)
    future = executor.submit(function, *args)
    executor.shutdown(wait=False)
    return future


def map_it(pool, gate, count):
    return pool.map(functools.partial(pool_targets.rest_and_stop, gate), range(count))


def starmap_it(pool, gate, count):
    function = functools.partial(pool_targets.rest_and_stop_of_two, gate)
    return pool.starmap(function, [(number, number) for number in range(count)])


@pytest.mark.parametrize("map_all", [map_it, starmap_it])
@pytest.mark.parametrize("options", [{}, {"priority": 1}, {"seed": 3}])
def test_items_behind_a_long_one_are_left_to_others(ctx, gate, map_all, options):
    with ctx.Pool(WORKERS, **options) as pool:
        # The fourth item is in one task with the next three, and the fifth and the sixth meet.
        results = run_beside(map_all, pool, gate, 64)
        assert len(set(gate.arrived(2))) == 2
        gate.let_go(2)
        assert results.result() == list(range(64))


@pytest.mark.parametrize("end", ["close", "close and join"])
def test_what_is_left_is_run_although_the_pool_was_closed(ctx, gate, end):
    with ctx.Pool(WORKERS) as pool:
        results = run_beside(map_it, pool, gate, 64)
        gate.arrived(2)
        pool.close()
        joined = run_beside(pool.join) if "join" in end else None
        gate.let_go(2)
        assert results.result() == list(range(64))
        if joined:
            joined.result()


def test_results_of_shared_tasks_are_in_their_order(pool):
    seconds = [0.01 if number % 7 == 3 else 0 for number in range(300)]
    assert pool.map(pool_targets.sleep_and_tell, seconds) == seconds


def test_an_error_in_a_shared_task_is_raised(pool):
    with pytest.raises(ZeroDivisionError):
        pool.map(pool_targets.sleep_and_divide, [0.01] * 40 + [0] + [0.01] * 40)
    assert pool.map(targets.square, range(100)) == [n * n for n in range(100)]
    assert pool._crew.open == 0


def test_seeds_do_not_depend_on_who_shares(ctx):
    def numbers(workers, wait, chunksize=None):
        with ctx.Pool(workers) as pool:
            task = functools.partial(pool_targets.random_number_after, wait)
            return pool.map(task, range(50), chunksize, seed=7)

    assert numbers(1, 0, 1) == numbers(2, 0.005) == numbers(3, 0.001)


def test_who_changes_the_list_meanwhile_changes_nothing(pool, gate):
    items = list(range(64))
    task = functools.partial(pool_targets.rest_and_stop, gate)
    results = run_beside(pool.map, task, items)
    gate.arrived(2)
    items.clear()
    gate.let_go(2)
    assert results.result() == list(range(64))


class Collects:
    """When it is handed out again, it waits until answers have come meanwhile."""

    def __init__(self, pool, seconds):
        self.pool, self.seconds, self.count = pool, seconds, 0

    def __reduce__(self):
        self.count += 1
        if self.count > 1:
            before = self.pool._crew.answered
            until(lambda: self.pool._crew.collect() and self.pool._crew.answered != before)
        return float, (self.seconds,)


def test_answers_may_come_while_the_rest_of_a_task_is_handed_out(pool):
    items = [LONG if number == 3 else 0.0 for number in range(64)]
    items[5] = Collects(pool, 0.25)
    items[6] = Collects(pool, 0.0)
    expected = [*items[:5], 0.25, 0.0, *items[7:]]
    assert pool.map(pool_targets.sleep_and_tell, items) == expected
    assert items[5].count == 2


def test_two_threads_share_at_the_same_time(pool):
    seconds = [0.001] * 200
    both = [run_beside(pool.map, pool_targets.sleep_and_tell, seconds) for _ in range(2)]
    assert [it.result() for it in both] == [seconds, seconds]


def interrupt_main():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


# Where a file is open, what comes then leaves it to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_nobody_waits_for_is_not_run(pool, gate, tmp_path, ctrl_c):
    """The map is interrupted when both workers are in a task of which they will leave the rest."""
    task = functools.partial(pool_targets.stop_and_tally, gate, Tally(tmp_path).path)
    beside = run_beside(lambda: (gate.arrived(2), interrupt_main()))
    with pytest.raises(KeyboardInterrupt):
        pool.map(task, range(32))
    beside.result()
    gate.let_go(2)
    until(lambda: pool._attendant.poll() or not pool._crew.open)
    assert pool.map(targets.square, range(100)) == [n * n for n in range(100)]
    # The second and the third task have two items each, of which the first one stops.
    assert set(Tally(tmp_path).take()) == {0, 1, 3}


class Interrupts:
    """When it is handed out again, this process is interrupted."""

    def __init__(self):
        self.count = 0

    def __reduce__(self):
        self.count += 1
        if self.count == 2:
            signal.raise_signal(signal.SIGINT)
        return float, (0.0,)


def test_a_map_that_is_interrupted_while_it_hands_out_again_is_over(pool, ctrl_c):
    items = [LONG if number == 3 else 0.0 for number in range(64)]
    items[5] = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        pool.map(pool_targets.sleep_and_tell, items)
    until(lambda: pool._attendant.poll() or not pool._crew.open)
    assert pool.map(targets.square, range(100)) == [n * n for n in range(100)]


class Guarded:
    """Can only be pickled while nobody has the lock, and by the thread whose map it is."""

    def __init__(self, lock, owner):
        self.lock, self.owner = lock, owner

    def __reduce__(self):
        assert threading.get_ident() == self.owner[0]
        with self.lock:
            return float, (LONG,)


def test_items_are_pickled_by_the_thread_whose_map_it_is(pool):
    """Another one, which looks for its own answer, may have a lock that is needed for that."""
    lock, owner = threading.Lock(), []

    def map_guarded():
        owner.append(threading.get_ident())
        return pool.map(pool_targets.sleep_and_tell, [Guarded(lock, owner) for _ in range(64)])

    results = run_beside(map_guarded)
    other = pool.apply_async(time.sleep, (0.5,))
    while not results.done():
        with lock:
            other.ready()
            pool.stats()
        time.sleep(0.0005)
    assert results.result() == [LONG] * 64


class Terminates:
    """Has the pool terminated by another thread when it is handed out, at first or again."""

    def __init__(self, pool, at):
        self.pool, self.at, self.count = pool, at, 0

    def __reduce__(self):
        self.count += 1
        if self.count == self.at:
            run_beside(self.pool.terminate).result()
        return float, (0.0,)


@pytest.mark.parametrize("at", [1, 2])
def test_a_pool_that_is_terminated_while_items_are_handed_out_says_so(pool, at):
    items = [LONG if number == 3 else 0.0 for number in range(64)]
    items[5] = Terminates(pool, at)
    with pytest.raises(RuntimeError, match="terminated"):
        pool.map(pool_targets.sleep_and_tell, items)


@pytest.mark.parametrize("options", [{"seed": 1}, {"priority": 1}])
def test_large_items_are_tasks_of_their_own_whatever_is_asked_for_them(ctx, options):
    with ctx.Pool(WORKERS, **options) as pool:
        pool.map(targets.square, range(10))
        large = [numpy.zeros(1 << 17, numpy.uint8) for _ in range(64)]
        assert tasks_of(pool, lambda: pool.map(len, large)) == 64
