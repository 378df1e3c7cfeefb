"""The callbacks of pools and of executors' futures: who calls them, when, and what they may do."""

import _thread
import os
import threading
import time

import pytest

import manycore
import targets
from eventually import until

beyond_stdlib = pytest.mark.beyond_stdlib


@pytest.fixture(scope="module", params=["fork", "spawn", "forkserver"])
def pool(request):
    """A pool of one, so that answers come in the order of the calls."""
    with manycore.get_context(request.param).Pool(1) as pool:
        yield pool


@pytest.fixture
def executor(ctx):
    with manycore.ProcessPoolExecutor(1, ctx) as executor:
        yield executor


class Stop:
    """A callback that waits."""

    def __init__(self):
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self, _):
        self.begun.set()
        self.may_end.wait()


@pytest.fixture
def stop():
    stop = Stop()
    yield stop
    stop.may_end.set()


def test_a_callback_gets_the_result_and_no_error(pool):
    called = threading.Event()
    seen = []

    def callback(value):
        seen.append(value)
        called.set()

    pool.apply_async(targets.square, (6,), callback=callback, error_callback=seen.append)
    called.wait()
    assert seen == [36]


@pytest.mark.parametrize("name", ["map_async", "starmap_async"])
def test_a_map_calls_back_once_with_all_results(pool, name):
    seen = []
    result = getattr(pool, name)(targets.gather, [(1,), (2,)], 1, seen.append)
    assert result.get() == seen[0]
    assert len(seen) == 1


@pytest.mark.parametrize("name", ["apply_async", "map_async"])
def test_an_error_callback_gets_the_exception(pool, name):
    error = ValueError("no")
    argument = (error,) if name == "apply_async" else [error]
    seen = []
    result = getattr(pool, name)(
        targets.fail, argument, callback=seen.append, error_callback=seen.append
    )
    result.wait()
    with pytest.raises(ValueError, match="no"):
        result.get()
    assert [repr(e) for e in seen] == ["ValueError('no')"]


def test_a_call_is_done_when_its_callback_has_run(pool, stop):
    seen = []
    result = pool.apply_async(targets.square, (3,), callback=lambda it: (stop(it), seen.append(it)))
    stop.begun.wait()
    assert not result.ready()
    with pytest.raises(manycore.TimeoutError):
        result.get(timeout=0.01)
    stop.may_end.set()
    assert result.get() == 9
    assert seen == [9]
    for number in range(20):
        pool.apply_async(targets.square, (number,), callback=seen.append).get()
        assert seen[-1] == number * number


def test_a_map_of_nothing_calls_back_and_is_done(pool, stop):
    result = pool.map_async(targets.square, [], callback=stop)
    if stop.begun.wait(0 if pool.__module__.startswith("multiprocessing") else None):
        assert not result.ready()
        stop.may_end.set()
    assert result.get() == []


LOOKS = {
    "ready": lambda pool, result: result.ready(),
    "wait": lambda pool, result: result.wait(0),
    "get": lambda pool, result: _try(result.get, 0),
    "next": lambda pool, result: _try(pool.imap(targets.square, [1]).next, 0),
    "stats": lambda pool, result: pool.stats(),
    "map": lambda pool, result: pool.map(targets.square, [1]),
}


def _try(function, *args):
    try:
        return function(*args)
    except (manycore.TimeoutError, TimeoutError):
        return None


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(look, marks=beyond_stdlib if name in ("stats", "map") else ())
        for name, look in LOOKS.items()
    ],
    ids=LOOKS,
)
def test_who_looks_may_hold_a_lock_that_a_callback_wants(pool, stop, look):
    pool.apply_async(targets.nothing, callback=stop)
    stop.begun.wait()  # so nobody but this thread collects answers
    lock, callers = threading.Lock(), []

    def call_back(_):
        with lock:
            callers.append(threading.current_thread())

    with lock:
        result = pool.apply_async(targets.square, (3,), callback=call_back)
        if not pool.__module__.startswith("multiprocessing"):
            until(lambda: (look(pool, result), result._left == 0)[1])
        look(pool, result)
        assert not callers
        stop.may_end.set()
    assert result.get() == 9
    assert callers
    assert threading.current_thread() not in callers


