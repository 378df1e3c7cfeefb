"""Shared memory that was scribbled on: whoever reads it gets an error or an answer."""

import contextlib
import secrets
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import manycore
import targets
from heap import Heap, Record
from manycore import _engine

pytestmark = pytest.mark.beyond_stdlib

HERE = str(Path(__file__).parent)
# In the native encoding a `bytes` begins with a tag and four bytes of length.
INSIDE = 5
HUGE = struct.pack("<I", 2**32 - 1)
# An array of doubles begins like this, and goes on with its dimensions and their lengths.
ARRAY = b"n<f\x08C"
NUMBER = struct.pack("<Id", 8, 0.5)
length = struct.Struct("<Q").pack


@pytest.fixture(scope="module")
def heap(family):
    with Heap() as heap:
        yield heap


@pytest.fixture(scope="module")
def queue(family):
    return manycore.SimpleQueue()


def received(queue, heap, payload):
    """What comes of a message when these bytes are written over it: a value or an error."""
    marker = secrets.token_bytes(24)
    queue.put(marker + bytes(100))
    Record(heap, marker, INSIDE).replace(payload)
    return queue.get()


def test_a_key_of_a_dict_that_was_scribbled_on_is_met_and_not_found(heap):
    d = manycore.SharedDict()
    marker = secrets.token_bytes(24)
    d[marker] = 1
    heap.write(heap.find(marker), bytes(24))
    assert list(d.items()) == [(bytes(24), 1)]
    assert bytes(24) not in d
    with pytest.raises(manycore.Corrupted, match="not found by its key"):
        d.popitem()


@pytest.mark.parametrize(
    "payload",
    {
        "no tag that there is": b"?",
        "a tuple with more items than there are bytes": b"t" + HUGE,
        "a list with more items than there are bytes": b"l" + HUGE,
        "a list of very many None": b"l" + struct.pack("<I", 100) + b"N" * 99,
        "a dict with more items than there are bytes": b"m" + HUGE,
        "a list in a list in a list, and so on": b"l\1\0\0\0" * 10 + b"N",
        "a list that ends in a list": b"l\2\0\0\0l\1\0\0\0N",
        "a dict in a dict with more items than there are bytes": b"m\1\0\0\0Nm" + HUGE,
        "text that is longer than the message": b"s" + HUGE,
        "bytes that are longer than the message": b"b" + HUGE,
        "text that is not UTF-8": b"s\1\0\0\0\xff",
        "an integer, and more": b"i" + bytes(8) + b"N",
        "bytes outside that are not there": b"B",
        "a bytearray outside that is not there": b"A",
        "a bytearray that is longer than the message": b"a" + HUGE,
        "an array that is longer than the message": ARRAY + b"\1" + length(9) + HUGE,
        "an array of fewer numbers than it says": ARRAY + b"\1" + length(2) + NUMBER,
        "an array of so many numbers that it has none": ARRAY + b"\1" + length(2**61) + NUMBER,
        "an empty array of a huge one": ARRAY + b"\2" + length(0) + length(2**63 - 1) + bytes(4),
        "an array of no numbers": b"n<O\x08C\1" + length(1) + NUMBER,
        "an array of numbers that there are not": b"n<f\x07C\1" + length(1) + NUMBER,
        "an array outside that is not there": b"O<f\x08C\1" + length(1),
    }.values(),
    ids=lambda payload: payload[:8].hex(),
)
def test_a_damaged_encoding_is_refused(queue, heap, payload):
    with pytest.raises(manycore.Corrupted):
        received(queue, heap, payload)
    assert queue.empty()


@pytest.mark.slow
@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([b"N", b"T", b"i", b"d", b"s", b"b", b"t", b"l", b"m"]),
            st.sampled_from([b"a", b"A", b"B", ARRAY, ARRAY + b"\1" + length(1), NUMBER]),
            st.sampled_from([b"\0\0\0\0", b"\1\0\0\0", b"\2\0\0\0", b"\x10\0\0\0", HUGE]),
            st.binary(max_size=9),
        )
    )
)
def test_whatever_is_received_is_a_value_or_an_error(queue, heap, parts):
    with contextlib.suppress(manycore.Corrupted):
        received(queue, heap, b"".join(parts))
    queue.put("good")
    assert queue.get() == "good"


# A queue that was hit is not whole again, so this happens in a family of its own. Each field is hit
# in a message in the midst of others.
HEADERS = """
    import secrets, struct, sys
    sys.path.insert(0, sys.argv[1])
    import manycore
    from heap import Heap, Record

    FIELDS = {
        0: [struct.pack("<I", n) for n in (0, 1, 40, 8000, 32768, 32769, 2**31, 2**32 - 1)],
        4: [bytes([kind]) for kind in range(256)],
        5: [bytes([blocks]) for blocks in (1, 2, 200, 201, 255)],
        6: [struct.pack("<H", handles) for handles in (1, 2, 1000, 1001, 65535)],
    }

    def make():
        for _ in range(3):
            try:
                return manycore.SimpleQueue()
            except manycore.Corrupted:
                pass  # about the queue that was freed last
        return manycore.SimpleQueue()

    def refused(queue):
        count = 0
        for _ in range(3):
            try:
                if queue.empty():
                    break
                queue.get()
            except Exception:
                count += 1
        return count

    def main():
        total = 0
        manycore.SimpleQueue().put(None)
        with Heap() as heap:
            for at, values in FIELDS.items():
                for value in values:
                    queue, marker = make(), secrets.token_bytes(24)
                    for message in ("before", marker, "after"):
                        queue.put(message)
                    Record(heap, marker, 5).set_header(at, value)
                    assert queue.get() == "before"
                    total += refused(queue)
        queue = make()
        queue.put("good")
        assert queue.get() == "good"
        print("refused", total)

    if __name__ == "__main__":
        main()
"""


@pytest.mark.slow
def test_a_message_whose_header_was_hit_does_not_end_the_process(run_script):
    done = run_script(HEADERS, HERE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused "), done.stdout
    assert int(done.stdout.split()[1]) > 250, "most of it makes no sense"


@pytest.mark.parametrize("length", [12_344, 12_346, 1 << 20, 1 << 40, 2**64 - 1])
def test_shared_memory_whose_length_was_hit_is_not_lent_out(heap, length):
    memory = _engine.Memory(12_345)
    word = heap.find_word(12_345)
    heap.write_word(word, length)
    with pytest.raises(manycore.Corrupted):
        memoryview(memory)
    with pytest.raises(manycore.Corrupted):
        _ = memory.address
    heap.write_word(word, 12_345)
    assert len(memoryview(memory)) == 12_345


@pytest.mark.parametrize(
    ("at", "data"),
    {
        "the function's page": (0, b"\xff\xff\xff\x00"),
        "the function's length": (8, struct.pack("<Q", 1 << 30)),
        "the function's generation": (16, b"\xff"),
        "what the arguments are": (24, b"\x7f"),
    }.values(),
)
def test_a_task_that_was_hit_fails_alone(heap, gate, at, data):
    with manycore.get_context("fork").Pool(1) as pool:
        first = pool.apply_async(gate.stop)
        gate.arrived()
        marker = secrets.token_bytes(24)
        hit = pool.apply_async(targets.identity, (marker,))
        # A tuple of one `bytes`, behind 25 bytes that name the function.
        record = Record(heap, marker, 25 + 2 * INSIDE)
        heap.write(record.payload + at, data)
        gate.let_go()
        first.get()
        with pytest.raises(manycore.Corrupted):
            hit.get()
        assert pool.apply(targets.identity, ("good",)) == "good"
