"""Processes killed with a lock in their hands, or while they wait for one."""

import itertools
import pickle
import warnings

import pytest

import manycore
import targets
from mortals import Mortals
from processes import kill_and_confirm, running, wait_for_end, wait_until_asleep

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.engine]

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
        lambda lock: lock.acquire(True, 0),
        lambda lock: lock.acquire(False),
        lambda lock: lock.__enter__(),
    ],
    ids=["acquire", "timeout", "no time", "try", "with"],
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


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_the_warning_tells_pid_and_lock_and_where_it_was_taken(ctx, gate, kind):
    lock = getattr(ctx, kind)()
    dead = kill_a_holder(ctx, gate, lock)
    with pytest.warns(manycore.LockOwnerDied) as given, lock:
        pass
    (warning,) = given
    name = f"{kind} {lock.handle[1]}.{lock.handle[2]}"
    assert (warning.message.pid, warning.message.lock) == (dead, name)
    assert name in str(warning.message)
    assert warning.filename == __file__
    copy = pickle.loads(pickle.dumps(warning.message))
    assert (str(copy), copy.pid, copy.lock) == (str(warning.message), dead, name)


def test_a_warning_that_is_an_error_leaves_the_lock_free(ctx, gate, lock):
    kill_a_holder(ctx, gate, lock)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(manycore.LockOwnerDied):
            lock.acquire()
    assert taken_in_a_child(ctx, lock) is True


def test_who_is_killed_while_it_wakes_others_delays_them_only(ctx, gate, monkeypatch):
    lock = ctx.Lock()
    lock.acquire()
    with running(ctx, targets.take_and_stop, lock, gate) as waiter:
        wait_until_asleep(waiter.pid)
        monkeypatch.setenv("MANYCORE_FAULT", "lock.released")
        spawned = ctx.get_context("spawn").Process(target=targets.release, args=(lock,))
        spawned.start()
        spawned.join()
        assert gate.arrived() == [waiter.pid]
        gate.let_go()


def test_a_child_that_was_forked_inside_has_nothing_of_what_its_parent_held(ctx, gate):
    lock = ctx.Lock()
    with running(ctx, targets.enter_with_a_sibling, ctx, lock, gate) as holder:
        both = set(gate.arrived(2))
        (child,) = both - {holder.pid}
        kill_and_confirm(child)
        assert lock.acquire(timeout=0.2) is False
        kill_and_confirm(holder.pid)
        with pytest.warns(manycore.LockOwnerDied, match=rf"\b{holder.pid}\b"):
            assert lock.acquire() is True
    wait_for_end([child])  # ours now


@pytest.fixture(params=["Lock", "RLock"])
def refusing(request, ctx):
    return getattr(ctx, request.param)(on_owner_death="raise")


def test_a_lock_that_raises_is_not_taken_before_it_is_repaired(ctx, gate, refusing):
    dead = kill_a_holder(ctx, gate, refusing)
    for _ in range(2):
        with pytest.raises(manycore.LockOwnerDied, match="repairing") as raised:
            refusing.acquire()
        assert raised.value.pid == dead
    with pytest.raises(manycore.LockOwnerDied), refusing:
        pass
    assert refusing.dead_owner == dead
    assert refusing.locked() is False
    with refusing.repairing() as pid:
        assert pid == dead
        assert refusing.locked() is True
        assert taken_in_a_child(ctx, refusing) is False
    assert refusing.dead_owner is None
    with refusing:
        pass


def test_a_repair_that_fails_leaves_the_lock_to_be_repaired(ctx, gate, refusing):
    dead = kill_a_holder(ctx, gate, refusing)
    with pytest.raises(KeyError), refusing.repairing():
        raise KeyError
    assert refusing.dead_owner == dead
    with pytest.raises(manycore.LockOwnerDied):
        refusing.acquire()


def test_a_repair_that_is_killed_leaves_the_lock_to_be_repaired(ctx, gate, refusing):
    kill_a_holder(ctx, gate, refusing)
    with running(ctx, targets.repair_and_stop, refusing, gate) as repairer:
        gate.arrived()
        kill_and_confirm(repairer.pid)
    with refusing.repairing() as pid:
        assert pid == repairer.pid
    with refusing:
        pass


