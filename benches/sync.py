"""Locks and shared values that nobody else wants: the cost of the call itself; waking others; and
locks that all want.

The loop is written out as a user would write it; the time of an empty one is taken off.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import repeat
from time import perf_counter
from typing import Any

from benches.children import Role, run_children, together
from benches.harness import Bench, Sample, Target, cost_sample, expect, stopwatch
from benches.roundtrip import End, placements


def empty_loop(n: int) -> None:
    """What the loops below cost by themselves."""
    for _ in repeat(None, n):
        pass


def acquire_release(context: Any, n: int) -> Callable[[], None]:
    """`lock.acquire()` and `lock.release()`."""
    lock = context.Lock()

    def loop() -> None:
        for _ in repeat(None, n):
            lock.acquire()
            lock.release()

    return loop


def with_lock(context: Any, n: int) -> Callable[[], None]:
    """`with lock`."""
    lock = context.Lock()

    def loop() -> None:
        for _ in repeat(None, n):
            with lock:
                pass

    return loop


def with_semaphore(context: Any, n: int) -> Callable[[], None]:
    """`with semaphore`."""
    semaphore = context.Semaphore(2)

    def loop() -> None:
        for _ in repeat(None, n):
            with semaphore:
                pass

    return loop


def take_and_give(context: Any, n: int) -> Callable[[], None]:
    """`semaphore.acquire()` and `semaphore.release()`."""
    semaphore = context.Semaphore(2)

    def loop() -> None:
        for _ in repeat(None, n):
            semaphore.acquire()
            semaphore.release()

    return loop


def increment(context: Any, n: int) -> Callable[[], None]:
    """The increment of a shared value under its lock."""
    value = context.Value("i", 0)

    def loop() -> None:
        for _ in repeat(None, n):
            with value.get_lock():
                value.value += 1
        expect(value.value == n, "the count")

    return loop


def add(context: Any, n: int) -> Callable[[], None]:
    """The same in one step without the lock, where that is possible."""
    if not hasattr(context, "atomic"):
        return increment(context, n)
    value = context.Value("i", 0)

    def loop() -> None:
        for _ in repeat(None, n):
            value.add(1)
        expect(value.value == n, "the count")

    return loop


def set_and_clear(context: Any, n: int) -> Callable[[], None]:
    """`event.set()` and `event.clear()`, and nobody waits."""
    event = context.Event()

    def loop() -> None:
        for _ in repeat(None, n):
            event.set()
            event.clear()

    return loop


def notify(context: Any, n: int) -> Callable[[], None]:
    """`with condition: condition.notify()`, and nobody waits."""
    condition = context.Condition()

    def loop() -> None:
        for _ in repeat(None, n):
            with condition:
                condition.notify()

    return loop


class _EventEnd:
    """Sends by setting the other's event, and receives by waiting for its own."""

    def __init__(self, own: Any, other: Any) -> None:
        self.own, self.other, self.last = own, other, 0

    def send(self, number: int) -> None:
        self.last = number
        self.other.set()

    def receive(self) -> int:
        self.own.wait()
        self.own.clear()
        return self.last


def two_events(target: Target) -> tuple[End, End]:
    """An event for each direction: twice the time from `set` to the return of `wait`."""
    context = target.context()
    there, back = context.Event(), context.Event()
    ends = _EventEnd(back, there), _EventEnd(there, back)
    first, second = (End(end.send, end.receive) for end in ends)
    return first, second


class _ConditionEnd:
    """Takes turns: a shared number says whose."""

    def __init__(self, condition: Any, turn: Any, me: int) -> None:
        self.condition, self.turn, self.me, self.last = condition, turn, me, 0

    def send(self, number: int) -> None:
        self.last = number
        with self.condition:
            self.turn.value = 1 - self.me
            self.condition.notify()

    def receive(self) -> int:
        with self.condition:
            while self.turn.value != self.me:
                self.condition.wait()
        return self.last


def one_condition(target: Target) -> tuple[End, End]:
    """A condition, and a number under its lock that says whose turn it is."""
    context = target.context()
    condition, turn = context.Condition(), context.Value("i", 0, lock=False)
    ends = [_ConditionEnd(condition, turn, me) for me in (0, 1)]
    first, second = (End(end.send, end.receive) for end in ends)
    return first, second


def loop_sample(
    prepare: Callable[[Any, int], Callable[[], None]], target: Target, n: int
) -> Sample:
    """Time the loop that `prepare` returns, less an empty one."""
    home = target.pinned_cpu(0)
    if home is not None:
        os.sched_setaffinity(0, {home})
    loop = prepare(target.context(), n)
    overhead = stopwatch(lambda: empty_loop(n))
    return cost_sample(n, stopwatch(loop) - overhead)


def contended_sample(parties: int, target: Target, n: int) -> Sample:
    """Time `parties` processes that all count under one lock, `n` steps of each together."""
    context = target.context()
    lock, counter = context.Lock(), context.RawValue("i", 0)

    def count(start: Callable[[], None]) -> Sample:
        start()
        begin = perf_counter()  # the same clock for all processes
        for _ in repeat(None, n):
            with lock:
                counter.value += 1
        end = perf_counter()
        return Sample(n, end - begin, {"begin": begin, "end": end})

    roles: list[Role] = [count] * parties
    sample = together(run_children(context, roles, [None] * parties))
    expect(counter.value == n * parties, "the count")
    return sample


BENCHES = (
    Bench(
        "sync.lock", "Lock acquire + release", partial(loop_sample, acquire_release), first_n=10_000
    ),
    Bench("sync.with-lock", "with lock", partial(loop_sample, with_lock), first_n=10_000),
    Bench("sync.contended", "with lock, wanted by 4 processes", partial(contended_sample, 4)),
    Bench(
        "sync.semaphore",
        "Semaphore acquire + release",
        partial(loop_sample, take_and_give),
        first_n=10_000,
    ),
    Bench(
        "sync.with-semaphore",
        "with semaphore",
        partial(loop_sample, with_semaphore),
        first_n=10_000,
    ),
    Bench(
        "sync.value",
        "with v.get_lock(): v.value += 1",
        partial(loop_sample, increment),
        first_n=10_000,
    ),
    Bench(
        "sync.atomic-add",
        "v.add(1), against the same",
        partial(loop_sample, add),
        first_n=10_000,
    ),
    Bench(
        "sync.event",
        "event.set() and clear()",
        partial(loop_sample, set_and_clear),
        first_n=10_000,
    ),
    Bench(
        "sync.notify",
        "with condition: notify()",
        partial(loop_sample, notify),
        first_n=10_000,
    ),
    *placements("sync.event-wake-", "Event set + wait", two_events),
    *placements("sync.condition-wake-", "Condition notify + wait", one_condition),
)
