"""ProcessPoolExecutor: submitting, mapping, what fails, how it ends, and what others do with it."""

import asyncio
import concurrent.futures
import functools
import gc
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from concurrent.futures.process import BrokenProcessPool

import pytest

import manycore
import targets
from eventually import until
from manycore.executor import (
    BrokenWorker,
    Future,
    ProcessPoolExecutor,
    UndecodableCall,
    UndecodableResult,
    UnsendableResult,
)
from processes import kill_and_confirm

pytestmark = pytest.mark.beyond_stdlib


@pytest.fixture(scope="module", params=["fork", "spawn", "forkserver"])
def executor(request):
    """An executor of two for tests that leave it as they found it."""
    with ProcessPoolExecutor(2, manycore.get_context(request.param)) as executor:
        list(executor.map(targets.square, range(50)))  # both workers start now
        yield executor


@pytest.fixture
def own():
    """An executor of one, for tests that end it."""
    executor = ProcessPoolExecutor(1, manycore.get_context("fork"))
    yield executor
    executor.shutdown()


@pytest.fixture
def killable(ctx):
    """An executor of two, for tests that kill its workers."""
    with ProcessPoolExecutor(2, ctx) as executor:
        yield executor


# ---- submitting --------------------------------------------------------------------------------


def test_it_is_what_others_check_for(executor):
    assert manycore.ProcessPoolExecutor is ProcessPoolExecutor
    assert isinstance(executor, concurrent.futures.Executor)
    assert isinstance(executor.submit(targets.square, 2), concurrent.futures.Future)


def test_importing_manycore_does_not_import_concurrent_futures(run_script):
    ran = run_script("import sys, manycore; print('concurrent.futures' in sys.modules)")
    assert ran.stdout == "False\n"


def test_a_result_comes_back(executor):
    futures = [executor.submit(targets.square, n) for n in range(1000)]
    assert [future.result() for future in futures] == [n * n for n in range(1000)]
    assert all(future.done() and not future.cancelled() for future in futures)


def test_positional_and_named_arguments_arrive(executor):
    assert executor.submit(targets.gather, 1, 2, three=3).result() == ((1, 2), {"three": 3})
    assert executor.submit(targets.gather, fn=1, self=2).result() == ((), {"fn": 1, "self": 2})


def test_an_exception_comes_with_the_traceback_of_the_worker(executor):
    future = executor.submit(targets.fail_on, 7, 7)
    with pytest.raises(ValueError, match="7 is bad") as caught:
        future.result()
    assert "in fail_on" in str(caught.value.__cause__)
    assert future.exception() is caught.value
    assert future.done()


def test_an_exit_in_a_call_is_its_exception_and_the_worker_lives(executor):
    with pytest.raises(SystemExit) as caught:
        executor.submit(sys.exit, 5).result()
    assert caught.value.code == 5
    assert executor.submit(targets.square, 3).result() == 9


@pytest.mark.parametrize("kind", [GeneratorExit, asyncio.CancelledError, BaseException])
def test_any_exception_of_a_call_is_its_exception_and_the_worker_lives(executor, kind):
    with pytest.raises(kind, match="a reason"):
        executor.submit(targets.fail, kind("a reason")).result()
    assert executor.submit(targets.square, 3).result() == 9


def test_options_are_checked_at_once():
    with pytest.raises(TypeError, match="unknown option 'workers'"):
        ProcessPoolExecutor(2, workers=3)
    with pytest.raises(TypeError, match="insights is for pools"):
        ProcessPoolExecutor(2, insights=True)
    with pytest.raises(ValueError, match="timeout must be"):
        ProcessPoolExecutor(2, timeout=-1)
    executor = ProcessPoolExecutor(2)
    for name, value in (("progress", True), ("on_error", "return")):
        with pytest.raises(TypeError, match=f"{name} is for the maps of a pool"):
            executor.with_options(**{name: value})


def test_megabytes_travel_both_ways(executor):
    payload = os.urandom(3 << 20)
    assert executor.submit(targets.identity, payload).result() == payload


@pytest.mark.parametrize("argument", [threading.Lock(), (n for n in ())])
def test_what_cannot_be_pickled_is_the_exception_of_the_future(executor, argument):
    with pytest.raises(TypeError, match="pickle"):
        executor.submit(targets.identity, argument).result()
    with pytest.raises(TypeError, match="pickle"):
        executor.submit(functools.partial(targets.identity, argument)).result()
    with pytest.raises(TypeError, match="not callable"):
        executor.submit(argument).result()
    assert executor.submit(targets.square, 3).result() == 9


