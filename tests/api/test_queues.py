"""Queue and SimpleQueue: order, limits, waiting, closing, and crossing processes."""

import os
import pickle
import queue as standard_queue
import signal
import threading
import time

import pytest

import manycore
import targets
from processes import running

beyond_stdlib = pytest.mark.beyond_stdlib

both_kinds = pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])


def drained(queue, count):
    return [queue.get() for _ in range(count)]


@both_kinds
def test_items_come_out_in_the_order_they_went_in(kind):
    queue = getattr(manycore, kind)()
    items = [None, 0, "text", b"bytes", [1, [2]], {"a": (1, 2)}]
    targets.put(queue, *items)
    assert drained(queue, len(items)) == items


@both_kinds
def test_a_child_gets_what_the_parent_puts_and_the_other_way_round(ctx, kind):
    questions, answers = getattr(ctx, kind)(), getattr(ctx, kind)()
    with running(ctx, targets.get_from, questions, answers):
        questions.put({"question": 1})
        assert answers.get() == {"question": 1}


@both_kinds
@pytest.mark.parametrize("size", [0, 1, 100, 8 << 10, 32 << 10, 64 << 10, 1 << 20, 10 << 20])
def test_messages_of_any_size_cross_processes(kind, size):
    questions, answers = getattr(manycore, kind)(), getattr(manycore, kind)()
    message = os.urandom(size)
    with running(manycore, targets.get_from, questions, answers):
        questions.put(message)
        assert answers.get() == message


@both_kinds
def test_the_items_of_one_process_keep_their_order(ctx, kind):
    queue = getattr(ctx, kind)()
    with running(ctx, targets.put_range, queue, 0, 1000):
        assert drained(queue, 1000) == list(range(1000))


@both_kinds
@pytest.mark.parametrize(("producers", "consumers"), [(1, 1), (2, 2), (4, 1), (1, 4)])
def test_each_item_arrives_exactly_once(kind, producers, consumers):
    count = 5000
    queue, answers = getattr(manycore, kind)(), manycore.Queue()
    sources = [
        manycore.Process(target=targets.put_range, args=(queue, n * count, count))
        for n in range(producers)
    ]
    sinks = [
        manycore.Process(target=targets.sum_until_none, args=(queue, answers))
        for _ in range(consumers)
    ]
    for process in sources + sinks:
        process.start()
    for process in sources:
        process.join()
    targets.put(queue, *[None] * consumers)
    numbers, sums = zip(*drained(answers, consumers), strict=True)
    for process in sinks:
        process.join()
    assert sum(numbers) == producers * count
    assert sum(sums) == sum(range(producers * count))


@both_kinds
def test_threads_of_one_process_share_a_queue(kind):
    queue = getattr(manycore, kind)()
    got = []
    getters = [threading.Thread(target=lambda: got.extend(iter(queue.get, None))) for _ in range(3)]
    putters = [
        threading.Thread(target=targets.put_range, args=(queue, n * 500, 500)) for n in range(3)
    ]
    for thread in getters + putters:
        thread.start()
    for thread in putters:
        thread.join()
    targets.put(queue, *[None] * len(getters))
    for thread in getters:
        thread.join()
    assert sorted(got) == list(range(1500))


@both_kinds
def test_empty_tells_whether_there_is_an_item(kind):
    queue = getattr(manycore, kind)()
    assert queue.empty()
    with running(manycore, targets.put, queue, 1):
        pass
    assert not queue.empty()
    queue.get()
    assert queue.empty()


def test_qsize_counts_the_items():
    queue = manycore.Queue()
    for size in range(5):
        assert queue.qsize() == size
        queue.put(size)
    queue.get()
    assert queue.qsize() == 4
    drained(queue, 4)


@pytest.mark.parametrize(
    "get",
    [
        lambda queue: queue.get_nowait(),
        lambda queue: queue.get(False),
        lambda queue: queue.get(block=False, timeout=5),
        lambda queue: queue.get(True, 0),
        lambda queue: queue.get(timeout=-1),
        lambda queue: queue.get(timeout=0.01),
    ],
)
def test_an_empty_queue_raises_empty(get):
    with pytest.raises(standard_queue.Empty):
        get(manycore.Queue())


@pytest.mark.parametrize(
    "put",
    [
        lambda queue: queue.put_nowait(1),
        lambda queue: queue.put(1, False),
        lambda queue: queue.put(1, block=False, timeout=5),
        lambda queue: queue.put(1, True, 0),
        lambda queue: queue.put(1, timeout=-1),
        lambda queue: queue.put(1, timeout=0.01),
    ],
)
def test_a_full_queue_raises_full_and_keeps_what_it_has(put):
    queue = manycore.Queue(maxsize=2)
    targets.put(queue, "a", "b")
    assert queue.full()
    with pytest.raises(standard_queue.Full):
        put(queue)
    assert drained(queue, 2) == ["a", "b"]
    assert not queue.full()


@pytest.mark.parametrize("maxsize", [0, -1])
def test_a_queue_without_a_limit_is_never_full(maxsize):
    queue = manycore.Queue(maxsize)
    targets.put_range(queue, 0, 10_000)
    assert not queue.full()
    assert drained(queue, 10_000) == list(range(10_000))


@pytest.mark.parametrize(
    ("wait", "error"),
    [
        (lambda queue: queue.get(timeout=0.05), standard_queue.Empty),
        (lambda queue: (queue.put(1), queue.put(2, timeout=0.05)), standard_queue.Full),
    ],
)
def test_a_timeout_is_not_over_too_early(wait, error):
    queue = manycore.Queue(1)
    begun = time.monotonic()
    with pytest.raises(error):
        wait(queue)
    assert time.monotonic() - begun >= 0.05


