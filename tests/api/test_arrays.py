"""NumPy arrays in shared memory: `ndarray` and `share`."""

import copy
import pickle

import numpy as np
import pytest

import heap
import manycore
import targets
from processes import forked, running

pytestmark = pytest.mark.beyond_stdlib

STRUCTURE = np.dtype([("x", "f8"), ("n", "i4", (2,))])


def through_pickle(obj):
    return pickle.loads(pickle.dumps(obj))


def through_a_queue(obj):
    queue = manycore.Queue()
    queue.put({"found": [obj]})
    return queue.get()["found"][0]


def through_a_pool(obj):
    with manycore.Pool(1) as pool:
        return pool.apply(targets.identity, (obj,))


WAYS = {"pickle": through_pickle, "queue": through_a_queue, "pool": through_a_pool}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def travel(request):
    return request.param


def share_memory(one, other):
    """Whether what is written into one is read from the other; both begin with zeros."""
    one.reshape(-1).view("u1")[-1] = 1
    return bool(other.reshape(-1).view("u1")[-1] == 1)


@pytest.mark.parametrize(
    "dtype", [float, "i1", ">u4", bool, "c16", "M8[ns]", "S3", "U2", STRUCTURE]
)
@pytest.mark.parametrize("shape", [(), 3, (2, 3), (40, 50), np.int64(4), [2, 2]])
def test_a_new_array_is_zero_and_of_its_shape_and_type(shape, dtype):
    array = manycore.ndarray(shape, dtype)
    expected = np.zeros(shape, dtype)
    assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
    assert array.tobytes() == expected.tobytes()
    assert array.flags.c_contiguous
    assert array.flags.writeable


def test_an_array_may_be_filled():
    assert manycore.ndarray(3).dtype == float
    assert manycore.ndarray((2, 2), "i4", fill=7).tolist() == [[7, 7], [7, 7]]
    assert manycore.ndarray(2, "U3", fill="ab").tolist() == ["ab", "ab"]


@pytest.mark.parametrize("shape", [0, (0,), (3, 0), (0, 3, 2)])
def test_an_array_may_be_empty(shape, travel):
    array = manycore.ndarray(shape)
    arrived = travel(array)
    assert arrived.shape == array.shape
    assert travel(array[:0]).size == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((-1,), ValueError),
        (((2, -3),), ValueError),
        ((1.5,), TypeError),
        ((3, object), TypeError),
        ((3, [("a", object)]), TypeError),
        ((3, "no type"), TypeError),
    ],
)
def test_what_cannot_be_an_array_is_refused(arguments, error):
    with pytest.raises(error):
        manycore.ndarray(*arguments)


def test_an_array_that_does_not_fit_is_an_error():
    with pytest.raises(manycore.HeapFull):
        manycore.ndarray((1 << 60,), "u1")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f4", "i8", STRUCTURE])
def test_a_shared_array_is_a_copy_in_the_same_layout(order, dtype):
    original = np.zeros((3, 4), dtype, order=order)
    ones = np.frombuffer(b"\1" * original.nbytes, dtype)
    original[...] = ones.reshape(3, 4)
    shared = manycore.share(original)
    assert shared.dtype == original.dtype
    assert shared.strides == original.strides
    assert shared.tobytes() == original.tobytes()
    original[...] = np.zeros((), dtype)
    assert shared.tobytes() == ones.tobytes()


def test_a_part_of_an_array_is_shared_as_its_items():
    original = np.arange(12).reshape(3, 4)[::-1, ::2]
    assert manycore.share(original).tolist() == original.tolist()


def test_what_is_shared_already_is_not_shared_again():
    array = manycore.ndarray(3)
    assert manycore.share(array) is array
    copied = manycore.share(array + 1)
    copied[0] = 5
    assert array.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "wrong",
    [[1, 2], 5, "text", np.float64(1), np.ma.masked_array([1, 2], [True, False])],
    ids=lambda wrong: type(wrong).__name__,
)
def test_only_a_plain_array_can_be_shared_writable(wrong):
    with pytest.raises(TypeError):
        manycore.share(wrong)
    with pytest.raises(TypeError):
        manycore.share(np.array([None]))


@pytest.mark.parametrize("shape", [3, (5, 7), (600, 500)])
def test_what_travels_is_the_same_memory(shape, travel):
    array = manycore.ndarray(shape)
    arrived = travel(array)
    assert (arrived.shape, arrived.dtype, arrived.strides) == (
        array.shape,
        array.dtype,
        array.strides,
    )
    assert share_memory(arrived, array)


