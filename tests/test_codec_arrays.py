"""NumPy arrays and other buffers through a queue: equal, writable, and the receiver's own."""

import array
import copyreg
import datetime
import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import manycore
import targets
from comparison import Comparison
from processes import forked, running
from values import PLAIN

np = pytest.importorskip("numpy")
npst = pytest.importorskip("hypothesis.extra.numpy")

KIB, MIB = 1 << 10, 1 << 20

# Around where payloads leave the record, where they are mapped instead of copied, and beyond.
SIZES = [
    0,
    1,
    32 * KIB - 8,
    32 * KIB - 1,
    32 * KIB,
    32 * KIB + 1,
    1 * MIB,
    4 * MIB - 8,
    4 * MIB,
    4 * MIB + 8,
    40 * MIB,
]
LARGE = 4 * MIB // 8  # doubles

SHAPES_AND_TYPES = {
    "fortran": np.asfortranarray(np.arange(60_000.0).reshape(200, 300)),
    "transposed": np.arange(60_000).reshape(200, 300).T,
    "every other": np.arange(20_000)[::2],
    "backwards": np.arange(20_000)[::-1],
    "inner columns": np.arange(60_000).reshape(200, 300)[:, 10:20],
    "broadcast": np.broadcast_to(np.arange(300), (200, 300)),
    "no dimension": np.array(3.5),
    "no rows": np.empty((0, 3)),
    "no columns": np.empty((3, 0), order="F"),
    "32 dimensions": np.zeros((1,) * 32),
    "big endian": np.arange(10_000, dtype=">i4"),
    "booleans": np.arange(50_000) % 3 == 0,
    "complex": np.arange(5_000) * 1j,
    "half": np.arange(1_000, dtype=np.float16),
    "texts": np.array(["a", "bcd", "\N{GRINNING FACE}"] * 10_000),
    "bytes": np.array([b"a", b"bcd"] * 20_000),
    "dates": np.array(["2026-11-22", "NaT"], dtype="datetime64[D]"),
    "spans": np.arange(10_000).astype("timedelta64[ns]"),
    "structured": np.zeros(3_000, dtype=[("id", "i4"), ("place", "f8", (2,)), ("name", "U4")]),
    "aligned": np.ones(3_000, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "raw": np.zeros(100, dtype="V7"),
    "objects": np.array([None, 1, "two", [3], {4: 5}], dtype=object),
    "nan": np.array([np.nan, -0.0, np.inf]),
    "subclass": np.arange(10_000).view(np.recarray),
    "masked": np.ma.masked_array([1, 2, 3], mask=[0, 1, 0]),
    "matrix of bytes": np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(20, axis=0),
    "long long": np.arange(10, dtype=np.longlong),
    "long double": np.arange(10, dtype=np.longdouble),
    "complex of them": np.arange(10, dtype=np.clongdouble),
    "with metadata": np.arange(10).astype(np.dtype("i8", metadata={"unit": "m"})),
    "unaligned": np.frombuffer(bytearray(81), "u1")[1:].view("f8"),
}
for name, sent in list(SHAPES_AND_TYPES.items()):
    if sent.dtype.kind in "biufc" and sent.flags.writeable:
        SHAPES_AND_TYPES[f"large {name}"] = np.resize(sent, (5 << 20) // (sent.itemsize or 1))

LAYOUTS = {
    "as it is": lambda array: array,
    "fortran": np.asfortranarray,
    "transposed": lambda array: array.T,
    "every other": lambda array: array[::2] if array.ndim else array,
    "backwards": lambda array: array[::-1] if array.ndim else array,
    "a part": lambda array: array[..., 1:] if array.ndim else array,
    "repeated": lambda array: np.broadcast_to(array, (2, *array.shape)),
    "read-only": lambda array: np.frombuffer(array.tobytes(), array.dtype) if array.size else array,
    "large": lambda array: np.resize(array, 300_000) if array.size else array,
}
ARRAYS = st.builds(
    lambda layout, array: layout(array),
    st.sampled_from(list(LAYOUTS.values())),
    npst.arrays(
        npst.scalar_dtypes() | npst.array_dtypes(npst.scalar_dtypes(), max_size=3),
        npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
)


@pytest.fixture
def queue():
    queue = manycore.Queue()
    yield queue
    queue.close()


def through(queue, value):
    queue.put(value)
    return queue.get()


def assert_same_array(received, sent):
    assert type(received) is type(sent)
    expected = pickle.loads(pickle.dumps(sent))
    # Pickle's default protocol makes a foreign byte order native, protocol 5 keeps it.
    assert received.dtype in (sent.dtype, expected.dtype)
    assert received.shape == sent.shape
    np.testing.assert_array_equal(received, sent)
    assert received.flags.f_contiguous == expected.flags.f_contiguous
    assert received.flags.c_contiguous == expected.flags.c_contiguous
    assert received.strides == expected.strides


@pytest.mark.parametrize("size", SIZES)
def test_an_array_of_any_size_arrives_whole(queue, size):
    sent = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    received = through(queue, sent)
    assert_same_array(received, sent)
    assert received.flags.writeable


@pytest.mark.parametrize("sent", SHAPES_AND_TYPES.values(), ids=SHAPES_AND_TYPES)
def test_arrays_of_any_shape_and_type_arrive(queue, sent):
    received = through(queue, sent)
    assert_same_array(received, sent)
    if sent.flags.writeable:
        assert received.flags.writeable


@pytest.mark.parametrize("sent", SHAPES_AND_TYPES.values(), ids=SHAPES_AND_TYPES)
@pytest.mark.beyond_stdlib  # there the default protocol is used, which is no 5 in older Pythons
def test_an_array_arrives_as_through_a_pickle_of_protocol_5(queue, sent):
    Comparison().check(through(queue, sent), pickle.loads(pickle.dumps(sent, 5)))


@pytest.mark.beyond_stdlib
@settings(
    max_examples=400,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    parts=st.lists(ARRAYS | PLAIN, min_size=1, max_size=4),
    make=st.sampled_from(
        [
            lambda parts: parts[0],
            list,
            tuple,
            lambda parts: dict(enumerate(parts)),
            lambda parts: [*parts, parts[0]],
            lambda parts: [[part] for part in parts],
        ]
    ),
)
def test_whatever_arrays_are_in_it_a_value_arrives_as_through_pickle(queue, parts, make):
    value = make(parts)
    Comparison().check(through(queue, value), pickle.loads(pickle.dumps(value, 5)))


@pytest.mark.parametrize("register", [copyreg.pickle, ForkingPickler.register])
@pytest.mark.parametrize("size", [1, LARGE])
def test_a_registered_reducer_of_arrays_wins(queue, register, size):
    register(np.ndarray, lambda array: (str, ("reduced",)))
    try:
        assert through(queue, np.zeros(size)) == "reduced"
        assert through(queue, (1, np.zeros(size))) == (1, "reduced")
    finally:
        copyreg.dispatch_table.pop(np.ndarray, None)
        ForkingPickler._extra_reducers.pop(np.ndarray, None)


def test_sending_and_receiving_other_things_imports_no_numpy(run_script):
    done = run_script("""
        import sys
        import manycore
        queue = manycore.Queue()
        for value in (1, {1, 2}, [bytearray(5 << 20), bytes(5 << 20)], object):
            queue.put(value)
            queue.get()
        assert "numpy" not in sys.modules
        class ndarray(list):
            pass
        queue.put(ndarray([1]))
        assert type(queue.get()) is ndarray
    """)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", [10, 32 * KIB, 4 * MIB])
def test_a_read_only_array_arrives(queue, size):
    sent = np.ones(size, dtype=np.uint8)
    sent.flags.writeable = False
    assert_same_array(through(queue, sent), sent)


@pytest.mark.parametrize("size", SIZES[1:])
def test_a_received_array_is_private(queue, size):
    sent = np.full(size, 1, dtype=np.uint8)
    queue.put(sent)
    queue.put(sent)
    one, other = queue.get(), queue.get()
    one[:] = 2
    assert (sent == 1).all()
    assert (other == 1).all()
    other[:] = 3
    assert (one == 2).all()


@pytest.mark.beyond_stdlib  # there a thread pickles the array some time after put
@pytest.mark.parametrize("size", SIZES[1:])
def test_what_is_written_after_put_is_not_sent(queue, size):
    sent = np.full(size, 1, dtype=np.uint8)
    queue.put(sent)
    sent[:] = 2
    assert (queue.get() == 1).all()


@pytest.mark.parametrize("size", [1, LARGE // 8, LARGE])
def test_a_received_array_is_private_across_fork(queue, size):
    received = through(queue, np.ones(size))

    def write_in_the_child():
        assert (received == 1).all()
        received[:] = 2
        assert (received == 2).all()

    with forked(write_in_the_child):
        pass
    assert (received == 1).all()


@pytest.mark.parametrize("size", [1, LARGE // 8, LARGE])
def test_a_received_array_outlives_the_queue_and_later_messages(size):
    queue = manycore.Queue()
    kept = [through(queue, np.full(size, float(number))) for number in range(5)]
    queue.close()
    del queue
    other = manycore.Queue()
    for _ in range(5):
        through(other, np.full(size, -1.0))
    other.close()
    assert [array[0] == array[-1] == number for number, array in enumerate(kept)] == [True] * 5


@pytest.mark.parametrize("size", [1, LARGE])
def test_a_part_of_a_received_array_keeps_its_memory(queue, size):
    part = through(queue, np.arange(size + 10.0))[-5:]
    through(queue, np.zeros(size + 10))
    assert list(part) == [size + 5.0, size + 6.0, size + 7.0, size + 8.0, size + 9.0]


def test_the_memory_of_arrays_that_are_gone_is_used_again_and_of_no_others(queue):
    def received(number):
        queue.put(np.full(MIB // 8, number))
        return queue.get()

    kept = [received(number) for number in range(30)]  # more than is kept for later
    part = memoryview(kept[3])[:10]
    addresses = {array.ctypes.data for array in kept}
    assert len(addresses) == 30
    del kept[:20]
    newer = [received(100 + number) for number in range(20)]
    assert addresses & {array.ctypes.data for array in newer}
    assert part.tolist() == [3] * 10
    assert [array[-1] for array in kept + newer] == [*range(20, 30), *range(100, 120)]


def test_an_array_sent_on_arrives_at_the_next(queue):
    sent = np.arange(float(LARGE))
    assert_same_array(through(queue, through(queue, through(queue, sent))), sent)


@pytest.mark.parametrize("size", [10, 32 * KIB, 4 * MIB])
def test_one_array_twice_in_a_message_is_one_array(queue, size):
    sent = np.ones(size, dtype=np.uint8)
    one, other = through(queue, [sent, sent])
    assert one is other


def test_arrays_inside_of_other_values_arrive(queue):
    sent = {"image": np.ones((500, 500)), "small": np.arange(3), "label": "cat"}
    received = through(queue, [sent, np.zeros(100_000)])
    assert received[0]["label"] == "cat"
    assert_same_array(received[0]["image"], sent["image"])
    assert_same_array(received[0]["small"], sent["small"])
    assert_same_array(received[1], np.zeros(100_000))


def test_the_objects_of_an_array_are_pickled(queue):
    inner = [1]
    one, other = through(queue, np.array([inner, inner, None], dtype=object))[:2]
    assert one == [1]
    assert one is other
    assert one is not inner


@pytest.mark.parametrize(
    "sent",
    [np.float64(1.5), np.int8(-1), np.bool_(True), np.datetime64("2026-11-22"), np.dtype("f8")],
    ids=lambda value: type(value).__name__,
)
def test_numpy_scalars_keep_their_type(queue, sent):
    received = through(queue, sent)
    assert type(received) is type(sent)
    assert received == sent


@pytest.mark.parametrize("size", [0, 10, 8 * KIB, MIB])
def test_arrays_of_the_standard_library_arrive(queue, size):
    sent = array.array("d", [0.5] * size)
    received = through(queue, sent)
    assert type(received) is array.array
    assert received == sent


@pytest.mark.beyond_stdlib  # `PickleBuffer` needs protocol 5
def test_buffers_offered_out_of_band_arrive(queue):
    sent = [pickle.PickleBuffer(bytearray(b"x" * size)) for size in (1, 32 * KIB, MIB, 5 * MIB)]
    received = through(queue, sent)
    assert [bytes(part) for part in received] == [bytes(part) for part in sent]


@pytest.mark.parametrize("size", [1, LARGE])
def test_arrays_cross_processes_and_come_back(ctx, size):
    questions, answers = ctx.Queue(), ctx.Queue()
    sent = np.arange(float(size))
    with running(ctx, targets.get_from, questions, answers):
        questions.put(sent)
        assert_same_array(answers.get(), sent)


@pytest.mark.parametrize("size", [1, LARGE])
def test_arrays_are_arguments_and_results_of_a_pool(ctx, size):
    sent = [np.full(size, number) for number in range(4)]
    with ctx.Pool(2) as pool:
        for received, original in zip(pool.map(targets.identity, sent), sent, strict=True):
            assert_same_array(received, original)
            received[:] = -1


def test_tables_of_mixed_things_arrive(queue):
    sent = [(datetime.date(2026, 11, day), np.arange(day), f"row {day}") for day in range(1, 20)]
    for (day, numbers, text), row in zip(through(queue, sent), sent, strict=True):
        assert (day, text) == (row[0], row[2])
        assert_same_array(numbers, row[1])
