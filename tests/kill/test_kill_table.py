"""Every primitive, and every way to die over it: which test shows that the others go on.

What can be held is in this module: each test with `thing` is one way to die, for each of `HELD`.
Where it is held by more than that, other modules look closer: `test_lock_kill.py`,
`test_semaphore_kill.py`, `test_rw_lock_kill.py`. What is waited for is in `test_waiting_kill.py`,
what is not said below in the tests of the engine:

| | Condition | Event | Barrier |
|---|---|---|---|
| dies holding | its lock: here | nobody holds it | `test_a_party_that_dies_in_the_action_...` |
| dies waiting | `test_waiters_that_are_killed_...` | the same | `test_a_party_that_is_killed_...` |
| dies waking others | `test_who_dies_waking_others_...` | the same | `test_who_dies_over_a_...` |
| two in a row | `test_a_notification_is_passed_on_...` | here | `test_two_parties_that_are_...` |
| the second in the repair | `whoever_dies_over_a_notification_...` | nothing to repair |
  `whoever_dies_over_a_barrier_...` |
| it has forked a sibling | here | here | here |
| a thread ends, not the process | its lock: here | nobody holds it | who waits cannot end |
"""

import signal

import pytest

import manycore
import targets
from processes import kill_and_confirm, running, wait_for_end, wait_until_asleep

pytestmark = [
    pytest.mark.beyond_stdlib,
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore::manycore.LockOwnerDied"),
]

# What makes one, how it is held, and where who repairs it, and who wakes others, can be killed.
LOCK, TOKENS = ("lock.inherited", "lock.released"), ("shares.returned", "tokens.given")
HELD = {
    "Lock": (lambda ctx: ctx.Lock(), None, LOCK),
    "RLock": (lambda ctx: ctx.RLock(), None, LOCK),
    "Condition": (lambda ctx: ctx.Condition(), None, LOCK),
    "Semaphore": (lambda ctx: ctx.Semaphore(1), None, TOKENS),
    "BoundedSemaphore": (lambda ctx: ctx.BoundedSemaphore(1), None, TOKENS),
    "RWLock to read": (lambda ctx: ctx.RWLock(), "read", TOKENS),
    "RWLock to write": (lambda ctx: ctx.RWLock(), "write", TOKENS),
}


class Thing:
    """Something that can be held, and how."""

    def __init__(self, ctx, gate, kind):
        make, self.access, (self.repaired_at, self.wakes_at) = HELD[kind]
        self.it, self.ctx, self.gate = make(ctx), ctx, gate

    def held_alone(self):
        """Holds it so that nobody else does."""
        return targets.held(self.it, self.access and "write")

    def holder(self, access=None):
        """A process that holds it and stops at the gate."""
        args = (self.it, access or self.access, self.gate)
        return running(self.ctx, targets.stop_holding, *args)

    def waiter(self):
        """A process that wants it for itself, and stops at the gate when it has it."""
        return self.holder(self.access and "write")

    def dies_at(self, place, monkeypatch, access=None):
        """A process that would hold it, and is killed at a named place of the engine."""
        monkeypatch.setenv("MANYCORE_FAULT", place)
        args = (self.it, access or self.access, self.gate)
        spawn = manycore.get_context("spawn")
        process = spawn.Process(target=targets.stop_holding, args=args)
        process.start()
        monkeypatch.delenv("MANYCORE_FAULT")
        return process

    def is_free(self):
        attempt = getattr(self.it, "acquire_write" if self.access else "acquire")
        if not attempt(timeout=0.2):
            return False
        getattr(self.it, "release_write" if self.access else "release")()
        return True

    def check(self):
        """Others go on: this process has it, and then another."""
        with self.held_alone():
            pass
        with self.waiter() as process:
            assert self.gate.arrived() == [process.pid]
            self.gate.let_go()
        assert self.is_free()


@pytest.fixture
def ctx():
    return manycore.get_context("fork")  # how a process starts makes no difference here


@pytest.fixture(params=HELD)
def thing(request, ctx, gate):
    return Thing(ctx, gate, request.param)


def test_who_dies_holding_it_keeps_nobody_out(thing):
    with thing.holder() as holder:
        thing.gate.arrived()
        with thing.waiter() as waiter:
            wait_until_asleep(waiter.pid)
            kill_and_confirm(holder.pid)
            assert thing.gate.arrived() == [waiter.pid]
            thing.gate.let_go()
    thing.check()


