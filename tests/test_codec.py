"""What a queue does to a value is what pickle would do to it."""

import collections
import copyreg
import gc
import math
import pickle
import random
import struct
from multiprocessing.reduction import ForkingPickler

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import manycore
from values import ATOMS, FLAT, Bytes, Node, Pair, Slotted, graphs

# Pickle writes these out each time, so which of them are the same object says nothing.
WITHOUT_IDENTITY = (type(None), bool, int, float)


class Comparison:
    """Compares two values as deeply as a program could without looking at addresses."""

    def __init__(self):
        self._theirs_of_ours, self._ours_of_theirs = {}, {}

    def check(self, ours, theirs):
        assert type(ours) is type(theirs)
        if type(ours) in WITHOUT_IDENTITY:
            assert leaf(ours) == leaf(theirs)
        elif self._meet_first(ours, theirs):
            assert leaf(ours) == leaf(theirs)
            for part, their_part in zip(parts(ours), parts(theirs), strict=True):
                self.check(part, their_part)

    def _meet_first(self, ours, theirs):
        """Whether the two were not met before; what pickle makes one object must be one object."""
        if isinstance(ours, str | bytes) and len(ours) <= 1:
            return True  # CPython has only one object of each of these
        assert self._ours_of_theirs.setdefault(id(theirs), ours) is ours, "one became several"
        if id(ours) in self._theirs_of_ours:
            immutable = isinstance(ours, str | bytes | tuple | frozenset)
            assert immutable or self._theirs_of_ours[id(ours)] is theirs, "several became one"
            return False
        self._theirs_of_ours[id(ours)] = theirs
        return True


def leaf(value):
    """What a value is besides its parts, so that `==` tells different ones apart."""
    match value:
        case float():
            return struct.pack("d", value)
        case int() | str() | bytes() | bytearray():
            return value
        case list() | tuple() | dict() | set() | frozenset() | Node() | Slotted():
            return len(list(parts(value)))
    return repr(value)


def parts(value):
    """The objects that a value consists of, in an order that does not depend on hashes."""
    attributes = getattr(value, "__dict__", None)
    if type(attributes) is dict:
        yield attributes
    match value:
        case list() | tuple():
            yield from value
        case dict():
            for item in value.items():
                yield from item
        case set() | frozenset():
            yield from sorted(value, key=lambda part: (type(part).__name__, repr(part)))
        case Slotted():
            yield value.parts


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
@given(value=graphs())
def test_shared_and_recursive_objects_arrive_as_through_pickle(queue, value):
    check_round_trip(queue, value)


def shared_twice(value):
    return [value, value]


def knot(container, tie):
    tie(container)
    return container


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
        [True, 1, 1.0, False, 0, 0.0, -0.0],
        {True: "true"},
        {1.0: "one", "1": 1},
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
