"""Pool: every way to run functions in it, what it does with errors, how it ends."""

import functools
import gc
import itertools
import multiprocessing.pool
import os
import pickle
import re
import signal
import threading
import types
import weakref
from multiprocessing.pool import MaybeEncodingError

import pytest

import manycore
import manycore.pool
import pool_targets
import targets
from eventually import until

beyond_stdlib = pytest.mark.beyond_stdlib


NUMBERS = range(100)
SQUARES = [x * x for x in NUMBERS]


@pytest.fixture(scope="module", params=["fork", "spawn", "forkserver"])
def pool(request):
    """A pool of two for tests that leave it as they found it."""
    with manycore.get_context(request.param).Pool(2) as pool:
        yield pool


# Each way to compute func(x) for many x, as a list in the order of the input.
WAYS = {
    "map": lambda pool, func, items: pool.map(func, items),
    "map_async": lambda pool, func, items: pool.map_async(func, items).get(),
    "starmap": lambda pool, func, items: pool.starmap(func, ((x,) for x in items)),
    "starmap_async": lambda pool, func, items: pool.starmap_async(func, zip(items)).get(),
    "imap": lambda pool, func, items: list(pool.imap(func, items)),
    "imap_unordered": lambda pool, func, items: sorted(pool.imap_unordered(func, items)),
    "apply": lambda pool, func, items: [pool.apply(func, (x,)) for x in items],
    "apply_async": lambda pool, func, items: [
        result.get() for result in [pool.apply_async(func, (x,)) for x in items]
    ],
}
all_ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@all_ways
def test_results_come_in_the_order_of_the_input(pool, way):
    assert way(pool, targets.square, NUMBERS) == SQUARES


@all_ways
def test_no_items_give_no_results(pool, way):
    assert way(pool, targets.square, []) == []


@all_ways
def test_an_exception_of_a_task_reaches_the_caller(pool, way):
    with pytest.raises(ValueError, match="7 is bad") as caught:
        way(pool, functools.partial(targets.fail_on, 7), range(10))
    assert "in fail_on" in str(caught.value.__cause__)  # the traceback of the worker


@all_ways
def test_megabytes_travel_both_ways(pool, way):
    payload = os.urandom(1 << 20) * 3
    assert way(pool, targets.identity, [payload]) == [payload]


@all_ways
def test_a_result_that_cannot_be_pickled_is_an_error_and_the_pool_goes_on(pool, way):
    with pytest.raises(MaybeEncodingError, match=r"cannot pickle '_thread\.lock'"):
        way(pool, targets.unpicklable, [1])
    assert pool.apply(targets.square, (3,)) == 9


@beyond_stdlib  # there the thread that collects results dies, and the caller waits for ever
@all_ways
def test_an_exception_that_cannot_be_unpickled_is_an_error_and_the_pool_goes_on(pool, way):
    with pytest.raises(Exception, match="PickyError"):
        way(pool, targets.fail_pickily, [1])
    assert pool.apply(targets.square, (3,)) == 9


@beyond_stdlib
def test_an_exception_that_cannot_travel_comes_with_both_tracebacks(pool):
    with pytest.raises(MaybeEncodingError) as caught:
        pool.apply(targets.fail_unpicklably)
    story = str(caught.value.__cause__)
    parts = ["in fail_unpicklably", "StubbornError: no", "in __reduce__", "TypeError: stays here"]
    assert sorted(parts, key=story.index) == parts
    assert "sendable_exception" not in story


@pytest.mark.parametrize("chunksize", [1, 7, 100, 1000])
@pytest.mark.parametrize("name", ["map", "imap", "imap_unordered"])
def test_the_chunk_size_changes_nothing_but_speed(pool, name, chunksize):
    results = getattr(pool, name)(targets.square, iter(NUMBERS), chunksize)
    assert sorted(results) == SQUARES