PARTS = {
    "slice": lambda a: a[2:5],
    "column": lambda a: a[:, 3],
    "backwards": lambda a: a[::-1, ::-2],
    "transposed": lambda a: a.T,
    "one item": lambda a: a[1, 2, ...],
    "new axis": lambda a: a[:, None, 1:],
    "bytes": lambda a: a.view("u1")[:, 5:9],
    "reshaped": lambda a: a.reshape(3, -1),
    "repeated": lambda a: np.broadcast_to(a[0], (2, 8), subok=True),
    "diagonal": lambda a: a.diagonal(),
    "part of a part": lambda a: a[1:][::2].T[3:],
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_view_travels_as_a_view_of_the_same_memory(part, travel):
    array = manycore.ndarray((6, 8), "i4")
    array[...] = np.arange(48).reshape(6, 8)
    view = part(array)
    arrived = travel(view)
    assert arrived.tolist() == view.tolist()
    assert (arrived.dtype, arrived.strides) == (view.dtype, view.strides)
    assert arrived.flags.writeable == view.flags.writeable
    array += 100
    assert arrived.tolist() == view.tolist()


def test_a_field_of_a_structure_travels_as_a_view(travel):
    array = manycore.ndarray(3, STRUCTURE)
    arrived = travel(array["n"])
    array["n"] = 4
    assert arrived.tolist() == [[4, 4]] * 3


def test_a_read_only_view_arrives_read_only(travel):
    array = manycore.ndarray(3)
    view = array[1:]
    view.flags.writeable = False
    arrived = travel(view)
    with pytest.raises(ValueError, match="read-only"):
        arrived[0] = 1
    array[1] = 5
    assert arrived[0] == 5


@pytest.mark.parametrize(
    "compute",
    [lambda a: a + 1, lambda a: np.sqrt(a), lambda a: a.sum(axis=0), lambda a: np.where(a, a, 0)],
)
def test_what_is_computed_is_an_ordinary_array(compute):
    array = manycore.ndarray((2, 2), fill=4)
    assert type(compute(array)) is np.ndarray
    assert isinstance(array.sum(), float)
    array += 1
    assert type(np.add(array, 1, out=array)) is type(array)
    assert array.tolist() == [[6, 6], [6, 6]]


@pytest.mark.parametrize(
    "take",
    [lambda a: a[[0, 1]], lambda a: a.copy(), copy.copy, copy.deepcopy, np.asarray, np.array],
)
def test_what_is_no_view_or_plain_travels_as_a_copy(take, travel):
    array = manycore.ndarray(3)
    arrived = travel(take(array))
    assert type(arrived) is np.ndarray
    arrived[0] = 1
    assert array[0] == 0


def test_a_child_sees_and_changes_an_array(ctx):
    array = ctx.ndarray((4, 1000), "i8")
    with running(ctx, targets.fill, array[1:3, ::2], 7):
        pass
    assert array.sum() == 7 * 1000
    assert array[1, ::2].sum() == 7 * 500


def test_a_plain_fork_shares_an_array():
    array = manycore.ndarray(100_000, "i2")
    with forked(lambda: targets.fill(array, 3)):
        pass
    assert (array == 3).all()


def test_a_pool_fills_an_array_of_its_owner(ctx):
    array = ctx.ndarray((8, 20_000), "i4")
    with ctx.Pool(2) as pool:
        results = pool.starmap(targets.fill_and_return, [(array[n], n) for n in range(8)])
    assert [row[0] for row in results] == list(range(8))
    assert (array == np.arange(8)[:, None]).all()
    results[3][5] = 99
    assert array[3, 5] == 99


def test_the_memory_is_free_when_nobody_holds_it():
    before = heap.used()
    array = manycore.ndarray(1 << 20, "u1")
    queue = manycore.Queue()
    queue.put(array[5:])
    assert heap.used() >= before + (1 << 20)
    del array
    view = queue.get()
    del queue
    assert view.sum() == 0
    assert heap.used() >= before + (1 << 20)
    del view
    assert heap.used() <= before


def test_a_killed_process_does_not_keep_an_array(ctx, gate):
    before = heap.used()
    array = ctx.ndarray(1 << 20, "u1")
    with running(ctx, targets.hold_and_stop, array, gate) as holder:
        gate.arrived()
        del array
        holder.kill()
    manycore._engine.reap()
    assert heap.used() <= before


def test_numpy_is_imported_only_when_it_is_used(run_script):
    done = run_script("""
        import sys
        import manycore
        shared = manycore.share([1, 2], readonly=True)
        print(shared.value, "numpy" in sys.modules)
        try:
            manycore.share([1, 2])
        except TypeError as error:
            print(error, "numpy" in sys.modules)
    """)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "[1, 2] False",
        "list is no NumPy array: share it with readonly=True False",
    ]
