"""Messages that are very large, empty, deep, or near the sizes at which they travel another way."""

import array
import collections
import gc
import itertools
import pickle

import pytest

import heap
import manycore
import targets
from processes import running

CTX = manycore.get_context("fork")
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def kept(peak):
    """The most that the heap keeps for those who come next: 128 MiB, and what growing left over.

    That is less than a MiB of 16, or it would be given back.
    """
    return 128 * MIB + peak // 16 + 2 * MIB


def need_memory(size):
    """Skips the test where the machine has less than that to spare."""
    with open("/proc/meminfo") as lines:
        facts = dict(line.split(":") for line in lines)
    available = int(facts["MemAvailable"].split()[0]) * KIB
    if available < size:
        pytest.skip(f"needs {size / GIB:.1f} GiB of memory, and {available / GIB:.1f} are left")


def through(queue, message):
    queue.put(message)
    return queue.get()


# Very large ones


STRIDE = 32 * MIB + 4097  # so that the sample has bytes of all kinds of places


def sample(size):
    """Where a message of that size is marked and looked at: its ends, and some pages between."""
    return [0, 1, *range(STRIDE, size - 2, STRIDE), size - 2, size - 1]


def marks(size):
    return [1 + number % 250 for number, _ in enumerate(sample(size))]


def marked_array(size):
    numpy = pytest.importorskip("numpy")
    message = numpy.zeros(size, numpy.uint8)
    message[sample(size)] = marks(size)
    return message


def marked_bytes(size):
    message = bytearray(size)
    for place, mark in zip(sample(size), marks(size), strict=True):
        message[place] = mark
    return bytes(message)


def look_at(queue, answers):
    """Says how long the message is, what it has at the places of the sample, and that it's gone."""
    message = queue.get()
    answers.put((len(message), [int(message[place]) for place in sample(len(message))]))
    del message
    answers.put("gone")


@pytest.mark.slow
@pytest.mark.beyond_stdlib
@pytest.mark.parametrize("make", [marked_array, pytest.param(marked_bytes, marks=pytest.mark.soak)])
def test_a_message_of_three_gibibytes_arrives_whole_and_its_memory_is_given_back(make):
    size = 3 * GIB
    need_memory(3 * size)
    queue, answers = CTX.Queue(), CTX.Queue()
    used, backed = heap.used(), heap.backed()
    with running(CTX, look_at, queue, answers):
        message = make(size)
        queue.put(message)
        del message
        assert answers.get() == (size, marks(size))
        assert answers.get() == "gone"
        assert heap.used() == used
        assert heap.backed() <= backed + kept(size)


# Messages in regions, in blocks of all sizes, and in ones that leave half of a growth over.
BURSTS = [1000, 20_000, 100_000, 900_000, 5_000_000, 9_000_000, 64 * MIB]