@pytest.mark.parametrize("chunksize", [None, 1, 7])
@pytest.mark.parametrize(
    "numbers", [range(0), range(1000), range(999, -1, -3), range(-5, 9000, 7)], ids=str
)
def test_a_range_is_as_good_as_a_list_of_its_numbers(pool, numbers, chunksize):
    expected = [n * n for n in numbers]
    assert pool.map(targets.square, numbers, chunksize) == expected
    assert pool.map(targets.square, list(numbers), chunksize) == expected
    assert pool.map_async(targets.square, numbers, chunksize).get() == expected


@beyond_stdlib
@pytest.mark.parametrize("way", ["map", "starmap", "map in chunks", "apply"])
def test_who_interrupts_a_call_withdraws_what_waits(gate, tmp_path, way):
    path = str(tmp_path / "begun")
    with manycore.Pool(1) as pool:
        running = pool.apply_async(targets.stop_at, (gate, 1))
        gate.arrived()
        before = signal.signal(signal.SIGUSR1, interrupt)
        main = threading.main_thread().ident
        thread = threading.Thread(target=interrupt_when_queued, args=(pool, main))
        thread.start()
        try:
            with pytest.raises(InterruptedError, match="now"):
                if way == "apply":
                    pool.apply(targets.append_number, (path, 1))
                elif way == "starmap":
                    pool.starmap(targets.append_number, [(path, n) for n in range(5)])
                else:
                    chunk = 1 if way == "map" else 10
                    pool.map(functools.partial(targets.append_number, path), range(20), chunk)
        finally:
            signal.signal(signal.SIGUSR1, before)
            thread.join()
        assert pool.stats().queued == 0
        gate.let_go()
        assert running.get() == 1
        assert pool.apply(targets.square, (3,)) == 9
        assert not os.path.exists(path)


def interrupt(*_):
    raise InterruptedError("now")


def interrupt_when_queued(pool, thread):
    until(lambda: pool._crew.queued)
    signal.pthread_kill(thread, signal.SIGUSR1)


def test_starmap_spreads_arguments(pool):
    assert pool.starmap(targets.add, [(1, 2), (3, 4)]) == [3, 7]


def test_apply_passes_positional_and_named_arguments(pool):
    assert pool.apply(targets.gather, (1, 2), {"three": 3}) == ((1, 2), {"three": 3})
    assert pool.apply_async(targets.gather, kwds={"a": 1}).get() == ((), {"a": 1})


def test_apply_async_results_are_known_when_ready(pool):
    result = pool.apply_async(targets.square, (5,))
    result.wait()
    assert result.ready()
    assert result.successful()
    assert result.get() == result.get() == 25


def test_a_failed_result_is_ready_but_not_successful(pool):
    result = pool.apply_async(targets.fail, (KeyError("k"),))
    result.wait()
    assert result.ready()
    assert not result.successful()


def test_a_result_that_is_not_ready_says_so(pool, gate):
    result = pool.apply_async(targets.stop_at, (gate, "done"))
    gate.arrived()
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    assert result.wait(timeout=0.01) is None
    with pytest.raises(manycore.TimeoutError):
        result.get(timeout=0.01)
    gate.let_go()
    assert result.get() == "done"


def test_imap_yields_a_result_before_the_last_task_ends(pool, gate):
    stop_on_two = functools.partial(targets.stop_on, gate, 2)
    results = pool.imap(stop_on_two, range(3))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(manycore.TimeoutError):
        results.next(timeout=0.01)
    gate.let_go()
    assert next(results) == 2
    with pytest.raises(StopIteration):
        next(results)


def test_imap_unordered_does_not_wait_for_a_slow_task(pool, gate):
    results = pool.imap_unordered(functools.partial(targets.stop_on, gate, 0), range(10))
    assert sorted(itertools.islice(results, 9)) == list(range(1, 10))
    gate.let_go()
    assert list(results) == [0]


