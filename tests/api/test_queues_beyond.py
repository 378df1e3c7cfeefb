"""What queues do beyond the standard library: many items, iteration, ends, bytes, counts."""

import inspect
import pickle
import queue as standard_queue
import threading
from functools import partial

import pytest

import manycore
import manycore.queues
import targets
from manycore import _engine
from manycore.queues import Queue
from processes import running

pytestmark = pytest.mark.beyond_stdlib


def drained(queue, count):
    return [queue.get() for _ in range(count)]


class Number(int):
    pass


@pytest.mark.parametrize("class_", [manycore.Queue, manycore.JoinableQueue, manycore.SimpleQueue])
def test_numbers_and_others_come_in_their_order_and_as_what_they_were(class_):
    queue = class_()
    sent = [
        1,
        "text",
        2.5,
        -0.0,
        None,
        True,
        False,
        {"a": 1},
        2**63 - 1,
        2**63,
        -(2**63),
        Number(5),
    ]
    sent += [0, [], 0, 1, (), 2, 3, b"", 4.0]
    for item in sent:
        queue.put(item)
    received = [queue.get() for _ in sent]
    assert [(type(item), item) for item in received] == [(type(item), item) for item in sent]
    assert queue.empty()


@pytest.mark.parametrize("item", [5, "text"])
def test_arguments_of_put_and_get_may_be_named(item):
    queue = manycore.Queue(1)
    queue.put(obj=item)
    for arguments, named in [((item, False), {}), ((item,), {"timeout": 0.01})]:
        with pytest.raises(standard_queue.Full):
            queue.put(*arguments, **named)
    assert queue.get(block=False) == item
    with pytest.raises(standard_queue.Empty):
        queue.get(True, 0.01)
    for wrong in (queue.put, lambda: queue.put(1, 2, 3, 4), lambda: queue.get(whatever=1)):
        with pytest.raises(TypeError):
            wrong()
    assert inspect.signature(Queue.put) == inspect.signature(_engine.RingQueue.put)
    assert Queue.get.__doc__ == _engine.RingQueue.get.__doc__


@pytest.mark.parametrize("item", [5, "text"])
def test_a_queue_that_was_closed_or_never_made_takes_nothing(item):
    queue, simple = manycore.Queue(), manycore.SimpleQueue()
    for it, error in [(queue, ValueError), (simple, OSError)]:
        it.put(item)
        it.close()
        for attempt in (partial(it.put, item), it.get):
            with pytest.raises(error, match="closed"):
                attempt()
    unmade = Queue.__new__(Queue)
    for attempt in (partial(unmade.put, item), unmade.get):
        with pytest.raises(RuntimeError, match="not made"):
            attempt()
    with pytest.raises(TypeError, match="Queue"):
        Queue.put(item, item)


def test_a_subclass_may_put_and_get_in_its_own_way():
    class Doubling(Queue):
        def put(self, obj, block=True, timeout=None):
            super().put(obj * 2, block, timeout)

        def get(self, block=True, timeout=None):
            return super().get() + 1

    queue = Doubling(ctx=manycore.get_context())
    queue.put(5)
    assert queue.get() == 11


def test_put_many_puts_the_items_of_an_iterable_in_order():
    queue = manycore.Queue()
    assert queue.put_many(n * n for n in range(1000)) == 1000
    assert drained(queue, 1000) == [n * n for n in range(1000)]
    assert queue.put_many([]) == 0


def test_put_many_says_how_far_it_came():
    queue = manycore.Queue(2)
    with pytest.raises(standard_queue.Full) as full:
        queue.put_many("abcd", timeout=0.01)
    assert (full.value.items_put, full.value.item) == (2, "c")
    assert drained(queue, 2) == ["a", "b"]
    with pytest.raises(TypeError, match="pickle") as unpicklable:
        queue.put_many(["a", threading.Lock()])
    assert unpicklable.value.items_put == 1
    assert queue.get() == "a"


