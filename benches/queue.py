"""Throughput of a queue from producer processes to consumer processes, mostly one to one.

A consumer times the run: it starts its clock when it has received its warm-up messages and stops it
when it holds its last message; of several the first start and the last stop count. Queues of small
items are unbounded, as they are by default; those of large ones are bounded, so that what is
measured is passing on and not piling up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice, repeat
from random import Random
from time import perf_counter
from typing import Any

from benches.children import Role, run_children, together
from benches.harness import FASTER_FIFO, Bench, Sample, Target, expect
from benches.tasks import Reading

KB, MB = 1024, 1024 * 1024
AT_ONCE = 100
"""Items that `get_many` takes at most."""


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
    Payload("object", "object of a class", same(lambda: Reading(7, "seven", 2.5))),
    Payload("bytes-1k", "bytes, 1 KB", same(partial(bytes_of, KB)), KB),
    Payload("bytes-64k", "bytes, 64 KB", same(partial(bytes_of, 64 * KB)), 64 * KB, maxsize=256),
    array_payload(1, 16, touch_ends, "ends touched"),
    array_payload(64, 2, touch_ends, "ends touched"),
    array_payload(64, 2, read_all, "summed"),
)


def put_each(queue: Any, items: Iterable[Any]) -> None:
    """Put one item after the other."""
    for item in items:
        queue.put(item)


def get_each(queue: Any, n: int, use: Callable[[Any], object] | None) -> Any:
    """Take `n` messages one by one, use each, and return the last."""
    get, item = queue.get, None
    if use is None:
        for _ in repeat(None, n):
            item = get()
    else:
        for _ in repeat(None, n):
            item = get()
            use(item)
    return item


def put_many(queue: Any, items: Iterable[Any]) -> None:
    """Put all items at one call, where the module has one for that."""
    if hasattr(queue, "put_many"):
        queue.put_many(items)
    else:
        put_each(queue, items)


def get_many(queue: Any, n: int, use: Callable[[Any], object] | None) -> Any:
    """As `get_each`, up to `AT_ONCE` at a call, where the module has one for that."""
    if not hasattr(queue, "get_many"):
        return get_each(queue, n, use)
    items: list[Any] = []
    while n:
        items = queue.get_many(min(n, AT_ONCE))
        n -= len(items)
        if use is not None:
            for item in items:
                use(item)
    return items[-1]


@dataclass(frozen=True)
class Way:
    """How items get into a queue and out of it."""

    put: Callable[[Any, Iterable[Any]], None] = put_each
    get: Callable[[Any, int, Callable[[Any], object] | None], Any] = get_each


ONE_BY_ONE = Way()
MANY = Way(put_many, get_many)


def is_equal(received: Any, sent: Any) -> bool:
    """Whether a message arrived as it was sent; arrays are compared element by element."""
    equal = received == sent
    return bool(equal.all()) if hasattr(equal, "all") else bool(equal)


def was_sent(received: Any, items: Iterable[Any]) -> bool:
    """Whether a message is one of those that were sent."""
    return any(is_equal(received, item) for item in items)


@dataclass(frozen=True)
class Crowd:
    """How many put and how many get. Each gets its share of the messages."""

    producers: int = 1
    consumers: int = 1

    def shares(self, total: int, among: int) -> list[int]:
        """`total` in `among` parts that differ by one at most."""
        return [total // among + (number < total % among) for number in range(among)]


ONE_TO_ONE = Crowd()


def pass_on(
    target: Target, queue: Any, payload: Payload, crowd: Crowd, n: int, way: Way = ONE_BY_ONE
) -> Sample:
    """Send `n` messages from children to children, after up to a quarter as many to warm up.

    The clock starts with an empty queue: no message that is counted was put before.
    """
    n = max(n, crowd.consumers)
    warm_up = max(crowd.consumers, min(n // 4, 1000))
    total = n + warm_up

    def producer(unclocked: int, share: int) -> Role:
        def produce(start: Callable[[], None]) -> None:
            items = iter(payload.items(unclocked + share))
            start()
            way.put(queue, islice(items, unclocked))
            start()
            way.put(queue, items)

        return produce

    def consumer(unclocked: int, share: int) -> Role:
        def consume(start: Callable[[], None]) -> Sample:
            start()
            way.get(queue, unclocked, payload.use)
            start()
            begin = perf_counter()  # the same clock for all processes
            last = way.get(queue, share, payload.use)
            end = perf_counter()
            expect(was_sent(last, payload.items(total)), "a consumer's last message")
            return Sample(share, end - begin, {"begin": begin, "end": end})

        return consume

    def each(role: Callable[[int, int], Role], among: int) -> Iterable[Role]:
        return map(role, crowd.shares(warm_up, among), crowd.shares(n, among))

    roles = [*each(producer, crowd.producers), *each(consumer, crowd.consumers)]
    cpus = [target.pinned_cpu(number) for number in range(len(roles))]
    sample = together(run_children(target.context(), roles, cpus, phases=2))
    expect(queue.empty(), "the queue's end")
    return sample


def queue_sample(payload: Payload, crowd: Crowd, target: Target, n: int) -> Sample:
    """A sample of `Queue`."""
    return pass_on(target, target.queue(payload.maxsize, payload.size), payload, crowd, n)


def many_sample(payload: Payload, target: Target, n: int) -> Sample:
    """A sample of `put_many` and `get_many`; of `put` and `get` where there are none."""
    return pass_on(target, target.queue(), payload, ONE_TO_ONE, n, MANY)


def simple_queue_sample(payload: Payload, target: Target, n: int) -> Sample:
    """A sample of `SimpleQueue`."""
    return pass_on(target, target.context().SimpleQueue(), payload, ONE_TO_ONE, n)


CROWDS = (Crowd(2, 1), Crowd(1, 2), Crowd(4, 4))
CROWDED = tuple(payload for payload in PAYLOADS if payload.name in ("int", "bytes-1k"))


def queue_bench(payload: Payload, crowd: Crowd = ONE_TO_ONE) -> Bench:
    """The bench of `Queue` for one payload."""
    suffix = "" if crowd == ONE_TO_ONE else f"-{crowd.producers}x{crowd.consumers}"
    return Bench(
        f"queue.{payload.name}{suffix}",
        f"Queue, {crowd.producers} to {crowd.consumers}: {payload.title}",
        partial(queue_sample, payload, crowd),
        payload=payload.size,
        first_n=4 if payload.size >= MB else 1000,  # one alone could not overlap with others
        needs="numpy" if payload.name.startswith("array") else None,
        rivals=(FASTER_FIFO,),
    )


def many_bench(payload: Payload) -> Bench:
    """The bench of many items at a call, beside one by one on modules that have nothing else."""
    title = f"put_many, get_many({AT_ONCE}), 1 to 1: {payload.title}"
    return Bench(
        f"queue.{payload.name}-many",
        title,
        partial(many_sample, payload),
        payload=payload.size,
        first_n=1000,
    )


BENCHES = (
    *map(queue_bench, PAYLOADS),
    *map(many_bench, CROWDED),
    *(queue_bench(payload, crowd) for payload in CROWDED for crowd in CROWDS),
    Bench(
        "queue.simple-int", "SimpleQueue, 1 to 1: ints", partial(simple_queue_sample, PAYLOADS[0])
    ),
)
