"""Queues that are polled: `fileno` in `select`, `selectors`, `wait` and asyncio."""

import asyncio
import contextlib
import errno
import gc
import os
import pickle
import queue as standard_queue
import resource
import select
import selectors
import socket
import threading
import weakref

import pytest

import manycore
import manycore.queues
import targets
from manycore import _awaiting
from manycore.connection import wait
from processes import running

pytestmark = pytest.mark.beyond_stdlib

both_kinds = pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])


def is_readable(queue, timeout=0):
    return bool(select.select([queue], [], [], timeout)[0])


@both_kinds
def test_a_queue_is_readable_while_it_has_items(kind):
    queue = getattr(manycore, kind)()
    assert not is_readable(queue)
    targets.put(queue, 1, 2)
    assert is_readable(queue)
    queue.get()
    assert is_readable(queue)
    queue.get()
    assert not is_readable(queue)
    queue.put(3)
    assert is_readable(queue)


def test_a_queue_that_had_items_before_it_was_polled_is_readable():
    queue = manycore.Queue()
    queue.put(1)
    assert is_readable(queue)


def test_a_queue_that_others_emptied_is_readable_once_too_often_at_most():
    queue = manycore.Queue()
    other = pickle.loads(pickle.dumps(queue))
    assert not is_readable(queue)
    other.put(1)
    assert other.get() == 1
    if is_readable(queue):
        with pytest.raises(standard_queue.Empty):
            queue.get_nowait()
    assert not is_readable(queue)


@both_kinds
def test_select_wakes_when_another_process_puts(ctx, gate, kind):
    queue = getattr(ctx, kind)()
    selector = selectors.DefaultSelector()
    selector.register(queue, selectors.EVENT_READ)
    with selector, running(ctx, targets.put_at, gate, queue, "item"):
        gate.arrived()
        assert selector.select(0) == []
        gate.let_go()
        assert [key.fileobj for key, _ in selector.select()] == [queue]
        assert queue.get() == "item"
        assert selector.select(0) == []


def test_who_is_told_of_an_item_finds_it():
    context = manycore.get_context("fork")
    queues = [context.Queue() for _ in range(200)]
    ends = [context.Pipe() for _ in range(200)]
    left = queues + [ours for ours, _ in ends]
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for pair in ends:
            for end in pair:
                stack.enter_context(end)
        for each in left:
            selector.register(each, selectors.EVENT_READ)
        with running(context, targets.put_one_each, queues, [theirs for _, theirs in ends]):
            while left:
                for key, _ in selector.select():
                    found = key.fileobj
                    assert found.get_nowait() == 1 if found in queues else found.poll()
                    selector.unregister(found)
                    left.remove(found)


def test_every_process_that_polls_is_told(ctx):
    queue, answers = ctx.Queue(), ctx.Queue()
    children = [ctx.Process(target=targets.poll_and_take, args=(queue, answers)) for _ in range(4)]
    for child in children:
        child.start()
    for _ in children:
        assert answers.get() == "polling"
    queue.put_many(range(4))
    assert sorted(answers.get() for _ in children) == [0, 1, 2, 3]
    for child in children:
        child.join()


def test_a_forked_child_polls_for_itself():
    context = manycore.get_context("fork")
    queue, answers = context.Queue(), context.Queue()
    assert not is_readable(queue)
    fd = queue.fileno()
    with running(context, targets.poll_and_take, queue, answers):
        assert answers.get() == "polling"
        queue.put("item")
        assert answers.get() == "item"
    assert queue.fileno() == fd
    with pytest.raises(standard_queue.Empty):
        queue.get_nowait()
    queue.put("for the parent")
    assert is_readable(queue)
    assert queue.get() == "for the parent"


def test_a_shut_down_queue_is_readable(ctx):
    queue = ctx.Queue()
    assert not is_readable(queue)
    with running(ctx, targets.shut_down, queue):
        assert is_readable(queue, None)
    with pytest.raises(manycore.ShutDown):
        queue.get_nowait()
    assert is_readable(queue)


def test_wait_takes_queues_connections_sockets_and_sentinels_together(ctx):
    queue, (ours, theirs) = ctx.Queue(), ctx.Pipe()
    process = ctx.Process(target=targets.nothing)
    process.start()
    objects = [queue, ours, process.sentinel]
    assert wait(objects) == [process.sentinel]
    process.join()
    near, far = socket.socketpair()
    objects = [queue, ours, near]
    with ours, theirs, near, far:
        assert wait(objects, 0) == []
        theirs.send(1)
        assert wait(objects) == [ours]
        far.send(b"1")
        assert set(wait(objects)) == {ours, near}
        queue.put(1)
        assert set(wait(objects)) == {queue, ours, near}


def test_a_poller_that_is_gone_disturbs_nobody(ctx):
    queue, answers = ctx.Queue(), ctx.Queue()
    with running(ctx, targets.start_to_poll, queue, answers):
        assert answers.get() == "polling"
    queue.put(1)
    assert queue.get() == 1
    assert not is_readable(queue)


def test_more_pollers_than_there_is_room_for_all_notice():
    queue = manycore.Queue()
    pickled = pickle.dumps(queue)
    pollers = [pickle.loads(pickled) for _ in range(300)]
    fds = [poller.fileno() for poller in pollers]
    queue.put(1)
    assert set(select.select(fds, [], [], 0)[0]) == set(fds)
    queue.get()
    for poller in pollers:
        with pytest.raises(standard_queue.Empty):
            poller.get_nowait()
    queue.put(1)
    assert set(select.select(fds, [], [], 0)[0]) == set(fds)


