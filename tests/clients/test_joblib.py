"""joblib with `backend="manycore"`: what its callers rely on, and what only we promise."""

import gc
import multiprocessing
import os
import threading

import joblib
import numpy as np
import pytest
import work
from joblib import Parallel, delayed, parallel_config

import manycore
import manycore.joblib
import processes
from manycore import _batches

pytestmark = pytest.mark.beyond_stdlib

LARGE = 1 << 18  # numbers in an array of 2 MiB, which joblib counts as large


@pytest.fixture(params=["fork", "forkserver"])
def backend(request):
    """The configuration that all calls of a test are made with."""
    with parallel_config(backend="manycore", n_jobs=2, context=request.param) as config:
        yield config["backend"]


@pytest.fixture
def quick():
    """The same for what does not depend on the start method."""
    with parallel_config(backend="manycore", n_jobs=2, context="fork") as config:
        yield config["backend"]


def squares(count=20, **options):
    return Parallel(**options)(delayed(work.square)(x) for x in range(count))


def still_works():
    return squares() == [x * x for x in range(20)]


def test_results_come_in_order(ctx):
    with parallel_config(backend="manycore", n_jobs=2, context=ctx):
        assert squares(100) == [x * x for x in range(100)]


def test_calls_run_in_processes_of_ours(backend):
    seen = Parallel(pre_dispatch="all")(delayed(work.whose_process)() for _ in range(20))
    pids, modules = map(set, zip(*seen, strict=True))
    assert os.getpid() not in pids
    assert len(pids) <= 2
    assert modules == {"manycore.process"}


def test_the_class_has_the_name_that_joblib_makes_of_the_backends(quick):
    assert type(quick) is manycore.joblib.ManycoreBackend
    assert type(quick).__name__ == "manycore".title() + "Backend"


@pytest.mark.parametrize(
    ("asked", "workers"),
    [(3, 3), (None, 1), (-1, joblib.cpu_count()), (-2, max(joblib.cpu_count() - 1, 1)), (-99, 1)],
)
def test_n_jobs_counts_as_in_joblib(asked, workers):
    assert manycore.joblib.ManycoreBackend().effective_n_jobs(asked) == workers


def test_no_jobs_at_all_are_refused(quick):
    with pytest.raises(ValueError, match="n_jobs == 0"):
        squares(n_jobs=0)


def test_one_job_needs_no_worker(quick):
    ((pid, _),) = Parallel(n_jobs=1)([delayed(work.whose_process)()])
    assert pid == os.getpid()


def test_small_calls_travel_in_batches(quick):
    parallel = Parallel()
    assert parallel(delayed(work.square)(x) for x in range(1000)) == [x * x for x in range(1000)]
    assert parallel.n_dispatched_batches < 500


def test_a_backend_that_was_made_default_is_used_unasked():
    before = joblib.parallel.DEFAULT_BACKEND
    manycore.joblib.register(make_default=True)
    try:
        parallel = Parallel(n_jobs=2)
        assert type(parallel._backend) is manycore.joblib.ManycoreBackend
        assert parallel(delayed(work.square)(x) for x in range(3)) == [0, 1, 4]
    finally:
        joblib.parallel.DEFAULT_BACKEND = before


# ---- generators -------------------------------------------------------------------------------


def test_a_generator_gives_results_while_later_calls_run(backend):
    goes_on = manycore.Event()
    waits_for = [None, None, None, goes_on]
    results = Parallel(return_as="generator", batch_size=1)(
        delayed(work.wait_for)(event, n) for n, event in enumerate(waits_for)
    )
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    goes_on.set()
    assert list(results) == [3]


def test_an_unordered_generator_gives_first_what_is_there_first(backend):
    goes_on = manycore.Event()
    waits_for = [goes_on, None, None]
    results = Parallel(return_as="generator_unordered", batch_size=1)(
        delayed(work.wait_for)(event, n) for n, event in enumerate(waits_for)
    )
    assert sorted([next(results), next(results)]) == [1, 2]
    goes_on.set()
    assert list(results) == [0]


def test_who_leaves_a_generator_ends_its_calls(quick):
    never = manycore.Event()
    results = Parallel(return_as="generator", batch_size=1)(
        delayed(work.wait_for)(event, n) for n, event in enumerate([None, never, never])
    )
    assert next(results) == 0
    with pytest.warns(UserWarning, match="have been cancelled"):
        results.close()
    assert still_works()


def test_calls_within_a_loop_over_a_generator_have_workers_of_their_own(quick):
    outer = Parallel(return_as="generator")(delayed(work.square)(x) for x in range(5))
    assert [(x, squares(3)) for x in outer] == [(x * x, [0, 1, 4]) for x in range(5)]


