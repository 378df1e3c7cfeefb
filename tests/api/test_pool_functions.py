"""The functions that a pool runs: how long what was sent of them is kept."""

import functools
import gc
import weakref

import pytest

import heap
import targets

pytestmark = pytest.mark.beyond_stdlib


@pytest.fixture
def pool(ctx):
    with ctx.Pool(2) as pool:
        yield pool


def test_functions_with_much_data_do_not_stay_in_the_heap(pool):
    before = heap.used()
    for n in range(30):
        data = bytes(2 << 20)
        assert (
            pool.map(functools.partial(targets.length, data + bytes(n)), range(3))
            == [len(data) + n] * 3
        )
    assert heap.used() - before <= 20 << 20


def test_a_function_stays_in_the_heap_while_tasks_of_it_are_to_come(pool):
    lazy = pool.imap(functools.partial(targets.length, bytes(2 << 20)), range(100), buffersize=2)
    assert next(lazy) == 2 << 20
    for n in range(20):  # more than stay
        assert (
            pool.apply(functools.partial(targets.length, bytes((2 << 20) + n)), (0,))
            == (2 << 20) + n
        )
    assert list(lazy) == [2 << 20] * 99


def test_functions_that_are_alike_are_forgotten(pool):
    made = []
    for _ in range(50):
        function = lambda x: -x  # noqa: E731
        made.append(weakref.ref(function))
        assert pool.apply(function, (5,)) == -5
    del function
    gc.collect()
    assert sum(it() is not None for it in made) <= 8
