"""How much lazy maps have ahead, in bytes; how results that nobody reads are kept."""

import asyncio
import functools
import itertools
import time

import pytest

import heap
import manycore
import targets

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


def until(is_so):
    """Looks again until something is so; the watchdog ends it otherwise."""
    while not is_so():
        time.sleep(0.001)


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
    assert SIZE < gauge.highest <= MOST


@loads
def test_bytes_ahead_of_an_executor_are_bounded(executor, load):
    make, func = LOADS[load]
    gauge, count = Gauge(), 0
    for _ in executor.map(func, gauge.items(make), bufferbytes=BOUND):
        gauge.look()
        count += 1
    assert count == COUNT
    assert SIZE < gauge.highest <= MOST


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
    assert SIZE < gauge.highest <= MOST


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
def test_without_bounds_given_long_items_do_not_pile_up(pool, way):
    gauge = Gauge()
    results = getattr(pool, way)(len, gauge.items(lambda item: bytes(16 * SIZE), 12))
    until(lambda: not pool._crew.open)
    assert gauge.taken == 4
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


@pytest.mark.parametrize(("bytes", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_a_number_of_bytes_must_make_sense(pool, executor, bytes, error):
    for call in (pool.imap, pool.imap_unordered, pool.stream, executor.map):
        with pytest.raises(error, match="bufferbytes"):
            call(targets.square, [1], bufferbytes=bytes)
