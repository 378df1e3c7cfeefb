"""The functions that a pool runs: how long what was sent of them is kept."""

import functools
import gc
import pickle
import threading
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
        long = (2 << 20) + n
        assert pool.map(functools.partial(targets.length, bytes(long)), range(3)) == [long] * 3
    assert heap.used() - before <= 20 << 20


def test_a_function_stays_in_the_heap_while_tasks_of_it_are_to_come(pool):
    lazy = pool.imap(functools.partial(targets.length, bytes(2 << 20)), range(100), buffersize=2)
    assert next(lazy) == 2 << 20
    for n in range(20):  # more than stay
        long = (2 << 20) + n
        assert pool.apply(functools.partial(targets.length, bytes(long)), (0,)) == long
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


def test_who_cannot_be_sent_is_told_why(ctx):
    lock = threading.Lock()
    with ctx.Pool(1) as pool:
        with pytest.raises((AttributeError, pickle.PicklingError)) as raised:
            pool.apply(lambda: lock)
        assert "cannot pickle '_thread.lock'" in raised.value.__notes__[0]
        for call in (
            lambda: pool.apply(targets.length, (lock, 1)),
            lambda: pool.starmap(targets.length, [(lock, 1)]),
            lambda: list(pool.imap(targets.length, [lock])),
        ):
            with pytest.raises(TypeError, match="cannot pickle '_thread\\.lock'") as raised:
                call()
            (note,) = raised.value.__notes__
            assert note.startswith("This was raised here, when length(<unlocked")
            assert note.endswith("was handed out to a worker.")


def test_who_cannot_be_received_is_told_of_its_task(ctx):
    with ctx.Pool(1) as pool:
        with pytest.raises(ValueError, match="no number") as raised:
            pool.apply(targets.indigestible, (7,))
        (note,) = raised.value.__notes__
        assert note.startswith("This was raised here, when the answer of indigestible(7) was")


def test_a_note_is_no_reason_to_lose_an_error(ctx):
    class Silent(Exception):
        add_note = None

    class Refuses:
        def __reduce__(self):
            raise Silent

    with ctx.Pool(1) as pool, pytest.raises(Silent):
        pool.apply(abs, (Refuses(),))