def test_who_waits_for_a_lock_that_raises_is_told(ctx, gate, refusing):
    ours, theirs = ctx.Pipe()
    with running(ctx, targets.take_and_stop, refusing, gate) as holder:
        gate.arrived()
        with running(ctx, targets.take_and_tell_error, refusing, theirs) as waiter:
            wait_until_asleep(waiter.pid)
            kill_and_confirm(holder.pid)
            assert ours.recv() == holder.pid


def test_who_is_told_in_a_condition_keeps_it_from_nobody(ctx, gate, refusing):
    condition = ctx.Condition(refusing)
    ours, theirs = ctx.Pipe()
    with running(ctx, targets.wait_and_tell_error, condition, theirs):
        assert ours.recv() == "has the lock"
        with condition:
            pass  # it waits
        with running(ctx, targets.notify_and_stop, condition, gate) as notifier:
            gate.arrived()
            kill_and_confirm(notifier.pid)
        assert ours.recv() == notifier.pid
    assert refusing.dead_owner == notifier.pid
    with pytest.raises(manycore.LockOwnerDied):
        refusing.acquire()
    with refusing.repairing() as pid:
        assert pid == notifier.pid
    with condition:
        pass


def test_who_hears_of_a_death_may_want_the_rlock_again(ctx, gate, monkeypatch):
    lock = ctx.RLock()
    kill_a_holder(ctx, gate, lock)
    heard = []

    def hear(*_, **__):
        with lock:
            heard.append(lock.locked())

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", hear)
        with lock:
            assert heard == [True]


def test_what_nobody_died_with_is_held_for_repair_as_by_any_other(refusing):
    with refusing.repairing() as pid:
        assert pid is None
    with pytest.raises(KeyError), refusing.repairing():
        raise KeyError
    with refusing:
        pass


def test_a_death_may_warn_or_raise(ctx):
    with pytest.raises(ValueError, match="on_owner_death"):
        ctx.Lock(on_owner_death="return")


class Counting:
    """Processes that add to one counter under a lock, and are killed at random instructions.

    Adding is a read and a write, so only exclusion keeps the counter right. Each process writes
    down what it begins and what it has done, so each killed one may have added once more. Under the
    lock it says that it is inside, so that the next one knows who was killed there.
    """

    def __init__(self, lock, seed):
        self.lock = lock
        self.counter = manycore.Value("Q", lock=False)
        self.inside = manycore.Value("Q", lock=False)
        self.crew = Mortals(self.count, seed)

    def count(self, me, tally, turns):
        targets.ignore_dead_owners()
        for number in turns:
            with self.lock:
                dead, self.inside.value = self.inside.value, me + 1
                if dead:
                    tally.done(dead - 1)
                tally.begin(number)
                self.counter.value += 1
                tally.end(number)
                self.inside.value = 0

    def waits(self):
        """From each kill inside to when the next one was inside, in milliseconds."""
        found = itertools.chain.from_iterable(tally.entries() for tally in self.crew.tallies)
        return sorted((when - self.crew.killed_at[dead]) / 1e6 for dead, when in found)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [50, pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_kills_at_any_instruction_neither_stop_anybody_nor_let_two_in(kind, kills):
    counting = Counting(getattr(manycore, kind)(), f"{kind} {kills}")
    crew = counting.crew
    for _ in range(3):
        crew.start()
    for _ in range(kills):
        crew.kill_one()
        crew.start()
    assert crew.finish() == [0, 0, 0]
    done = sum(tally.ended for tally in crew.tallies)
    begun = sum(tally.begun for tally in crew.tallies)
    assert done <= counting.counter.value <= begun <= done + kills
    waits = counting.waits()
    assert waits, "nobody was killed inside"
    inside, median, worst = len(waits), waits[len(waits) // 2], waits[-1]
    print(f"{kind}, {kills} kills, {inside=}, to the next one: {median=:.1f} ms, {worst=:.1f} ms")
    if kills > 50:
        assert median < 100