def test_a_result_is_waited_for_no_longer_than_asked(executor, gate):
    future = executor.submit(targets.stop_at, gate, "done")
    with pytest.raises(TimeoutError):
        future.result(timeout=0.01)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0)
    gate.arrived()
    assert future.running()
    assert not future.done()
    gate.let_go()
    assert future.result() == "done"
    assert not future.running()


def test_a_future_says_what_it_is(executor, gate):
    future = executor.submit(targets.stop_at, gate, 5)
    gate.arrived()
    assert "state=running>" in repr(future)
    gate.let_go()
    future.result()
    assert "state=finished returned int>" in repr(future)
    failed = executor.submit(targets.fail_on, 1, 1)
    failed.exception()
    assert "state=finished raised ValueError>" in repr(failed)


def test_a_future_is_no_dearer_than_it_must_be(executor):
    """What `concurrent.futures` needs is made only when that is used."""
    future = executor.submit(targets.square, 2)
    assert future.result() == 4
    assert "_condition" not in vars(future)
    assert isinstance(future, Future)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        future.nothing  # noqa: B018


# ---- what concurrent.futures does with futures ---------------------------------------------------


def test_futures_are_waited_for_as_they_complete(executor):
    futures = {executor.submit(targets.square, n): n for n in range(100)}
    seen = {futures[done]: done.result() for done in concurrent.futures.as_completed(futures)}
    assert seen == {n: n * n for n in range(100)}


def test_the_first_completed_is_told(executor, gate):
    stopped = executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    quick = executor.submit(targets.square, 3)
    done, pending = concurrent.futures.wait([stopped, quick], return_when="FIRST_COMPLETED")
    assert (done, pending) == ({quick}, {stopped})
    gate.let_go()
    assert concurrent.futures.wait([stopped, quick]).done == {stopped, quick}


def test_the_first_exception_is_told(executor, gate):
    stopped = executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    failing = executor.submit(targets.fail_on, 1, 1)
    done, pending = concurrent.futures.wait([stopped, failing], return_when="FIRST_EXCEPTION")
    assert (done, pending) == ({failing}, {stopped})
    gate.let_go()
    assert stopped.result() == 1


def test_callbacks_are_called_once_with_nobody_waiting(executor, gate):
    future = executor.submit(targets.stop_at, gate, 1)
    gate.arrived()
    called, seen = threading.Event(), []
    future.add_done_callback(seen.append)
    future.add_done_callback(lambda _: called.set())
    assert not seen
    gate.let_go()
    called.wait()
    assert seen == [future]
    future.add_done_callback(seen.append)  # it is done: called at once
    assert seen == [future, future]


def test_a_callback_added_while_the_answer_arrives_is_called_once(executor):
    for _ in range(300):
        called = threading.Event()
        executor.submit(targets.square, 1).add_done_callback(lambda _, called=called: called.set())
        called.wait()


def test_threads_wait_for_one_future(executor, gate):
    future = executor.submit(targets.stop_at, gate, 8)
    gate.arrived()
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(future.result())) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.let_go()
    for thread in threads:
        thread.join()
    assert seen == [8] * 4


def test_asyncio_runs_calls_in_it(executor):
    async def all_of_them():
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, targets.square, n) for n in range(100)]
        return await asyncio.gather(*calls)

    assert asyncio.run(all_of_them()) == [n * n for n in range(100)]


# ---- map ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
@pytest.mark.parametrize("buffersize", [None, 1, 3])
def test_map_keeps_the_order(executor, chunksize, buffersize):
    results = executor.map(targets.square, range(100), chunksize=chunksize, buffersize=buffersize)
    assert list(results) == [n * n for n in range(100)]


def test_map_takes_an_argument_from_each_iterable(executor):
    assert list(executor.map(targets.add, range(5), itertools.count(10))) == [10, 12, 14, 16, 18]
    assert list(executor.map(targets.add, [1, 2], [3, 4], chunksize=2)) == [4, 6]
    assert list(executor.map(targets.square, [])) == []


def test_map_raises_at_the_item_that_failed(executor):
    results = executor.map(functools.partial(targets.fail_on, 3), range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="3 is bad"):
        next(results)
    assert list(results) == []