def test_put_many_waits_for_room(ctx):
    queue, answers = ctx.Queue(3), ctx.Queue()
    with running(ctx, targets.sum_until_none, queue, answers):
        queue.put_many([*range(100), None])
        assert answers.get() == (100, sum(range(100)))


def test_get_many_takes_what_there_is():
    queue = manycore.Queue()
    queue.put_many(range(10))
    assert queue.get_many(4) == [0, 1, 2, 3]
    assert queue.get_many(100) == [4, 5, 6, 7, 8, 9]
    with pytest.raises(standard_queue.Empty):
        queue.get_many(1, timeout=0)
    with pytest.raises(ValueError, match="at least 1"):
        queue.get_many(0)


def test_get_many_waits_for_the_first_item(ctx, gate):
    queue = ctx.Queue()
    with running(ctx, targets.put_at, gate, queue, "item"):
        gate.arrived()
        threading.Timer(0.05, gate.let_go).start()
        assert queue.get_many(10) == ["item"]


def test_an_item_that_cannot_be_unpickled_costs_get_many_no_other_item():
    queue = manycore.Queue()
    queue.put_many([1, 2, targets.PickyError(1, 2), 3, 4])
    assert queue.get_many(10) == [1, 2]
    with pytest.raises(TypeError, match="second"):
        queue.get_many(10)
    assert queue.get_many(10) == [3, 4]


def test_iteration_ends_when_the_queue_is_shut_down_and_empty(ctx):
    queue, answers = ctx.Queue(), ctx.Queue()
    with running(ctx, targets.sum_all, queue, answers):
        queue.put_many(range(1000))
        queue.shutdown()
        assert answers.get() == sum(range(1000))
    assert list(queue) == []


def test_shutdown_refuses_puts_and_lets_gets_finish():
    queue = manycore.Queue()
    queue.put("left")
    assert not queue.is_shutdown
    queue.shutdown()
    queue.shutdown()
    assert queue.is_shutdown
    with pytest.raises(manycore.ShutDown):
        queue.put("refused")
    assert queue.get() == "left"
    for get in (
        queue.get,
        queue.get_nowait,
        lambda: queue.get(timeout=5),
        lambda: queue.get_many(2),
    ):
        with pytest.raises(manycore.ShutDown):
            get()


@pytest.mark.parametrize("limit", [{"maxsize": 1}, {"maxbytes": 1}])
def test_a_full_queue_that_is_shut_down_says_so_at_once(limit):
    queue = manycore.Queue(**limit)
    queue.put("left")
    with pytest.raises(manycore.queues.Full):
        queue.put_nowait("too much")
    queue.shutdown()
    with pytest.raises(manycore.ShutDown):
        queue.put_nowait("refused")


def test_the_error_is_pythons_own_where_there_is_one():
    assert manycore.ShutDown is getattr(standard_queue, "ShutDown", manycore.ShutDown)


def test_immediate_shutdown_throws_away_what_is_there():
    queue = manycore.JoinableQueue()
    queue.put_many([b"x" * (1 << 20), manycore.Queue(), 3])
    queue.shutdown(immediate=True)
    with pytest.raises(manycore.ShutDown):
        queue.get()
    queue.join()


@pytest.mark.parametrize("wait", ["get", "put"])
def test_shutdown_wakes_whoever_waits(ctx, gate, wait):
    queue, answers = ctx.Queue(1), ctx.Queue()
    if wait == "put":
        queue.put("full")
    with running(ctx, targets.wait_for_shutdown, gate, queue, wait, answers):
        gate.arrived()
        threading.Timer(0.05, queue.shutdown).start()  # so that it most likely waits
        assert answers.get() == "ShutDown"


def test_a_queue_is_bounded_by_bytes(ctx):
    queue = ctx.Queue(maxbytes=1 << 20)
    part = b"x" * (300 << 10)
    for _ in range(3):
        queue.put_nowait(part)
    with pytest.raises(standard_queue.Full):
        queue.put_nowait(part)
    assert not queue.full()
    queue.put_nowait(b"small")
    assert queue.get() == part
    queue.put_nowait(part)
    assert [len(item) for item in drained(queue, 4)] == [len(part), len(part), 5, len(part)]


