"""Other packages on their own processes and on ours: joblib (`loky`, our backend), PyTorch, tqdm.

joblib's workers have run a call before the clock starts, but where a call is timed together with
its workers: `loky` keeps these from call to call, our backend has new ones for each.
"""

from __future__ import annotations

import importlib
from functools import partial
from time import perf_counter
from typing import Any

from benches.harness import Bench, Sample, Target, cost_sample, expect, stopwatch
from benches.tasks import square

WORKERS = 2
CALLS = 4  # on each array
SHARED_BYTES = 64 << 20
OWN_BYTES = 16 << 20
PARTS = 40  # of what `process_map` has to do
BATCHES = 64  # of a DataLoader's epoch
BATCH_BYTES = 4 << 20


def parallel(target: Target) -> Any:
    """A `Parallel` of joblib's on the backend that belongs to the module."""
    import joblib

    if target.module == "multiprocessing":
        return joblib.Parallel(WORKERS, backend="loky")
    importlib.import_module(f"{target.module}.joblib")
    return joblib.Parallel(WORKERS, backend=target.module)


def squares(run: Any, n: int) -> Any:
    """Has joblib square numbers."""
    from joblib import delayed

    return run(delayed(square)(i) for i in range(n))


def many_sample(target: Target, n: int) -> Sample:
    """One call of joblib's with `n` of the smallest tasks."""
    with parallel(target) as run:
        squares(run, 2 * WORKERS)
        begin = perf_counter()
        results = squares(run, n)
        seconds = perf_counter() - begin
    expect(len(results) == n and results[-1] == (n - 1) ** 2, "squares")
    return cost_sample(n, seconds)


def call_sample(target: Target, n: int) -> Sample:
    """`n` calls of joblib's, one after the other, of a task for each worker."""
    squares(parallel(target), WORKERS)
    return cost_sample(
        n, sum(stopwatch(lambda: squares(parallel(target), WORKERS)) for _ in range(n))
    )


def total(array: Any) -> float:
    """Reads all of an array."""
    return float(array.sum())


def array_sample(nbytes: int, is_shared: bool, target: Target, n: int) -> Sample:
    """`n` calls of joblib's, whose tasks have one new array together, or each its own."""
    import numpy
    from joblib import delayed

    def new() -> Any:
        return numpy.ones(nbytes // 8)

    with parallel(target) as run:
        squares(run, 2 * WORKERS)
        seconds = 0.0
        for _ in range(n):
            arrays = [new()] * CALLS if is_shared else [new() for _ in range(CALLS)]
            begin = perf_counter()
            totals = run(delayed(total)(array) for array in arrays)
            seconds += perf_counter() - begin
            expect(totals == [nbytes / 8] * CALLS, "totals")
    return cost_sample(n, seconds)


def process_map_sample(target: Target, n: int) -> Sample:
    """One `process_map` over `n` numbers, its executor included."""
    process_map = importlib.import_module("tqdm.contrib.concurrent").process_map
    context = target.context()
    options = {"max_workers": WORKERS, "mp_context": context, "disable": True}
    begin = perf_counter()
    results = process_map(square, range(n), chunksize=max(n // PARTS, 1), **options)
    seconds = perf_counter() - begin
    expect(len(results) == n and results[-1] == (n - 1) ** 2, "squares")
    return cost_sample(n, seconds)


class Batches:
    """A data set of PyTorch's whose items are batches as they are."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes

    def __len__(self) -> int:
        return BATCHES

    def __getitem__(self, number: int) -> Any:
        import torch

        return torch.full((self.nbytes // 4,), float(number))


def epoch_sample(nbytes: int, stays: bool, target: Target, n: int) -> Sample:
    """`n` epochs of a DataLoader, with the workers of the first, or with new ones for each."""
    data = importlib.import_module("torch.utils.data")
    loader = data.DataLoader(
        Batches(nbytes),
        batch_size=None,
        num_workers=WORKERS,
        multiprocessing_context=target.context(),
        persistent_workers=stays,
    )
    if stays:
        expect(sum(1 for _ in loader) == BATCHES, "batches")
    begin = perf_counter()
    for _ in range(n):
        expect([int(batch[0]) for batch in loader] == list(range(BATCHES)), "batches")
    return cost_sample(n, perf_counter() - begin)


def array_bench(name: str, title: str, nbytes: int, is_shared: bool) -> Bench:
    """The bench of one way to give arrays to tasks."""
    take = partial(array_sample, nbytes, is_shared)
    return Bench(f"clients.{name}", title, take, first_n=1, max_n=100, needs="joblib")


BENCHES = (
    Bench("clients.joblib-many", "joblib, tiny tasks", many_sample, needs="joblib"),
    Bench(
        "clients.joblib-call",
        "joblib, a call with its workers",
        call_sample,
        first_n=2,
        needs="joblib",
    ),
    array_bench("joblib-array", "joblib, 4 tasks on one 64 MiB array", SHARED_BYTES, True),
    array_bench("joblib-arrays", "joblib, 4 tasks, 16 MiB each", OWN_BYTES, False),
    Bench(
        "clients.loader-start",
        "DataLoader, 64 tiny batches, with its workers",
        partial(epoch_sample, 4, False),
        first_n=1,
        needs="torch",
    ),
    Bench(
        "clients.loader-tiny",
        "DataLoader, 64 tiny batches",
        partial(epoch_sample, 4, True),
        first_n=2,
        needs="torch",
    ),
    Bench(
        "clients.loader-large",
        "DataLoader, 64 batches of 4 MiB",
        partial(epoch_sample, BATCH_BYTES, True),
        first_n=1,
        needs="torch",
    ),
    Bench("clients.process-map", "process_map, 40 parts", process_map_sample, needs="tqdm"),
)
