"""Iterables of lazy maps that wait: for whoever reads the results, or for ever."""

import functools
import gc
import itertools
import os
import queue
import signal
import sys
import threading
import time
import warnings
import weakref

import pytest

import manycore
import targets
from eventually import until

WAYS = ["imap", "imap_unordered"]
ways = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(scope="module", params=["fork", "forkserver"])
def pool(request):
    """A pool for tests that leave it as they found it."""
    with manycore.get_context(request.param).Pool(2) as pool:
        yield pool


@pytest.fixture(params=["fork", "forkserver"])
def own_pool(request):
    with manycore.get_context(request.param).Pool(2) as pool:
        yield pool


beyond = pytest.mark.beyond_stdlib


class Tap:
    """Gives what is put into it, and counts what was asked for."""

    def __init__(self, *items):
        self.asked = 0
        self._items = queue.SimpleQueue()
        self.put(*items)

    def put(self, *items):
        for item in items:
            self._items.put(item)

    def __iter__(self):
        return self

    def __next__(self):
        self.asked += 1
        item = self._items.get()
        if item is None:
            raise StopIteration
        if isinstance(item, BaseException):
            raise item
        return item


@pytest.fixture
def tap():
    tap = Tap()
    yield tap
    tap.put(None)  # else its thread stays
    until(lambda: not feeders())


def feeders():
    return [it for it in threading.enumerate() if it.name == "manycore-feeder"]


@ways
@pytest.mark.parametrize("chunksize", [1, 2])
def test_results_may_bring_the_items(pool, way, chunksize):
    found, to_do = [], queue.Queue()
    to_do.put(1)
    to_do.put(1)
    for links in getattr(pool, way)(targets.two_more, iter(to_do.get, None), chunksize):
        found.append(links)
        for link in links:
            to_do.put(link if link < 100 else None)
    assert sorted(found)[0] == [2, 3]
    assert len(found) >= 50


@ways
def test_no_call_waits_for_the_iterable(pool, tap, way):
    results = getattr(pool, way)(targets.square, tap)
    for number in (2, 3):
        with pytest.raises(manycore.TimeoutError):
            results.next(0.01)
        tap.put(number)
        assert next(results) == number * number
    until(lambda: tap.asked == 3)
    tap.put(None)
    assert list(results) == []


@ways
def test_a_reader_that_waits_already_gets_what_comes_later(pool, tap, way):
    results, seen = getattr(pool, way)(targets.square, tap), []
    reader = threading.Thread(target=lambda: seen.extend(results))
    reader.start()
    for number in range(1, 200):
        tap.put(number)
        if number % 20 == 0:
            until(lambda number=number: len(seen) == number)
    tap.put(None)
    reader.join()
    assert sorted(seen) == [number * number for number in range(1, 200)]


@beyond
@ways
def test_several_readers_share_what_comes(pool, tap, way):
    results, seen = getattr(pool, way)(targets.square, tap), []
    readers = [threading.Thread(target=lambda: seen.extend(results)) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(1, 2000):
        tap.put(number)
    tap.put(None)
    for reader in readers:
        reader.join()
    assert sorted(seen) == [number * number for number in range(1, 2000)]


@beyond
@ways
def test_a_reader_that_stops_leaves_the_rest_to_another(pool, way):
    for buffersize in (1, 3, None):
        results = getattr(pool, way)(targets.square, (n for n in range(500)), 1, buffersize)
        few, rest = [], []
        readers = [
            threading.Thread(target=lambda: few.extend(itertools.islice(results, 5))),  # noqa: B023
            threading.Thread(target=lambda: rest.extend(results)),  # noqa: B023
        ]
        for reader in readers[::-1]:
            reader.start()
        for reader in readers:
            reader.join()
        assert sorted(few + rest) == [n * n for n in range(500)]


@ways
def test_items_are_handed_out_though_nobody_reads(pool, tap, way, gate):
    results = getattr(pool, way)(functools.partial(targets.length_behind, gate), tap)
    tap.put("1")
    gate.arrived()
    tap.put("22", None)
    gate.arrived()
    gate.let_go(2)
    assert sorted(results) == [1, 2]


@beyond
@ways
def test_join_waits_for_the_iterable(own_pool, tap, way):
    results = getattr(own_pool, way)(targets.square, tap)
    own_pool.close()
    joiner = threading.Thread(target=own_pool.join)
    joiner.start()
    for number in range(1, 100):  # more than are ahead of what was read
        tap.put(number)
    until(lambda: tap.asked == 100)
    tap.put(None)
    joiner.join()
    assert sorted(results) == [number * number for number in range(1, 100)]


@beyond
@ways
def test_who_joins_leaves_results_to_a_reader(own_pool, tap, way):
    results, seen = getattr(own_pool, way)(targets.square, tap), []
    own_pool.close()
    joiner = threading.Thread(target=own_pool.join)
    joiner.start()

    def read():
        for result in results:
            seen.append(result)
            tap.put(len(seen) if len(seen) < 50 else None)

    reader = threading.Thread(target=read)
    reader.start()
    tap.put(0)
    reader.join()
    joiner.join()
    assert sorted(seen) == [n * n for n in range(50)]


@beyond
@ways
def test_a_map_within_what_gives_the_items(pool, way):
    def nested():
        for number in range(20):
            yield pool.apply(targets.square, (number,))

    results = getattr(pool, way)(targets.square, nested())
    assert sorted(results) == [number**4 for number in range(20)]


@beyond
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), LookupError("none")])
@ways
def test_whatever_the_iterable_raises_comes_behind_the_results(pool, tap, way, error):
    tap.put(1, 2, error)
    results, seen = getattr(pool, way)(targets.square, tap), []
    with pytest.raises(type(error)) as caught:
        seen.extend(results)
    assert caught.value is error
    assert sorted(seen) == [1, 4]
    assert list(results) == []


