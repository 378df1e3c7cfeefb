"""Processes at work on one queue, some of which are killed, and an account of every item.

What "lost" means. An item is lost if its `put` returned and no `get` gave it. A consumer writes
down first that its `get` returned and then what it got, so a journal that breaks off in between
tells whose the item is. What no test can tell from outside is the item of a consumer killed between
the commit inside `get` and its return: it may be missing, one for each consumer killed in `get`. A
killed producer costs nothing; the one item that it was killed over may arrive or not.
"""

import collections
import gc
import itertools
import os
import pickle
import queue as standard_queue
import random
import signal
import statistics
import struct
import time
import zlib

import heap
import manycore
import targets
from journal import Journal
from manycore.queues import JoinableQueue
from processes import kill_and_confirm, stop_and_confirm

CTX = manycore.get_context("fork")
SIZES = [0, 8, 60, 300, 2000] * 12 + [40_000]  # the last travels outside of the record
ANNOUNCEMENT = struct.Struct("I")
TICKET = 50  # items that a producer puts for one byte of the pipe of tickets
TICKETS = 20  # for each kill: enough for somebody to come to where it announces itself
CORRUPT = 0
LARGE = [32 << 10, 40_000, 70_000, 33_000]  # bytes of buffers that travel outside of the record


def item(producer, number):
    """Some are encoded by the engine, some by pickle; each says what it should be."""
    payload = bytes([number % 251]) * SIZES[(producer + number) % len(SIZES)]
    checksum = zlib.crc32(payload, producer << 16 ^ number)
    values = (producer, number, payload, checksum)
    return values if number % 3 else {"any": {"nesting": [values]}}


def item_with_buffers(producer, number):
    """As many buffers outside of the record as `number` says, none to five, and one inside."""
    buffers = [
        bytearray([(number + n) % 251]) * LARGE[(producer + n) % len(LARGE)]
        for n in range(number % 6)
    ]
    return producer, number, [*map(pickle.PickleBuffer, buffers), bytearray(b"inside")]


def identity_of(received):
    """`producer << 32 | number` of an item, CORRUPT if it isn't as it was made."""
    values = received if isinstance(received, tuple) else received["any"]["nesting"][0]
    producer, number, *_ = values
    if isinstance(values[2], list):
        _, _, sent = item_with_buffers(producer, number)
        is_whole = values[2] == [bytearray(buffer) for buffer in sent]
    else:
        is_whole = received == item(producer, number)
    return producer << 32 | number if is_whole else CORRUPT


def numbers(journal):
    return [what for what, _ in journal.entries()]


