"""Semaphore and BoundedSemaphore: how many tokens there are, who may give them, how they look."""

import pickle
import threading
import time

import pytest

import manycore
import targets
from processes import running

beyond_stdlib = pytest.mark.beyond_stdlib

both_kinds = pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])


@both_kinds
def test_as_many_are_taken_as_there_are(kind):
    semaphore = getattr(manycore, kind)(2)
    assert semaphore.acquire() is True
    assert semaphore.acquire(block=False) is True
    assert semaphore.acquire(block=False) is False
    assert semaphore.acquire(True, 0) is False
    assert semaphore.acquire(timeout=-1) is False
    semaphore.release()
    assert semaphore.acquire(timeout=5) is True


@both_kinds
def test_there_is_one_unless_it_is_said(kind):
    semaphore = getattr(manycore, kind)()
    assert semaphore.get_value() == 1
    assert semaphore.acquire(block=False) is True
    assert semaphore.get_value() == 0


@both_kinds
@pytest.mark.parametrize(
    ("value", "error"), [(-1, OSError), (2**31, OverflowError), ("1", TypeError), (None, TypeError)]
)
def test_a_value_that_cannot_be_is_refused(kind, value, error):
    with pytest.raises(error):
        getattr(manycore, kind)(value)


def test_a_semaphore_may_be_given_more_than_it_had():
    semaphore = manycore.Semaphore(0)
    for _ in range(3):
        semaphore.release()
    assert semaphore.get_value() == 3


def test_there_is_a_limit_to_that():
    semaphore = manycore.Semaphore(2**31 - 1)
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()


def test_a_bounded_semaphore_is_not_given_more_than_it_had():
    semaphore = manycore.BoundedSemaphore(1)
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()
    with pytest.raises(ValueError, match="released too many times"), semaphore:
        semaphore.release()
    assert semaphore.get_value() == 1


@both_kinds
def test_a_block_releases_at_its_end_and_at_an_exception(kind):
    semaphore = getattr(manycore, kind)()
    with semaphore as entered:
        assert entered is True
        assert semaphore.get_value() == 0
    with pytest.raises(KeyError), semaphore:
        raise KeyError
    assert semaphore.get_value() == 1


@both_kinds
def test_repr_tells_the_value(kind):
    semaphore = getattr(manycore, kind)(3)
    semaphore.acquire()
    end = "" if kind == "Semaphore" else ", maxvalue=3"
    assert repr(semaphore) == f"<{kind}(value=2{end})>"


def test_a_bounded_semaphore_is_a_semaphore(ctx):
    assert isinstance(ctx.BoundedSemaphore(), type(ctx.Semaphore()))


@beyond_stdlib  # there since 3.14
@both_kinds
def test_it_is_locked_while_there_is_no_token(kind):
    semaphore = getattr(manycore, kind)()
    assert semaphore.locked() is False
    with semaphore:
        assert semaphore.locked() is True


def test_a_timeout_is_not_over_too_early():
    semaphore = manycore.Semaphore(0)
    begun = time.monotonic()
    assert semaphore.acquire(timeout=0.05) is False
    assert time.monotonic() - begun >= 0.05


def test_what_one_process_gives_another_takes(ctx):
    semaphore = ctx.Semaphore(0)
    with running(ctx, targets.release, semaphore):
        assert semaphore.acquire() is True
    assert semaphore.get_value() == 0


@both_kinds
def test_no_more_are_inside_than_there_are_tokens(ctx, gate, kind):
    semaphore = getattr(ctx, kind)(2)
    processes = [ctx.Process(target=targets.hold, args=(semaphore, gate)) for _ in range(4)]
    for process in processes:
        process.start()
    for _ in range(3):
        gate.arrived()
        gate.let_go()
    gate.arrived()
    gate.let_go()
    for process in processes:
        process.join()
    assert semaphore.get_value() == 2


@both_kinds
def test_only_one_at_a_time_is_inside_where_there_is_one_token(ctx, kind):
    semaphore, counter = getattr(ctx, kind)(), ctx.Value("i", 0, lock=False)
    processes = [
        ctx.Process(target=targets.count_up, args=(semaphore, counter, 2000)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert counter.value == 6000
    assert semaphore.get_value() == 1


@both_kinds
def test_threads_that_wait_are_all_let_in(kind):
    semaphore = getattr(manycore, kind)(2)
    semaphore.acquire()
    semaphore.acquire()
    threads = [threading.Thread(target=semaphore.acquire) for _ in range(2)]
    for thread in threads:
        thread.start()
    semaphore.release()
    semaphore.release()
    for thread in threads:
        thread.join()
    assert semaphore.get_value() == 0


def test_what_a_thread_has_taken_stays_taken_when_it_ends():
    semaphore = manycore.Semaphore()
    thread = threading.Thread(target=semaphore.__enter__)
    thread.start()
    thread.join()
    assert semaphore.acquire(block=False) is False


def test_what_a_process_has_taken_stays_taken_when_it_leaves_in_order(ctx):
    semaphore = ctx.Semaphore()
    with running(ctx, targets.enter, semaphore):
        pass
    assert semaphore.acquire(timeout=0.2) is False


@beyond_stdlib
@both_kinds
def test_a_semaphore_travels_through_a_queue(ctx, gate, kind):
    semaphore, queue = getattr(ctx, kind)(), ctx.Queue()
    queue.put(semaphore)
    arrived = queue.get()
    assert repr(arrived) == repr(semaphore)
    with running(ctx, targets.hold, arrived, gate):
        gate.arrived()
        assert semaphore.acquire(block=False) is False
        gate.let_go()


@beyond_stdlib
@both_kinds
def test_a_pickled_semaphore_is_the_same_semaphore(kind):
    semaphore = getattr(manycore, kind)(2)
    copy = pickle.loads(pickle.dumps(semaphore))
    copy.acquire()
    assert semaphore.get_value() == 1


@beyond_stdlib
@both_kinds
def test_what_becomes_of_tokens_is_one_of_two_things(kind):
    with pytest.raises(ValueError, match="on_owner_death"):
        getattr(manycore, kind)(1, on_owner_death="warn")