def test_map_raises_what_its_iterable_raises(executor):
    def broken():
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        executor.map(targets.square, broken())


def test_map_takes_no_more_than_its_buffer_ahead(executor):
    taken = itertools.count()
    results = executor.map(targets.square, taken, buffersize=4)
    assert [next(results) for _ in range(10)] == [n * n for n in range(10)]
    assert next(taken) <= 10 + 4
    results.close()


def test_map_ends_at_its_timeout(executor, gate):
    results = executor.map(targets.stop_at, [gate], ["late"], timeout=0.05)
    with pytest.raises(TimeoutError):
        next(results)
    gate.arrived()
    gate.let_go()


class Counting(ProcessPoolExecutor):
    """Counts its calls, and those that are done."""

    def __init__(self, *args):
        super().__init__(*args)
        self.counts = []

    def submit(self, fn, /, *args, **kwargs):
        future = super().submit(fn, *args, **kwargs)
        self.counts.append(future)
        return future


@pytest.mark.parametrize(("chunksize", "buffersize"), [(1, None), (3, None), (1, 2), (4, 1)])
def test_map_submits_as_a_subclass_does(ctx, chunksize, buffersize):
    with Counting(2, ctx) as executor:
        results = executor.map(
            targets.add, range(10), itertools.count(5), chunksize=chunksize, buffersize=buffersize
        )
        assert len(executor.counts) == (buffersize or -(-10 // chunksize))
        assert list(results) == [2 * n + 5 for n in range(10)]
        assert len(executor.counts) == -(-10 // chunksize)


def test_map_submits_as_what_was_put_in_its_place_and_withdraws_what_is_not_wanted(own, gate):
    futures, submit = [], own.submit

    def noting(*args):
        futures.append(submit(*args))
        return futures[-1]

    own.submit = noting
    results = own.map(targets.stop_at, itertools.repeat(gate, 5), range(5))
    gate.arrived()
    gate.let_go()
    assert next(results) == 0
    gate.arrived()
    results.close()
    assert [future.cancelled() for future in futures] == [False, False, True, True, True]
    gate.let_go()
    results = own.map(targets.stop_at, [gate], [1], timeout=0.01)
    with pytest.raises(TimeoutError):
        next(results)
    gate.arrived()
    gate.let_go()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": 1.5}, TypeError),
    ],
)
def test_map_checks_its_arguments(executor, arguments, error):
    with pytest.raises(error):
        executor.map(targets.square, [1], **arguments)


# ---- construction ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"max_workers": 0}, ValueError),
        ({"max_workers": -1}, ValueError),
        ({"initializer": 5}, TypeError),
        ({"max_tasks_per_child": 0}, ValueError),
        ({"max_tasks_per_child": "1"}, TypeError),
        (
            {"max_tasks_per_child": 1, "mp_context": manycore.get_context("fork")},
            ValueError,
        ),
    ],
)
def test_arguments_are_checked(arguments, error):
    with pytest.raises(error):
        ProcessPoolExecutor(**arguments)


def test_nothing_is_started_before_the_first_call():
    executor = ProcessPoolExecutor(2)
    assert executor._processes == {}
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(targets.square, 1)


@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
def test_workers_are_started_as_they_are_needed(method, gate):
    with ProcessPoolExecutor(3, manycore.get_context(method)) as executor:
        for n in range(3):
            assert executor.submit(targets.square, n).result() == n * n
            assert len(executor._processes) == 1
        stopped = [executor.submit(targets.stop_at, gate, n) for n in range(5)]
        assert len(set(gate.arrived(3))) == len(executor._processes) == 3
        gate.let_go(5)
        gate.arrived(2)
        assert [future.result() for future in stopped] == list(range(5))
    with ProcessPoolExecutor(2, manycore.get_context(method)) as executor:
        assert list(executor.map(targets.square, range(20))) == [n * n for n in range(20)]
        assert len(executor._processes) == 2


def test_a_context_of_the_standard_library_stands_for_ours():
    import multiprocessing

    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
        assert executor._mp_context is manycore.get_context("fork")
        assert executor.submit(targets.square, 2).result() == 4


@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.slow), "forkserver"])
def test_workers_are_replaced_after_their_calls(method):
    with ProcessPoolExecutor(1, manycore.get_context(method), max_tasks_per_child=2) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(6)]
    assert len(set(pids)) == 3