class Unsendable(BaseException):
    """What is no exception of an iterable."""


class UnsendableItem:
    def __reduce__(self):
        raise Unsendable


@beyond
@pytest.mark.parametrize("has_thread", [True, False])
@ways
def test_what_cannot_be_sent_at_all_ends_the_map(pool, way, has_thread):
    items = [1, UnsendableItem(), 2]
    with pytest.raises(Unsendable):
        list(getattr(pool, way)(targets.square, iter(items.pop, None) if has_thread else items))
    assert pool.map(targets.square, [3]) == [9]


@beyond
@ways
def test_what_fails_to_be_sent_is_told_at_once(pool, tap, way):
    results = getattr(pool, way)(targets.square, tap, 1, 1)
    for number in range(10):
        tap.put(threading.Lock())
        with pytest.raises(TypeError, match="pickle"):
            next(results)
        tap.put(number)
        assert next(results) == number * number
    results.close()


@beyond
@pytest.mark.parametrize("buffersize", [1, 5])
@ways
def test_no_more_than_may_be_ahead_are_taken(pool, way, buffersize):
    taken = []
    items = map(taken.append, itertools.count())
    results = getattr(pool, way)(targets.identity, items, 1, buffersize)
    until(lambda: len(taken) == buffersize)
    for fetched in range(20):
        next(results)
        time.sleep(0.005)  # all that was handed out is done
        assert len(taken) <= fetched + buffersize  # what was fetched is over with the next call
    results.close()


@beyond
@ways
def test_items_may_follow_from_results_that_were_fetched(pool, way):
    fetched = [2]

    def following():
        while fetched[-1] < 1000:
            yield fetched.pop() + 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        fetched.extend(getattr(pool, way)(targets.identity, following(), buffersize=1))
    finally:
        sys.setswitchinterval(interval)
    assert fetched == [1000]


@beyond
def test_containers_and_counters_have_no_thread(pool):
    for items in ([1], (1,), {1}, {1: 2}, {1: 2}.values(), range(1), b"1", itertools.count()):
        results = pool.imap(targets.identity, items)
        assert not feeders()
        next(results)
        results.close()


@beyond
@ways
def test_the_thread_is_gone_at_the_end(pool, way):
    for _ in range(20):
        assert sum(getattr(pool, way)(targets.square, iter([1, 2].pop, 1))) == 4
    until(lambda: not feeders())


@beyond
@ways
def test_a_map_that_is_closed_asks_for_no_more(own_pool, tap, way):
    results = getattr(own_pool, way)(targets.square, tap)
    tap.put(3)
    assert next(results) == 9
    results.close()
    with pytest.raises(StopIteration):
        next(results)
    tap.put(*range(1, 10))
    until(lambda: not feeders())
    assert tap.asked == 2
    assert own_pool.stats().done == 1


@beyond
def test_a_reader_of_a_closed_map_is_told(pool, tap):
    results, seen = pool.imap(targets.square, tap), []
    reader = threading.Thread(target=lambda: seen.append(list(results)))
    reader.start()
    until(lambda: tap.asked)
    results.close()
    reader.join()
    assert seen == [[]]


@beyond
@ways
def test_a_terminated_pool_does_not_wait_for_the_iterable(tap, way):
    with manycore.Pool(2) as pool:
        results = getattr(pool, way)(targets.square, tap)
        until(lambda: tap.asked)
        errors = []

        def read():
            with pytest.raises(RuntimeError, match="terminated") as caught:
                next(results)
            errors.append(caught)

        reader = threading.Thread(target=read)
        reader.start()
    reader.join()
    assert errors
    assert list(results) == []


@beyond
def test_an_iterable_may_terminate_its_pool():
    pool = manycore.Pool(1)

    def items():
        yield 1
        pool.terminate()
        yield 2

    with pytest.raises(RuntimeError, match="terminated"):
        list(pool.imap(targets.square, items()))
    pool.join()