def test_a_descriptor_that_the_program_closed_is_not_used():
    queue = manycore.Queue()
    number = queue.fileno()
    os.close(number)
    ours, theirs = os.pipe()  # one of them has the number now
    os.write(theirs, b"whatever")
    with pytest.raises(standard_queue.Empty):
        queue.get_nowait()
    with pytest.raises(OSError, match="Bad file descriptor"):
        queue.fileno()
    del queue
    assert number in (ours, theirs)
    assert os.read(ours, 100) == b"whatever"
    os.close(ours)
    os.close(theirs)


def test_no_item_is_lost_with_a_descriptor_that_the_program_closed():
    queue = manycore.Queue()
    os.close(queue.fileno())
    queue.put_many(["one", "two"])
    assert [queue.get(), queue.get_nowait()] == ["one", "two"]


def test_await_gets_what_another_process_puts(ctx, gate):
    queue = ctx.Queue()

    async def main():
        with running(ctx, targets.put_at, gate, queue, "item"):
            waiting = asyncio.create_task(queue.aget())
            await asyncio.sleep(0)
            gate.arrived()
            gate.let_go()
            return await waiting

    assert asyncio.run(main()) == "item"


def test_many_tasks_wait_for_one_queue():
    queue = manycore.Queue()

    async def main():
        waiting = [asyncio.create_task(queue.aget()) for _ in range(10)]
        await asyncio.sleep(0)
        thread = threading.Thread(target=targets.put_range, args=(queue, 0, 10))
        thread.start()
        try:
            return await asyncio.gather(*waiting)
        finally:
            thread.join()

    assert sorted(asyncio.run(main())) == list(range(10))


def test_a_cancelled_task_takes_no_item_with_it():
    queue = manycore.Queue()

    async def main():
        waiting = asyncio.create_task(queue.aget())
        await asyncio.sleep(0)
        waiting.cancel()
        queue.put("item")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await queue.aget()

    assert asyncio.run(main()) == "item"


def test_aput_waits_for_room(ctx):
    queue, answers = ctx.Queue(2), ctx.Queue()

    async def main():
        for number in [*range(100), None]:
            await queue.aput(number)

    with running(ctx, targets.sum_until_none, queue, answers):
        asyncio.run(main())
        assert answers.get() == (100, sum(range(100)))


def test_async_iteration_ends_with_the_queue(ctx):
    queue = ctx.Queue()

    async def main():
        return [item async for item in queue]

    with running(ctx, targets.put_range_and_shut_down, queue, 1000):
        assert asyncio.run(main()) == list(range(1000))


def test_a_queue_serves_one_event_loop_after_the_other():
    queue = manycore.Queue()
    for number in range(3):
        threading.Timer(0.01, queue.put, (number,)).start()
        assert asyncio.run(queue.aget()) == number


@pytest.fixture
def only_told(monkeypatch):
    """Tasks that wait do not look by themselves."""
    monkeypatch.setattr(_awaiting, "LOOK_AGAIN", 10_000)


def test_tasks_that_take_turns_are_all_told(only_told):
    queue, answers = manycore.Queue(), manycore.Queue()

    async def work():
        while (item := await queue.aget()) is not None:
            await answers.aput(item)

    async def main():
        working = [asyncio.create_task(work()) for _ in range(3)]
        for number in range(100):
            queue.put(number)
            assert await answers.aget() == number
        queue.put_many([None] * len(working))
        await asyncio.gather(*working)

    asyncio.run(main())


@pytest.mark.parametrize("is_left", [False, True], ids=["all done", "a task waits"])
def test_a_queue_keeps_no_event_loop_alive(is_left):
    queue = manycore.Queue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(queue.aget())
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    if is_left:
        loop.set_exception_handler(lambda *_: None)  # it says that a task was left
    else:
        queue.put("item")
        assert loop.run_until_complete(task) == "item"
    loop.close()
    gone = weakref.ref(loop)
    del loop, task
    gc.collect()
    assert gone() is None


class Counting(manycore.queues.Queue):
    tries = 0

    def put_nowait(self, obj):
        self.tries += 1
        super().put_nowait(obj)


def test_aput_sleeps_where_there_is_room_but_not_enough(only_told):
    queue = Counting(maxbytes=1000)
    queue.put_many([b"x" * 100, b"x" * 500])

    async def main():
        putting = asyncio.create_task(queue.aput(b"y" * 500))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not putting.done()
        assert queue.tries < 10
        assert await queue.aget() == b"x" * 100
        assert await queue.aget() == b"x" * 500
        await putting
        assert queue.get() == b"y" * 500

    asyncio.run(main())


@contextlib.contextmanager
def descriptors_left(count):
    """The process can open so many more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.open(os.devnull, os.O_RDONLY) for _ in range(count + 1)]
    for fd in free:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_item_is_put_that_a_poller_cannot_be_told_of():
    queue = manycore.Queue()
    assert not is_readable(queue)
    with descriptors_left(0):
        with pytest.raises(OSError, match="cannot be told") as untold:
            queue.put("item")
        assert untold.value.errno == errno.EMFILE
        assert queue.empty()
    queue.put("item")
    assert is_readable(queue)
    assert queue.get() == "item"


def test_who_is_one_too_many_to_be_told_takes_nobodys_place():
    queue = manycore.Queue()
    pickled = pickle.dumps(queue)
    pollers = [pickle.loads(pickled) for _ in range(256)]
    fds = [poller.fileno() for poller in pollers]
    with descriptors_left(1), pytest.raises(OSError, match="cannot be told"):
        queue.fileno()
    queue.put("item")
    assert set(select.select(fds, [], [], 0)[0]) == set(fds)
