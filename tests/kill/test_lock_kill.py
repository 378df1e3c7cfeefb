"""Processes killed with a lock in their hands, or while they wait for one."""

import itertools
import os
import random
import struct

import pytest

import manycore
import targets
from journal import Journal
from processes import kill_and_confirm, running, wait_until_asleep

pytestmark = pytest.mark.beyond_stdlib

LOCKS = {
    "Lock": lambda ctx: ctx.Lock(),
    "RLock": lambda ctx: ctx.RLock(),
    "of a Value": lambda ctx: ctx.Value("i").get_lock(),
    "of an Array": lambda ctx: ctx.Array("i", 3).get_lock(),
    "Value": lambda ctx: ctx.Value("i"),
}


@pytest.fixture(params=LOCKS.values(), ids=LOCKS)
def lock(request, ctx):
    return request.param(ctx)


def kill_a_holder(ctx, gate, lock, times=1):
    """Lets a process take the lock and kills it; its id."""
    with running(ctx, targets.take_and_stop, lock, gate, times) as holder:
        gate.arrived()
        kill_and_confirm(holder.pid)
    return holder.pid


def taken_in_a_child(ctx, lock):
    ours, theirs = ctx.Pipe()
    with running(ctx, targets.try_to_take, lock, theirs):
        return ours.recv()


@pytest.mark.parametrize(
    "take",
    [
        lambda lock: lock.acquire(),
        lambda lock: lock.acquire(True, 100),
        lambda lock: lock.__enter__(),
    ],
    ids=["acquire", "timeout", "with"],
)
def test_the_next_to_take_it_is_warned_and_has_it(ctx, gate, lock, take):
    dead = kill_a_holder(ctx, gate, lock)
    with pytest.warns(manycore.LockOwnerDied, match=rf"\b{dead}\b"):
        assert take(lock) is True
    assert taken_in_a_child(ctx, lock) is False
    lock.release()
    with lock:  # no warning, which would be an error
        pass
    assert taken_in_a_child(ctx, lock) is True


def test_a_process_that_waits_for_the_lock_gets_it_with_the_warning(ctx, gate, lock):
    ours, theirs = ctx.Pipe()
    with running(ctx, targets.take_and_stop, lock, gate) as holder:
        gate.arrived()
        with running(ctx, targets.take_and_tell_warnings, lock, theirs) as waiter:
            wait_until_asleep(waiter.pid)
            kill_and_confirm(holder.pid)
            ((category, text),) = ours.recv()
    assert category == "LockOwnerDied"
    assert str(holder.pid) in text
    with lock:
        pass


def test_each_of_many_waiters_gets_the_lock_though_each_is_killed_with_it(ctx, gate, lock):
    waiters = [ctx.Process(target=targets.take_and_stop, args=(lock, gate)) for _ in range(5)]
    for waiter in waiters:
        waiter.start()
    for _ in waiters:
        (holder,) = gate.arrived()
        kill_and_confirm(holder)
    for waiter in waiters:
        waiter.join()
    with pytest.warns(manycore.LockOwnerDied, match=rf"\b{holder}\b"), lock:
        pass


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_waiter_that_is_killed_leaves_the_lock_as_it_was(ctx, kind):
    lock = getattr(ctx, kind)()
    with lock, running(ctx, targets.take_and_leave, lock) as waiter:
        wait_until_asleep(waiter.pid)
        kill_and_confirm(waiter.pid)
    with lock:
        pass
    assert taken_in_a_child(ctx, lock) is True


def test_a_killed_waiter_does_not_take_the_wake_up_with_it(ctx, gate):
    lock = ctx.Lock()
    lock.acquire()
    waiters = [ctx.Process(target=targets.take_and_stop, args=(lock, gate)) for _ in range(4)]
    for waiter in waiters:
        waiter.start()
    for waiter in waiters:
        wait_until_asleep(waiter.pid)
    *killed, survivor = waiters
    for waiter in killed:
        kill_and_confirm(waiter.pid)
    lock.release()
    assert gate.arrived() == [survivor.pid]
    gate.let_go()
    for waiter in waiters:
        waiter.join()


def test_an_rlock_is_taken_over_once_however_often_the_dead_had_it(ctx, gate):
    lock = ctx.RLock()
    kill_a_holder(ctx, gate, lock, times=3)
    with pytest.warns(manycore.LockOwnerDied):
        lock.acquire()
    lock.release()
    with pytest.raises(AssertionError):
        lock.release()
    assert taken_in_a_child(ctx, lock) is True


def test_a_lock_that_the_killed_had_released_is_free_without_a_warning(ctx, gate, lock):
    with running(ctx, targets.take_release_and_stop, lock, gate) as process:
        gate.arrived()
        kill_and_confirm(process.pid)
    with lock:
        pass


def test_what_the_lock_guards_is_as_the_killed_left_it(ctx, gate):
    value = ctx.Value("i", 1)
    with running(ctx, targets.set_and_stop_with_lock, value, 2, gate) as process:
        gate.arrived()
        kill_and_confirm(process.pid)
    with pytest.warns(manycore.LockOwnerDied), value.get_lock():
        assert value.value == 2


class Counting:
    """Processes that add to one counter under a lock, and are killed at random instructions.

    Adding is a read and a write, so only exclusion keeps the counter right. Each process writes
    down what it begins and what it has done, so each killed one may have added once more.
    """

    def __init__(self, lock, seed):
        self.lock, self.chance = lock, random.Random(seed)
        self.counter = manycore.Value("Q", lock=False)
        self.stop = Journal(0)
        self.announced, self.announce = os.pipe()
        self.crew = []

    def start(self):
        journal = Journal()
        announce_at = self.chance.randrange(1, 300)
        process = manycore.get_context("fork").Process(
            target=self.count, args=(journal, len(self.crew), announce_at), daemon=True
        )
        process.start()
        self.crew.append((process, journal))

    def count(self, journal, me, announce_at):
        targets.ignore_dead_owners()
        for number in itertools.count(1):
            if self.stop.begun:
                return
            if number == announce_at:
                os.write(self.announce, struct.pack("I", me))
            with self.lock:
                journal.begin(number)
                self.counter.value += 1
                journal.done(number)

    def kill_one(self):
        (me,) = struct.unpack("I", os.read(self.announced, 4))
        process, _ = self.crew[me]
        kill_and_confirm(process.pid)
        process.join()

    def finish(self):
        self.stop.begin(1)
        for process, _ in self.crew:
            process.join()
        os.close(self.announced)
        os.close(self.announce)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_kills_at_any_instruction_neither_stop_anybody_nor_let_two_in(kind):
    kills = 50
    counting = Counting(getattr(manycore, kind)(), kind)
    for _ in range(3):
        counting.start()
    for _ in range(kills):
        counting.kill_one()
        counting.start()
    counting.finish()
    done = sum(len(journal.entries()) for _, journal in counting.crew)
    begun = sum(journal.begun for _, journal in counting.crew)
    assert done <= counting.counter.value <= begun <= done + kills
    codes = [process.exitcode for process, _ in counting.crew]
    assert codes.count(0) == 3
