"""`Pool(processes=0)`: the calling process runs the tasks, as a worker would."""

import gc
import os
import threading
from multiprocessing.pool import MaybeEncodingError

import pytest

import manycore
import pool_targets
import processes
import targets

pytestmark = pytest.mark.beyond_stdlib


@pytest.fixture
def pool():
    with manycore.Pool(0) as pool:
        yield pool


WAYS = {
    "map": lambda pool, func, items: pool.map(func, items),
    "map one by one": lambda pool, func, items: pool.map(func, items, chunksize=1),
    "map_async": lambda pool, func, items: pool.map_async(func, items).get(),
    "starmap": lambda pool, func, items: pool.starmap(func, ((x,) for x in items)),
    "imap": lambda pool, func, items: list(pool.imap(func, items)),
    "imap_unordered": lambda pool, func, items: sorted(pool.imap_unordered(func, items)),
    "apply": lambda pool, func, items: [pool.apply(func, (x,)) for x in items],
    "apply_async": lambda pool, func, items: [
        result.get() for result in [pool.apply_async(func, (x,)) for x in items]
    ],
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_each_kind_of_call_gives_what_a_pool_gives(pool, way):
    assert way(pool, targets.square, range(50)) == [x * x for x in range(50)]


def test_more_tasks_than_are_handed_out_at_once(pool):
    assert sum(pool.map(targets.identity, range(10_000), chunksize=1)) == sum(range(10_000))


def test_tasks_run_in_the_thread_that_waits_for_them():
    threads, children = set(threading.enumerate()), processes.descendants()
    with manycore.Pool(0) as pool:
        assert pool.apply(os.getpid) == os.getpid()
        assert pool.apply(threading.get_ident) == threading.get_ident()
        assert pool.map_async(abs, [-1]).get() == [1]
        assert set(threading.enumerate()) <= threads
        assert processes.descendants() <= children


def test_another_thread_may_wait_for_the_result(pool):
    result, got = pool.apply_async(threading.get_ident), []
    thread = threading.Thread(target=lambda: got.append(result.get()))
    thread.start()
    thread.join()
    assert got == [thread.ident]


def test_arguments_and_results_are_copies_as_from_a_worker(pool):
    items = [1]
    assert pool.apply(pool_targets.append, (items,)) == [1, "more"]
    assert items == [1]
    kept = []
    assert pool.apply(targets.identity, (kept,)) is not kept


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda pool: pool.apply(targets.fail, (KeyError("x"),)), KeyError),
        (lambda pool: pool.map(targets.fail, [KeyError("x")] * 3), KeyError),
        (lambda pool: list(pool.imap(targets.fail, [KeyError("x")])), KeyError),
        (lambda pool: pool.apply(targets.identity, (threading.Lock(),)), TypeError),
        (lambda pool: pool.apply(targets.unpicklable, (0,)), MaybeEncodingError),
        (lambda pool: pool.apply(targets.fail_pickily, (0,)), MaybeEncodingError),
        (lambda pool: pool.apply(os.sys.exit, (3,)), manycore.WorkerDied),
        (lambda pool: pool.map(os.sys.exit, [3], chunksize=1), manycore.WorkerDied),
    ],
)
def test_errors_are_those_of_a_pool_with_workers(pool, call, error):
    with manycore.Pool(1) as other, pytest.raises(error) as theirs:
        call(other)
    with pytest.raises(error) as ours:
        call(pool)
    assert type(ours.value) is type(theirs.value)
    assert type(ours.value.__cause__) is type(theirs.value.__cause__)
    assert pool.apply(targets.square, (3,)) == 9


def test_a_task_that_exits_is_told_as_a_dead_worker(pool):
    with pytest.raises(manycore.WorkerDied, match=r"SystemExit: 3 .* exit\(3\)") as info:
        pool.apply(os.sys.exit, (3,))
    assert info.value.exitcode == 3


def test_what_is_left_of_a_chunk_is_run_after_an_exit(pool, tmp_path):
    path = tmp_path / "items"
    with pytest.raises(manycore.WorkerDied):
        pool.starmap(exit_at_two, [(i, path) for i in range(5)], chunksize=5)
    assert pool_targets.noted(path) == ["0", "1", "3", "4"]


def exit_at_two(item, path):
    if item == 2:
        raise SystemExit
    pool_targets.note(path, item)


def test_ctrl_c_in_a_task_reaches_the_caller_and_the_pool_goes_on(pool):
    with pytest.raises(KeyboardInterrupt):
        pool.apply(pool_targets.interrupt_oneself)
    assert pool.apply(targets.square, (3,)) == 9
    pool.close()
    pool.join()  # hangs if that task is open