def test_imap_goes_on_after_a_failed_item(pool):
    results = pool.imap(functools.partial(targets.fail_on, 1), range(3))
    assert next(results) == 0
    with pytest.raises(ValueError, match="1 is bad"):
        next(results)
    assert list(results) == [2]


@pytest.mark.parametrize("name", ["map", "imap", "imap_unordered"])
def test_an_exception_of_the_input_reaches_the_caller(pool, name):
    def source():
        yield 1
        raise LookupError("the source ran dry")

    with pytest.raises(LookupError, match="ran dry"):
        list(getattr(pool, name)(targets.square, source()))


def test_tasks_run_in_the_workers_and_not_here(pool):
    pids = set(pool.map(targets.own_pid, range(50)))
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


def test_as_many_tasks_run_at_once_as_there_are_workers(ctx, gate):
    with ctx.Pool(3) as pool:
        results = [pool.apply_async(targets.stop_at, (gate, n)) for n in range(3)]
        assert len(set(gate.arrived(3))) == 3
        gate.let_go(3)
        assert [result.get() for result in results] == [0, 1, 2]


def test_several_threads_may_use_one_pool(pool):
    answers = [None] * 4

    def work(index):
        answers[index] = pool.map(targets.square, range(index, index + 100), chunksize=3)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[x * x for x in range(i, i + 100)] for i in range(4)]


def test_the_initializer_runs_in_each_worker_before_its_tasks(ctx):
    with ctx.Pool(2, initializer=targets.remember, initargs=("ready",)) as pool:
        assert set(pool.map(targets.remembered, range(20))) == {"ready"}


def test_workers_are_replaced_after_maxtasksperchild(ctx):
    with ctx.Pool(1, maxtasksperchild=2) as pool:
        pids = [pool.apply(targets.own_pid) for _ in range(6)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("method", "prefix"), [("fork", "Fork"), ("spawn", "Spawn"), ("forkserver", "ForkServer")]
)
def test_workers_are_daemons_named_after_the_start_method(method, prefix):
    with manycore.get_context(method).Pool(1) as pool:
        name, daemon = pool.apply(targets.worker_identity, (None,))
    assert name.startswith(f"{prefix}PoolWorker-")
    assert daemon is True


def test_close_and_join_wait_for_everything_that_was_asked_for(ctx):
    pool = ctx.Pool(2)
    results = [pool.apply_async(targets.square, (n,)) for n in range(50)]
    pool.close()
    pool.join()
    assert all(result.ready() for result in results)
    assert [result.get() for result in results] == [n * n for n in range(50)]


def test_terminate_ends_running_tasks(ctx, gate):
    pool = ctx.Pool(1)
    pool.apply_async(targets.stop_at, (gate,))
    gate.arrived()
    pool.terminate()
    pool.join()


def test_terminate_does_not_wait_for_queued_tasks(tmp_path, gate):
    pool = manycore.Pool(1)
    pool.apply_async(targets.stop_at, (gate,))
    pool.map_async(functools.partial(targets.tally, tmp_path / "tally"), range(100))
    gate.arrived()
    pool.terminate()
    pool.join()
    assert not (tmp_path / "tally").exists()


def test_leaving_the_block_terminates(ctx, gate):
    with ctx.Pool(1) as pool:
        pool.apply_async(targets.stop_at, (gate,))
        gate.arrived()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(targets.square, (1,))


@pytest.mark.parametrize("end", ["close", "terminate"])
@all_ways
def test_an_ended_pool_takes_no_tasks(end, way):
    pool = manycore.Pool(1)
    getattr(pool, end)()
    with pytest.raises(ValueError, match="Pool not running"):
        way(pool, targets.square, [1])
    pool.join()


def test_ending_twice_is_no_error():
    pool = manycore.Pool(1)
    for end in (pool.close, pool.close, pool.join, pool.terminate, pool.terminate, pool.join):
        end()


def test_a_running_pool_cannot_be_joined(pool):
    with pytest.raises(ValueError, match="still running"):
        pool.join()