@beyond_stdlib
@pytest.mark.parametrize(
    "look",
    [
        lambda future: future.done(),
        lambda future: future.running(),
        lambda future: _try(future.result, 0),
        lambda future: _try(future.exception, 0),
        repr,
    ],
    ids=["done", "running", "result", "exception", "repr"],
)
def test_who_looks_at_a_future_may_hold_a_lock_that_its_callback_wants(executor, gate, stop, look):
    executor.submit(targets.stop_at, gate, 1).add_done_callback(stop)
    gate.arrived()
    gate.let_go()
    stop.begun.wait()
    lock, called = threading.Lock(), threading.Event()

    def call_back(_):
        with lock:
            called.set()

    with lock:
        future = executor.submit(targets.stop_at, gate, 9)
        future.add_done_callback(call_back)
        gate.arrived()
        gate.let_go()
        until(lambda: (look(future), future._left == 0)[1])
        look(future)
        stop.may_end.set()
    called.wait()
    assert future.result() == 9


@beyond_stdlib
def test_who_cancels_a_future_calls_back(executor, gate):
    running = executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    executor.submit(targets.square, 1)
    callers = []
    future = executor.submit(targets.square, 2)
    future.add_done_callback(lambda _: callers.append(threading.current_thread()))
    future.add_done_callback(lambda _: callers.append(threading.current_thread()))
    assert future.cancel()
    assert callers == [threading.current_thread()] * 2
    gate.let_go()
    assert running.result() == 1
    assert len(callers) == 2


@beyond_stdlib
def test_a_future_is_done_after_the_callbacks_of_those_before(executor, gate):
    called = []
    executor.submit(targets.stop_at, gate, None)
    futures = [executor.submit(targets.identity, number) for number in range(200)]
    for future in futures:
        future.add_done_callback(lambda future: called.append((future.done(), future.result(0))))
    gate.arrived()
    gate.let_go()
    for number, future in enumerate(futures):
        assert future.result() == number
        assert len(called) >= number  # the last one is told of the moment before
    executor.shutdown()
    assert called == [(True, number) for number in range(200)]


@beyond_stdlib  # there it waits for ever
def test_a_callback_of_a_future_may_wait_for_another(executor, gate):
    seen = []
    first = executor.submit(targets.stop_at, gate, 1)
    second = executor.submit(targets.square, 2)
    second.add_done_callback(lambda future: seen.append(future.result()))
    first.add_done_callback(lambda _: seen.append(second.result()))
    gate.arrived()
    gate.let_go()
    executor.shutdown()
    assert seen == [4, 4]


def test_callbacks_come_one_at_a_time_in_the_order_of_the_answers(pool):
    order, inside, together = [], [], []

    def call_back(number):
        inside.append(number)
        together.extend(inside[:-1])
        order.append(number)
        inside.remove(number)

    results = [pool.apply_async(targets.identity, (n,), callback=call_back) for n in range(200)]
    for result in reversed(results):
        result.get()
    assert order == list(range(200))
    assert not together


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_the_end_of_a_pool_waits_for_callbacks(ctx, stop, end):
    pool = ctx.Pool(1)
    called = []
    pool.apply_async(targets.square, (3,), callback=lambda it: (stop(it), called.append(it)))
    stop.begun.wait()
    timer = threading.Timer(0.05, stop.may_end.set)
    timer.start()
    getattr(pool, end)()
    pool.join()
    assert called == [9]
    timer.join()


@beyond_stdlib
def test_the_end_of_an_executor_waits_for_callbacks(ctx, gate, stop):
    called = []
    timer = threading.Timer(0.05, stop.may_end.set)
    with manycore.ProcessPoolExecutor(1, ctx) as executor:
        future = executor.submit(targets.stop_at, gate, 9)
        future.add_done_callback(lambda it: (stop(it), called.append(it.result())))
        gate.arrived()
        gate.let_go()
        stop.begun.wait()
        timer.start()
    assert called == [9]
    timer.join()


@beyond_stdlib  # there they wait for ever
def test_a_callback_may_ask_for_results_also_its_own(pool):
    seen = []

    def call_back(value):
        result = results[0]
        seen.extend([value, result.ready(), result.successful(), result.get()])
        seen.append(pool.apply(targets.square, (value,)))

    can_begin = threading.Event()
    results = []
    pool.apply_async(targets.nothing, callback=lambda _: can_begin.wait())
    results.append(pool.apply_async(targets.square, (3,), callback=call_back))
    can_begin.set()
    assert results[0].get() == 9
    assert seen == [9, True, True, 9, 81]


