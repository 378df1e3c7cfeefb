"""Producers and consumers of one queue, killed at random instructions: nothing is lost.

What "lost" means. An item is lost if its `put` returned and no `get` gave it. A consumer writes
down first that its `get` returned and then what it got, so a journal that breaks off in between
tells whose the item is. What no test can tell from outside is the item of a consumer killed between
the commit inside `get` and its return: it may be missing, one for each consumer killed in `get`. A
killed producer costs nothing; the one item that it was killed over may arrive or not.
"""

import collections
import itertools
import os
import queue as standard_queue
import random
import statistics
import struct
import time
import zlib

import pytest

import manycore
import targets
from journal import Journal
from processes import kill_and_confirm, running, stop_and_confirm, wait_until_asleep

pytestmark = pytest.mark.beyond_stdlib

CTX = manycore.get_context("fork")
SIZES = [0, 8, 60, 300, 2000] * 12 + [40_000]  # the last travels outside of the record
ANNOUNCEMENT = struct.Struct("I")
TICKET = 50  # items that a producer puts for one byte of the pipe of tickets
TICKETS = 20  # for each kill: enough for somebody to come to where it announces itself
CORRUPT = 0


def item(producer, number):
    """Some are encoded by the engine, some by pickle; each says what it should be."""
    payload = bytes([number % 251]) * SIZES[(producer + number) % len(SIZES)]
    checksum = zlib.crc32(payload, producer << 16 ^ number)
    values = (producer, number, payload, checksum)
    return values if number % 3 else {"any": {"nesting": [values]}}


def identity_of(received):
    """`producer << 32 | number` of an item, CORRUPT if it isn't as it was made."""
    values = received if isinstance(received, tuple) else received["any"]["nesting"][0]
    producer, number, _, _ = values
    return producer << 32 | number if received == item(producer, number) else CORRUPT


def numbers(journal):
    return [what for what, _ in journal.entries()]


