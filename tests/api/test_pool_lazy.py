"""How much lazy maps have ahead, in items and in bytes."""

import asyncio
import functools
import gc
import itertools
import signal
import threading
import time
import weakref

import pytest

import heap
import manycore
import targets
from eventually import until
from manycore import _ahead

pytestmark = pytest.mark.beyond_stdlib

SIZE = 1 << 20
BOUND = 5 * SIZE
COUNT = 40
WORKERS = 2
MOST = BOUND + WORKERS * SIZE + (256 << 10)
"""What may be in use: the bound, one item for each worker, and what rings and functions take."""


@pytest.fixture(params=["fork", "forkserver"])
def ctx(request):
    return manycore.get_context(request.param)


@pytest.fixture
def pool(ctx):
    with ctx.Pool(WORKERS) as pool:
        pool.map(targets.square, range(10))
        yield pool


@pytest.fixture
def executor(ctx):
    with manycore.ProcessPoolExecutor(WORKERS, ctx) as executor:
        yield executor


class Gauge:
    """Looks at the heap whenever an item is taken or a result is there."""

    def __init__(self):
        self._before = heap.used()
        self.highest = 0
        self.taken = 0

    def look(self):
        self.highest = max(self.highest, heap.used() - self._before)

    def items(self, make, count=COUNT):
        for item in range(count):
            self.look()
            self.taken += 1
            yield make(item)
            self.look()


LOADS = {
    "long items": (lambda item: bytes(SIZE), len),
    "long pickled items": (lambda item: {item: [bytearray(SIZE)]}, len),
    "long results": (lambda item: SIZE, bytes),
    "both": (lambda item: bytes(SIZE), targets.identity),
}

loads = pytest.mark.parametrize("load", LOADS)
ways = pytest.mark.parametrize("way", ["imap", "imap_unordered"])


@ways
@loads
def test_bytes_ahead_are_bounded(pool, way, load):
    make, func = LOADS[load]
    gauge, count = Gauge(), 0
    for _ in getattr(pool, way)(func, gauge.items(make), bufferbytes=BOUND):
        gauge.look()
        count += 1
    assert count == COUNT
    assert gauge.highest <= MOST


@loads
def test_bytes_ahead_of_an_executor_are_bounded(executor, load):
    make, func = LOADS[load]
    gauge, count = Gauge(), 0
    for _ in executor.map(func, gauge.items(make), bufferbytes=BOUND):
        gauge.look()
        count += 1
    assert count == COUNT
    assert gauge.highest <= MOST


@loads
def test_bytes_ahead_of_a_stream_are_bounded(pool, load):
    make, func = LOADS[load]
    gauge = Gauge()

    async def main():
        count = 0
        async for _ in pool.stream(func, gauge.items(make), bufferbytes=BOUND):
            gauge.look()
            count += 1
        return count

    assert asyncio.run(main()) == COUNT
    assert gauge.highest <= MOST


def test_results_that_came_early_count(pool, gate):
    gauge = Gauge()
    func = functools.partial(targets.stop_on, gate, None)
    items = itertools.chain([None], gauge.items(lambda item: bytes(SIZE)))
    results = pool.imap(func, items, buffersize=COUNT, bufferbytes=BOUND)
    gate.arrived()
    fetched = []
    with pytest.raises(manycore.TimeoutError):
        while True:  # what there is room for is handed out by who waits
            fetched.append(results.next(0.2))
    assert not fetched
    assert gauge.taken <= BOUND // SIZE + WORKERS
    gate.let_go()
    assert [result and len(result) for result in results] == [None, *[SIZE] * COUNT]


@ways
def test_without_bounds_given_long_items_do_not_pile_up(pool, way, gate):
    gauge, func = Gauge(), functools.partial(targets.length_behind, gate)
    results = getattr(pool, way)(func, gauge.items(lambda item: bytes(16 * SIZE), 12))
    gate.arrived(WORKERS)
    until(lambda: gauge.taken == 4)
    time.sleep(0.05)
    assert gauge.taken == 4
    gate.let_go(12)
    assert list(results) == [16 * SIZE] * 12
    assert gauge.highest <= (64 + 16 * WORKERS) * SIZE + (256 << 10)


@ways
@loads
def test_what_nobody_reads_is_done_within_the_bound(pool, way, load):
    make, func = LOADS[load]
    gauge = Gauge()
    results = getattr(pool, way)(func, gauge.items(make), bufferbytes=BOUND)
    pool.close()
    pool.join()
    assert gauge.taken == COUNT
    assert gauge.highest <= MOST
    assert len(list(results)) == COUNT


def test_an_item_beyond_the_bound_goes_alone(pool):
    assert list(pool.imap(targets.square, range(50), bufferbytes=1)) == [n * n for n in range(50)]


def test_small_items_are_taken_until_the_bound_is_reached(pool):
    gauge, most = Gauge(), 0
    items = gauge.items(int, 10**9)
    results = pool.imap(targets.identity, items, buffersize=10**6, bufferbytes=10_000)
    for n in range(1000):
        assert next(results) == n
        most = max(most, gauge.taken - n)
    assert 100 < most < 10_000
    results.close()


