"""Lock and RLock: exclusion between processes and threads, timeouts, who may release."""

import pickle
import threading
import time

import pytest

import manycore
import targets
from processes import running

beyond_stdlib = pytest.mark.beyond_stdlib

both_kinds = pytest.mark.parametrize("kind", ["Lock", "RLock"])


def taken_by_another_thread(lock, **options):
    """What `acquire` says in a thread that does not hold the lock."""
    answer = []
    thread = threading.Thread(target=lambda: answer.append(lock.acquire(**options)))
    thread.start()
    thread.join()
    return answer[0]


@both_kinds
def test_a_free_lock_is_taken_at_once(kind):
    lock = getattr(manycore, kind)()
    assert lock.acquire() is True
    lock.release()
    assert lock.acquire(block=False) is True
    lock.release()
    assert lock.acquire(True, 0) is True
    lock.release()


@pytest.mark.parametrize(
    "options",
    [
        {"block": False},
        {"block": False, "timeout": 5},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": 0.01},
    ],
)
@both_kinds
def test_a_lock_held_by_another_thread_is_not_taken(kind, options):
    lock = getattr(manycore, kind)()
    with lock:
        assert taken_by_another_thread(lock, **options) is False


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        ((True,), {}),
        ((False,), {}),
        ((0,), {}),
        ((True, None), {}),
        ((True, 1), {}),
        ((True,), {"timeout": 1}),
        ((), {"timeout": 1.5}),
        ((), {"block": True, "timeout": None}),
    ],
)
@both_kinds
def test_how_to_acquire_can_be_said_by_place_and_by_name(kind, arguments, options):
    lock = getattr(manycore, kind)()
    assert lock.acquire(*arguments, **options) is True
    lock.release()


@pytest.mark.parametrize(
    ("arguments", "options"),
    [((True, 1, 2), {}), ((True,), {"block": True}), ((), {"nonsense": 1}), ((True, "a"), {})],
)
@both_kinds
def test_what_acquire_does_not_know_is_an_error_and_takes_nothing(kind, arguments, options):
    lock = getattr(manycore, kind)()
    with pytest.raises(TypeError):
        lock.acquire(*arguments, **options)
    assert taken_by_another_thread(lock, block=False) is True


@both_kinds
def test_a_lock_held_by_another_process_is_not_taken(ctx, gate, kind):
    lock = getattr(ctx, kind)()
    with running(ctx, targets.hold, lock, gate):
        gate.arrived()
        assert lock.acquire(block=False) is False
        assert lock.acquire(timeout=0.01) is False
        gate.let_go()
        assert lock.acquire() is True
        lock.release()


@both_kinds
def test_a_child_does_not_get_a_lock_that_its_parent_holds(ctx, kind):
    ours, theirs = ctx.Pipe()
    lock = getattr(ctx, kind)()
    with lock, running(ctx, targets.try_to_take, lock, theirs):
        assert ours.recv() is False


def test_a_timeout_is_not_over_too_early():
    lock = manycore.Lock()
    lock.acquire()
    begun = time.monotonic()
    assert lock.acquire(timeout=0.05) is False
    assert time.monotonic() - begun >= 0.05


@both_kinds
def test_only_one_process_at_a_time_is_inside(ctx, kind):
    lock, counter = getattr(ctx, kind)(), ctx.Value("i", 0, lock=False)
    processes = [ctx.Process(target=targets.count_up, args=(lock, counter, 2000)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert counter.value == 8000


@both_kinds
def test_only_one_thread_at_a_time_is_inside(kind):
    lock, counter = getattr(manycore, kind)(), manycore.Value("i", 0, lock=False)
    threads = [
        threading.Thread(target=targets.count_up, args=(lock, counter, 1000)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value == 4000


@both_kinds
def test_a_block_releases_at_its_end_and_at_an_exception(kind):
    lock = getattr(manycore, kind)()
    with lock as entered:
        assert entered is True
    with pytest.raises(KeyError), lock:
        raise KeyError
    assert taken_by_another_thread(lock, block=False) is True


def test_a_lock_is_not_recursive():
    lock = manycore.Lock()
    with lock:
        assert lock.acquire(block=False) is False


def test_a_free_lock_cannot_be_released():
    with pytest.raises(ValueError, match="released too many times"):
        manycore.Lock().release()


def test_a_lock_may_be_released_by_another_thread():
    lock = manycore.Lock()
    assert taken_by_another_thread(lock) is True
    lock.release()
    assert lock.acquire(block=False) is True


def test_a_lock_may_be_released_by_another_process(ctx):
    lock = ctx.Lock()
    lock.acquire()
    with running(ctx, targets.release, lock):
        assert lock.acquire() is True


def test_what_a_process_holds_when_it_leaves_in_order_stays_held(ctx):
    lock = ctx.Lock()
    with running(ctx, targets.take_and_leave, lock):
        pass
    assert lock.acquire(block=False) is False
    lock.release()
    assert lock.acquire(block=False) is True


@both_kinds
def test_a_lock_stays_held_when_the_thread_that_has_it_ends(kind):
    lock = getattr(manycore, kind)()
    assert taken_by_another_thread(lock) is True
    assert lock.acquire(timeout=0.2) is False


def test_an_rlock_is_free_after_as_many_releases_as_acquires():
    lock = manycore.RLock()
    for _ in range(3):
        assert lock.acquire() is True
    for _ in range(2):
        lock.release()
        assert taken_by_another_thread(lock, block=False) is False
    lock.release()
    assert taken_by_another_thread(lock, block=False) is True


def test_an_rlock_may_be_released_only_by_its_holder():
    lock = manycore.RLock()
    with pytest.raises(AssertionError, match="not owned"):
        lock.release()
    assert taken_by_another_thread(lock) is True
    with pytest.raises(AssertionError, match="not owned"):
        lock.release()


def test_an_rlock_may_not_be_released_by_another_process(ctx):
    lock = ctx.RLock()
    with lock:
        with running(ctx, targets.release, lock) as process:
            pass
        assert process.exitcode == 1
        assert taken_by_another_thread(lock, block=False) is False


@both_kinds
def test_repr_tells_the_holder(ctx, gate, kind):
    lock = getattr(ctx, kind)()
    assert repr(lock).startswith(f"<{kind}(")
    assert "None" in repr(lock)
    with lock:
        assert "MainProcess" in repr(lock)
    with running(ctx, targets.hold, lock, gate):
        gate.arrived()
        assert "SomeOtherProcess" in repr(lock)
        gate.let_go()


@beyond_stdlib
@both_kinds
def test_a_lock_travels_through_a_queue(ctx, gate, kind):
    lock, queue = getattr(ctx, kind)(), ctx.Queue()
    queue.put(lock)
    arrived = queue.get()
    with running(ctx, targets.hold, arrived, gate):
        gate.arrived()
        assert lock.acquire(block=False) is False
        gate.let_go()


@beyond_stdlib
@both_kinds
def test_a_pickled_lock_is_the_same_lock(kind):
    lock = getattr(manycore, kind)()
    copy = pickle.loads(pickle.dumps(lock))
    with lock:
        assert taken_by_another_thread(copy, block=False) is False
    assert taken_by_another_thread(copy, block=False) is True
