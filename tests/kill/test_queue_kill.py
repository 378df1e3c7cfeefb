"""Producers and consumers of one queue, killed at random instructions: nothing is lost.

What "lost" means is said in `arena.py`.
"""

import gc

import pytest

import heap
import manycore
import targets
from arena import (
    Arena,
    fills_at,
    identity_of,
    item,
    item_with_buffers,
    kill_many,
    what_was_received,
)
from processes import kill_and_confirm, running, wait_until_asleep

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.engine]

CTX = manycore.get_context("fork")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("killed_roles", "maxsize", "kills"),
    [
        (["producer"], 0, 40),
        (["producer"], 16, 40),
        (["consumer"], 0, 40),
        (["consumer"], 16, 40),
        (["producer", "consumer"], 0, 20),
        (["producer", "consumer"], 3, 20),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else str(value),
)
def test_kills_lose_nothing_corrupt_nothing_and_stop_nobody(killed_roles, maxsize, kills):
    kill_many(killed_roles, maxsize, kills)


BOTH = ["producer", "consumer"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "maxsize"), [("JoinableQueue", 0), ("JoinableQueue", 5), ("SimpleQueue", 0)]
)
def test_every_kind_of_queue_survives_kills(kind, maxsize):
    kill_many(BOTH, maxsize, 20, kind=kind)


@pytest.mark.slow
@pytest.mark.parametrize("maxsize", [0, 7])
@pytest.mark.parametrize("killed_roles", [["producer"], ["consumer"], BOTH], ids="+".join)
def test_messages_of_several_buffers_survive_kills(killed_roles, maxsize):
    kill_many(killed_roles, maxsize, 20, make=item_with_buffers)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
@pytest.mark.parametrize("make", [item, item_with_buffers])
def test_a_queue_that_grows_and_shrinks_survives_kills(kind, make):
    """All that was put while nobody consumed lies in regions that lead to each other."""
    kill_many(BOTH, 0, 20, kind=kind, make=make, backlog=10)


@pytest.mark.slow
@pytest.mark.parametrize("maxsize", [0, 16])
@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
@pytest.mark.parametrize("make", [item, item_with_buffers])
def test_four_producers_and_four_consumers_survive_kills(kind, make, maxsize):
    kill_many(BOTH, maxsize, 20, kind=kind, make=make, pairs=4)


@pytest.mark.parametrize("consumers", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_what_a_killed_consumer_had_not_taken_is_there(seed, consumers):
    """Once it is stopped, the items still in the queue are exactly those that nobody has taken."""
    queue, left = manycore.Queue(), []
    for number in range(1, 1001):
        queue.put(item(0, number))
    arena = Arena(queue, seed, ["consumer"])
    for _ in range(consumers):
        arena.start("consumer")
    arena.kill_one(when_stopped=lambda: left.append(queue.qsize()))
    arena.finish()  # the others and the one that was started instead take what is there
    received = what_was_received(arena)
    assert received >= set(range(1001 - left[0], 1001))
    assert len(received) in (999, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_consumers_killed_while_they_give_memory_back_leave_it_to_others(seed):
    """They drain 400 MB, of which more than half is given back while they do."""
    items, kills = 4000, 15
    manycore._engine.reap()
    blocks, used, backed = heap.blocks_in_use(), heap.used(), heap.backed()
    queue = manycore.Queue()
    for number in range(1, items + 1):
        queue.put(item_with_buffers(0, number))
    assert heap.used() > used + 400_000_000
    arena = Arena(queue, seed, ["consumer"])
    for _ in range(3):
        arena.start("consumer")
    for _ in range(kills):
        arena.spin(30_000)
        arena.kill(arena.chance.choice(arena.alive()))
    arena.finish()
    assert items - kills <= len(what_was_received(arena)) <= items
    del arena, queue
    gc.collect()
    manycore._engine.reap()
    assert heap.blocks_in_use() == blocks
    assert heap.backed() <= backed + (200 << 20)


@pytest.mark.parametrize("seed", range(40))
def test_what_a_killed_producer_had_put_is_there_in_order(seed):
    queue, there = manycore.Queue(), []
    arena = Arena(queue, seed, ["producer"])
    arena.start("producer")
    arena.kill_one(when_stopped=lambda: there.append(queue.qsize()))
    arena.finish()  # the producer that was started instead has put something behind
    queue.put(None)
    received = [identity_of(received) for received in iter(queue.get, None)]
    killed, successor = arena.journals("producer").values()
    assert there[0] in (len(killed.entries()), killed.begun)
    assert received == [
        *(1 << 32 | number for number in range(1, there[0] + 1)),
        *(2 << 32 | number for number in range(1, successor.begun + 1)),
    ]


@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue"])
def test_a_killed_waiter_takes_no_item_and_no_wake_up_with_it(gate, kind):
    queue, answers = getattr(manycore, kind)(), manycore.Queue()
    waiters = [CTX.Process(target=targets.get_from, args=(queue, answers)) for _ in range(5)]
    for process in waiters:
        process.start()
    for process in waiters:
        wait_until_asleep(process.pid)
    *killed, survivor = waiters
    for process in killed:
        kill_and_confirm(process.pid)
        process.join()
    queue.put("item")
    assert answers.get() == "item"
    survivor.join()
    assert queue.empty()


def test_a_producer_killed_while_it_waits_for_room_leaves_the_queue_as_it_was():
    queue = manycore.Queue(1)
    queue.put("first")
    with running(CTX, targets.put, queue, "second") as process:
        wait_until_asleep(process.pid)
        kill_and_confirm(process.pid)
    assert queue.get() == "first"
    assert queue.empty()
    assert fills_at(queue) == 1


def test_a_producer_killed_while_it_waits_for_room_leaves_nothing_to_join():
    queue = manycore.JoinableQueue(1)
    queue.put("first")
    with running(CTX, targets.put, queue, "second") as process:
        wait_until_asleep(process.pid)
        kill_and_confirm(process.pid)
    assert queue.get() == "first"
    queue.task_done()
    queue.join()
    with pytest.raises(ValueError, match="too many"):
        queue.task_done()