def test_workers_are_initialised(own):
    with ProcessPoolExecutor(
        1, manycore.get_context("fork"), initializer=os.putenv, initargs=("MARK", "7")
    ) as executor:
        assert executor.submit(subprocess.check_output, ["printenv", "MARK"]).result() == b"7\n"


# ---- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.beyond_stdlib
def test_an_executor_whose_workers_cannot_be_started_is_broken():
    context, lock = manycore.get_context("spawn"), threading.Lock()
    with ProcessPoolExecutor(1, context, initializer=id, initargs=(lock,)) as executor:
        with pytest.raises(TypeError, match="pickle"):
            executor.submit(targets.square, 2)
        with pytest.raises(BrokenProcessPool, match="no worker can be started"):
            executor.submit(targets.square, 2)


@pytest.mark.parametrize("is_new", [True, False])
def test_no_call_is_accepted_when_the_program_has_ended(run_script, is_new):
    program = run_script(
        f"""
        import threading
        ended = threading.Event()
        threading._register_atexit(ended.set)  # what is registered later is called before
        from {ProcessPoolExecutor.__module__} import ProcessPoolExecutor

        def submit_late():
            ended.wait()
            try:
                executor = ProcessPoolExecutor(1) if {is_new} else old
                print(executor.submit(abs, -1).result())
            except RuntimeError as error:
                print(error)

        old = ProcessPoolExecutor(1)
        threading.Thread(target=submit_late).start()
        """
    )
    assert program.stdout == "cannot schedule new futures after interpreter shutdown\n"


def test_a_worker_that_is_killed_fails_its_future_alone(killable, gate):
    doomed = killable.submit(targets.stop_at, gate, 1)
    (victim,) = gate.arrived()
    others = [killable.submit(targets.square, n) for n in range(100)]
    kill_and_confirm(victim)
    with pytest.raises(BrokenWorker, match="SIGKILL") as caught:
        doomed.result()
    assert isinstance(caught.value, BrokenProcessPool)
    assert isinstance(caught.value, manycore.WorkerDied)
    assert (caught.value.pid, caught.value.exitcode) == (victim, -signal.SIGKILL)
    assert doomed.exception() is caught.value
    assert [other.result() for other in others] == [n * n for n in range(100)]
    assert killable.submit(targets.square, 3).result() == 9


def test_a_callback_is_told_of_a_worker_that_was_killed(killable, gate):
    doomed = killable.submit(targets.stop_at, gate, 1)
    told = threading.Event()
    doomed.add_done_callback(lambda _: told.set())
    kill_and_confirm(*gate.arrived())
    told.wait()
    assert isinstance(doomed.exception(), BrokenWorker)


def test_a_map_is_told_of_a_worker_that_died(killable):
    results = killable.map(os._exit, [3])
    with pytest.raises(BrokenWorker, match="exited with status 3"):
        next(results)
    assert list(killable.map(targets.square, [3])) == [9]


def test_a_result_that_cannot_be_unpickled_fails_its_future_alone(executor):
    bad = executor.submit(targets.indigestible, 1)
    good = executor.submit(targets.square, 3)
    with pytest.raises(UndecodableResult, match="no number") as caught:
        bad.result()
    assert isinstance(caught.value.__cause__, ValueError)
    assert isinstance(caught.value, BrokenProcessPool)
    assert good.result() == 9
    with pytest.raises(UndecodableResult, match="no number"):
        list(executor.map(targets.indigestible, [1]))


@pytest.mark.parametrize("raised", [LookupError("no such thing"), SystemExit("no such thing")])
@pytest.mark.parametrize("where", ["argument", "function"])
def test_a_call_that_cannot_be_unpickled_fails_its_future_alone(executor, raised, where):
    bad = targets.Undecodable(raised)
    call = (targets.identity, bad) if where == "argument" else (functools.partial(bad, 1),)
    future = executor.submit(*call)
    good = executor.submit(targets.square, 3)
    with pytest.raises(UndecodableCall, match="no such thing") as caught:
        future.result()
    assert isinstance(caught.value, BrokenProcessPool)
    assert "in fail" in str(caught.value.__cause__)
    assert future.exception() is caught.value
    assert good.result() == 9
    with pytest.raises(UndecodableCall, match="no such thing"):
        list(executor.map(targets.identity, [bad]))


