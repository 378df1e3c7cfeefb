"""A shared dict that is changed meanwhile: by others, or by what is run in between."""

import contextlib
import sys
import threading
import time

import pytest

import manycore
import targets
from processes import running

pytestmark = pytest.mark.beyond_stdlib


@pytest.fixture
def d():
    return manycore.SharedDict()


@contextlib.contextmanager
def others(target, d, count):
    """So many processes that do something with the dict until the end of the block."""
    ctx = manycore.get_context("fork")
    stop = ctx.Event()
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(running(ctx, target, d, number, stop)) for number in range(count)
        ]
        stack.callback(stop.set)
        yield
    assert {process.exitcode for process in processes} == {0}


def at_once(function, times):
    """Runs a function in so many threads; what it returned in each, or raised in one."""
    outcomes = []

    def run():
        try:
            outcomes.append(function())
        except BaseException as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return outcomes


@pytest.mark.parametrize("view", ["keys", "values", "items"])
def test_threads_that_share_an_iterator_meet_each_entry_once_together(d, view):
    staying = {f"stays {number}": f"stays {number}" for number in range(300)}
    d.update(staying)
    with others(targets.come_and_go, d, 2):
        for _ in range(30):
            entries = iter(getattr(d, view)())
            first, second = at_once(lambda entries=entries: list(entries), 2)
            met = [it for it in first + second if "stays" in str(it)]
            assert sorted(met) == sorted(getattr(staying, view)())


def test_popitem_finds_an_entry_as_long_as_there_is_one(d):
    d["of", 0, 0] = 0
    with others(targets.walk_on, d, 1):
        for _ in range(20_000):
            key, value = d.popitem()
            d[key] = value


@pytest.fixture
def given_up_by_calls_alone():
    """A thread keeps the interpreter until it calls something that can do without."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(interval)


def test_other_threads_go_on_while_a_dict_is_cleared(d, given_up_by_calls_alone):
    turns, is_over = [0], threading.Event()

    def turn():
        while not is_over.is_set():
            turns[0] += 1
            time.sleep(0)

    def goes_on_meanwhile():
        d.update((number, None) for number in range(50_000))
        before = turns[0]
        d.clear()
        return turns[0] > before

    other = threading.Thread(target=turn)
    other.start()
    try:
        assert any(goes_on_meanwhile() for _ in range(20))
    finally:
        is_over.set()
        other.join()


class Clears:
    """Empties a dict when it is compared with something."""

    def __init__(self, d):
        self.d = d

    def __eq__(self, other):
        self.d.clear()
        return False


def test_values_that_are_gone_are_passed_over_in_a_search(d):
    d.update((number, number) for number in range(100))
    assert Clears(d) not in d.values()


EMPTIED = []


def empty_all():
    for d in EMPTIED:
        d.clear()


class ClearsWhenGot:
    """Empties dicts when it is unpickled."""

    def __reduce__(self):
        return empty_all, ()


def update_what_clears(d):
    def set_and_clear(self, key, value):
        super(emptying, self).__setitem__(key, value)
        empty_all()

    emptying = type("Emptying", (type(d),), {"__setitem__": set_and_clear})
    emptying().update(d)


@pytest.mark.parametrize(
    "use",
    [
        lambda d: {} | d,
        lambda d: d | d,
        lambda d: manycore.SharedDict(a=1) | d,
        lambda d: manycore.SharedDict(a=1) == d,
        lambda d: d == {"a": 1},
        lambda d: manycore.SharedDict(d),
        update_what_clears,
        lambda d: manycore.SharedDict().__ior__(d),
        repr,
    ],
)
def test_what_is_removed_while_it_is_copied_is_passed_over(d, use):
    try:
        EMPTIED.append(d)
        d.update((number, ClearsWhenGot()) for number in range(100))
        use(d)
    finally:
        EMPTIED.clear()