@beyond_stdlib  # there it waits for ever
@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_a_callback_cannot_wait_for_the_end_of_its_pool(ctx, gate, kind):
    errors, called = [], threading.Event()

    def end(_):
        try:
            if kind == "pool":
                owner.close()
                owner.join()
            else:
                owner.shutdown()
        except RuntimeError as error:
            errors.append(str(error))
        called.set()

    if kind == "pool":
        owner = ctx.Pool(1)
        owner.apply_async(targets.nothing, callback=end)
    else:
        owner = manycore.ProcessPoolExecutor(1, ctx)
        owner.submit(targets.stop_at, gate, 1).add_done_callback(end)
        gate.arrived()
        gate.let_go()
    called.wait()
    assert errors == [
        "a callback cannot wait for the end of its pool, which waits for the callback"
    ]
    if kind == "pool":
        owner.join()
    else:
        owner.shutdown()


@beyond_stdlib  # there it may wait for ever
def test_a_callback_may_terminate_its_pool(ctx):
    called = threading.Event()
    pool = ctx.Pool(2)
    pool.apply_async(time.sleep, (600,))
    pool.apply_async(targets.square, (3,), callback=lambda _: (pool.terminate(), called.set()))
    called.wait()
    pool.join()


@beyond_stdlib  # there the thread that collects results dies, and the caller waits for ever
def test_what_a_callback_raises_is_shown_and_the_pool_goes_on(pool, monkeypatch):
    shown = []
    monkeypatch.setattr("sys.unraisablehook", lambda it: shown.append(repr(it.exc_value)))
    error = SystemExit("no")
    assert pool.apply_async(targets.square, (3,), callback=lambda _: targets.fail(error)).get() == 9
    assert pool.apply_async(targets.square, (4,), callback=shown.append).get() == 16
    assert shown == ["SystemExit('no')", 16]


@beyond_stdlib
def test_callbacks_are_called_where_threads_can_be_started_again(monkeypatch):
    seen = []
    with manycore.Pool(1) as pool:
        pool.apply_async(targets.square, (2,), callback=seen.append).get()
        for number in range(3):
            pool._attendant.keeper.rest()  # as before a fork
            with monkeypatch.context() as patch:
                patch.setattr("threading.Thread.start", _refuse)
                with pytest.raises(RuntimeError, match="no more threads"):
                    pool.apply_async(targets.identity, (number,), callback=seen.append)
                until(lambda number=number: (pool.stats(), len(seen) == number + 2)[1])
        assert pool.apply_async(targets.square, (3,), callback=seen.append).get() == 9
    assert seen == [4, 0, 1, 2, 9]


@pytest.mark.parametrize("end", ["terminate", "exit"])
def test_a_callback_that_runs_is_not_cut_off_by_the_end(run_script, end):
    done = run_script(
        """
        import sys
        import threading
        import time

        from manycore import Pool

        def call_back(value):
            begun.set()
            time.sleep(0.1)
            print("called with", value)

        begun = threading.Event()
        pool = Pool(1)
        pool.apply_async(abs, (-3,), callback=call_back)
        begun.wait()
        if sys.argv[1] == "terminate":
            pool.terminate()
            print("terminated")
        """,
        end,
    )
    lines = ["called with 3", "terminated"] if end == "terminate" else ["called with 3"]
    assert done.stdout.splitlines() == lines
    assert done.returncode == 0


@beyond_stdlib  # there it waits for ever in some versions
def test_a_callback_that_shuts_down_its_executor_is_told_no_also_while_that_ends(run_script):
    done = run_script(
        """
        from manycore import ProcessPoolExecutor

        def shut_down(_):
            try:
                executor.shutdown()
            except RuntimeError as error:
                print(error)

        executor = ProcessPoolExecutor(1)
        future = executor.submit(sum, range(1_000_000))
        future.add_done_callback(shut_down)
        executor.shutdown()
        """
    )
    assert done.stdout.startswith("a callback cannot wait for the end of its pool")
    assert (done.returncode, done.stderr) == (0, "")


@beyond_stdlib
@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers", "_give_up"])
def test_callbacks_of_what_fails_by_the_end_of_the_workers_are_called(ctx, gate, how):
    errors = []
    with manycore.ProcessPoolExecutor(1, ctx) as executor:
        futures = [executor.submit(targets.stop_at, gate, n) for n in range(4)]
        for future in futures:
            future.add_done_callback(lambda it: errors.append(it))
        gate.arrived()
        getattr(executor, how)()
    assert sorted(map(id, errors)) == sorted(map(id, futures))


