"""Dask's `processes` scheduler with workers of ours as its `pool`."""

from concurrent.futures import ProcessPoolExecutor

import dask
import dask.bag
import pytest
import work

import manycore

pytestmark = pytest.mark.beyond_stdlib


@pytest.fixture(params=["fork", "forkserver"])
def context(request):
    return manycore.get_context(request.param)


@pytest.fixture(params=["executor", "pool"])
def pool(request, context):
    if request.param == "executor":
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            yield executor
    else:
        with context.Pool(2) as pool:
            yield pool
        pool.join()


def test_a_graph_is_computed_by_our_processes(pool):
    parts = [dask.delayed(work.whose_process)(n) for n in range(6)]
    seen = dask.compute(*parts, scheduler="processes", pool=pool)
    assert {module for _, module in seen} == {"manycore.process"}
    total = dask.delayed(sum)([dask.delayed(work.square)(n) for n in range(20)])
    assert total.compute(scheduler="processes", pool=pool) == sum(n * n for n in range(20))


def test_the_pool_may_be_part_of_the_configuration(pool):
    with dask.config.set(scheduler="processes", pool=pool):
        numbers = dask.bag.from_sequence(range(50), npartitions=5)
        assert numbers.map(lambda n: n + 1).filter(lambda n: n % 2).sum().compute() == 625


def test_an_exception_reaches_the_caller(pool):
    with pytest.raises(KeyError, match="number 3"):
        dask.compute(
            *[dask.delayed(work.fail_at)(3, n) for n in range(5)], scheduler="processes", pool=pool
        )
    assert dask.delayed(work.square)(3).compute(scheduler="processes", pool=pool) == 9


def test_a_killed_worker_of_our_pool_fails_the_computation_and_the_next_one_works(context):
    with context.Pool(2) as pool:
        with pytest.raises(manycore.WorkerDied, match="SIGKILL"):
            dask.delayed(work.die_at)(1, 1).compute(scheduler="processes", pool=pool)
        assert dask.delayed(work.square)(3).compute(scheduler="processes", pool=pool) == 9
    pool.join()
