"""Processes killed while they wait for an event, a notification or each other, or wake others."""

import collections
import gc
import random
import signal
import threading
import time
import warnings

import pytest

import manycore
import targets
from mortals import Mortals
from processes import kill_and_confirm, running, wait_until_asleep

pytestmark = [pytest.mark.beyond_stdlib, pytest.mark.engine]

KINDS = {
    "Event": lambda ctx: ctx.Event(),
    "Condition": lambda ctx: ctx.Condition(),
    "Condition of a Lock": lambda ctx: ctx.Condition(ctx.Lock()),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def made(request, ctx):
    return request.param(ctx)


def wake_one(what):
    """Sets the event, or notifies one that waits for the condition."""
    if hasattr(what, "notify"):
        with what:
            what.notify()
    else:
        what.set()


def start_waiters(ctx, what, answers, count):
    """Processes that wait, each since after the one before it."""
    waiters = []
    for number in range(count):
        waiter = ctx.Process(target=targets.wait_for, args=(what, answers))
        waiter.start()
        assert answers.get() == "waits"
        if hasattr(what, "notify"):
            while what._waiting() <= number:
                time.sleep(0)
        wait_until_asleep(waiter.pid)
        waiters.append(waiter)
    return waiters


def join_all(processes):
    for process in processes:
        process.join()


def test_waiters_that_are_killed_cost_nobody_a_wake_up(ctx, made):
    answers = ctx.SimpleQueue()
    *killed, survivor = start_waiters(ctx, made, answers, 4)
    for waiter in killed:
        kill_and_confirm(waiter.pid)
    wake_one(made)
    assert answers.get() is True
    join_all([*killed, survivor])
    if hasattr(made, "notify"):
        manycore._engine.reap()
        assert made._waiting() == 0


def test_a_notification_that_the_killed_had_goes_to_the_next(ctx):
    condition, answers = ctx.Condition(), ctx.SimpleQueue()
    for _ in range(2):
        *killed, survivor = start_waiters(ctx, condition, answers, 3)
        with condition:
            condition.notify()
            for waiter in killed:  # in a row: the second one may have the first one's by now
                kill_and_confirm(waiter.pid)
        assert answers.get() is True
        join_all([*killed, survivor])
        assert answers.empty()


def test_a_notification_is_passed_on_however_many_die_with_it_in_a_row(ctx):
    condition, answers = ctx.Condition(), ctx.SimpleQueue()
    *killed, survivor = start_waiters(ctx, condition, answers, 5)
    with condition:
        condition.notify()
        for left, waiter in zip((4, 3, 2, 1), killed, strict=True):
            # All but those that were told, of whom the first has it: it cannot have the lock.
            while condition._waiting() != left:
                time.sleep(0)
            kill_and_confirm(waiter.pid)
    assert answers.get() is True
    join_all([*killed, survivor])


def test_who_is_killed_between_its_notification_and_the_lock_leaves_the_lock_alone(ctx):
    lock = ctx.Lock()
    condition, answers = ctx.Condition(lock), ctx.SimpleQueue()
    (waiter,) = start_waiters(ctx, condition, answers, 1)
    with condition:
        condition.notify()
        kill_and_confirm(waiter.pid)
        assert lock.locked()
    with condition:  # no warning, which would be an error
        condition.wait(0)  # it may be given what the killed had
        assert condition.wait(0) is False
    waiter.join()


def dies_at(place, monkeypatch, target, *args):
    """Starts a process that is killed at a named place of the engine, and waits for its end."""
    monkeypatch.setenv("MANYCORE_FAULT", place)
    process = manycore.get_context("spawn").Process(target=target, args=args)
    process.start()
    monkeypatch.delenv("MANYCORE_FAULT")
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.filterwarnings("ignore::manycore.LockOwnerDied")
@pytest.mark.parametrize(
    ("kind", "place", "woken"),
    [
        ("Event", "event.set", 3),
        ("Condition", "roll.turned", 1),
        ("Condition", "roll.turned:2", 2),
        ("Condition", "roll.told", 3),
    ],
)
def test_who_dies_waking_others_keeps_nobody_asleep(monkeypatch, kind, place, woken):
    ctx = manycore.get_context("fork")
    what, answers = getattr(ctx, kind)(), ctx.SimpleQueue()
    waiters = start_waiters(ctx, what, answers, 3)
    target = targets.set_event if kind == "Event" else targets.notify
    dies_at(place, monkeypatch, target, what)
    assert [answers.get() for _ in range(woken)] == [True] * woken
    if woken < len(waiters):
        with what:
            assert what._waiting() == len(waiters) - woken
            what.notify_all()
        assert [answers.get() for _ in range(len(waiters) - woken)] == [True] * (3 - woken)
    join_all(waiters)


def start_parties(ctx, barrier, answers, count):
    parties = [
        ctx.Process(target=targets.meet_and_tell, args=(barrier, answers)) for _ in range(count)
    ]
    for party in parties:
        party.start()
    while barrier.n_waiting < count:
        time.sleep(0)
    return parties


@pytest.mark.parametrize(
    ("place", "method", "outcome"),
    [
        ("barrier.passing", "wait", "met"),
        ("roll.turned", "wait", "met"),
        ("roll.told", "wait", "met"),
        ("barrier.breaking", "abort", "broken"),
        ("roll.turned", "abort", "broken"),
        ("barrier.resetting", "reset", "broken"),
    ],
)
def test_who_dies_over_a_barrier_keeps_nobody_there(monkeypatch, place, method, outcome):
    ctx = manycore.get_context("fork")
    barrier, answers = ctx.Barrier(3), ctx.SimpleQueue()
    parties = start_parties(ctx, barrier, answers, 2)
    dies_at(place, monkeypatch, targets.call, barrier, method)
    told = sorted([answers.get() for _ in parties], key=str)
    assert told == ([0, 1] if outcome == "met" else ["broken"] * 2)
    join_all(parties)
    assert barrier.broken is (method == "abort")


def test_a_party_that_is_killed_while_it_waits_breaks_the_barrier(ctx):
    barrier, answers = ctx.Barrier(4), ctx.SimpleQueue()
    for _ in range(2):
        killed, *others = start_parties(ctx, barrier, answers, 3)
        kill_and_confirm(killed.pid)
        assert [answers.get() for _ in others] == ["broken"] * 2
        join_all([killed, *others])
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait()
        barrier.reset()


def test_two_parties_that_are_killed_in_a_row_are_met_by_nobody(ctx):
    barrier, answers = ctx.Barrier(3), ctx.SimpleQueue()
    killed = start_parties(ctx, barrier, answers, 2)
    for party in killed:
        kill_and_confirm(party.pid)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    join_all(killed)
    assert barrier.broken


@pytest.mark.parametrize("killed_party", ["actor", "other"])
def test_a_party_that_dies_in_the_action_breaks_the_barrier(ctx, gate, killed_party):
    barrier, answers = ctx.Barrier(3, gate.stop), ctx.SimpleQueue()
    parties = start_parties(ctx, barrier, answers, 2)
    actor = ctx.Process(target=targets.meet_and_tell, args=(barrier, answers))
    actor.start()
    assert gate.arrived() == [actor.pid]
    killed = actor if killed_party == "actor" else parties.pop()
    kill_and_confirm(killed.pid)
    assert [answers.get() for _ in parties] == ["broken"] * len(parties)
    if killed is not actor:
        gate.let_go()
        assert answers.get() == "broken"
    join_all({actor, killed, *parties})
    assert barrier.broken


def test_a_party_that_is_killed_behind_the_barrier_breaks_nothing(ctx, gate):
    barrier = ctx.Barrier(2)
    with running(ctx, targets.meet_and_stop, barrier, gate) as party:
        barrier.wait()
        gate.arrived()
        kill_and_confirm(party.pid)
    with running(ctx, targets.meet, barrier):
        barrier.wait()
    assert not barrier.broken


def test_a_process_that_ends_in_order_while_a_thread_of_it_waits_keeps_no_notification(ctx, gate):
    condition, answers = ctx.Condition(), ctx.SimpleQueue()
    with running(ctx, targets.leave_a_thread_waiting, condition, gate):
        gate.arrived(2)
        while condition._waiting() < 1:
            time.sleep(0)
        (waiter,) = start_second(ctx, condition, answers)
        gate.let_go()
    with condition:
        condition.notify()
    assert answers.get() is True
    waiter.join()


def start_second(ctx, condition, answers):
    waiter = ctx.Process(target=targets.wait_for, args=(condition, answers))
    waiter.start()
    assert answers.get() == "waits"
    while condition._waiting() < 2:
        time.sleep(0)
    return [waiter]


def bring(condition, things, count):
    """Brings things and tells a consumer of each; all, if the lock's last holder was killed."""
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always", manycore.LockOwnerDied)
        with condition:
            things.value += count
            if given:
                condition.notify_all()
            elif count:
                condition.notify(count)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_kills_at_any_instruction_leave_nobody_asleep_for_whom_there_is_something(kind):
    ctx, chance = manycore.get_context("fork"), random.Random(kind)
    condition, things = ctx.Condition(getattr(ctx, kind)()), ctx.Value("i", 0, lock=False)

    def start():
        process = ctx.Process(target=targets.consume, args=(condition, things), daemon=True)
        process.start()
        return process

    consumers = [start() for _ in range(4)]
    for _ in range(100):
        for _ in range(chance.randrange(1, 20)):
            bring(condition, things, 1)
        number = chance.randrange(len(consumers))
        kill_and_confirm(consumers[number].pid)
        consumers[number].join()
        consumers[number] = start()
        while things.value:  # one that nobody was told of would stay
            bring(condition, things, 0)
    for consumer in consumers:
        kill_and_confirm(consumer.pid)
        consumer.join()


class Meetings:
    """Processes that meet at a barrier again and again, and are killed at random instructions.

    The last to come counts the meeting, while the others wait. So who is on its way to the next one
    finds no more counted than the one that it was at, and at most three were at any.
    """

    def __init__(self, seed):
        self.held = manycore.Value("Q", lock=False)
        self.barrier = manycore.Barrier(3, self.count)
        self.crew = Mortals(self.meet, seed)

    def count(self):
        self.held.value += 1

    def meet(self, me, tally, turns):
        last = None
        for number in turns:
            assert last in (None, self.held.value), "the others met without this one"
            tally.begin(number)
            try:
                self.barrier.wait()
            except threading.BrokenBarrierError:
                last = None  # who runs the action may not be ready with it yet
                while self.barrier.broken and not self.crew.are_to_end:
                    time.sleep(0)
            else:
                last = self.held.value
                tally.done(last)

    def mend(self):
        if self.barrier.broken:
            self.barrier.reset()


@pytest.mark.slow
@pytest.mark.parametrize("kills", [50, pytest.param(1000, marks=pytest.mark.soak)])
def test_kills_at_any_instruction_break_a_barrier_at_most_and_a_reset_mends_it(kills):
    gc.collect()  # what the test before has left in cycles
    manycore._engine.reap()
    before = manycore._engine.heap_usage()[0]
    meetings = Meetings(kills)
    crew = meetings.crew
    for _ in range(3):
        crew.start()
    for _ in range(kills):
        crew.kill_one(meetings.mend)
        crew.start()
    assert crew.finish(meetings.barrier.abort) == [0, 0, 0]
    present = collections.Counter()
    for tally in crew.tallies:
        present.update(meeting for meeting, _ in tally.entries())
    held = meetings.held.value
    assert set(present) <= set(range(1, held + 1))
    assert set(present.values()) <= {1, 2, 3}
    spoilt = held - sum(count == 3 for count in present.values())
    print(f"{kills} kills, {held} meetings, {spoilt} of them spoilt by a kill")
    assert spoilt <= kills + 1  # the last one by the end
    del meetings, crew
    gc.collect()
    manycore._engine.reap()
    assert manycore._engine.heap_usage()[0] == before