@both_kinds
def test_a_waiting_get_is_woken_by_a_put_of_another_process(ctx, gate, kind):
    queue = getattr(ctx, kind)()
    with running(ctx, targets.put_at, gate, queue, "item"):
        gate.arrived()
        threading.Timer(0.05, gate.let_go).start()  # so that `get` most likely waits
        assert queue.get() == "item"


def test_a_waiting_put_is_woken_by_a_get_of_another_process(ctx):
    queue, answers = ctx.Queue(1), ctx.Queue()
    queue.put("first")
    with running(ctx, targets.get_from, queue, answers):
        queue.put("second")
        assert answers.get() == "first"
    assert queue.get() == "second"


def test_every_waiting_process_is_served():
    queue, answers = manycore.Queue(), manycore.Queue()
    waiting = [manycore.Process(target=targets.get_from, args=(queue, answers)) for _ in range(5)]
    for process in waiting:
        process.start()
    targets.put_range(queue, 0, 5)
    assert sorted(drained(answers, 5)) == list(range(5))
    for process in waiting:
        process.join()


@both_kinds
def test_a_signal_handler_runs_while_get_waits(kind):
    queue = getattr(manycore, kind)()
    seen = []

    def interrupt_then_put():
        os.kill(os.getpid(), signal.SIGUSR1)
        queue.put("item")

    previous = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    timer = threading.Timer(0.05, interrupt_then_put)
    timer.start()
    try:
        assert queue.get() == "item"
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, previous)
    assert seen == [signal.SIGUSR1]


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(
    "wait", [lambda queue: queue.get(), lambda queue: (queue.put(1), queue.put(2))]
)
def test_an_exception_of_a_signal_handler_ends_the_wait(wait):
    queue = manycore.Queue(1)

    def interrupt(number, frame):
        raise Interrupted

    previous = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        with pytest.raises(Interrupted):
            timer.start()  # which may be all there is time for
            wait(queue)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, previous)
    assert queue.empty() or queue.get() == 1
    queue.put("it still works")
    assert queue.get() == "it still works"


def test_a_closed_queue_refuses_puts_and_gets():
    queue = manycore.Queue()
    queue.close()
    queue.close()
    queue.join_thread()
    with pytest.raises(ValueError, match="closed"):
        queue.put(1)
    with pytest.raises(ValueError, match="closed"):
        queue.get()


def test_a_closed_simple_queue_refuses_puts_and_gets():
    queue = manycore.SimpleQueue()
    queue.close()
    with pytest.raises(OSError, match="closed"):
        queue.put(1)
    with pytest.raises(OSError, match="closed"):
        queue.get()


def test_join_thread_is_for_closed_queues_and_cancel_join_thread_for_any():
    queue = manycore.Queue()
    queue.cancel_join_thread()
    with pytest.raises(AssertionError):
        queue.join_thread()


def test_what_was_put_before_the_process_ended_arrives(ctx):
    queue = ctx.Queue()
    with running(ctx, targets.put, queue, *range(10)):
        assert drained(queue, 10) == list(range(10))


@beyond_stdlib  # there a thread feeds the pipe, and `os._exit` does not wait for it
@pytest.mark.parametrize("size", [10, 1 << 20])
def test_a_process_may_exit_as_soon_as_put_returns(ctx, size):
    queue = ctx.Queue()
    with running(ctx, targets.put_and_exit_at_once, queue, b"x" * size):
        pass
    assert queue.get() == b"x" * size


@beyond_stdlib  # there the child waits until its pipe is read
def test_joining_before_reading_is_no_deadlock(ctx):
    queue = ctx.Queue()
    with running(ctx, targets.put, queue, *[b"x" * (1 << 20)] * 5):
        pass
    assert drained(queue, 5) == [b"x" * (1 << 20)] * 5


@beyond_stdlib  # there put succeeds and the item vanishes with a traceback on stderr
@both_kinds
def test_put_raises_what_pickling_raises_and_the_queue_goes_on(kind):
    queue = getattr(manycore, kind)()
    queue.put("before")
    with pytest.raises(TypeError, match="cannot pickle"):
        queue.put([1, threading.Lock()])
    queue.put("after")
    assert drained(queue, 2) == ["before", "after"]


@beyond_stdlib
def test_put_has_taken_a_copy_when_it_returns():
    queue = manycore.Queue()
    item = [1, 2]
    queue.put(item)
    item.append(3)
    assert queue.get() == [1, 2]


@beyond_stdlib
def test_an_item_is_there_when_put_returns():
    queue = manycore.Queue()
    queue.put("item")
    assert queue.get_nowait() == "item"


@beyond_stdlib
@both_kinds
def test_a_queue_travels_through_a_queue(ctx, kind):
    questions, answers, inner = manycore.Queue(), manycore.Queue(), getattr(manycore, kind)()
    with running(ctx, targets.get_from, questions, answers):
        questions.put(inner)
        returned = answers.get()
    returned.put("item")
    assert inner.get() == "item"


@beyond_stdlib
@both_kinds
def test_a_pickled_queue_is_the_same_queue(kind):
    queue = getattr(manycore, kind)()
    copy = pickle.loads(pickle.dumps(queue))
    copy.put("item")
    assert queue.get() == "item"


@beyond_stdlib
def test_a_queue_made_under_one_method_serves_processes_of_another():
    queue = manycore.get_context("fork").Queue()
    with running(manycore.get_context("spawn"), targets.put, queue, "item"):
        assert queue.get() == "item"
