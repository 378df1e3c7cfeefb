"""Throughput of a queue from one producer process to one consumer process.

The consumer times the run: it starts its clock when it has received the warm-up messages and stops
it when it holds the last message. Queues of small items are unbounded, as they are by default;
those of large ones are bounded, so that what is measured is passing on and not piling up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from random import Random
from time import perf_counter
from typing import Any

from benches.harness import Bench, Sample, Target, cost_sample, expect
from benches.pair import run_pair

KB, MB = 1024, 1024 * 1024


@dataclass(frozen=True)
class Payload:
    """What is sent.

    Args:
        name: The end of the bench's name.
        title: What the table calls it.
        items: The messages, given their number.
        size: Bytes of a message, where that is what counts.
        maxsize: The bound of the queue; 0 is none.
        use: What the consumer does with each message, inside the timed region.
    """

    name: str
    title: str
    items: Callable[[int], Iterable[Any]]
    size: int = 0
    maxsize: int = 0
    use: Callable[[Any], object] | None = None


def same(make: Callable[[], Any]) -> Callable[[int], Iterable[Any]]:
    """Messages that are all the one object that `make` returns."""
    return lambda total: repeat(make(), total)


def bytes_of(size: int) -> bytes:
    """Bytes without a pattern, the same in both processes."""
    return Random(size).randbytes(size)


def array_of(size: int) -> Any:
    """A float64 array of `size` bytes."""
    import numpy  # optional; imported only where a bench needs it

    return numpy.arange(size // 8, dtype=numpy.float64)


def touch_ends(array: Any) -> None:
    """Read the first and the last element: it has arrived."""
    array[0], array[-1]


def read_all(array: Any) -> None:
    """Read every element: no page may be left to be fetched later."""
    array.sum()


def array_payload(megabytes: int, maxsize: int, use: Callable[[Any], object], how: str) -> Payload:
    """Arrays of `megabytes`, of which at most `maxsize` wait in the queue."""
    size = megabytes * MB
    name = f"array-{megabytes}m" + ("-read" if use is read_all else "")
    items = same(partial(array_of, size))
    return Payload(name, f"NumPy array, {megabytes} MB, {how}", items, size, maxsize, use)


PAYLOADS = (
    Payload("int", "ints", range),
    Payload("tuple", "(7, 2.5)", same(lambda: (7, 2.5))),
    Payload("dict", "dict of 3", same(lambda: {"id": 7, "name": "seven", "score": 2.5})),
    Payload("set", "set of 3 (pickled)", same(lambda: {1, 2, 3})),
    Payload("bytes-1k", "bytes, 1 KB", same(partial(bytes_of, KB)), KB),
    Payload("bytes-64k", "bytes, 64 KB", same(partial(bytes_of, 64 * KB)), 64 * KB, maxsize=256),
    array_payload(1, 16, touch_ends, "ends touched"),
    array_payload(64, 2, touch_ends, "ends touched"),
    array_payload(64, 2, read_all, "summed"),
)


def receive(get: Callable[[], Any], n: int, use: Callable[[Any], object] | None) -> Any:
    """Take `n` messages, use each, and return the last."""
    item = None
    if use is None:
        for _ in repeat(None, n):
            item = get()
    else:
        for _ in repeat(None, n):
            item = get()
            use(item)
    return item


def is_equal(received: Any, sent: Any) -> bool:
    """Whether a message arrived as it was sent; arrays are compared element by element."""
    equal = received == sent
    return bool(equal.all()) if hasattr(equal, "all") else bool(equal)


def pass_on(target: Target, queue: Any, payload: Payload, n: int) -> Sample:
    """Send `n` messages from child to child, after up to a quarter as many to warm up."""
    warm_up = max(1, min(n // 4, 1000))
    total = warm_up + n

    def produce(start: Callable[[], None]) -> None:
        items = payload.items(total)
        start()
        for item in items:
            queue.put(item)

    def consume(start: Callable[[], None]) -> Sample:
        start()
        receive(queue.get, warm_up, payload.use)
        begin = perf_counter()
        last = receive(queue.get, n, payload.use)
        seconds = perf_counter() - begin
        expect(is_equal(last, deque(payload.items(total), maxlen=1)[0]), "the last message")
        return cost_sample(n, seconds)

    cpus = (target.pinned_cpu(0), target.pinned_cpu(1))
    return run_pair(target.context(), (produce, consume), cpus)


def queue_sample(payload: Payload, target: Target, n: int) -> Sample:
    """A sample of `Queue`."""
    return pass_on(target, target.context().Queue(payload.maxsize), payload, n)


def simple_queue_sample(payload: Payload, target: Target, n: int) -> Sample:
    """A sample of `SimpleQueue`."""
    return pass_on(target, target.context().SimpleQueue(), payload, n)


def queue_bench(payload: Payload) -> Bench:
    """The bench of `Queue` for one payload."""
    return Bench(
        f"queue.{payload.name}",
        f"Queue, 1 to 1: {payload.title}",
        partial(queue_sample, payload),
        payload=payload.size,
        first_n=1 if payload.size >= MB else 1000,
        needs="numpy" if payload.name.startswith("array") else None,
    )


BENCHES = (
    *map(queue_bench, PAYLOADS),
    Bench(
        "queue.simple-int", "SimpleQueue, 1 to 1: ints", partial(simple_queue_sample, PAYLOADS[0])
    ),
)
