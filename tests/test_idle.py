"""What queues cost while nothing happens: hardly any time, little memory, no descriptor."""

import contextlib
import gc
import itertools
import os
import queue as standard_queue
import resource
import time

import pytest

import heap
import manycore
import targets
from processes import wait_until_asleep

pytestmark = pytest.mark.beyond_stdlib

CTX = manycore.get_context("fork")
MOST = 0.002  # of a core
SECONDS = 4.0
MB = 1_000_000


def share_of_a_core(wait):
    """What part of a core this process uses while `wait` waits."""
    begun, used = time.monotonic(), time.process_time()
    wait()
    used = time.process_time() - used
    return used / (time.monotonic() - begun)


def measured(wait, answers):
    answers.put(share_of_a_core(wait))


def full(queue):
    queue.put("it is full")
    return queue


def in_slices(queue, seconds):
    """Many short waits in a row."""

    def wait():
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(standard_queue.Empty):
                queue.get(timeout=seconds)

    return wait


# Each has a queue that it waits on, and what ends the wait, if it doesn't by itself.
WAITS = {
    "get": (lambda: CTX.Queue(), lambda queue: queue.get, lambda queue: queue.put(None)),
    "get of a simple queue": (
        lambda: CTX.SimpleQueue(),
        lambda queue: queue.get,
        lambda queue: queue.put(None),
    ),
    "put": (
        lambda: full(CTX.Queue(1)),
        lambda queue: lambda: queue.put(None),
        lambda queue: queue.get(),
    ),
    "join": (
        lambda: full(CTX.JoinableQueue()),
        lambda queue: queue.join,
        lambda queue: queue.task_done(),
    ),
    "get with a timeout": (
        lambda: CTX.Queue(),
        lambda queue: in_slices(queue, SECONDS),
        lambda queue: None,
    ),
    "get with many short timeouts": (
        lambda: CTX.Queue(),
        lambda queue: in_slices(queue, 0.2),
        lambda queue: None,
    ),
}


def share_of_a_wait(name):
    """What a wait uses of a core: in a process of its own, whose processor time counts."""
    make, wait, end = WAITS[name]
    queue, answers = make(), CTX.SimpleQueue()
    process = CTX.Process(target=measured, args=(wait(queue), answers))
    process.start()
    time.sleep(SECONDS)  # what is measured is how it passes
    end(queue)
    process.join()
    return answers.get()


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("name", WAITS)
def test_who_waits_uses_less_than_two_thousandths_of_a_core(name):
    # Each by itself: those that wake up beside each other find less of their own in the caches.
    for _ in range(3):  # what else the machine does may make it more, and never less
        share = share_of_a_wait(name)
        print(f"{share:.3%}")
        if share < MOST:
            break
    assert share < MOST


@pytest.mark.slow
@pytest.mark.alone
def test_twenty_that_wait_for_one_queue_use_no_more_each():
    queue, answers = CTX.Queue(), CTX.SimpleQueue()
    waiting = [CTX.Process(target=measured, args=(queue.get, answers)) for _ in range(20)]
    for process in waiting:
        process.start()
    for process in waiting:
        wait_until_asleep(process.pid)
    time.sleep(SECONDS)
    targets.put(queue, *[None] * len(waiting))
    for process in waiting:
        process.join()
    shares = [answers.get() for _ in waiting]
    print(f"{max(shares):.3%}")
    assert max(shares) < MOST


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
@pytest.mark.parametrize("was_used", [False, True], ids=["new", "used"])
def test_a_thousand_idle_queues_take_less_than_twenty_megabytes_and_no_descriptor(kind, was_used):
    gc.collect()
    manycore.Queue()  # whoever makes something frees what others have left
    used, descriptors = heap.used(), os.listdir("/proc/self/fd")
    queues = [getattr(manycore, kind)() for _ in range(1000)]
    if was_used:
        for queue in queues:
            targets.put(queue, "small", {1, 2}, bytes(40_000))
            assert [queue.get() for _ in range(3)] == ["small", {1, 2}, bytes(40_000)]
        del queue
    assert heap.used() - used < 20 * MB
    assert os.listdir("/proc/self/fd") == descriptors
    assert all(queue.empty() for queue in queues)
    del queues
    gc.collect()
    assert heap.used() <= used


def answer(there, back) -> None:
    for item in iter(there.get, None):
        back.put(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw if item == "slept" else item)


@pytest.mark.alone
def test_two_on_one_core_let_each_other_run_instead_of_sleeping():
    usable = os.sched_getaffinity(0)
    there, back = CTX.Queue(), CTX.Queue()

    def slept_in(trips, cpu):
        for pid in (0, process.pid):
            os.sched_setaffinity(pid, {cpu})
        there.put("slept")
        before = back.get()
        for i in range(trips):
            there.put(i)
            assert back.get() == i
        there.put("slept")
        return back.get() - before

    process = CTX.Process(target=answer, args=(there, back))
    process.start()
    begun = time.monotonic()
    try:
        # Who once had to wait for its core sleeps for some thousand turns; others may want it, too.
        for cpu in itertools.cycle(usable):
            is_found = slept_in(500, cpu) < 250
            if is_found or time.monotonic() > begun + 60:
                break
    finally:
        os.sched_setaffinity(0, usable)
        there.put(None)
        process.join()
    assert is_found