@beyond_stdlib
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_what_was_due_in_the_original_is_not_called_in_a_forked_copy(stop, gate):
    calls = manycore.Value("i")
    parent = os.getpid()

    def count(_):
        if os.getpid() != parent:
            calls.value += 1

    with manycore.get_context("forkserver").Pool(2) as pool:
        pool.apply_async(targets.nothing, callback=stop)
        stop.begun.wait()
        due = pool.apply_async(targets.nothing, callback=count)
        running = pool.apply_async(targets.stop_at, (gate, 1))
        gate.arrived()
        until(lambda: (pool.stats(), due._left == 0)[1])
        pid = os.fork()
        if pid == 0:
            try:
                running.get()
            finally:
                os._exit(calls.value)
        assert os.waitpid(pid, 0) == (pid, 0)
        gate.let_go()
        stop.may_end.set()
        running.get()


def by_a_result(pool, function, count):
    return pool.apply_async(function, callback=count, error_callback=count).get


def by_a_future(executor, function, count):
    future = executor.submit(function)
    future.add_done_callback(count)
    return future.result


@beyond_stdlib
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "call"), [("Pool", by_a_result), ("ProcessPoolExecutor", by_a_future)]
)
def test_who_has_made_a_call_is_called_back_alone(gate, kind, call):
    calls = manycore.Array("i", 2)
    parent = os.getpid()

    def count(_):
        calls[os.getpid() != parent] += 1

    with getattr(manycore, kind)(1) as pool:
        get = call(pool, gate.stop, count)
        gate.arrived()
        pid = os.fork()
        if pid == 0:
            try:
                get()  # raises, since this process has no workers
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0) == (pid, 0)
        gate.let_go()
        get()
        until(lambda: calls[0])
    assert list(calls) == [1, 0]


@beyond_stdlib
def test_ctrl_c_while_an_answer_is_collected_loses_no_callback(gate, ctrl_c):
    seen = []
    with manycore.get_context("fork").Pool(1) as pool:
        result = pool.apply_async(interrupt_who_has_it, (gate,), callback=seen.append)
        gate.arrived()
        pool._attendant.keeper.rest()  # so that this thread collects
        gate.let_go()
        with pytest.raises(KeyboardInterrupt):
            while True:
                result.ready()
        assert result.get() is None
        assert seen == [None]


def interrupt_who_has_it(gate):
    gate.stop()
    return Interrupting()


class Interrupting:
    """Becomes None where it is unpickled, which Ctrl-C interrupts."""

    def __reduce__(self):
        return _thread.interrupt_main, ()


@beyond_stdlib
def test_where_there_can_be_no_thread_who_has_the_answer_calls_back(monkeypatch):
    callers = []
    with manycore.Pool(1) as pool:
        pool.map(targets.square, [1])
        monkeypatch.setattr("threading.Thread.start", _refuse)
        with pytest.raises(RuntimeError, match="no more threads"):
            pool.apply_async(
                targets.square, (3,), callback=lambda _: callers.append(threading.current_thread())
            )
        until(lambda: pool.stats().done == 2)
    assert callers == [threading.current_thread()]


def _refuse(_):
    raise RuntimeError("no more threads")


@beyond_stdlib
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_copy_of_a_result_does_not_wait_for_a_callback_of_the_original(pool, stop):
    answered = pool.apply_async(targets.square, (3,), callback=stop)
    stop.begun.wait()
    open = pool.apply_async(targets.square, (4,), callback=stop)
    until(lambda: (pool.stats(), open._left == 0)[1])
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(answered.get() + open.get())
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9 + 16
    stop.may_end.set()
    assert open.get() == 16


@beyond_stdlib
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_processes_start_while_a_callback_waits(ctx, pool, gate, kind):
    begun, may_end, has_ended = threading.Event(), threading.Event(), threading.Event()

    def wait(_):
        begun.set()
        may_end.wait()
        has_ended.set()

    def call(callback):
        if kind == "pool":
            pool.apply_async(targets.stop_at, (gate, 2), callback=callback)
        else:
            executor.submit(targets.stop_at, gate, 2).add_done_callback(callback)
        gate.arrived()
        gate.let_go()

    with manycore.ProcessPoolExecutor(1, ctx) as executor:
        call(wait)
        begun.wait()
        process = ctx.Process(target=int)
        process.start()
        process.join()
        assert not has_ended.is_set()
        may_end.set()
        has_ended.wait()
        begun.clear()
        may_end.clear()
        call(wait)
        begun.wait()
        may_end.set()