@pytest.mark.parametrize("chunksize", [1, 4])
@ways
def test_whole_chunks_before_the_error_of_the_iterable_are_done(pool, way, chunksize):
    def broken():
        yield from range(6)
        raise LookupError("no more")

    results, seen = getattr(pool, way)(targets.square, broken(), chunksize), []
    with pytest.raises(LookupError, match="no more"):
        seen.extend(results)
    assert sorted(seen) == [n * n for n in range(6 // chunksize * chunksize)]
    assert list(results) == []


# ---- pace ---------------------------------------------------------------------------------------


class Tasks:
    """The tasks of a map with these bounds, which take as long as is said, by their own clock."""

    def __init__(self, monkeypatch, bounds):
        self._sent, self._now = 0, 0.0
        monkeypatch.setattr(_ahead, "monotonic", lambda: self._now)
        self._ahead = _ahead.Ahead(bounds, self)

    def run(self, seconds, rounds=20, length=0):
        """Hands out what may be and has it answered, again and again; the most that was ahead."""
        most = 0
        for _ in range(rounds):
            while more := self._ahead.room()[0]:
                self._sent += more
            count = self._sent - self._ahead.fetched
            most = max(most, count)
            self._now += seconds * count
            self._ahead.answered += count
            self._ahead.fetched += count
            self._ahead.learn(count, length)
        return most


def test_of_tiny_tasks_more_are_ahead(monkeypatch):
    tasks = Tasks(monkeypatch, _ahead.Bounds.usual(2, 1, None))
    assert tasks.run(1e-6, 1) == 32
    assert tasks.run(1e-6) == 512


def test_as_many_are_ahead_as_take_a_millisecond(monkeypatch):
    tasks = Tasks(monkeypatch, _ahead.Bounds.usual(2, 1, None))
    assert 100 <= tasks.run(10e-6) <= 400


def test_of_tasks_that_become_longer_fewer_are_ahead(monkeypatch):
    tasks = Tasks(monkeypatch, _ahead.Bounds.usual(2, 1, None))
    assert tasks.run(1e-6) == 512
    tasks.run(1e-3)
    assert tasks.run(1e-3) == 32


def test_of_chunks_as_many_items_are_ahead(monkeypatch):
    tasks = Tasks(monkeypatch, _ahead.Bounds.usual(2, 8, None))
    assert tasks.run(8e-6, 1) == 32
    assert tasks.run(8e-6) == 64


@pytest.mark.parametrize(
    ("length", "ahead"), [(200 << 10, 32), (512 << 10, 16), (1 << 20, 8), (40 << 20, 8)]
)
def test_of_tasks_with_long_results_fewer_are_ahead(monkeypatch, length, ahead):
    bounds = _ahead.Bounds.usual(2, 1, None)._replace(bytes=4 << 30)
    tasks = Tasks(monkeypatch, bounds)
    assert tasks.run(1e-3, 1, length) == 32  # it does not know yet
    assert tasks.run(1e-3, length=length) == ahead
    asked_for = Tasks(monkeypatch, _ahead.Bounds.of(32, None, 2)._replace(bytes=4 << 30))
    asked_for.run(1e-3, 1, length)
    assert asked_for.run(1e-3, length=length) == 32


def test_no_more_are_ahead_than_was_asked_for(monkeypatch):
    assert Tasks(monkeypatch, _ahead.Bounds.of(32, None, 2)).run(1e-9) == 32
    assert Tasks(monkeypatch, _ahead.Bounds.of(1, None, 2)).run(1e-9) == 1


@ways
def test_tiny_tasks_have_a_bounded_number_ahead(pool, way):
    gauge, most = Gauge(), 0
    for fetched, _ in enumerate(getattr(pool, way)(targets.square, gauge.items(int, 20_000))):
        most = max(most, gauge.taken - fetched)
    assert gauge.taken == 20_000
    assert 16 * WORKERS <= most <= 256 * WORKERS


@pytest.mark.parametrize(("bytes", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_a_number_of_bytes_must_make_sense(pool, executor, bytes, error):
    for call in (pool.imap, pool.imap_unordered, pool.stream, executor.map):
        with pytest.raises(error, match="bufferbytes"):
            call(targets.square, [1], bufferbytes=bytes)


def test_a_map_whose_pool_was_terminated_says_so():
    pool = manycore.Pool(1)
    squares = pool.imap(targets.square, itertools.count())
    next(squares)
    pool.terminate()
    pool.join()
    # Of a task that was handed out, or of the first that could not be any more.
    over = (RuntimeError, manycore.ShutDown)
    with pytest.raises(over, match="the pool was terminated before"):
        for _ in squares:
            pass


# ---- iterables that take their time ---------------------------------------------------------


def slowly(count, taken):
    for number in range(count):
        time.sleep(0.1)
        taken.append(number)
        yield number


@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
def test_results_come_before_a_slow_iterable_has_given_all(pool, way):
    taken = []
    results = getattr(pool, way)(targets.square, slowly(12, taken))
    first = next(results)
    assert len(taken) < 12
    assert sorted([first, *results]) == [n * n for n in range(12)]


def test_a_pipeline_gives_results_before_a_slow_iterable_has_given_all(ctx):
    taken = []
    with manycore.pipeline(slowly(12, taken), targets.square, context=ctx) as results:
        first = next(results)
        assert len(taken) < 12
        assert [first, *results] == [n * n for n in range(12)]


def test_a_map_of_an_executor_takes_all_of_a_slow_iterable_at_once(executor):
    taken = []
    results = executor.map(targets.square, slowly(8, taken))
    assert len(taken) == 8
    assert list(results) == [n * n for n in range(8)]


@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
def test_an_iterable_may_depend_on_results_that_were_fetched_before(pool, way):
    fetched = [2]

    def following():
        while fetched[-1] < 1 << 16:
            yield fetched.pop()

    for result in getattr(pool, way)(targets.square, following(), buffersize=1):
        fetched.append(result)
    assert fetched == [1 << 16]


# ---- several readers, and none --------------------------------------------------------------


@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
def test_no_thread_of_several_is_told_of_the_end_too_early(pool, way):
    results, seen, at_end = getattr(pool, way)(targets.square, range(3000)), [], []

    def read():
        for result in results:
            seen.append(result)
        at_end.append(len(seen))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [n * n for n in range(3000)]
    assert min(at_end) > 3000 - len(threads), "others may be about to note the last ones"


def test_a_map_that_was_left_is_forgotten_once_all_is_handed_out(pool):
    for _ in range(20):
        results = pool.imap(targets.square, range(3))
        next(results)
    last = weakref.ref(results)
    del results
    pool.map(targets.square, range(100))
    gc.collect()
    assert last() is None
    unread = pool.imap(targets.square, range(10_000))
    next(unread)
    pool.close()
    pool.join()  # which hands out the rest of that one
    assert list(unread) == [n * n for n in range(1, 10_000)]


def test_a_map_that_nobody_reads_has_workers_that_were_let_go_back(ctx):
    with ctx.Pool(WORKERS, idle_seconds=0.05) as pool:
        results = pool.imap(targets.square, range(5000))
        assert next(results) == 0
        until(lambda: pool.stats().workers == 0)
        pool.close()
        pool.join()
    assert list(results) == [n * n for n in range(1, 5000)]


# ---- StopIteration --------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
def test_a_task_that_raises_stop_iteration_does_not_end_the_map(pool, way):
    results = getattr(pool, way)(targets.next_of, [[1], [], [3]])
    found = []
    for _ in range(3):
        try:
            found.append(next(results))
        except RuntimeError as error:
            assert isinstance(error.__cause__, StopIteration)
            found.append("error")
    assert sorted(map(str, found)) == ["1", "3", "error"]
    with pytest.raises(StopIteration):
        next(results)


def test_stop_iteration_of_a_task_of_an_executor_is_a_runtime_error(executor):
    results = executor.map(targets.next_of, [[1], [], [3]])
    assert next(results) == 1
    with pytest.raises(RuntimeError, match="StopIteration"):
        next(results)


@pytest.mark.parametrize("in_caller", [False, True])
def test_stop_iteration_of_a_stage_does_not_pass_for_the_end(ctx, in_caller):
    stage = manycore.stage(targets.next_of, in_caller=in_caller)
    results = manycore.pipeline([[1], [], [3]], targets.identity, stage, context=ctx)
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        list(results)
    assert caught.value.__notes__ == ["in stage 1 of the pipeline, next_of, at item 1: []"]
    assert isinstance(caught.value.__cause__, StopIteration)


# ---- signals ------------------------------------------------------------------------------------


class Interruption(Exception):
    """What a signal's handler raises."""


class Interrupting:
    """Interrupts the main thread again and again while it is in `call`."""

    def __init__(self):
        self.count = 0
        self._is_inside = False
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._disturb)

    def __enter__(self):
        self._before = signal.signal(signal.SIGUSR1, self._raise)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._has_ended.set()
        self._thread.join()
        signal.signal(signal.SIGUSR1, self._before)

    def _disturb(self):
        while not self._has_ended.wait(0.0007):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    def _raise(self, *_):
        if self._is_inside:
            raise Interruption

    def call(self, function):
        """What it returns, called until it was not interrupted."""
        while True:
            try:
                try:
                    self._is_inside = True
                    return function()
                finally:
                    self._is_inside = False
            except Interruption:
                self.count += 1


@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
def test_a_lazy_map_whose_reader_is_interrupted_again_and_again_ends(pool, way):
    results, seen = getattr(pool, way)(targets.square, range(2000)), []
    with Interrupting() as interrupting:
        while (result := interrupting.call(lambda: next(results, None))) is not None:
            seen.append(result)
    # Between the taking of a result and its arrival here one may be lost each time.
    assert 2000 - interrupting.count <= len(set(seen)) == len(seen) <= 2000
