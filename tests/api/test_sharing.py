"""`share(obj, readonly=True)`: encoded once, decoded once in each process."""

import collections
import copy
import ctypes
import gc
import pickle

import numpy as np
import pytest

import heap
import manycore
import targets
from processes import running

pytestmark = pytest.mark.beyond_stdlib

Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "obj", [None, 5, "text", b"x" * 5000, [1, {"a": (2,)}], {1, 2}, bytearray(b"y" * 5000)]
)
def test_the_value_is_equal(obj):
    shared = manycore.share(obj, readonly=True)
    assert shared.value == obj
    assert type(shared.value) is type(obj)
    assert shared.value is shared.value


def test_the_buffers_of_the_value_are_the_shared_memory():
    original = {"a": np.arange(5000.0), "b": [np.ones((300, 400), order="F")], "c": np.arange(3)}
    shared = manycore.share(original, readonly=True)
    original["a"][0] = 77
    a, b = shared.value["a"], shared.value["b"][0]
    assert (a == np.arange(5000)).all()
    assert (b == 1).all()
    assert b.flags.f_contiguous
    start = shared._memory.address
    for array in (a, b):
        assert start <= array.__array_interface__["data"][0] < start + len(shared._memory)
        assert array.flags.aligned
        with pytest.raises(ValueError, match="read-only"):
            array.flat[0] = 1


def test_an_array_that_is_not_contiguous_is_shared_too():
    array = np.arange(100_000).reshape(100, 1000)[::2, ::3]
    assert (manycore.share(array, readonly=True).value == array).all()


def test_it_is_decoded_once_while_somebody_has_it():
    before = targets.CountsDecoding.times
    shared = manycore.share([targets.CountsDecoding()], readonly=True)
    queue = manycore.Queue()
    for _ in range(3):
        queue.put(shared)
    first, second = queue.get(), queue.get()
    assert first is second is shared
    assert first.value is second.value
    assert targets.CountsDecoding.times == before + 1
    del shared, first, second
    gc.collect()
    assert len(queue.get().value) == 1
    assert targets.CountsDecoding.times == before + 2


@pytest.mark.parametrize(
    "travel", [lambda shared: pickle.loads(pickle.dumps(shared)), copy.copy, copy.deepcopy]
)
def test_a_copy_is_the_same_object(travel):
    shared = manycore.share(Point(1, 2), readonly=True)
    assert travel(shared) is shared


def test_a_worker_that_keeps_it_decodes_it_once_whatever_its_tasks_bring(ctx):
    shared = ctx.share(targets.CountsDecoding(), readonly=True)
    with ctx.Pool(2, targets.keep, (shared,)) as pool:
        answers = set(pool.map(targets.times_decoded, [shared] * 50, chunksize=1))
    assert len(answers) == len({pid for pid, _ in answers})


def test_a_worker_that_keeps_nothing_has_it_while_a_task_does():
    shared = manycore.share(targets.CountsDecoding(), readonly=True)
    with manycore.get_context("spawn").Pool(1) as pool:  # which inherits nothing
        answers = [pool.apply(targets.times_decoded, (shared,)) for _ in range(3)]
    assert [times for _, times in answers] == [1, 2, 3]


def test_the_tables_of_workers_are_the_shared_memory(ctx):
    shared = ctx.share({"table": np.arange(100_000)}, readonly=True)
    with ctx.Pool(2) as pool:
        answers = pool.starmap(targets.look_up, [(shared, n) for n in range(200)])
    assert [number for number, _ in answers] == list(range(200))
    assert not any(writeable for _, writeable in answers)


def test_it_lives_while_its_value_is_used():
    before = heap.used()
    array = manycore.share(np.ones(1 << 17), readonly=True).value
    others = [manycore.share(np.zeros(1 << 17), readonly=True) for _ in range(3)]
    assert (array == 1).all()
    del array, others
    gc.collect()
    assert heap.used() <= before


def test_a_killed_process_does_not_keep_it(ctx, gate):
    before = heap.used()
    shared = ctx.share(bytes(1 << 20), readonly=True)
    with running(ctx, targets.hold_and_stop, shared, gate) as holder:
        gate.arrived()
        del shared
        holder.kill()
    manycore._engine.reap()
    assert heap.used() <= before


@pytest.mark.parametrize(
    "make",
    [manycore.Queue, manycore.Lock, lambda: manycore.Value("i"), lambda: manycore.ndarray(2)],
)
def test_what_is_shared_itself_is_refused(make):
    with pytest.raises(TypeError, match="read-only"):
        manycore.share({"in": [make()]}, readonly=True)


def test_what_cannot_be_pickled_is_an_error():
    with pytest.raises((pickle.PicklingError, TypeError, AttributeError)):
        manycore.share(lambda: None, readonly=True)


@pytest.mark.parametrize("damage", [(0, 0), (0, 2**63), (8, 5), (8, 2**64 - 1), (16, 1)])
def test_what_was_scribbled_on_is_an_error(damage):
    at, value = damage
    shared = manycore.share(np.arange(5000), readonly=True)
    ctypes.c_uint64.from_address(shared._memory.address + at).value = value
    with pytest.raises(manycore.Corrupted):
        _ = shared.value


def test_a_handle_that_leads_nowhere_is_an_error():
    shared = manycore.share("x", readonly=True)
    pickled = pickle.dumps(shared)
    del shared
    gc.collect()
    with pytest.raises(manycore.HandleError):
        pickle.loads(pickled)
