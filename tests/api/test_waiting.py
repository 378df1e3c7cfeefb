"""Event, Condition and Barrier: who waits, what wakes it, and what it is told."""

import os
import pickle
import re
import signal
import threading
import time

import pytest

import manycore
import targets
from processes import running, wait_until_asleep

beyond_stdlib = pytest.mark.beyond_stdlib

both_locks = pytest.mark.parametrize("kind", ["Lock", "RLock"])


def waiting_at(condition):
    """How many wait, as the condition's `repr` says."""
    return int(re.search(r", (\d+)\)>$", repr(condition))[1])


def until(predicate):
    while not predicate():
        os.sched_yield()


def in_threads(count, target, *args):
    threads = [threading.Thread(target=target, args=args) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def join_all(threads):
    for thread in threads:
        thread.join()


@pytest.fixture
def interrupted():
    """A context in which this thread's waits are ended by an exception of a signal handler."""

    def interrupt(_number, _frame):
        raise InterruptedError

    previous = signal.signal(signal.SIGALRM, interrupt)
    before = signal.setitimer(signal.ITIMER_REAL, 0.02)
    yield pytest.raises(InterruptedError)
    signal.signal(signal.SIGALRM, previous)
    signal.setitimer(signal.ITIMER_REAL, *before)  # the watchdog's


# Event


def test_an_event_is_set_until_it_is_cleared():
    event = manycore.Event()
    assert event.is_set() is False
    assert event.wait(0) is False
    assert event.wait(-1) is False
    event.set()
    event.set()
    assert event.is_set() is True
    assert event.wait() is True
    assert event.wait(timeout=0) is True
    event.clear()
    assert event.is_set() is False


def test_a_wait_for_an_event_is_not_over_too_early():
    begun = time.monotonic()
    assert manycore.Event().wait(0.05) is False
    assert time.monotonic() - begun >= 0.05


def test_a_process_sees_an_event_that_another_one_sets(ctx):
    event = ctx.Event()
    with running(ctx, targets.set_event, event):
        assert event.wait(60) is True
        assert event.is_set()


def test_all_who_wait_for_an_event_wake(ctx):
    event, answers = ctx.Event(), ctx.SimpleQueue()
    waiters = [ctx.Process(target=targets.wait_for, args=(event, answers)) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    assert [answers.get() for _ in waiters] == ["waits"] * 3
    event.set()
    assert [answers.get() for _ in waiters] == [True] * 3
    join_all(waiters)


def test_repr_tells_whether_an_event_is_set():
    event = manycore.Event()
    assert re.fullmatch(r"<Event at 0x[0-9a-f]+ unset>", repr(event))
    event.set()
    assert re.fullmatch(r"<Event at 0x[0-9a-f]+ set>", repr(event))


@beyond_stdlib
def test_who_waits_when_an_event_is_set_returns_though_it_is_cleared_at_once(ctx):
    event, answers = ctx.Event(), ctx.SimpleQueue()
    for _ in range(20):
        with running(ctx, targets.wait_for, event, answers) as waiter:
            assert answers.get() == "waits"
            wait_until_asleep(waiter.pid)
            event.set()
            event.clear()
            assert answers.get() is True


@beyond_stdlib
def test_a_signal_handler_that_raises_ends_the_wait_for_an_event(interrupted):
    with interrupted:
        manycore.Event().wait()


# Condition


@both_locks
def test_a_condition_is_used_with_its_lock_held(kind):
    condition = manycore.Condition(getattr(manycore, kind)())
    with pytest.raises(AssertionError, match="must acquire"):
        condition.wait(0)
    for notify in (condition.notify, condition.notify_all):
        with pytest.raises(AssertionError, match="not owned"):
            notify()
    assert condition.acquire() is True
    assert condition.acquire(block=False) is (kind == "RLock")
    condition.notify()
    condition.notify(3)
    condition.notify_all()
    assert condition.wait(0) is False
    condition.release()


def test_without_a_lock_of_its_own_a_condition_has_a_recursive_one():
    condition = manycore.Condition()
    with condition as entered, condition:
        assert entered is True
        assert condition.wait(0.01) is False
    with pytest.raises(AssertionError):
        condition.release()


@pytest.mark.parametrize("times", [1, 3])
def test_a_wait_releases_the_lock_and_takes_it_back_as_often(times):
    lock = manycore.RLock()
    condition = manycore.Condition(lock)
    for _ in range(times):
        condition.acquire()

    def notify():
        with condition:
            condition.notify()

    (thread,) = in_threads(1, notify)
    assert condition.wait() is True
    thread.join()
    for _ in range(times):
        assert f"MainThread, {times}" in repr(lock) or f"MainProcess, {times}" in repr(lock)
        times -= 1
        lock.release()
    with pytest.raises(AssertionError):
        lock.release()


@both_locks
def test_as_many_wake_as_are_notified(ctx, kind):
    condition, answers = ctx.Condition(getattr(ctx, kind)()), ctx.SimpleQueue()
    waiters = [ctx.Process(target=targets.wait_for, args=(condition, answers)) for _ in range(4)]
    for waiter in waiters:
        waiter.start()
    assert [answers.get() for _ in waiters] == ["waits"] * 4
    until(lambda: waiting_at(condition) == 4)
    with condition:
        condition.notify()
    assert answers.get() is True
    with condition:
        condition.notify(n=2)
    assert [answers.get() for _ in range(2)] == [True] * 2
    assert waiting_at(condition) == 1
    assert answers.empty()
    with condition:
        condition.notify_all()
    assert answers.get() is True
    join_all(waiters)


def test_a_condition_is_waited_for_until_it_is_true(ctx):
    condition, number = ctx.Condition(), ctx.Value("i", 0, lock=False)
    with running(ctx, targets.count_up_notifying, condition, number, 5), condition:
        assert condition.wait_for(lambda: number.value == 5) is True
        assert condition.wait_for(lambda: number.value, timeout=0) == 5


def test_a_condition_that_stays_false_is_waited_for_no_longer_than_said():
    condition = manycore.Condition()
    begun = time.monotonic()
    with condition:
        assert condition.wait_for(lambda: False, timeout=0.05) is False
    assert time.monotonic() - begun >= 0.05


def test_two_conditions_may_have_one_lock():
    lock = manycore.Lock()
    full, empty = manycore.Condition(lock), manycore.Condition(lock)
    items, got = [], []

    def consume():
        for _ in range(100):
            with full:
                full.wait_for(lambda: items)
                got.append(items.pop())
                empty.notify()

    threads = in_threads(1, consume)
    for number in range(100):
        with empty:
            empty.wait_for(lambda: not items)
            items.append(number)
            full.notify()
    join_all(threads)
    assert got == list(range(100))


def test_repr_tells_the_lock_of_a_condition_and_how_many_wait():
    condition = manycore.Condition()
    assert re.fullmatch(r"<Condition\(<RLock\(None, 0\)>, 0\)>", repr(condition))
    with condition:
        assert re.fullmatch(r"<Condition\(<RLock\(MainProcess, 1\)>, 0\)>", repr(condition))


@beyond_stdlib
def test_those_who_have_waited_longest_wake_first():
    condition, order = manycore.Condition(), []

    def wait(number):
        with condition:
            condition.wait()
            order.append(number)

    threads = []
    for number in range(50):  # more than there is room for in the object
        threads += in_threads(1, wait, number)
        while waiting_at(condition) < len(threads):
            os.sched_yield()
    for number in range(50):
        with condition:
            condition.notify()
        while len(order) <= number:
            os.sched_yield()
    join_all(threads)
    assert order == list(range(50))


@beyond_stdlib
def test_a_condition_and_its_lock_travel_together(ctx):
    condition, queue = ctx.Condition(ctx.Lock()), ctx.Queue()
    queue.put(condition)
    arrived = queue.get()
    copy = pickle.loads(pickle.dumps(condition))
    with arrived:
        assert condition.locked() and copy.locked()
        with running(ctx, targets.notify, copy):
            assert arrived.wait() is True


@beyond_stdlib
@both_locks
def test_a_signal_handler_that_raises_ends_a_wait_with_the_lock_held(kind, interrupted):
    lock = getattr(manycore, kind)()
    condition = manycore.Condition(lock)
    with condition:
        with interrupted:
            condition.wait()
        assert lock.locked()
        assert waiting_at(condition) == 0
    assert not lock.locked()


@beyond_stdlib
def test_a_condition_takes_other_locks_too():
    condition = manycore.Condition(threading.Lock())
    with condition:
        assert condition.wait(0.01) is False
        condition.notify_all()
    with pytest.raises(AssertionError):
        condition.notify()


class OwnLock(type(manycore.RLock())):
    """A recursive lock that acquires in its own way."""

    calls = ()

    def acquire(self, *args):
        self.calls += ("acquire",)
        return super().acquire(*args)

    def release(self):
        self.calls += ("release",)
        super().release()


class OwnWith(type(manycore.Lock())):
    """A lock with its own way into a `with`."""

    calls = ()

    def __enter__(self):
        self.calls += ("enter",)
        return super().__enter__()

    def __exit__(self, *args):
        self.calls += ("exit",)
        super().__exit__(*args)


@beyond_stdlib  # whose locks have `acquire` as an attribute of each instance
def test_a_lock_derived_from_ours_is_acquired_and_released_in_its_own_way():
    lock = OwnLock()
    condition = manycore.Condition(lock)
    condition.acquire()
    condition.acquire()
    assert condition.wait(0) is False
    assert lock.calls == ("acquire", "acquire", "release", "release", "acquire", "acquire")
    condition.release()
    condition.notify()
    condition.release()
    with pytest.raises(AssertionError):
        condition.notify()
    assert lock.calls[6:] == ("release", "release")


@beyond_stdlib
def test_a_condition_is_entered_as_its_lock_is():
    lock = OwnWith()
    with manycore.Condition(lock) as acquired:
        assert acquired is True
        assert lock.calls == ("enter",)
    assert lock.calls == ("enter", "exit")
    assert not lock.locked()


# Barrier


def test_all_wait_for_the_last_and_each_has_a_number_of_its_own(ctx):
    barrier, answers = ctx.Barrier(4), ctx.SimpleQueue()
    others = [ctx.Process(target=targets.meet_often, args=(barrier, answers, 5)) for _ in range(3)]
    for other in others:
        other.start()
    ours = [barrier.wait() for _ in range(5)]
    theirs = [answers.get() for _ in others]
    join_all(others)
    for numbers in zip(ours, *theirs, strict=True):
        assert sorted(numbers) == [0, 1, 2, 3]


def test_one_of_them_runs_the_action_before_anybody_passes():
    ran = []
    barrier = manycore.Barrier(3, action=lambda: ran.append(threading.get_ident()))
    seen = []

    def meet():
        for turn in range(1, 20):
            barrier.wait()
            seen.append(len(ran) >= turn)

    threads = in_threads(3, meet)
    join_all(threads)
    assert len(ran) == 19
    assert all(seen) and len(seen) == 3 * 19
    assert set(ran) <= {thread.ident for thread in threads}


def test_a_barrier_for_one_does_not_wait():
    barrier = manycore.Barrier(1, timeout=0)
    assert [barrier.wait() for _ in range(3)] == [0, 0, 0]
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (1, 0, False)


class Meeting:
    """Threads that wait at a barrier, and what became of them."""

    def __init__(self, barrier, count):
        self.barrier, self.outcomes = barrier, []
        self.threads = in_threads(count, self.meet)
        until(lambda: barrier.n_waiting == count or barrier.broken)

    def meet(self):
        try:
            self.outcomes.append(self.barrier.wait(60))
        except threading.BrokenBarrierError:
            self.outcomes.append("broken")

    def end(self):
        join_all(self.threads)
        return self.outcomes


def test_an_abort_is_told_to_those_who_wait_and_to_those_who_come():
    barrier = manycore.Barrier(3)
    meeting = Meeting(barrier, 2)
    assert barrier.n_waiting == 2
    barrier.abort()
    assert meeting.end() == ["broken"] * 2
    assert barrier.broken is True
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()


def test_a_reset_sends_those_who_wait_away_and_mends_a_broken_barrier():
    barrier = manycore.Barrier(3)
    for abort in (False, True):
        meeting = Meeting(barrier, 2)
        if abort:
            barrier.abort()
        else:
            barrier.reset()
        assert meeting.end() == ["broken"] * 2
        barrier.reset()
        assert (barrier.broken, barrier.n_waiting) == (False, 0)
    meeting = Meeting(barrier, 2)
    assert sorted([barrier.wait(), *meeting.end()]) == [0, 1, 2]


@pytest.mark.parametrize("where", ["wait", "barrier"])
def test_a_barrier_breaks_for_all_when_one_waits_too_long(where):
    barrier = manycore.Barrier(3, timeout=0.05 if where == "barrier" else None)
    meeting = Meeting(barrier, 1)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(*[0.05] * (where == "wait"))
    assert meeting.end() == ["broken"]
    assert barrier.broken


def test_an_action_that_raises_breaks_the_barrier():
    def action():
        raise ZeroDivisionError

    barrier = manycore.Barrier(2, action)
    meeting = Meeting(barrier, 1)
    with pytest.raises(ZeroDivisionError):
        barrier.wait()
    assert meeting.end() == ["broken"]
    assert barrier.broken


def test_repr_tells_how_many_have_come():
    barrier = manycore.Barrier(2)
    name = re.escape(f"{type(barrier).__module__}.{type(barrier).__qualname__}")
    assert re.fullmatch(rf"<{name} at 0x[0-9a-f]+: waiters=0/2>", repr(barrier))
    barrier.abort()
    assert re.fullmatch(rf"<{name} at 0x[0-9a-f]+: broken>", repr(barrier))


@beyond_stdlib
def test_a_barrier_needs_a_party():
    for parties in (0, -1):
        with pytest.raises(ValueError, match="parties"):
            manycore.Barrier(parties)


@beyond_stdlib
def test_a_barrier_travels_with_its_action_and_its_timeout(ctx):
    barrier, queue = ctx.Barrier(2, targets.nothing, 0.01), ctx.Queue()
    queue.put(barrier)
    arrived = queue.get()
    with pytest.raises(threading.BrokenBarrierError):
        arrived.wait()
    assert barrier.broken
    barrier.reset()
    with running(ctx, targets.meet, arrived):
        assert barrier.wait(60) in (0, 1)


@beyond_stdlib
def test_a_signal_handler_that_raises_ends_a_wait_at_a_barrier_as_if_it_had_not_come(interrupted):
    barrier = manycore.Barrier(2)
    with interrupted:
        barrier.wait()
    assert (barrier.n_waiting, barrier.broken) == (0, False)


@beyond_stdlib
def test_who_comes_while_the_action_runs_waits_for_its_end():
    inside, leave = threading.Event(), threading.Event()

    def action():
        inside.set()
        leave.wait()

    barrier = manycore.Barrier(1, action)
    threads = in_threads(1, barrier.wait)
    inside.wait()
    passed = []
    threads += in_threads(1, lambda: passed.append(barrier.wait()))
    assert barrier.n_waiting == 1
    assert not passed
    leave.set()
    join_all(threads)
    assert passed == [0]


@beyond_stdlib
@pytest.mark.parametrize("kind", ["Event", "Condition", "Barrier"])
def test_a_pool_is_given_and_gives_back_what_others_wait_at(kind):
    made = getattr(manycore, kind)(*[1] * (kind == "Barrier"))
    with manycore.Pool(1) as pool:
        returned = pool.apply(targets.identity, (made,))
    assert type(returned) is type(made)
    assert returned.handle == made.handle