def test_a_pool_cannot_be_pickled(pool):
    with pytest.raises(NotImplementedError, match="pool objects cannot be passed"):
        pickle.dumps(pool)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "imap_unordered"])  # which sorts
def test_no_argument_and_no_result_outlives_its_call(pool, way):
    items = [targets.Weighty() for _ in range(10)]
    results = WAYS[way](pool, targets.identity, items)
    alive = [weakref.ref(thing) for thing in items + results]
    del items, results
    until(lambda: gc.collect() >= 0 and not any(ref() for ref in alive))


def test_no_argument_outlives_a_call_that_was_answered(pool):
    items = [targets.Weighty() for _ in range(10)]
    alive = [weakref.ref(thing) for thing in items]
    answers, called_back = [], []
    answers.append(pool.map_async(targets.nothing, items, callback=called_back.append))
    answers.append(pool.map_async(targets.fail, [ValueError(1)], error_callback=called_back.append))
    answers[0].get()
    answers[1].wait()
    del items
    until(lambda: len(called_back) == 2 and not any(ref() for ref in alive))
    answers_alive = [weakref.ref(answer) for answer in answers]
    answers.clear()
    until(lambda: gc.collect() >= 0 and not any(ref() for ref in answers_alive))


def test_a_pool_is_the_standard_librarys_kind(pool):
    assert isinstance(pool, multiprocessing.pool.Pool)
    assert "state=RUN pool_size=2" in repr(pool)


def test_the_default_is_one_worker_for_each_cpu():
    with manycore.Pool() as pool:
        (size,) = re.findall(r"pool_size=(\d+)", repr(pool))
    # CPython 3.13 began to count only those that the process may use; manycore does so always.
    assert int(size) in (manycore.cpu_count(), len(os.sched_getaffinity(0)))


def test_two_pools_work_side_by_side(ctx):
    with ctx.Pool(1) as one, ctx.Pool(1) as other:
        first, second = (p.map_async(targets.own_pid, range(10)) for p in (one, other))
        assert set(first.get()).isdisjoint(second.get())


@beyond_stdlib
@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "Lock", "RLock", "Semaphore", "RWLock"])
def test_a_handle_may_be_an_argument_and_a_result(pool, kind):
    handle = getattr(manycore, kind)()
    assert type(pool.apply(targets.identity, (handle,))) is type(handle)


@beyond_stdlib
def test_a_queue_as_argument_and_back_is_the_same_queue(pool):
    queue = manycore.Queue()
    returned = pool.map(targets.identity, [queue])[0]
    pool.apply(targets.put, (queue, "from a worker"))
    assert returned.get() == "from a worker"


@beyond_stdlib
def test_workers_may_have_children(ctx):
    with ctx.Pool(1) as pool:
        pool.apply(targets.run_in_a_child, (ctx, targets.nothing))


class LesserProcess:
    """All that a pool needs of a process, as a context of somebody else's may have it."""

    def __init__(self, started, **_):
        self.name, self.exitcode, self._started = "Process", None, started
        self._is_alive = False

    def start(self):
        if len(self._started) == 2:
            raise OSError("no more")
        self._started.append(self)
        self._is_alive = True

    def is_alive(self):
        return self._is_alive

    def terminate(self):
        self._is_alive = False

    def join(self):
        assert not self._is_alive


def test_workers_of_any_kind_are_ended_when_not_all_can_be_started():
    started = []
    context = types.SimpleNamespace(
        Process=functools.partial(LesserProcess, started),
        Lock=manycore.Lock,
        SimpleQueue=manycore.SimpleQueue,
        get_start_method=lambda: "fork",
    )
    with pytest.raises(OSError, match="no more"):
        manycore.pool.Pool(3, context=context)
    assert [process.is_alive() for process in started] == [False, False]