def test_an_item_over_the_limit_is_put_when_the_queue_is_empty(ctx):
    queue, answers = ctx.Queue(maxbytes=10_000), ctx.Queue()
    queue.put_nowait(b"x" * 100_000)
    assert queue.full()
    with pytest.raises(standard_queue.Full):
        queue.put_nowait(b"x")
    with running(ctx, targets.get_from, queue, answers):
        queue.put(b"y" * 100_000)
        assert answers.get() == b"x" * 100_000
    assert queue.get() == b"y" * 100_000


@pytest.mark.parametrize("size", [100, 9_000, 50_000, 300_000])
def test_everything_passes_through_few_bytes(ctx, size):
    queue, answers = ctx.Queue(maxbytes=20_000), ctx.Queue()
    with running(ctx, targets.total_length, queue, answers):
        for _ in range(200):
            queue.put(b"x" * size)
        queue.shutdown()
        assert answers.get() == 200 * size


def test_stats_count_for_all_processes(ctx):
    queue, answers = ctx.Queue(), ctx.Queue()
    queue.put_many(range(10))
    stats = queue.stats()
    assert (stats.put, stats.got, stats.depth, stats.high_water) == (10, 0, 10, 10)
    assert stats.put_bytes >= 10 * 16
    assert stats.got_bytes == stats.put_waits == stats.get_waits == 0
    with running(ctx, targets.sum_all, queue, answers):
        queue.put(5)
        queue.shutdown()
        answers.get()
    stats = queue.stats()
    assert (stats.put, stats.got, stats.depth) == (11, 11, 0)
    assert 10 <= stats.high_water <= 11
    assert stats.put_bytes == stats.got_bytes


def test_stats_count_large_items():
    queue = manycore.Queue()
    queue.put(b"x" * 100_000)
    assert queue.stats().put_bytes >= 100_000
    queue.get()
    assert queue.stats().got_bytes == queue.stats().put_bytes


def test_stats_count_waits():
    queue = manycore.Queue(1)
    assert (queue.stats().get_waits, queue.stats().put_waits) == (0, 0)
    while not queue.stats().get_waits:  # sooner or later `get` sleeps before there is an item
        threading.Timer(0.05, queue.put, ("item",)).start()
        queue.get()
    while not queue.stats().put_waits:
        queue.put("full")
        threading.Timer(0.05, queue.get).start()
        queue.put("waits")
        queue.get()


class Named(manycore.queues.Queue):
    """A queue with arguments and a state of its own."""

    def __init__(self, name, *, size):
        super().__init__(size, ctx=manycore.get_context())
        self.name = name


class Stateful(Named):
    """As programs write it for the standard library's."""

    def __getstate__(self):
        return self.name, super().__getstate__()

    def __setstate__(self, state):
        self.name, state = state
        super().__setstate__(state)


@pytest.mark.parametrize("cls", [Named, Stateful])
def test_a_subclass_may_have_arguments_and_a_state_of_its_own(cls):
    queue = cls("mine", size=2)
    queue.extra = [1]
    copy = pickle.loads(pickle.dumps(queue))
    assert (type(copy), copy.name) == (cls, "mine")
    assert (cls is Stateful) or copy.extra == [1]
    queue.put("a")
    copy.put("b")
    assert copy.full()
    assert drained(copy, 2) == ["a", "b"]


def test_a_queue_whose_init_was_not_called_says_so():
    queue = manycore.queues.Queue.__new__(manycore.queues.Queue)
    with pytest.raises(RuntimeError, match="__init__"):
        queue.put(1)
    with pytest.raises(RuntimeError, match="already"):
        manycore.Queue().__init__()


def test_the_ends_that_programs_look_for_are_there(ctx):
    for kind in ("Queue", "SimpleQueue"):
        queue = getattr(ctx, kind)()
        assert not queue._reader.poll()
        assert not queue._reader.poll(0.01)
        queue._writer.send("item")
        assert queue._reader.poll(None)
        assert queue._reader.recv() == "item"
