"""The end of a stream: when all producers have closed or died."""

import pickle
import queue as standard_queue
import select

import pytest

import manycore
import targets
from processes import kill_and_confirm, running

pytestmark = pytest.mark.beyond_stdlib


def test_a_queue_ends_when_its_last_producer_is_closed():
    queue = manycore.Queue()
    first, second = queue.producer(), queue.producer()
    first.put("a")
    first.close()
    second.put_nowait("b")
    assert queue.get_many(5) == ["a", "b"]
    with pytest.raises(standard_queue.Empty):
        queue.get_nowait()
    second.close()
    for get in (queue.get, queue.get_nowait, lambda: queue.get(timeout=5)):
        with pytest.raises(manycore.ShutDown):
            get()
    assert not queue.is_shutdown


def test_a_queue_that_never_had_a_producer_has_no_end():
    queue = manycore.Queue()
    queue.put(1)
    queue.get()
    with pytest.raises(standard_queue.Empty):
        queue.get(timeout=0.01)


def test_a_new_producer_begins_a_new_stream():
    queue = manycore.Queue()
    for number in range(3):
        with queue.producer() as producer:
            producer.put(number)
        assert list(queue) == [number]


def test_a_closed_producer_puts_nothing():
    queue = manycore.Queue()
    with queue.producer() as producer:
        pass
    with pytest.raises(ValueError, match="closed"):
        producer.put(1)
    with pytest.raises(ValueError, match="closed"), producer:
        pass


def test_a_producer_that_is_forgotten_is_closed():
    queue = manycore.Queue()
    queue.producer().put("item")
    assert list(queue) == ["item"]


def test_producers_in_many_processes_are_one_stream(ctx):
    queue, answers = ctx.Queue(), ctx.Queue()
    with running(ctx, targets.collect, queue, answers):
        children = [
            ctx.Process(target=targets.produce, args=(queue, n * 100, 100)) for n in range(4)
        ]
        with queue.producer():
            for child in children:
                child.start()
            for child in children:
                child.join()
        assert answers.get() == list(range(400))


def test_a_killed_producer_counts_as_closed(ctx, gate):
    queue, answers = ctx.Queue(), ctx.Queue()
    with running(ctx, targets.produce_and_stop, gate, queue, 0, 10) as producer:
        gate.arrived()
        with running(ctx, targets.collect, queue, answers):
            producer.kill()
            assert answers.get() == list(range(10))
    assert list(queue) == []


def test_who_only_looks_finds_the_end_that_a_kill_made(ctx, gate):
    queue = ctx.Queue()
    with running(ctx, targets.produce_and_stop, gate, queue, 0, 1) as producer:
        gate.arrived()
        assert queue.get_nowait() == 0
        with pytest.raises(standard_queue.Empty):
            queue.get_nowait()
        kill_and_confirm(producer.pid)
        with pytest.raises(manycore.ShutDown):
            queue.get_nowait()


def test_a_consumer_that_was_forked_beside_an_open_producer_is_none_itself():
    context = manycore.get_context("fork")
    queue, answers = context.Queue(), context.Queue()
    with queue.producer() as producer:
        producer.put(1)
        consumer = context.Process(target=targets.collect, args=(queue, answers))
        consumer.start()
    assert answers.get() == [1]
    consumer.join()


def test_a_producer_stays_in_its_process():
    context = manycore.get_context("fork")
    queue, answers = context.Queue(), context.Queue()
    producer = queue.producer()
    with pytest.raises(TypeError, match="open one in the process"):
        pickle.dumps(producer)

    def use():
        try:
            producer.put(1)
        except ValueError as error:
            answers.put(str(error))

    with running(context, use):
        assert "another process" in answers.get()
    producer.put(2)
    assert queue.get() == 2
    producer.close()


def test_the_end_of_a_stream_is_readable():
    queue = manycore.Queue()
    with queue.producer():
        assert select.select([queue], [], [], 0)[0] == []
    assert select.select([queue], [], [], 0)[0] == [queue]
    with pytest.raises(manycore.ShutDown):
        queue.get_nowait()