class Arena:
    """Processes at work on one queue; those of the killed roles say that they may be killed."""

    def __init__(self, queue, seed, killed_roles):
        self.queue = queue
        self.chance = random.Random(seed)
        self.killed_roles = killed_roles
        self.announced, self.announce = os.pipe()
        self.tickets, self.give_tickets = os.pipe()  # so that nobody's journal runs full
        os.write(self.give_tickets, bytes(2 * TICKETS))
        self.stop = Journal(0)
        self.ids = itertools.count(1)
        self.crew = {}  # id: process, role, journal
        self.killed = {}  # id: when its death was confirmed

    def start(self, role):
        number = next(self.ids)
        mortal = role in self.killed_roles
        journal = Journal()
        announce_at = self.chance.randrange(1, 150) if mortal else None
        process = CTX.Process(
            target=getattr(self, role), args=(number, journal, announce_at), daemon=True
        )
        process.start()
        self.crew[number] = process, role, journal

    def producer(self, me, journal, announce_at):
        for number in itertools.count(1):
            if number % TICKET == 1:
                os.read(self.tickets, 1)
            if self.stop.begun:
                return
            if number == announce_at:
                os.write(self.announce, ANNOUNCEMENT.pack(me))
            journal.begin(number)
            self.queue.put(item(me, number))
            journal.done(number)

    def consumer(self, me, journal, announce_at):
        for number, received in enumerate(iter(self.queue.get, None), start=1):
            journal.begin(number)  # `get` has returned: from here on the item is this consumer's
            journal.done(identity_of(received))
            if number == announce_at:
                os.write(self.announce, ANNOUNCEMENT.pack(me))

    def kill_one(self, when_stopped=None):
        """Kills one that said it may be killed and starts another in its place.

        If `when_stopped` is given the victim is stopped first, that is called, then it is killed.
        """
        (victim,) = ANNOUNCEMENT.unpack(os.read(self.announced, ANNOUNCEMENT.size))
        spin_until = time.perf_counter_ns() + self.chance.randrange(200_000)
        while time.perf_counter_ns() < spin_until:
            pass  # so that it dies anywhere and not only right after its announcement
        process, role, _ = self.crew[victim]
        if when_stopped:
            stop_and_confirm(process.pid)
            when_stopped()
        kill_and_confirm(process.pid)
        self.killed[victim] = time.monotonic_ns()
        process.join()
        self.start(role)
        os.write(self.give_tickets, bytes(TICKETS))

    def finish(self):
        """Lets those alive end in order, first all producers, then all consumers."""
        self.stop.begin(1)
        os.write(self.give_tickets, bytes(TICKETS))
        for role in ("producer", "consumer"):
            alive = [
                process
                for number, (process, its_role, _) in self.crew.items()
                if its_role == role and number not in self.killed
            ]
            if role == "consumer":
                targets.put(self.queue, *[None] * len(alive))
            for process in alive:
                process.join()
                assert process.exitcode == 0
        for end in (self.announced, self.announce, self.tickets, self.give_tickets):
            os.close(end)

    def journals(self, role):
        return {
            number: journal
            for number, (_, its_role, journal) in self.crew.items()
            if its_role == role
        }

    def pauses(self):
        """For each kill the time until the first step of any survivor, in milliseconds."""
        steps = sorted(
            when for _, _, journal in self.crew.values() for _, when in journal.entries()
        )
        for death in self.killed.values():
            following = next((when for when in steps if when > death), None)
            if following:
                yield (following - death) / 1e6


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
    queue = manycore.Queue(maxsize)
    arena = Arena(queue, f"{killed_roles} {maxsize}", killed_roles)
    for role in ("producer", "consumer") * 2:
        arena.start(role)
    for _ in range(kills):
        arena.kill_one()
    arena.finish()

    received = what_was_received(arena)
    missing, put = what_is_missing(arena, received)
    in_hand, in_get = states_at_death(arena)
    assert len(missing) <= in_hand + in_get, f"lost: {missing}"
    assert len(arena.killed) == kills
    assert queue.empty()
    if maxsize:
        assert fills_at(queue) == maxsize

    pauses = list(arena.pauses())
    print(
        f"\n{kills} of {'+'.join(killed_roles)} killed, maxsize {maxsize}, {put} items put",
        f"missing: {len(missing)}; killed with an item in hand {in_hand}, inside get {in_get}",
        f"first step of a survivor after a confirmed death: {statistics.median(pauses):.2f} ms"
        f" (median), {max(pauses):.2f} ms (worst)",
        sep="\n  ",
    )


def what_was_received(arena):
    """All items that consumers got, each once, whole, and in the order of its producer."""
    received = collections.Counter()
    for journal in arena.journals("consumer").values():
        theirs = numbers(journal)
        assert CORRUPT not in theirs
        by_producer = collections.defaultdict(list)
        for what in theirs:
            by_producer[what >> 32].append(what)
        assert all(from_one == sorted(from_one) for from_one in by_producer.values())
        received.update(theirs)
    assert set(received.values()) <= {1}, "an item came twice"
    return set(received)


def what_is_missing(arena, received):
    """The items whose `put` returned and that no consumer wrote down, and how many were put."""
    missing, put = [], 0
    for producer, journal in arena.journals("producer").items():
        finished = len(journal.entries())
        assert journal.begun in (finished, finished + 1)
        expected = {producer << 32 | number for number in range(1, finished + 1)}
        perhaps = {producer << 32 | journal.begun}
        assert {what for what in received if what >> 32 == producer} <= expected | perhaps
        missing += sorted(expected - received)
        put += finished
    return missing, put


def states_at_death(arena):
    """How many consumers were killed with an item that they had not written down, and in `get`."""
    killed = [it for number, it in arena.journals("consumer").items() if number in arena.killed]
    in_hand = sum(journal.begun - len(journal.entries()) for journal in killed)
    return in_hand, len(killed) - in_hand


def fills_at(queue):
    """How many items fit in; they are taken out again."""
    for count in itertools.count():
        try:
            queue.put_nowait(count)
        except standard_queue.Full:
            assert [queue.get() for _ in range(count)] == list(range(count))
            return count


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
