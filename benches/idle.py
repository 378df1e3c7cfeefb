"""What things cost while nothing happens: time of who waits, memory of what lies idle.

Of queues these are figures and no ratios: the standard library sleeps in a pipe, which costs
nothing, and has its memory and descriptors in the kernel.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from functools import partial
from time import perf_counter, process_time, sleep
from typing import Any

from benches.children import run_children
from benches.harness import Bench, Metric, Sample, Target

WAITING_SECONDS = 1.5
QUEUES = 1000

CORE = Metric("core", "of a core", "portion")
MEMORY = Metric("memory", "memory", "bytes")
DESCRIPTORS = Metric("descriptors", "descriptors", "count")
PRIVATE = Metric("private", "private memory", "size")


def waiting_sample(target: Target, n: int) -> Sample:
    """One child waits in `get`, the other puts something after a while."""
    queue = target.queue()

    def wait(start: Callable[[], None]) -> Sample:
        start()
        begin, used = perf_counter(), process_time()
        queue.get()
        used = process_time() - used
        seconds = perf_counter() - begin
        return Sample(n, seconds, {CORE.key: used / seconds})

    def put_later(start: Callable[[], None]) -> None:
        start()
        sleep(WAITING_SECONDS)  # what is measured is how it passes
        queue.put(None)

    cpus = (target.pinned_cpu(0), target.pinned_cpu(1))
    (sample,) = run_children(target.context(), (wait, put_later), cpus)
    return sample


def resident() -> int:
    """Bytes of memory that this process has of its own."""
    with open("/proc/self/statm") as statm:
        _, pages, shared, *_ = map(int, statm.read().split())
    return (pages - shared) * resource.getpagesize()


def memory_in_use(target: Target) -> int:
    """Bytes in use by this process, in the heap of manycore too."""
    in_heap: int = 0
    if target.module == "manycore":
        import manycore

        in_heap = manycore._engine.heap_usage()[1]
    return resident() + in_heap


def idle_sample(target: Target, n: int) -> Sample:
    """Makes a thousand queues and puts nothing."""
    context: Any = target.context()
    context.Queue()  # what there is one of is made
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a queue of pipes has two
    memory, descriptors = memory_in_use(target), len(os.listdir("/proc/self/fd"))
    begin = perf_counter()
    queues = [context.Queue() for _ in range(QUEUES)]
    seconds = perf_counter() - begin
    values = {
        MEMORY.key: float(max(0, memory_in_use(target) - memory)),
        DESCRIPTORS.key: float(len(os.listdir("/proc/self/fd")) - descriptors),
    }
    del queues
    return Sample(n, seconds, values)


def worker_sample(target: Target, n: int) -> Sample:
    """The memory that a worker has for itself when it has done something and waits for more."""
    begin = perf_counter()
    with target.context("forkserver").Pool(1) as pool:
        pid = pool.apply(os.getpid)
        private = float(private_memory(pid))
    return Sample(n, perf_counter() - begin, {PRIVATE.key: private})


def private_memory(pid: int) -> int:
    """Bytes of a process that no other shares."""
    kib = 0
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        for line in rollup:
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                kib += int(line.split()[1])
    return 1024 * kib


BENCHES = (
    Bench("idle.get", "waiting in get", waiting_sample, metrics=(CORE,), first_n=1, max_n=1),
    Bench(
        "idle.queues",
        f"{QUEUES} idle queues",
        partial(idle_sample),
        metrics=(MEMORY, DESCRIPTORS),
        first_n=1,
        max_n=1,
    ),
    Bench(
        "idle.worker",
        "idle worker, forkserver",
        worker_sample,
        metrics=(PRIVATE,),
        first_n=1,
        max_n=1,
    ),
)