@pytest.mark.beyond_stdlib
def test_a_thread_that_waits_for_answers_hears_that_there_is_something_else_to_do():
    with manycore.Pool(1) as pool:
        crew = pool._crew
        waits = threading.Thread(target=crew.wait, args=(None, 0, 1, 3600.0))
        waits.start()
        while waits.is_alive():
            crew.ring()
            os.sched_yield()
        waits.join()
    pool.join()


@beyond_stdlib
def test_a_class_method_is_unpickled_once_by_each_worker():
    with manycore.Pool(1) as pool:
        looks = pool.map(targets.Looked.task, range(20), chunksize=1)
        assert len(set(looks)) == 1
        assert pool.map(float, "12") == [1.0, 2.0]


@beyond_stdlib
@pytest.mark.filterwarnings("ignore:unclosed running:ResourceWarning")
@pytest.mark.parametrize("is_usual", [True, False])
def test_a_pool_that_nobody_has_ends_although_a_call_of_it_runs(is_usual):
    pool = manycore.get_context("fork").Pool(1)
    read_end, write_end = os.pipe()
    pool.apply(targets.identity, (0,))
    options = {} if is_usual else {"timeout": 1000}
    for _ in range(2):  # the first makes the pool's thread
        pool.apply_async(os.read, (read_end, 1), **options)
    gone, keeper = weakref.ref(pool), pool._attendant.keeper
    del pool
    until(lambda: gc.collect() >= 0 and gone() is None and not keeper.runs)
    os.close(read_end)
    os.close(write_end)


@beyond_stdlib
def test_a_namespace_that_has_a_pool_and_its_function_is_freed():
    class Mark:
        pass

    namespace = {"manycore": manycore, "mark": Mark(), "__name__": "__main__"}
    exec(
        "def f(x): return x\n"
        "pool = manycore.get_context('fork').Pool(1)\n"
        "pool.apply(f, (1,)); pool.terminate(); pool.join()",
        namespace,
    )
    gone = weakref.ref(namespace["mark"])
    del namespace
    until(lambda: gc.collect() >= 0 and gone() is None)


@beyond_stdlib
def test_the_collector_walks_results_only_that_may_lead_back_to_themselves(pool):
    pool.apply_async(targets.identity, (0,)).get()  # the first are made another way
    number, others = [pool.apply_async(targets.identity, (1,)) for _ in range(2)]
    number.get()
    assert not gc.is_tracked(number)
    others.mark = others
    bad = pool.apply_async(targets.fail, (ValueError("bad"),))
    with pytest.raises(ValueError, match="bad"):
        bad.get()
    listed = pool.apply_async(targets.identity, ([],))
    listed.get().append(listed)
    assert all(map(gc.is_tracked, (others, bad, listed)))
    gone = [weakref.ref(result) for result in (number, others, bad, listed)]
    del number, others, bad, listed
    until(lambda: gc.collect() >= 0 and not any(ref() for ref in gone))
    with pytest.raises(AttributeError):
        del pool.apply_async(targets.identity, (1,)).no_such


@beyond_stdlib
@pytest.mark.parametrize("call", ["apply", "map"])
def test_a_pool_whose_error_was_raised_is_freed_with_the_frames_that_had_it(call):
    def use():
        pool = manycore.get_context("fork").Pool(1)
        argument = [ValueError("bad")]
        with pytest.raises(ValueError, match="bad"):
            getattr(pool, call)(targets.fail, argument)
        pool.terminate()
        pool.join()
        return weakref.ref(pool)

    pool = use()
    gc.collect()
    assert pool() is None


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("not this one")


@pytest.mark.parametrize("chunksize", [1, 3])
def test_items_of_every_kind_arrive_in_their_order(ctx, chunksize):
    items = [n if n % 7 else [n, "text" * n, bytes(n * 1000)] for n in range(120)]
    items[50] = bytearray(5 << 20)
    items[51] = targets.square
    with ctx.Pool(2) as pool:
        assert pool.map(targets.identity, items, chunksize) == items