def wait_until_forgotten(use):
    """Returns when nothing keeps a pool that `use` has made, used and returned a `weakref` to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gone = use()
        until(lambda: gc.collect() >= 0 and gone() is None)


@beyond
def test_a_pool_is_forgotten_though_an_iterable_waits(tap):
    workers = []

    def use():
        pool = manycore.Pool(1)
        workers.extend(worker.pid for worker in pool._pool)
        pool.imap(targets.square, tap)
        until(lambda: tap.asked)
        return weakref.ref(pool)

    wait_until_forgotten(use)
    assert workers
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


@beyond
def test_a_pool_is_forgotten_though_what_gives_the_items_refers_to_it():
    applied = []

    def items(pool):
        for number in itertools.count():
            applied.append(pool.apply(targets.square, (number,)))
            yield number

    def use():
        pool = manycore.Pool(1)
        pool.imap(targets.square, items(pool))
        until(lambda: len(applied) == 16)
        return weakref.ref(pool)

    wait_until_forgotten(use)
    until(lambda: not feeders())


@beyond
def test_a_forked_child_reads_what_was_there(pool):
    results = pool.imap(targets.square, (n for n in range(5)))
    assert next(results) == 0
    until(lambda: pool._attendant.poll() or (not feeders() and pool._crew.open == 0))
    child = os.fork()
    if child == 0:
        os._exit(int(list(results) != [1, 4, 9, 16]))
    assert os.waitpid(child, 0)[1] == 0
    assert list(results) == [1, 4, 9, 16]


@beyond
def test_a_pool_is_forgotten_while_its_map_has_enough_ahead():
    taken = []

    def use():
        pool = manycore.Pool(1)
        pool.imap(targets.square, (taken.append(number) or number for number in itertools.count()))
        until(lambda: len(taken) == 16)
        return weakref.ref(pool)

    wait_until_forgotten(use)
    until(lambda: not feeders())


@beyond
def test_where_there_can_be_no_thread_the_reader_takes_the_items(pool, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("manycore._feeding.begin", refuse)
    threads = set()
    items = (threads.add(threading.current_thread()) or number for number in range(100))
    assert list(pool.imap(targets.square, items)) == [number * number for number in range(100)]
    assert threads == {threading.current_thread()}


@beyond
def test_a_start_that_is_interrupted_leaves_nothing(own_pool, tap, monkeypatch):
    from manycore import _feeding

    start = _feeding.begin

    def interrupt(thread):
        start(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_feeding, "begin", interrupt)
        with pytest.raises(KeyboardInterrupt):
            own_pool.imap(targets.square, tap)
    tap.put(1)
    until(lambda: not feeders())
    own_pool.close()
    own_pool.join()


@beyond
def test_a_worker_that_dies_while_the_iterable_waits_is_replaced(own_pool, tap):
    results = own_pool.imap(targets.square, tap)
    tap.put(2)
    assert next(results) == 4
    for worker in list(own_pool._pool):
        os.kill(worker.pid, signal.SIGKILL)
    tap.put(3, None)
    assert list(results) == [9]


@beyond
@pytest.mark.parametrize("items", ["some that wait", "a list"])
def test_a_closed_pool_whose_workers_were_let_go_does_what_is_left(tap, items):
    tap.put(*range(1, 9), None)
    with manycore.Pool(2, idle_seconds=0.02) as pool:
        source = tap if items == "some that wait" else list(range(1, 9))
        results = pool.imap(targets.square, source, buffersize=2)
        assert next(results) == 1
        until(lambda: not pool._pool)
        pool.close()
        assert list(results) == [n * n for n in range(2, 9)]


@beyond
def test_a_broken_pool_is_joined_though_an_iterable_waits(tap):
    pool = manycore.Pool(1, targets.fail, (LookupError("none"),))
    results = pool.imap(targets.square, tap)
    until(lambda: tap.asked)
    until(lambda: pool._attendant.poll() or pool._workers.is_broken())
    pool.close()
    pool.join()
    with pytest.raises(RuntimeError, match="terminated"):
        next(results)


BLOCKED = """
    import queue, signal, sys, threading, time
    import manycore

    if __name__ == "__main__":
        # A shell has what it runs beside itself ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        pool = manycore.Pool(1)
        results = pool.imap(abs, iter(queue.Queue().get, None))
        {then}
"""


@beyond
@pytest.mark.parametrize("then", ["pass", "sys.exit()", "pool.terminate(); pool.join()"])
def test_a_program_ends_though_an_iterable_waits(run_script, then):
    result = run_script(BLOCKED.format(then=then))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@beyond
def test_ctrl_c_ends_the_wait_for_an_iterable(run_script):
    source = BLOCKED.format(then="print('waits', flush=True); next(results)")
    with run_script.start(source) as script:
        assert script.stdout.readline() == "waits\n"
        script.send_signal(signal.SIGINT)
        _, errors = script.communicate()
    assert script.returncode == -signal.SIGINT
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