def test_calls_of_several_threads_do_not_disturb_each_other():
    results = {}

    def call(number):
        with parallel_config(backend="manycore", n_jobs=2):
            results[number] = squares(20 + number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [x * x for x in range(20 + n)] for n in range(3)}


# ---- what goes wrong --------------------------------------------------------------------------


def test_an_exception_has_the_worker_s_traceback(backend):
    with pytest.raises(KeyError, match="number 7") as caught:
        Parallel()(delayed(work.fail_at)(7, x) for x in range(20))
    assert "in fail_at" in str(caught.value.__cause__)
    assert still_works()


def test_an_exception_ends_the_calls_that_still_run(quick):
    never = manycore.Event()
    with pytest.raises(KeyError):
        Parallel()([delayed(work.wait_for)(never, 0), delayed(work.fail_at)(1, 1)])
    assert still_works()


def test_an_exception_inside_with_leaves_the_parallel_usable(backend):
    with Parallel() as parallel:
        with pytest.raises(KeyError):
            parallel(delayed(work.fail_at)(3, x) for x in range(5))
        assert parallel(delayed(work.square)(x) for x in range(3)) == [0, 1, 4]


def test_an_exception_that_is_returned_is_a_result(quick):
    (result,) = Parallel()([delayed(ValueError)("not raised")])
    assert type(result) is ValueError


def test_a_call_that_takes_too_long_is_ended(backend):
    never = manycore.Event()
    with pytest.raises(multiprocessing.TimeoutError):  # joblib's choice
        Parallel(timeout=0.1)(delayed(work.wait_for)(never, x) for x in range(3))
    assert still_works()


def test_a_killed_worker_fails_the_call_and_says_so(backend):
    with pytest.raises(
        manycore.WorkerDied, match=r"was killed by SIGKILL while it ran die_at, after"
    ):
        Parallel(batch_size=1)(delayed(work.die_at)(3, x) for x in range(10))
    assert still_works()


def test_a_killed_worker_leaves_a_parallel_usable(quick):
    with Parallel() as parallel:
        with pytest.raises(manycore.WorkerDied, match="a batch of 2 calls of die_at"):
            parallel.batch_size = 2
            parallel(delayed(work.die_at)(3, x) for x in range(100))
        # Before them may come what joblib had not handed out when the call before failed; with its
        # own backends, too.
        assert parallel(delayed(work.square)(x) for x in range(3))[-3:] == [0, 1, 4]


def test_a_call_that_exits_fails_with_its_status(quick):
    with pytest.raises(manycore.WorkerDied, match="exited with status 3 while it ran leave"):
        Parallel()([delayed(work.leave)(3)])


def test_workers_that_cannot_start_fail_the_call():
    with (
        parallel_config(backend="manycore", n_jobs=2, initializer=os._exit, initargs=(4,)),
        pytest.raises(manycore.WorkerDied, match="could take a task"),
    ):
        squares()


@pytest.mark.parametrize("where", [0, 199])
def test_what_cannot_be_sent_fails_the_call_wherever_it_is_met(quick, where):
    unsendable = threading.Lock()  # the last ones are handed out by a thread of the pool
    items = [unsendable if x == where else x for x in range(200)]
    with pytest.raises(TypeError, match="cannot pickle"):
        Parallel(batch_size=1)(delayed(work.wait_for)(None, item) for item in items)
    assert still_works()


def test_a_broken_source_of_calls_fails_the_call(quick):
    def source():
        yield from (delayed(work.square)(x) for x in range(50))
        raise ZeroDivisionError("in the source")

    with pytest.raises(ZeroDivisionError, match="in the source"):
        Parallel(batch_size=1)(source())


# ---- workers that stay ------------------------------------------------------------------------


def workers_of_a_call(**options):
    parallel = Parallel(n_jobs=2, backend="manycore", batch_size=1, **options)
    return {pid for pid, _ in parallel(delayed(work.whose_process)() for _ in range(20))}


def test_the_next_call_has_the_same_workers_which_shutdown_ends():
    assert len(workers_of_a_call() | workers_of_a_call()) <= 2
    kept = workers_of_a_call()
    manycore.joblib.shutdown()
    assert not kept & workers_of_a_call()


@pytest.mark.parametrize("name", ["an environment variable", "a folder", "a path"])
def test_workers_are_not_kept_when_what_they_got_has_changed(name, monkeypatch, tmp_path):
    kept = workers_of_a_call()
    change = {
        "an environment variable": lambda: monkeypatch.setenv("MANYCORE_TEST", "changed"),
        "a folder": lambda: monkeypatch.chdir(tmp_path),
        "a path": lambda: monkeypatch.syspath_prepend(tmp_path),
    }
    change[name]()
    now = workers_of_a_call()
    assert not kept & now
    for pid in kept:
        assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("options", [{"initializer": int}, {"context": "fork"}])
