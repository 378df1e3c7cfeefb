"""What a queue does to a value is what pickle would do to it."""

import array
import collections
import copyreg
import ctypes
import gc
import math
import pickle
import random
import struct
import sys
import zlib
from multiprocessing.reduction import ForkingPickler

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import manycore
from comparison import Comparison
from values import (
    ATOMS,
    FLAT,
    FLAT_WITH_LARGE,
    LARGE,
    NESTED,
    PLAIN,
    Bytes,
    Node,
    Pair,
    graphs,
)


def check_round_trip(queue, value):
    """Compares what comes out of the queue with what comes out of pickle."""
    queue.put(value)
    expected = pickle.loads(pickle.dumps(value, 5))
    Comparison().check(queue.get(), expected)


fixed_seed = settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

few_examples = settings(fixed_seed, max_examples=40)


@pytest.fixture
def queue():
    queue = manycore.Queue()
    yield queue
    queue.close()


@fixed_seed
@given(value=FLAT)
def test_flat_values_arrive_as_through_pickle(queue, value):
    check_round_trip(queue, value)


@fixed_seed
@given(value=st.recursive(ATOMS, lambda it: st.lists(it) | st.tuples(it, it), max_leaves=25))
def test_nested_values_arrive_as_through_pickle(queue, value):
    check_round_trip(queue, value)


@fixed_seed
@given(value=NESTED)
def test_nested_plain_containers_arrive_as_through_pickle(queue, value):
    check_round_trip(queue, value)


@fixed_seed
@given(value=graphs(PLAIN))
def test_shared_and_recursive_plain_containers_arrive_as_through_pickle(queue, value):
    check_round_trip(queue, value)


@fixed_seed
@given(value=graphs())
def test_shared_and_recursive_objects_arrive_as_through_pickle(queue, value):
    check_round_trip(queue, value)


@few_examples
@given(value=FLAT_WITH_LARGE)
def test_large_parts_of_flat_values_arrive_as_through_pickle(queue, value):
    check_round_trip(queue, value)


@few_examples
@given(value=graphs(st.one_of(ATOMS, LARGE)))
def test_large_parts_anywhere_arrive_as_through_pickle(queue, value):
    check_round_trip(queue, value)


def shared_twice(value):
    return [value, value]


def knot(container, tie):
    tie(container)
    return container


def nested(depth, make, innermost):
    value = innermost
    for _ in range(depth):
        value = make(value)
    return value


def recursive_tuple():
    inner = []
    outer = (inner, inner)
    inner.append(outer)
    return outer