def test_who_dies_waiting_for_it_takes_nothing_along(thing):
    with thing.held_alone(), thing.waiter() as killed, thing.waiter() as waiter:
        for process in (killed, waiter):
            wait_until_asleep(process.pid)
        kill_and_confirm(killed.pid)
        thing.it.release_write() if thing.access else thing.it.release()
        assert thing.gate.arrived() == [waiter.pid]
        thing.gate.let_go()
        waiter.join()
        thing.it.acquire_write() if thing.access else thing.it.acquire()
    thing.check()


def test_who_dies_while_it_wakes_others_delays_them_only(thing, monkeypatch):
    holder = thing.dies_at(thing.wakes_at, monkeypatch)
    assert thing.gate.arrived() == [holder.pid]
    with thing.waiter() as waiter:
        wait_until_asleep(waiter.pid)
        thing.gate.let_go()
        holder.join()
        assert holder.exitcode == -signal.SIGKILL
        assert thing.gate.arrived() == [waiter.pid]
        thing.gate.let_go()
    thing.check()


def test_two_that_die_holding_it_in_a_row_keep_nobody_out(thing):
    with thing.holder() as first:
        thing.gate.arrived()
        with thing.waiter() as second:
            wait_until_asleep(second.pid)
            kill_and_confirm(first.pid)
            assert thing.gate.arrived() == [second.pid]
            kill_and_confirm(second.pid)
    thing.check()


def test_who_dies_repairing_what_another_left_keeps_nobody_out(thing, monkeypatch):
    with thing.holder() as first:
        thing.gate.arrived()
        second = thing.dies_at(thing.repaired_at, monkeypatch, thing.access and "write")
        wait_until_asleep(second.pid)
        kill_and_confirm(first.pid)  # which nobody else looks after
        second.join()
        assert second.exitcode == -signal.SIGKILL
    thing.check()


def test_a_sibling_has_nothing_of_what_its_killed_parent_held(thing):
    args = (thing.ctx, thing.it, thing.access, thing.gate)
    with running(thing.ctx, targets.hold_beside_a_child, *args) as holder:
        (child,) = set(thing.gate.arrived(2)) - {holder.pid}
        assert not thing.is_free()
        kill_and_confirm(holder.pid)
        thing.check()
        kill_and_confirm(child)
    wait_for_end([child])  # ours now
    assert thing.is_free()


def test_what_a_thread_held_that_has_ended_is_its_processs(thing):
    args = (thing.it, thing.access, thing.gate)
    with running(thing.ctx, targets.end_a_thread_holding, *args) as holder:
        thing.gate.arrived()
        assert not thing.is_free()
        kill_and_confirm(holder.pid)
    thing.check()


@pytest.mark.parametrize("kind", ["Event", "Condition", "Barrier"])
def test_a_sibling_of_a_killed_waiter_keeps_nobody(ctx, gate, kind):
    what = ctx.Barrier(3) if kind == "Barrier" else getattr(ctx, kind)()
    answers = ctx.SimpleQueue()
    tell = targets.meet_and_tell if kind == "Barrier" else targets.wait_for
    args = (ctx, gate, tell, what, answers)
    with running(ctx, targets.do_beside_a_child, *args) as killed:
        (child,) = gate.arrived()
        targets.wait_until_waited_for(what, answers, 1)
        wait_until_asleep(killed.pid)
        with running(ctx, tell, what, answers) as other:
            targets.wait_until_waited_for(what, answers, 2)
            wait_until_asleep(other.pid)
            kill_and_confirm(killed.pid)
            match kind:
                case "Event":
                    what.set()
                case "Condition":
                    with what:
                        what.notify()
            assert answers.get() == ("broken" if kind == "Barrier" else True)
        kill_and_confirm(child)
    wait_for_end([child])  # ours now
    assert answers.empty()


def test_two_that_die_setting_an_event_in_a_row_leave_it_in_order(ctx, monkeypatch):
    event, answers = ctx.Event(), ctx.SimpleQueue()
    for _ in range(2):
        with running(ctx, targets.wait_for, event, answers) as waiter:
            assert answers.get() == "waits"
            wait_until_asleep(waiter.pid)
            monkeypatch.setenv("MANYCORE_FAULT", "event.set")
            setter = manycore.get_context("spawn").Process(target=event.set)
            setter.start()
            monkeypatch.delenv("MANYCORE_FAULT")
            setter.join()
            assert setter.exitcode == -signal.SIGKILL
            assert answers.get() is True
        assert event.is_set()
        event.clear()