def test_workers_are_not_kept_that_may_be_meant_for_one_call(options):
    with parallel_config(backend="manycore", n_jobs=2, **options):
        calls = [
            {pid for pid, _ in Parallel()(delayed(work.whose_process)() for _ in range(5))}
            for _ in range(2)
        ]
    assert not calls[0] & calls[1]


def test_workers_that_were_killed_meanwhile_are_replaced():
    kept = workers_of_a_call()
    for pid in kept:
        processes.kill_and_confirm(pid)
    assert not kept & workers_of_a_call()


def test_a_forked_child_leaves_the_workers_to_its_parent():
    kept = workers_of_a_call()

    def body():
        assert not kept & workers_of_a_call()
        manycore.joblib.shutdown()

    with processes.forked(body):
        pass
    assert len(kept | workers_of_a_call()) <= 2


def test_classes_of_a_main_module_are_known_that_were_defined_between_two_calls(run_script):
    done = run_script("""
        import manycore.joblib
        from joblib import Parallel, delayed

        def value(number): return number.value

        def call(numbers): return Parallel(2, backend="manycore")(map(delayed(value), numbers))

        class First: value = 1
        print(call([First()] * 2))
        class Second: value = 2
        print(call([Second()] * 2))
    """)
    assert (done.stdout, done.stderr) == ("[1, 1]\n[2, 2]\n", "")


# ---- what travels -----------------------------------------------------------------------------


def test_lambdas_and_closures_are_called(backend):
    def closure(x):
        return x + offset

    offset = 5
    assert Parallel()(delayed(closure)(x) for x in range(3)) == [5, 6, 7]
    assert Parallel()(delayed(lambda x: -x)(x) for x in range(3)) == [0, -1, -2]


def test_lambdas_and_classes_are_arguments(backend):
    class Local:
        def __init__(self, number):
            self.number = number

        def __eq__(self, other):
            return type(other).__name__ == "Local" and other.number == self.number

        __hash__ = None

    assert Parallel()(delayed(sorted)([2, 1], key=lambda x: x) for _ in range(3)) == [[1, 2]] * 3
    assert Parallel()(delayed(getattr)(Local(n), "number") for n in range(3)) == [0, 1, 2]


def test_large_arrays_arrive_with_by_value_arguments(quick):
    large = np.arange(LARGE)
    results = Parallel()(
        delayed(lambda a, pick: pick(a))(large + n, lambda a: a[1]) for n in (0, 1)
    )
    assert results == [1, 2]


def test_a_large_array_is_put_into_shared_memory_once(backend, monkeypatch):
    shared = []
    share = _batches.share
    monkeypatch.setattr(_batches, "share", lambda array: shared.append(array.size) or share(array))
    large = np.arange(LARGE)
    seen = Parallel(batch_size=1)(delayed(work.look_at)(large, place=n) for n in range(10))
    assert seen == [(np.ndarray, False, n) for n in range(10)]
    assert shared == [LARGE]


@pytest.mark.parametrize("options", [{"max_nbytes": None}, {"mmap_mode": "c"}, {"mmap_mode": None}])
def test_a_large_array_is_each_call_s_own_if_that_is_asked_for(quick, options):
    large = np.zeros(LARGE)
    sums = Parallel(**options)(delayed(work.write_own)(large, n) for n in range(4))
    assert sums == [n * LARGE for n in range(4)]
    assert not large.any()


def test_a_small_array_is_each_call_s_own(quick):
    small = np.zeros(100)
    assert Parallel()(delayed(work.write_own)(small, n) for n in range(3)) == [0, 100, 200]


def test_an_array_that_was_changed_between_two_calls_arrives_changed(quick):
    large = np.zeros(LARGE)
    with Parallel() as parallel:
        for value in (1.0, 2.0):
            large[:] = value
            seen = parallel(delayed(work.look_at)(large, n) for n in range(3))
            assert [number for _, _, number in seen] == [value] * 3


def test_an_array_is_lent_as_long_as_this_process_has_it():
    lending = _batches.Lending(1000)
    arrays = [np.zeros(1000), np.zeros(1000)]
    assert lending.lend(arrays[0]) is lending.lend(arrays[0])
    assert lending.lend(arrays[0]) is not lending.lend(arrays[1])
    assert len(lending._lent) == 2
    arrays.clear()
    gc.collect()
    assert not lending._lent


def test_workers_write_into_a_mapped_file(backend, tmp_path):
    table = np.memmap(tmp_path / "table", dtype="i4", mode="w+", shape=(6, 1000))
    writers = Parallel()(delayed(work.write_row)(table, row) for row in range(6))
    assert os.getpid() not in writers
    assert (table == np.arange(6)[:, None]).all()
    part = table[1:, ::2]
    seen = Parallel()(delayed(work.look_at)(part, (2, 3)) for _ in range(2))
    assert [number for _, _, number in seen] == [3, 3]