class Arena:
    """Processes at work on one queue; those of the killed roles say that they may be killed.

    Producers put what `make` gives for their number and the item's.
    """

    def __init__(self, queue, seed, killed_roles, make=item):
        self.queue = queue
        self.make = make
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
            target=self.work, args=(role, number, journal, announce_at), daemon=True
        )
        process.start()
        self.crew[number] = process, role, journal

    def work(self, role, *args):
        targets.die_quietly()
        getattr(self, role)(*args)

    def producer(self, me, journal, announce_at):
        for number in itertools.count(1):
            if number % TICKET == 1:
                os.read(self.tickets, 1)
            if self.stop.begun:
                return
            if number == announce_at:
                os.write(self.announce, ANNOUNCEMENT.pack(me))
            journal.begin(number)
            self.queue.put(self.make(me, number))
            journal.done(number)

    def consumer(self, me, journal, announce_at):
        is_joinable = isinstance(self.queue, JoinableQueue)
        for number, received in enumerate(iter(self.queue.get, None), start=1):
            journal.begin(number)  # `get` has returned: from here on the item is this consumer's
            journal.done(identity_of(received))
            if is_joinable:
                self.queue.task_done()
            if number == announce_at:
                os.write(self.announce, ANNOUNCEMENT.pack(me))
        if is_joinable:
            self.queue.task_done()  # what told it to end was an item, too

    def spin(self, at_most):
        """Lets up to so many microseconds pass, so that what comes next comes anywhere."""
        spin_until = time.perf_counter_ns() + self.chance.randrange(at_most * 1000)
        while time.perf_counter_ns() < spin_until:
            pass

    def kill_one(self, when_stopped=None, number=signal.SIGKILL, times_paused=0):
        """Kills one that said it may be killed and starts another in its place.

        It is stopped and continued some times before. If `when_stopped` is given the victim is
        stopped at the end, that is called, then it is killed.
        """
        (victim,) = ANNOUNCEMENT.unpack(os.read(self.announced, ANNOUNCEMENT.size))
        self.spin(200)
        process, _, _ = self.crew[victim]
        for _ in range(times_paused):
            stop_and_confirm(process.pid)
            self.spin(5_000)  # others may run into what it has locked
            os.kill(process.pid, signal.SIGCONT)
            self.spin(200)
        if when_stopped:
            stop_and_confirm(process.pid)
            when_stopped()
        self.kill(victim, number)
        os.write(self.give_tickets, bytes(TICKETS))

    def kill(self, victim, number=signal.SIGKILL):
        """Kills this one and starts another in its place."""
        process, role, _ = self.crew[victim]
        kill_and_confirm(process.pid, number)
        self.killed[victim] = time.monotonic_ns()
        process.join()
        self.start(role)

    def alive(self):
        return [number for number in self.crew if number not in self.killed]

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


def kill_many(
    killed_roles,
    maxsize,
    kills,
    kill=Arena.kill_one,
    *,
    kind="Queue",
    make=item,
    pairs=2,
    backlog=0,
):
    """So many producers and consumers, of which `kills` are killed; says what came of it.

    `kind` names a queue of the package, or makes something like one of a `maxsize`. The consumers
    begin when `backlog` of the producers were killed: until then the queue grows.
    """
    manycore._engine.reap()
    blocks = heap.blocks_in_use()
    if callable(kind):
        queue = kind(maxsize)
    else:
        queue = getattr(manycore, kind)(*[maxsize] * (kind != "SimpleQueue"))
    arena = Arena(queue, f"{killed_roles} {maxsize} {kind}", killed_roles, make)
    for _ in range(pairs):
        arena.start("producer")
    for _ in range(backlog):
        kill(arena)
    for _ in range(pairs):
        arena.start("consumer")
    for _ in range(kills - backlog):
        kill(arena)
    arena.finish()

    received = what_was_received(arena)
    missing, put = what_is_missing(arena, received)
    in_hand, in_get = states_at_death(arena)
    assert len(missing) <= in_hand + in_get, f"lost: {missing}"
    assert len(arena.killed) == kills
    assert queue.empty()
    if kind == "JoinableQueue":
        assert never_marked(queue) <= in_hand + in_get
        queue.join()
    if maxsize:
        assert fills_at(queue) == maxsize

    pauses = list(arena.pauses())
    print(
        f"\n{kills} of {'+'.join(killed_roles)} killed, {kind}, maxsize {maxsize}, {put} items put",
        f"missing: {len(missing)}; killed with an item in hand {in_hand}, inside get {in_get}",
        f"first step of a survivor after a confirmed death: {statistics.median(pauses):.2f} ms"
        f" (median), {max(pauses):.2f} ms (worst)",
        sep="\n  ",
    )
    del arena, queue
    gc.collect()
    manycore._engine.reap()
    assert heap.blocks_in_use() == blocks, "blocks were leaked"


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


def never_marked(queue):
    """How many items of a joinable queue nobody has marked as done; all are afterwards."""
    for count in itertools.count():
        try:
            queue.task_done()
        except ValueError:
            return count


def fills_at(queue):
    """How many items fit in; they are taken out again."""
    for count in itertools.count():
        try:
            queue.put_nowait(count)
        except standard_queue.Full:
            assert [queue.get() for _ in range(count)] == list(range(count))
            return count