def test_a_pool_raises_what_unpickling_a_task_raised(ctx):
    with ctx.Pool(1) as pool, pytest.raises(LookupError, match="no such thing"):
        pool.apply(targets.identity, [targets.Undecodable(LookupError("no such thing"))])


def test_a_result_that_cannot_be_pickled_fails_its_future_alone(executor):
    with pytest.raises(UnsendableResult, match=r"cannot pickle '_thread\.lock'") as caught:
        executor.submit(targets.unpicklable, 1).result()
    assert isinstance(caught.value, pickle.PicklingError)
    assert executor.submit(targets.square, 3).result() == 9


def fail_to_begin():
    raise LookupError("no such model")


def test_an_initializer_that_fails_breaks_the_executor():
    executor = ProcessPoolExecutor(2, manycore.get_context("fork"), initializer=fail_to_begin)
    future = executor.submit(targets.square, 1)
    with pytest.raises(BrokenProcessPool, match="no such model") as caught:
        future.result()
    assert "in fail_to_begin" in str(caught.value.__cause__)
    until(lambda: executor._broken)
    with pytest.raises(BrokenProcessPool, match="no such model"):
        executor.submit(targets.square, 1)
    executor.shutdown()


def test_a_broken_executor_is_not_kept_by_the_errors_that_it_raised():
    executor = ProcessPoolExecutor(1, manycore.get_context("fork"), initializer=fail_to_begin)
    with pytest.raises(BrokenProcessPool) as caught:
        executor.submit(targets.square, 1).result()
    executor.shutdown()
    gone = weakref.ref(executor)
    del executor, caught
    until(lambda: gc.collect() is not None and gone() is None)


def test_workers_that_end_before_they_work_break_the_executor():
    executor = ProcessPoolExecutor(
        1, manycore.get_context("fork"), initializer=os._exit, initargs=(4,)
    )
    future = executor.submit(targets.square, 1)
    with pytest.raises(BrokenProcessPool):
        future.result()
    until(lambda: executor._broken)
    with pytest.raises(BrokenProcessPool):
        executor.submit(targets.square, 1)
    executor.shutdown()


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_worker_that_the_program_ends_by_its_process_breaks_the_executor(killable, gate, how):
    running = [killable.submit(targets.stop_at, gate, n) for n in range(2)]
    queued = killable.submit(targets.square, 2)
    gate.arrived(2)
    processes = killable._processes
    assert {process.pid for process in processes.values()} == processes.keys()
    getattr(next(iter(processes.values())), how)()
    for future in (*running, queued):
        with pytest.raises(BrokenProcessPool, match="the program itself"):
            future.result()
    with pytest.raises(BrokenProcessPool, match="the program itself"):
        killable.submit(targets.square, 2)
    for process in processes.values():
        getattr(process, how)()  # the others, as programs do
        process.join()
        assert process.exitcode is not None


def test_an_idle_worker_that_the_program_ends_breaks_the_executor(killable):
    assert killable.submit(targets.square, 2).result() == 4
    next(iter(killable._processes.values())).terminate()
    assert "the program itself" in killable._broken
    with pytest.raises(BrokenProcessPool):
        killable.map(targets.square, [2])


def test_ending_a_worker_that_has_ended_breaks_nothing(killable):
    assert killable.submit(targets.square, 2).result() == 4
    process = next(iter(killable._processes.values()))
    kill_and_confirm(process.pid)
    process.join()
    process.terminate()
    assert killable.submit(targets.square, 2).result() == 4


# ---- the end -----------------------------------------------------------------------------------


def test_after_its_shutdown_nothing_is_accepted(own):
    assert own.submit(targets.square, 3).result() == 9
    own.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        own.submit(targets.square, 3)
    own.shutdown()  # twice does no harm


def test_a_shutdown_waits_for_what_was_submitted(own, gate):
    futures = [own.submit(targets.square, n) for n in range(100)]
    own.shutdown()
    assert all(future._is_done for future in futures)
    assert [future.result() for future in futures] == [n * n for n in range(100)]


def test_a_shutdown_that_does_not_wait_lets_the_calls_go_on(own, gate):
    stopped = own.submit(targets.stop_at, gate, 1)
    late = own.submit(targets.square, 5)
    called = threading.Event()
    late.add_done_callback(lambda _: called.set())
    gate.arrived()
    own.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        own.submit(targets.square, 3)
    gate.let_go()
    called.wait()
    assert (stopped.result(), late.result()) == (1, 25)
    until(lambda: own._pool._has_ended)
    assert own._processes == {}