def test_shared_arrays_of_ours_are_the_same_memory_in_workers(quick):
    table = manycore.ndarray((4, LARGE), dtype="i4")
    Parallel()(delayed(work.write_row)(table, row) for row in range(4))
    assert (table == np.arange(4)[:, None]).all()


def test_large_results_come_back(backend):
    results = Parallel()(delayed(work.ones)(8) for _ in range(3))
    assert all((result == 1).all() and result.nbytes == 8 << 20 for result in results)
    results[0][:] = 2  # it is this process's own


# ---- calls within calls -----------------------------------------------------------------------


def test_calls_within_a_call_are_threads_and_within_these_sequential(quick):
    (seen,) = Parallel()([delayed(work.nested)(2)])
    outer, calls, worker = seen
    assert outer == "ThreadingBackend"
    for middle, inner, pid in calls:
        assert middle == "SequentialBackend"
        assert [name for name, _ in inner] == ["SequentialBackend"] * 2
        assert {pid, *(pid for _, pid in inner)} == {worker}


def test_a_worker_has_workers_of_its_own_if_it_asks_for_them(backend):
    (seen,) = Parallel()([delayed(work.nested)(1, backend="manycore")])
    _, calls, worker = seen
    assert worker not in {pid for _, pid in calls}


# ---- settings ---------------------------------------------------------------------------------


def test_threads_of_libraries_are_limited_in_workers(backend):
    with parallel_config(backend="manycore", n_jobs=2, inner_max_num_threads=1):
        variable, pools = Parallel()([delayed(work.limits)()])[0]
    assert (variable, pools) == ("1", {1})


def test_workers_run_an_initializer():
    settings = {"initializer": work.set_environment, "initargs": ("MANYCORE_TEST", "yes")}
    with parallel_config(backend="manycore", n_jobs=2, **settings):
        assert Parallel()([delayed(work.environment)("MANYCORE_TEST")]) == ["yes"]


def test_workers_are_replaced_after_some_batches():
    with parallel_config(backend="manycore", n_jobs=2, context="fork", maxtasksperchild=1):
        seen = Parallel(batch_size=1)(delayed(work.whose_process)() for _ in range(6))
    assert len({pid for pid, _ in seen}) == 6


def test_joblib_s_own_variable_chooses_the_start_method(monkeypatch):
    started = []
    monkeypatch.setattr(
        manycore.joblib, "Pool", lambda *a, context: started.append(context) or 1 / 0
    )
    for variable, method in [("", "forkserver"), ("fork", "fork")]:
        monkeypatch.setenv("JOBLIB_START_METHOD", variable)
        with pytest.raises(ZeroDivisionError):
            squares(backend="manycore", n_jobs=2)
        assert started.pop().get_start_method() == method


def test_a_foreign_context_is_refused():
    foreign = multiprocessing.get_context("fork")
    with (
        parallel_config(backend="manycore", n_jobs=2, context=foreign),
        pytest.raises(TypeError, match="nor a manycore context"),
    ):
        squares()


def test_an_option_that_nobody_knows_is_refused():
    with pytest.raises(TypeError, match="idle_worker_timeout"):
        squares(backend="manycore", n_jobs=2, idle_worker_timeout=5)


# ---- programs ---------------------------------------------------------------------------------


def test_a_program_without_a_guard_gets_its_results_and_what_its_workers_print(run_script):
    done = run_script("""
        import manycore.joblib
        from joblib import Parallel, delayed

        class Number:
            def __init__(self, value): self.value = value

        def double(number):
            print("doubling", number.value)
            return Number(2 * number.value)

        results = Parallel(n_jobs=2, backend="manycore")(delayed(double)(Number(n)) for n in (1, 2))
        print([result.value for result in results])
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == ["[2, 4]", "doubling 1", "doubling 2"]


@pytest.mark.parametrize("backend", ["multiprocessing", "loky"])
def test_joblib_s_own_backends_run_in_a_program_that_has_our_names(run_script, backend):
    done = run_script(
        """
        import sys
        import numpy as np
        from joblib import Parallel, delayed

        def total(array, number):
            return float(array.sum()) + number

        if __name__ == "__main__":
            large = np.ones(1 << 18)
            calls = (delayed(total)(large, n) for n in range(3))
            print(Parallel(n_jobs=2, backend=sys.argv[1])(calls))
        """,
        backend,
        run_by=("-m", "manycore"),
    )
    assert (done.returncode, done.stdout) == (0, "[262144.0, 262145.0, 262146.0]\n"), done.stderr
    assert done.stderr == ""
