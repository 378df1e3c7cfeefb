"""Killed beside those that poll: who waits in `select` or in asyncio hears of every item.

Nobody there looks again after a while, as who sleeps in `get` does: a wake-up that was lost with a
killed process would be a test that hangs.
"""

import asyncio
import itertools
import os
import select
import signal

import pytest

import manycore
import targets
from arena import item, item_with_buffers, kill_many
from manycore.queues import Empty, Queue
from processes import kill_and_confirm, running

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.engine]

CTX = manycore.get_context("fork")
BOTH = ["producer", "consumer"]


class Polled(Queue):
    """A queue whose consumers wait in `select`."""

    def get(self):
        while True:
            select.select([self], [], [])
            try:
                return self.get_nowait()
            except Empty:
                pass  # another one was quicker, or a producer died


class Awaited(Queue):
    """A queue whose consumers, and producers, are tasks of an event loop."""

    def get(self):
        return asyncio.run(self.aget())

    def put(self, obj):
        asyncio.run(self.aput(obj))


class Pipe:
    """A pipe that all producers and all consumers have."""

    def __init__(self, _maxsize):
        self.reader, self.writer = CTX.Pipe(duplex=False)
        self.get, self.put = self.reader.recv, self.writer.send

    def empty(self):
        return not self.reader.poll()


class PolledPipe(Pipe):
    """The same, and consumers wait in `select`, each for itself, and take turns."""

    def __init__(self, maxsize):
        super().__init__(maxsize)
        self.turn = CTX.Lock()
        self.get = self._get

    def _get(self):
        while True:
            select.select([self.reader], [], [])
            with self.turn:
                if self.reader.poll():
                    return self.reader.recv()


@pytest.mark.slow
@pytest.mark.parametrize("make", [item, item_with_buffers])
@pytest.mark.parametrize("killed_roles", [["producer"], ["consumer"], BOTH], ids="+".join)
@pytest.mark.parametrize("kind", [Polled, Pipe])
def test_kills_lose_nothing_and_leave_nobody_waiting(kind, killed_roles, make):
    kill_many(killed_roles, 0, 20, kind=kind, make=make)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Polled, Awaited])
@pytest.mark.parametrize("maxsize", [1, 7])
def test_kills_beside_a_bounded_queue_leave_nobody_waiting(kind, maxsize):
    kill_many(BOTH, maxsize, 15, kind=kind)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::manycore.LockOwnerDied")
def test_kills_beside_a_polled_pipe_leave_nobody_waiting():
    kill_many(["producer"], 0, 20, kind=PolledPipe)


FAULTS = ["ring.put.written", "ring.put.committed", "ring.put.rung", "poller.told"]


@pytest.mark.parametrize("place", FAULTS)
def test_a_producer_that_dies_at_a_named_place_leaves_no_item_unheard_of(monkeypatch, place):
    context = manycore.get_context("spawn")
    queue = context.Queue()
    fd = queue.fileno()
    monkeypatch.setenv("MANYCORE_FAULT", place)
    process = context.Process(target=targets.put_quietly, args=(queue, "item"))
    process.start()
    monkeypatch.delenv("MANYCORE_FAULT")
    process.join()
    assert process.exitcode == -signal.SIGKILL
    if not queue.empty():
        assert select.select([fd], [], [], 0)[0] == [fd]
        assert queue.get_nowait() == "item"
    queue.put("next")
    assert select.select([fd], [], [], 0)[0] == [fd]
    assert "next" in [queue.get_nowait() for _ in range(queue.qsize())]


@pytest.mark.parametrize("seed", range(10))
def test_a_pipe_ends_when_its_sender_is_killed_at_any_instruction(seed):
    reader, writer = CTX.Pipe(duplex=False)
    ready, tell = os.pipe()
    with running(CTX, targets.send_counting, writer, tell) as sender:
        writer.close()
        os.read(ready, 1)
        numbers = [reader.recv() for _ in range(seed * 37)]
        kill_and_confirm(sender.pid)
        with pytest.raises(EOFError):
            for _ in itertools.count():
                numbers.append(reader.recv())
    assert numbers == list(range(len(numbers)))
    os.close(ready)
    os.close(tell)
    reader.close()


@pytest.mark.parametrize("how", ["iterate", "await"])
def test_a_stream_ends_when_all_of_its_producers_are_killed(gate, how):
    queue = CTX.Queue()
    producers = [
        CTX.Process(target=targets.produce_and_stop, args=(gate, queue, first, 10))
        for first in (0, 10, 20)
    ]
    for producer in producers:
        producer.start()
    gate.arrived(3)
    for producer in producers:
        producer.kill()

    async def main():
        return [item async for item in queue]

    received = list(queue) if how == "iterate" else asyncio.run(main())
    assert sorted(received) == list(range(30))
    for producer in producers:
        producer.join()
