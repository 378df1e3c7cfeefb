"""A pipeline of two stages and a reader, each a process; the calling process takes the results.

Here it is `manycore.pipeline`, where the module under measurement has it, and otherwise what one
writes by hand: a process for each stage, with a bounded queue between two. A sample includes the
start of the processes, so it takes many items.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benches.harness import Bench, Sample, Target, cost_sample, expect, stopwatch
from benches.tasks import square

LIMIT = 256  # items between two stages
LARGE = 1 << 17  # numbers in an array of 1 MB


def count(n: int) -> Iterator[int]:
    """The reader of small items."""
    yield from range(n)


def arrays(n: int) -> Iterator[Any]:
    """The reader of large ones."""
    import numpy as np

    for number in range(n):
        yield np.full(LARGE, number)


def add_one(array: Any) -> Any:
    """A stage that makes a new array of each."""
    return array + 1


def by_hand(
    target: Target, read: Callable[[], Iterator[Any]], stages: list[Callable[[Any], Any]]
) -> int:
    """Processes and queues; returns how many results there were."""
    context = target.context()
    queues = [context.Queue(LIMIT) for _ in range(len(stages) + 1)]
    processes = [context.Process(target=put_all, args=(read, queues[0]))]
    for stage, source, sink in zip(stages, queues[:-1], queues[1:], strict=True):
        processes.append(context.Process(target=work, args=(stage, source, sink)))
    for process in processes:
        process.start()
    results = sum(1 for _ in iter(queues[-1].get, None))
    for process in processes:
        process.join()
    return results


def put_all(read: Callable[[], Iterator[Any]], sink: Any) -> None:
    """The reader's process."""
    for item in read():
        sink.put(wrapped(item))
    sink.put(None)


def work(stage: Callable[[Any], Any], source: Any, sink: Any) -> None:
    """A stage's process."""
    for item in iter(source.get, None):
        sink.put(wrapped(stage(*item)))
    sink.put(None)


def wrapped(item: Any) -> tuple[Any]:
    """What cannot be taken for the end, nor be compared with it, as an array can."""
    return (item,)


def pipeline_sample(
    read: Callable[[int], Iterator[Any]], stage: Callable[[Any], Any], target: Target, n: int
) -> Sample:
    """Time all of it."""
    module = importlib.import_module(target.module)
    source, stages = partial(read, n), [stage, stage]
    results = []
    if hasattr(module, "pipeline"):
        context = target.context()
        limited = [module.stage(it, maxsize=LIMIT) for it in stages]

        def run() -> None:
            results.append(sum(1 for _ in module.pipeline(source, *limited, context=context)))
    else:

        def run() -> None:
            results.append(by_hand(target, source, stages))

    seconds = stopwatch(run)
    expect(results == [n], "results")
    return cost_sample(n, seconds)


BENCHES = (
    Bench(
        "pipeline.small",
        "reader and two stages, small items",
        partial(pipeline_sample, count, square),
        first_n=20_000,
        max_n=2_000_000,
    ),
    Bench(
        "pipeline.array-1m",
        "reader and two stages, arrays of 1 MB",
        partial(pipeline_sample, arrays, add_one),
        payload=8 * LARGE,
        first_n=200,
        max_n=20_000,
        needs="numpy",
    ),
)
