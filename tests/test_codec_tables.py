"""Tables of pandas and pyarrow through a queue. They start threads, so they live in scripts."""

import importlib.util

import pytest

COMMON = """
import pickle
import numpy as np
import manycore

queue = manycore.Queue()

def blocks():
    return manycore._engine.heap_usage()[0]

def through(value):
    queue.put(value)
    return queue.get()

"""


@pytest.fixture
def run(run_script):
    """Runs a script after `COMMON`."""

    def run(source):
        done = run_script(COMMON + source)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "done\n"

    return run


def needs(module):
    is_missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(is_missing, reason=f"{module} has no wheel for this Python")


PANDAS = """
import pandas as pd

frames = [
    pd.DataFrame({"a": np.arange(rows), "b": np.arange(rows) / 3, "c": ["text"] * rows})
    for rows in (0, 1, 10_000, 700_000)
]
frames += [
    pd.DataFrame(np.ones((1000, 1000))),
    pd.DataFrame(np.ones((1000, 1000)).T).iloc[::2, 1:],
    pd.DataFrame({"day": pd.date_range("2026-01-01", periods=5000, tz="UTC")}),
    pd.DataFrame({"kind": pd.Categorical(["a", "b", None] * 20_000)}),
    pd.DataFrame({"n": pd.array([1, None, 3] * 20_000, dtype="Int64")}),
]
frames.append(frames[2].set_index(["a", "c"]))
before = blocks()
for sent in frames:
    received = through(sent)
    assert type(received) is pd.DataFrame
    pd.testing.assert_frame_equal(received, sent)
    expected = pickle.loads(pickle.dumps(sent, 5))
    assert [str(dtype) for dtype in received.dtypes] == [str(dtype) for dtype in expected.dtypes]
    if len(sent.columns) and len(sent):
        first = received.iloc[0, 0]
        received.iloc[0, 0] = received.iloc[-1, 0]
        assert sent.iloc[0, 0] == first
        pd.testing.assert_frame_equal(expected, sent)
both = through({"one": frames[3], "same": frames[3], "series": frames[3]["b"]})
assert both["one"] is both["same"]
pd.testing.assert_series_equal(both["series"], frames[3]["b"])
writable = through(frames[4])
writable.iloc[:, :] = 2  # in place
writable += 1
assert (frames[4].values == 1).all()
del both, received, writable
assert blocks() == before
print("done")
"""

PYARROW = """
import pyarrow as pa

table = pa.table({"n": list(range(1_000_000)), "t": ["text", None] * 500_000})
things = [
    pa.py_buffer(b""),
    pa.py_buffer(b"x" * 100),
    pa.py_buffer(b"x" * 100_000),
    pa.py_buffer(bytearray(5 << 20)),
    pa.array([1, None, 3]),
    pa.array(np.arange(1_000_000)),
    pa.array(["a", None] * 100_000).dictionary_encode(),
    pa.array([[1, 2], [], None] * 50_000),
    pa.chunked_array([[1, 2], [3]]),
    table,
    table.slice(10, 100_000),
    table.to_batches()[0],
    pa.table({}),
]
before = blocks()
for sent in things:
    received = through(sent)
    assert type(received) is type(sent)
    assert received.equals(sent)
    if isinstance(sent, pa.Buffer):
        assert received.is_mutable == pickle.loads(pickle.dumps(sent, 5)).is_mutable
kept = [through(table) for _ in range(3)]
for _ in range(4):  # in whatever blocks are free
    through(pa.array(np.zeros(1_000_000)))
assert all(received.equals(table) for received in kept)
for received in kept:
    received.validate(full=True)
del received, kept
assert blocks() == before
print("done")
"""


@needs("pandas")
@pytest.mark.slow
def test_frames_of_pandas_arrive_equal_writable_and_private(run):
    run(PANDAS)


@needs("pyarrow")
@pytest.mark.slow
def test_buffers_and_tables_of_pyarrow_arrive(run):
    run(PYARROW)