@pytest.mark.beyond_stdlib
@pytest.mark.parametrize(
    ("burst", "size"),
    [pytest.param(1_000_000_000, size, marks=pytest.mark.slow) for size in BURSTS]
    + [pytest.param(5_000_000_000, 100_000, marks=pytest.mark.slow)]
    + [
        pytest.param(5_000_000_000, size, marks=[pytest.mark.slow, pytest.mark.soak])
        for size in BURSTS
    ],
)
def test_a_burst_that_is_drained_returns_its_memory_to_the_system(burst, size):
    need_memory(burst + GIB)
    queue = CTX.Queue()
    used, backed = heap.used(), heap.backed()
    message = bytes(size)
    for _ in range(burst // size):
        queue.put(message)
    assert heap.used() > used + burst * 9 // 10
    assert heap.backed() > burst * 9 // 10
    for _ in range(burst // size):
        assert len(queue.get()) == size
    assert queue.empty()
    assert heap.used() <= used + MIB  # the last region may be of the largest size
    assert heap.backed() <= backed + kept(burst)


@pytest.mark.slow
@pytest.mark.beyond_stdlib
@pytest.mark.parametrize("size", [1000, 100_000, 5_000_000])
def test_a_full_queue_that_nobody_holds_any_more_returns_its_memory_to_the_system(size):
    burst = 1_000_000_000
    need_memory(burst + GIB)
    queue = CTX.Queue()
    used, backed = heap.used(), heap.backed()
    message = bytes(size)
    for _ in range(burst // size):
        queue.put(message)
    assert heap.backed() > burst * 9 // 10
    del queue
    gc.collect()
    manycore.Queue()  # whoever makes something next frees what nobody holds
    assert heap.used() <= used
    assert heap.backed() <= backed + kept(burst)


# Empty ones

EMPTY = [b"", "", (), [], {}, set(), frozenset(), bytearray(), array.array("d")]
EMPTY += [collections.deque(), collections.OrderedDict(), range(0)]


@pytest.mark.parametrize("message", EMPTY, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_an_empty_message_of_any_kind_is_a_message(kind, message):
    queue = getattr(manycore, kind)()
    for shape in (message, [message], (message, message), {"key": message}):
        received = through(queue, shape)
        assert type(received) is type(shape)
        assert received == shape
    assert queue.empty()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), ()])
def test_an_empty_array_is_a_message(shape):
    numpy = pytest.importorskip("numpy")
    queue = manycore.Queue()
    for message in (numpy.zeros(shape), [numpy.zeros(shape), numpy.zeros(100_000)]):
        received = through(queue, message)
        first = received[0] if isinstance(received, list) else received
        assert (first.shape, first.dtype) == (shape, numpy.float64)


@pytest.mark.beyond_stdlib  # there a buffer object cannot be sent
def test_an_empty_buffer_is_a_message():
    queue = manycore.Queue()
    for buffer in (b"", bytearray()):
        assert through(queue, pickle.PickleBuffer(buffer)) == b""


# Deep and long ones


def nested(depth, kind=list):
    value = kind()
    for _ in range(depth):
        value = [value] if kind is list else {"deeper": value} if kind is dict else (value,)
    return value


def depth_of(value):
    for depth in itertools.count():
        if not value:
            return depth
        (value,) = value.values() if isinstance(value, dict) else value
    return None


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_a_deeply_nested_message_arrives(kind):
    assert depth_of(through(manycore.Queue(), nested(300, kind))) == 300


@pytest.mark.beyond_stdlib  # there put succeeds, and nothing arrives
@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_a_message_that_is_nested_too_deeply_is_an_error_of_put(kind):
    queue = manycore.Queue()
    for _ in range(3):
        with pytest.raises(RecursionError):
            queue.put(nested(50_000, kind))
    assert queue.empty()
    assert through(queue, nested(100, kind)) == nested(100, kind)


LONG = {
    "list of ints": lambda n: list(range(n)),
    "tuple of floats": lambda n: tuple(number / 7 for number in range(n)),
    "dict": lambda n: {f"key {number}": number for number in range(n)},
    "set": lambda n: set(range(n)),
    "list of texts": lambda n: [f"number {number}" for number in range(n)],
    "list of bytes": lambda n: [bytes([number % 251]) * (number % 100) for number in range(n)],
    "list of lists": lambda n: [[number] for number in range(n)],
    "one text many times": lambda n: ["the same"] * n,
}


@pytest.mark.parametrize("name", LONG)
def test_a_message_of_many_items_arrives(name):
    queue = manycore.Queue()
    for count in (15, 16, 17, 4095, 4096, 4097, 10_000):
        message = LONG[name](count)
        received = through(queue, message)
        assert type(received) is type(message)
        assert received == message


@pytest.mark.slow
def test_a_message_of_many_arrays_arrives():
    """More than a record has room for, so some of them travel in the pickle."""
    numpy = pytest.importorskip("numpy")
    queue = manycore.Queue()
    for count in (1, 189, 190, 191, 400):
        message = [numpy.full(9000, number, numpy.int32) for number in range(count)]
        received = through(queue, message)
        assert len(received) == count
        assert all(map(numpy.array_equal, received, message))
    message = [numpy.full(3, number) for number in range(10_000)]
    assert all(map(numpy.array_equal, through(queue, message), message))


# Sizes around those at which messages travel another way

BORDERS = {
    "first region": 8 * KIB,
    "in a block": 32 * KIB,
    "largest region": 1 * MIB,
    "as a view": 4 * MIB,
}
FILLING = bytes(number % 251 for number in range(5 * MIB))  # where a shift would show

MESSAGES = {
    "bytes": lambda size: FILLING[:size],
    "bytearray": lambda size: bytearray(FILLING[:size]),
    "text": lambda size: FILLING[:size].decode("latin-1"),  # longer as UTF-8
    "in a tuple": lambda size: (size, FILLING[:size]),
    "in a dict of lists": lambda size: {"any": [FILLING[:size]]},
    "a buffer": lambda size: array.array("B", FILLING[:size]),
}


def sizes_around(border):
    near = range(border - 80, border + 41) if border < MIB else range(border - 50, border + 2, 7)
    pages = [border + delta for delta in (-4097, -4096, 4095, 4096, 4097)]
    return [*near, border - 1, border, border + 1, *pages]


@pytest.mark.slow
@pytest.mark.parametrize("make", MESSAGES.values(), ids=MESSAGES)
@pytest.mark.parametrize("border", BORDERS.values(), ids=BORDERS)
def test_messages_of_sizes_around_a_border_arrive_one_by_one(border, make):
    """Each as the first message of a queue, and behind others of its size."""
    for size in sizes_around(border):
        message, queue = make(size), manycore.Queue()
        for _ in range(2):
            assert through(queue, message) == message


@pytest.mark.slow
@pytest.mark.parametrize("make", MESSAGES.values(), ids=MESSAGES)
@pytest.mark.parametrize("border", BORDERS.values(), ids=BORDERS)
def test_messages_of_sizes_around_a_border_arrive_in_another_process(border, make):
    sizes = sizes_around(border)
    questions, answers = CTX.Queue(4), CTX.Queue(4)
    with running(CTX, targets.echo_queue, questions, answers):
        for size in sizes:
            questions.put(make(size))
            assert answers.get() == make(size)
        questions.put(None)


@pytest.mark.slow
@pytest.mark.parametrize("border", [8 * KIB, 32 * KIB])
def test_messages_of_sizes_around_a_border_follow_each_other(border):
    """So that records end at every place of a region, and wrap around its end."""
    queue = manycore.Queue()
    messages = [FILLING[:size] for size in range(border - 400, border + 40)]
    for ahead in (1, 3, 50, len(messages)):
        waiting = collections.deque()
        for message in messages:
            queue.put(message)
            waiting.append(message)
            if len(waiting) == ahead:
                assert queue.get() == waiting.popleft()
        assert [queue.get() for _ in waiting] == list(waiting)
    assert queue.empty()