def test_an_executor_that_nobody_has_any_more_finishes_its_calls(tmp_path, gate):
    executor = ProcessPoolExecutor(1, manycore.get_context("fork"))
    executor.submit(targets.stop_at, gate, 1)
    last = executor.submit(targets.square, 4)
    gate.arrived()
    gone = weakref.ref(executor)
    pool = weakref.ref(executor._pool)
    del executor
    gc.collect()
    assert gone() is None
    gate.let_go()
    assert last.result() == 16
    del last
    until(lambda: gc.collect() is not None and pool() is None)


@pytest.mark.parametrize("end", ["terminate_workers", "kill_workers"])
def test_workers_are_ended_at_once(own, gate, end):
    running = own.submit(targets.stop_at, gate, 1)
    queued = own.submit(targets.square, 2)
    gate.arrived()
    getattr(own, end)()
    with pytest.raises(BrokenProcessPool):
        running.result()
    assert queued.cancelled()
    assert own._processes == {}
    with pytest.raises(RuntimeError):
        own.submit(targets.square, 2)


def test_ending_the_workers_of_an_executor_without_any_shuts_it_down(own):
    own.kill_workers()
    with pytest.raises(RuntimeError, match="after shutdown"):
        own.submit(targets.square, 2)


AT_EXIT = """
import manycore, sys

def note(number):
    with open({path!r}, "a") as file:
        file.write(f"{{number}}\\n")

if __name__ == "__main__":
    executor = manycore.ProcessPoolExecutor(2, manycore.get_context({method!r}))
    futures = [executor.submit(note, number) for number in range(50)]
    {then}
"""


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "then",
    [
        "pass",
        "del executor, futures",
        "executor.shutdown(wait=False)",
        "sys.exit()",
        "futures[0].add_done_callback(lambda _: None)",
    ],
)
def test_a_program_that_ends_finishes_what_it_submitted(run_script, tmp_path, method, then):
    path = tmp_path / "lines"
    ran = run_script(AT_EXIT.format(method=method, path=str(path), then=then))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert sorted(map(int, path.read_text().split())) == list(range(50))


def test_a_forked_copy_of_an_executor_ends_without_it(own):
    assert own.submit(targets.square, 3).result() == 9
    child = os.fork()
    if child == 0:
        own.shutdown()
        del own
        gc.collect()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert own.submit(targets.square, 4).result() == 16


def test_python_314_has_the_same_arguments():
    import inspect

    if sys.version_info < (3, 14):
        pytest.skip("its signatures are those of Python 3.14")
    theirs = concurrent.futures.ProcessPoolExecutor
    for name in ("__init__", "submit", "map", "shutdown", "terminate_workers", "kill_workers"):
        ours = inspect.signature(getattr(ProcessPoolExecutor, name)).parameters
        assert list(ours) == list(inspect.signature(getattr(theirs, name)).parameters)


PRINTS_AS_A_WORKER_IS_REPLACED = """
import os
from manycore import ProcessPoolExecutor, WorkerDied

with ProcessPoolExecutor(1) as executor:
    doomed, other = executor.submit(os._exit, 3), executor.submit(abs, -5)
    try:
        doomed.result()
    except WorkerDied as died:
        print(died.exitcode)
    print(other.result())
"""


def test_what_is_printed_while_a_worker_is_replaced_is_written_once(run_script):
    # The thread that forks the new worker does so as this program prints, most often.
    outputs = [run_script(PRINTS_AS_A_WORKER_IS_REPLACED).stdout for _ in range(8)]
    assert outputs == ["3\n5\n"] * 8


def test_programs_may_look_at_how_many_calls_have_no_answer(ctx, gate):
    with manycore.ProcessPoolExecutor(1, ctx) as executor:
        assert len(executor._pending_work_items) == 0
        futures = [executor.submit(gate.stop), executor.submit(targets.square, 3)]
        gate.arrived()
        assert len(executor._pending_work_items) == 2
        gate.let_go()
        assert futures[1].result() == 9
        until(lambda: not executor._pending_work_items)
        assert not executor._shutdown_thread
    assert executor._shutdown_thread