@pytest.mark.beyond_stdlib  # there one such item is the whole map's error, and nothing is run
@pytest.mark.parametrize("bad", [[0], [15, 16], [20, 21, 59], range(60)])
def test_items_that_cannot_be_sent_are_errors_of_their_own(bad):
    items = [Unpicklable() if n in bad else n for n in range(60)]
    with manycore.Pool(2) as pool:
        results = pool.map(targets.square, items, chunksize=1, on_error="return")
        for n, result in enumerate(results):
            if n in bad:
                assert "not this one" in str(result)
            else:
                assert result == n * n
        assert pool.stats().open == 0


@pytest.mark.beyond_stdlib
def test_an_interruption_while_a_map_is_handed_out_leaves_a_pool_that_goes_on():
    class Interrupting:
        def __reduce__(self):
            raise KeyboardInterrupt

    with manycore.Pool(2) as pool:
        for place in (0, 5, 20):
            items = [*range(place), Interrupting(), *range(30)]
            with pytest.raises(KeyboardInterrupt):
                pool.map(targets.square, items, chunksize=1)
        assert pool.map(targets.square, range(50), chunksize=1) == [n * n for n in range(50)]
        pool.close()
        pool.join()


def test_programs_may_look_at_how_much_has_no_answer(ctx, gate):
    with ctx.Pool(1) as pool:
        assert len(pool._cache) == 0
        first = pool.apply_async(gate.stop)
        gate.arrived()
        results = pool.map_async(targets.square, range(10), chunksize=3)
        last = pool.apply_async(targets.square, (3,))
        assert results._number_left == 4 and results._chunksize == 3
        assert set(pool._cache.values()) == {first, results, last}
        gate.let_go()
        assert last.get() == 9
        until(lambda: not pool._cache)
        assert results._number_left == 0 and pool._taskqueue.empty()


@beyond_stdlib
def test_the_tasks_that_nobody_has_begun_are_counted_as_if_in_a_queue(ctx, gate):
    with ctx.Pool(1) as pool:
        first = pool.apply_async(gate.stop)
        gate.arrived()
        others = [pool.apply_async(targets.square, (n,)) for n in range(7)]
        assert pool._taskqueue.qsize() == 7 and not pool._taskqueue.empty()
        assert others[-1].cancel()
        assert pool._taskqueue.qsize() == 6 and len(pool._cache) == 7
        gate.let_go()
        first.get()
    with ctx.Pool(0) as pool:
        result = pool.apply_async(targets.square, (7,))
        assert pool._taskqueue.qsize() == 1
        assert not pool._cache and pool._taskqueue.empty()  # who looks has run it
        assert result.get() == 49


def test_results_are_those_of_the_standard_library_to_who_asks(pool):
    theirs = multiprocessing.pool
    for result, kind in [
        (pool.apply_async(targets.square, (2,)), theirs.ApplyResult),
        (pool.map_async(targets.square, [2]), theirs.MapResult),
        (pool.starmap_async(targets.square, [(2,)]), theirs.MapResult),
    ]:
        assert isinstance(result, kind)
        result.wait()
    assert isinstance(pool.imap(targets.square, [2]), theirs.IMapIterator)
    unordered = pool.imap_unordered(targets.square, [2])
    assert isinstance(unordered, theirs.IMapUnorderedIterator)
    assert list(unordered) == [4]


def test_programs_may_look_at_how_a_pool_was_made():
    with manycore.Pool(1, targets.square, (2,), maxtasksperchild=5) as pool:
        made_with = pool._initializer, pool._initargs, pool._maxtasksperchild
        assert made_with == (targets.square, (2,), 5)


@pytest.mark.parametrize("call", ["apply", "map", "imap"])
def test_an_error_may_hold_what_cannot_be_compared(ctx, call):
    with ctx.Pool(1) as pool, pytest.raises(KeyError):
        if call == "apply":
            pool.apply(pool_targets.raise_refusing)
        else:
            list(getattr(pool, call)(pool_targets.raise_refusing, [1]))