@pytest.mark.parametrize(
    "value",
    [
        shared_twice("a longer text"),
        shared_twice(b"a longer text"),
        shared_twice((1, 2)),
        shared_twice([]),
        tuple(shared_twice("a longer text")),
        dict.fromkeys((1, 2), "a longer text"),
        {"a longer text": "a longer text"},
        knot([], lambda it: it.append(it)),
        knot({}, lambda it: it.update(me=it)),
        knot(Node(), lambda it: it.parts.append(it)),
        recursive_tuple(),
        knot([], lambda it: it.append([1, {2: (3, it)}])),
        knot({}, lambda it: it.update(me=[{"also": it}])),
        knot([[]], lambda it: it[0].append(it[0])),
        [(text := "a longer text"), [{1: (text,)}]],
        {"key": 1, "inner": {"key": 2}},
        [(part := (1, 2)), {3: [part]}],
        [(part := []), {3: [part]}],
        [(part := {}), ({3: part},)],
        [(part := bytearray(b"text")), [part]],
        [(), ((), [()]), {(): ()}],
        {(1, (2, 3)): [{(4, 5): {6}}]},
        {(1, (2, 3)): [{(4, 5): {6: 7}}]},
        *(nested(depth, lambda it: [it], "innermost") for depth in range(7, 12)),
        *(nested(depth, lambda it: (1, it, 2), bytes(40_000)) for depth in range(7, 12)),
        *(nested(depth, lambda it: {None: it}, bytearray(40_000)) for depth in range(7, 12)),
        [[number, [number]] for number in range(10)],
        [[number, [number]] for number in range(20)],
        [{number: str(number)} for number in range(1000)],
        shared_twice(bytearray(b"a longer text")),
        shared_twice(bytearray(40_000)),
        shared_twice(bytes(40_000)),
        [bytes(40_000), bytes(40_000), bytearray(40_000), bytearray(40_000)],
        {"large": bytearray(5 << 20), b"k" * 40_000: bytes(5 << 20)},
        [bytes([number]) * 40_000 for number in range(16)],
        [bytes([number]) * 40_000 for number in range(17)],
        tuple(bytearray(40_000) for _ in range(250)),
        ["x" * 100_000, bytes(30_000), bytearray(31_000)],
        [b"", bytearray(), "", [], (), {}],
        [True, 1, 1.0, False, 0, 0.0, -0.0],
        {True: "true"},
        {1.0: "one", "1": 1},
        {"": 1},
        {"first": 1, 2: "then a number"},
        {1: "first a number", "then": 2},
        {"\ud800": 1},
        {"value": "\ud800"},
        {"x" * 24: 1, "y" * 25: 2, "z" * 255: 3},
        {"x" * 256: 1},
        {"a" * 255: 1, "b" * 255: 2},
        {"a" * 255: 1, "b" * 254: 2, "": 3},
        {"a" * 255: 1, "b" * 255: 2, "": 3},
        {"\N{GRINNING FACE}" * 63: 1},
        {"\N{GRINNING FACE}" * 64: 1},
        {f"number {number}": number for number in range(31)},
        {f"number {number}": number for number in range(32)},
        {f"number {number}": number for number in range(33)},
        {"beginning, end": 1, "beginning, 2 end": 2, "beginning, 3 end": 3, "end": 4, "e": 5},
        {"inner": {"key": {"other": {}}}, "others": {"other": 1}},
        [math.nan, math.inf, -math.inf, struct.unpack("d", b"\1\0\0\0\0\0\xf8\xff")[0]],
        "\ud800 alone, \udfff too",
        "\0",
        "\N{GRINNING FACE}",
        ["", b"", (), [], {}, set(), frozenset()],
        [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**5000],
        Pair(1, [2]),
        collections.OrderedDict([(2, 1), (1, 2)]),
        collections.defaultdict(list, {1: [2]}),
        collections.Counter("text"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_well_known_traps(queue, value):
    check_round_trip(queue, value)


@pytest.mark.parametrize(
    "size", [0, 1, 8191, 8192, 32767, 32768, 32769, 1 << 20, 4 << 20, 64 << 20]
)
@pytest.mark.parametrize("kind", [bytes, bytearray, Bytes])
def test_bytes_of_any_size_arrive(queue, kind, size):
    sent = kind(random.Random(size).randbytes(size))
    queue.put(sent)
    received = queue.get()
    assert type(received) is kind
    assert received == sent


@pytest.mark.parametrize("size", [1, 8191, 32767, 32768, 1 << 20, 3 << 20])
@pytest.mark.parametrize("character", ["a", "é", "€", "\N{GRINNING FACE}", "\ud800"])
def test_text_of_any_size_and_width_arrives(queue, character, size):
    sent = character * size
    queue.put(sent)
    assert queue.get() == sent


@pytest.mark.parametrize("count", [1, 1000, 100_000])
@pytest.mark.parametrize("make", [list, tuple, set, lambda items: dict.fromkeys(items, "x" * 10)])
def test_containers_of_any_length_arrive(queue, make, count):
    sent = make(range(count))
    queue.put(sent)
    assert queue.get() == sent


def test_dicts_with_the_same_keys_are_independent(queue):
    for number in range(3):
        queue.put({"number": number, "list": [number]})
    first, second, third = (queue.get() for _ in range(3))
    first["more"] = 1
    del second["number"]
    assert (first, second, third) == (
        {"number": 0, "list": [0], "more": 1},
        {"list": [1]},
        {"number": 2, "list": [2]},
    )
    queue.put({"number": 3, "list": None})
    assert list(queue.get().items()) == [("number", 3), ("list", None)]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Python does not say what is interned")
def test_keys_are_not_kept_for_ever(queue):
    for _ in range(2):
        queue.put({"a key of a program": 1, 2: "another"})
        queue.put({"a key beside others": 1})
        for _ in range(2):
            [key, *_] = queue.get()
            assert not sys._is_interned(key)


def test_two_gets_give_independent_objects(queue):
    value = [[1], {"a": [2]}]
    queue.put(value)
    queue.put(value)
    one, other = queue.get(), queue.get()
    one[0].append("changed")
    one[1]["a"].append("changed")
    assert other == value == [[1], {"a": [2]}]


@pytest.mark.parametrize("depth", [100, 100_000])
@pytest.mark.beyond_stdlib  # there the thread that feeds the pipe prints the error
def test_a_deep_value_arrives_or_is_an_error(queue, depth):
    value = []
    for _ in range(depth):
        value = [value]
    try:
        queue.put(value)
    except RecursionError:
        assert depth > 100
    else:
        received = queue.get()
        for _ in range(depth):
            (received,) = received
        assert received == []
    queue.put("next")
    assert queue.get() == "next"


class Registered:
    pass


def test_a_reducer_that_replaces_another_one_is_honoured(queue):
    for answer in ("first", "second"):
        copyreg.pickle(Registered, lambda value, answer=answer: (str, (answer,)))
        try:
            queue.put([Registered()])
            assert queue.get() == [answer]
        finally:
            del copyreg.dispatch_table[Registered]


@pytest.mark.parametrize("value", [bytearray(10), bytearray(40_000), b"x" * 40_000, 1, "text", []])
def test_a_reducer_of_a_built_in_type_counts_as_much_as_with_pickle(queue, value):
    copyreg.pickle(type(value), lambda value: (str, ("reduced",)))
    try:
        check_round_trip(queue, value)
    finally:
        del copyreg.dispatch_table[type(value)]


def test_reducers_of_the_standard_librarys_pickler_are_honoured(queue):
    ForkingPickler.register(Registered, lambda value: (str, ("reduced by ForkingPickler",)))
    try:
        queue.put([Registered()])
        assert queue.get() == ["reduced by ForkingPickler"]
    finally:
        del ForkingPickler._extra_reducers[Registered]


def test_reducers_of_copyreg_are_honoured(queue):
    copyreg.pickle(Registered, lambda value: (str, ("reduced by copyreg",)))
    try:
        queue.put([Registered()])
        assert queue.get() == ["reduced by copyreg"]
    finally:
        del copyreg.dispatch_table[Registered]


class Chatty:
    """Uses the queue that it travels through while it is pickled, unpickled and deleted."""

    queue = None

    def __getstate__(self):
        self.queue.put("while pickled")
        return {"any": "state"}

    def __setstate__(self, state):
        self.queue.put("while unpickled")

    def __del__(self):
        self.queue.put("while deleted")


def test_objects_may_use_the_queue_while_they_travel_through_it(queue, monkeypatch):
    monkeypatch.setattr(Chatty, "queue", queue)
    queue.put([Chatty()])
    heard = set()
    while not {"while pickled", "while unpickled", "while deleted"} <= heard:
        heard.add(str(queue.get()))
        gc.collect()


class FailsToUnpickle:
    def __setstate__(self, state):
        raise LookupError("cannot be unpickled")

    def __getstate__(self):
        return {"any": "state"}


def test_get_raises_what_unpickling_raises_and_the_queue_goes_on(queue):
    queue.put(FailsToUnpickle())
    queue.put("next")
    with pytest.raises(LookupError, match="cannot be unpickled"):
        queue.get()
    assert queue.get() == "next"


@pytest.mark.parametrize("size", [60_000, 70_000, 5 << 20])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_long_parts_deep_inside_arrive_among_others(queue, kind, size):
    check_round_trip(queue, [[kind(bytes([number]) * size), "text", number] for number in range(6)])
    check_round_trip(queue, {1: [kind(size)], 2: [kind(size), {3}]})


class Empties:
    """Empties an array that the pickler has written already."""

    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        self.array.clear()
        return list, ()


@pytest.mark.parametrize("size", [10, 100_000])
def test_what_changes_while_the_rest_is_pickled_arrives_as_it_was(queue, size):
    array = bytearray(b"x" * size)
    queue.put([[array], Empties(array)])
    assert queue.get() == [[b"x" * size], []]


class FailsToPickle:
    def __reduce__(self):
        raise LookupError("cannot be pickled")


@pytest.mark.beyond_stdlib  # there the thread that feeds the pipe prints the error
@pytest.mark.parametrize("beside", [None, bytes(40_000), bytearray(5 << 20)], ids=type)
def test_put_raises_what_pickling_raises_and_the_queue_goes_on(queue, beside):
    blocks = manycore._engine.heap_usage()[0]
    with pytest.raises(LookupError, match="cannot be pickled"):
        queue.put([beside, [pickle.PickleBuffer(bytearray(100_000)), FailsToPickle()]])
    queue.put("next")
    assert queue.get() == "next"
    assert manycore._engine.heap_usage()[0] == blocks


@pytest.mark.parametrize("size", [10, 100_000, 5 << 20])
@pytest.mark.beyond_stdlib  # `PickleBuffer` needs protocol 5
def test_what_came_with_a_message_that_cannot_be_unpickled_is_given_back(queue, size):
    inner = manycore.Queue()
    blocks = manycore._engine.heap_usage()[0]
    queue.put([pickle.PickleBuffer(bytearray(size)), bytes(size), inner, FailsToUnpickle()])
    with pytest.raises(LookupError, match="cannot be unpickled"):
        queue.get()
    gc.collect()  # the traceback has what was unpickled so far
    assert manycore._engine.heap_usage()[0] == blocks
    del inner
    assert manycore._engine.heap_usage()[0] == blocks - 1
    queue.put("next")
    assert queue.get() == "next"


class Raw(ctypes.Structure):
    _fields_ = (("id", ctypes.c_int), ("place", ctypes.c_double * 2))


VIEWS = {
    "bytes": memoryview(b"read-only"),
    "nothing": memoryview(b""),
    "bytearray": memoryview(bytearray(100)),
    "large": memoryview(bytes(range(256)) * 400),
    "larger": memoryview(bytes(range(256)) * 20_000),
    "doubles": memoryview(array.array("d", range(10_000))),
    "every other": memoryview(bytes(range(200)))[::2],
    "backwards": memoryview(array.array("i", range(20_000)))[::-1],
    "a large part": memoryview(bytes(5 << 20))[3:],
    "matrix": memoryview(bytes(range(60))).cast("B", (3, 4, 5)),
    "large matrix": memoryview(bytes(5 << 20)).cast("B", (5, 1 << 10, 1 << 10)),
    "part of a matrix": memoryview(bytes(range(60))).cast("B", (3, 4, 5))[1:],
    "no dimension": memoryview(bytes(8)).cast("d", ()),
    "no rows": memoryview(bytes(60)).cast("B", (3, 4, 5))[:0],
    "ctypes": memoryview((ctypes.c_int * 5)(1, 2, 3)),
    "ctypes matrix": memoryview(((ctypes.c_short * 3) * 2)()),
    "structure": memoryview((Raw * 2)()),
    "characters": memoryview(b"abc").cast("c"),
}


@pytest.mark.beyond_stdlib  # there a memoryview cannot be pickled
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("sent", VIEWS.values(), ids=VIEWS)
def test_a_memoryview_arrives_as_what_it_shows(queue, sent, nested):
    queue.put([[sent]] if nested else sent)
    received = queue.get()[0][0] if nested else queue.get()
    assert type(received) is memoryview
    described = (sent.format, sent.itemsize, sent.shape, sent.nbytes)
    assert (received.format, received.itemsize, received.shape, received.nbytes) == described
    assert received.tobytes() == sent.tobytes()
    assert received.c_contiguous
    assert not received.readonly
    if received.nbytes and received.format == "B" and received.ndim == 1:
        before = sent.tobytes()
        received[0] ^= 1
        assert sent.tobytes() == before != received.tobytes()


@pytest.mark.beyond_stdlib
def test_memoryviews_keep_their_identity_and_may_be_sent_on(queue):
    view = memoryview(bytearray(5 << 20))
    queue.put([view, view])
    one, other = queue.get()
    assert one is other
    queue.put(one)
    assert queue.get() == view


@pytest.mark.beyond_stdlib
def test_a_memoryview_that_was_released_is_an_error(queue):
    view = memoryview(b"gone")
    view.release()
    with pytest.raises(ValueError, match="released"):
        queue.put(view)


@pytest.mark.beyond_stdlib
def test_a_registered_reducer_of_memoryviews_wins(queue):
    ForkingPickler.register(memoryview, lambda view: (str, ("reduced",)))
    try:
        queue.put(memoryview(b"any"))
        assert queue.get() == "reduced"
    finally:
        del ForkingPickler._extra_reducers[memoryview]
    queue.put(memoryview(b"any"))
    assert queue.get() == b"any"


def test_a_shape_that_is_not_the_buffer_s_is_refused():
    shaped = manycore._engine.Shaped
    wrong = [(4, (4,)), (-1, (-12,)), (1, (-1, -12)), (1 << 40, (1 << 40,)), (0, (12,))]
    for itemsize, shape in wrong:
        with pytest.raises(ValueError, match="shape"):
            shaped(bytearray(12), "B", itemsize, shape)
    with pytest.raises(ValueError, match="shape"):
        shaped(b"read-only", "B", 1, (9,))
    with pytest.raises(BufferError):
        zlib.crc32(shaped(bytearray(12), "i", 4, (3,)))  # only a memoryview can look at it