def test_callbacks_are_called_with_nobody_waiting(pool):
    called = []
    pool.apply_async(targets.square, (3,), callback=called.append)
    pool.map_async(targets.square, [1, 2], callback=called.append)
    last = threading.Event()
    pool.apply_async(
        targets.fail, (KeyError("x"),), error_callback=lambda it: (called.append(it), last.set())
    )
    last.wait()
    assert called[:2] == [9, [1, 4]]
    assert type(called[2]) is KeyError


def test_a_callback_may_use_the_pool(pool):
    called = []
    result = pool.apply_async(
        targets.square, (3,), callback=lambda nine: called.append(pool.apply(abs, (-nine,)))
    )
    assert result.get() == 9
    assert called == [9]


def test_the_caller_may_hold_a_lock_that_the_callback_wants(pool):
    lock, called = threading.Lock(), []

    def call_back(nine):
        with lock:
            called.append(nine)

    with lock:
        result = pool.apply_async(targets.square, (3,), callback=call_back)
        assert not result.ready()
    pool.close()
    pool.join()
    assert called == [9]


def test_a_lazy_map_takes_an_item_when_its_result_is_wanted(pool):
    taken = []
    results = pool.imap(targets.square, (taken.append(x) or x for x in range(5)))
    assert [(next(results), len(taken)) for _ in range(5)] == [
        (0, 1), (1, 2), (4, 3), (9, 4), (16, 5)
    ]  # fmt: skip


def test_ready_runs_a_task_and_join_runs_them_all(tmp_path):
    path = tmp_path / "items"
    with manycore.Pool(0) as pool:
        result = pool.apply_async(targets.square, (3,))
        assert result.ready()
        for item in range(3):
            pool.apply_async(pool_targets.note, (path, item))
        assert pool.stats().queued == 2  # `stats` looked for answers
        pool.close()
        pool.join()
    assert pool_targets.noted(path) == ["0", "1", "2"]


def test_options_of_calls_are_the_same(pool, tmp_path):
    path = tmp_path / "seeds"
    values = pool.map(
        pool_targets.seed_at_the_second_try, [path], seed=1, retries=1, retry_on=OSError
    )
    assert pool_targets.noted(path) == [str(values[0])] * 2
    errors = pool.map(targets.fail, [KeyError("x"), OSError("y")], on_error="return")
    assert [type(error) for error in errors] == [KeyError, OSError]


def test_the_process_is_the_pools_one_worker(tmp_path):
    path = tmp_path / "ends"
    with manycore.Pool(
        0, pool_targets.remember, ("it",), finalizer=pool_targets.note_end, finalargs=(path,)
    ) as pool:
        assert pool.map(pool_targets.remembered, range(3)) == ["it"] * 3
        assert manycore.current_worker() is None
        pool.close()
        pool.join()
    assert pool_targets.noted(path) == [f"{os.getpid()} 0"]
    with manycore.Pool(0, pass_worker=True) as pool:
        assert pool.map(pool_targets.count, range(3)) == [(0, 1), (0, 2), (0, 3)]


def test_an_initializer_that_fails_is_told_where_the_pool_is_made():
    with pytest.raises(KeyError):
        manycore.Pool(0, targets.fail, (KeyError("x"),))


def test_it_looks_like_a_pool_and_has_no_size_to_change(pool):
    assert "pool_size=0" in repr(pool)
    with pytest.raises(ValueError, match="0 processes"):
        pool.resize(2)


def test_a_pool_that_is_terminated_answers_what_was_not_run(pool):
    result = pool.apply_async(targets.square, (3,))
    pool.terminate()
    with pytest.raises(RuntimeError, match="terminated"):
        result.get()


def test_it_measures_as_others_do():
    with manycore.Pool(0, insights=True) as pool:
        pool.apply(pool_targets.sleep_for, (0.01,))
        insights = pool.insights()
    assert insights.slowest[0].seconds >= 0.01
    assert insights.slowest[0].task == "sleep_for(0.01)"
    assert insights.workers[0].working >= 0.01


def test_where_the_name_is_multiprocessing_there_is_no_such_pool(run_script):
    script = run_script("""
        import manycore
        manycore.install()
        import multiprocessing
        try:
            multiprocessing.Pool(0)
        except ValueError as error:
            print(error)
    """)
    assert "must be at least 1" in script.stdout, script.stderr


def test_another_thread_may_be_the_last_to_have_it():
    pool = manycore.Pool(0)
    assert pool.map(targets.square, range(3)) == [0, 1, 4]
    pool.close()
    pool.join()
    held = [pool]
    del pool

    def let_go():
        held.clear()
        gc.collect()

    thread = threading.Thread(target=let_go)
    thread.start()
    thread.join()  # what cannot be freed there is reported by Python, and fails the test
