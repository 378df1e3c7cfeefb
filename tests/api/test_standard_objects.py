"""What is still the standard library's works in our processes."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import queues as standard_queues
from multiprocessing import resource_tracker

import pytest

import manycore
import targets


@pytest.fixture(scope="module", autouse=True)
def the_standard_library_has_what_it_keeps():
    """Its tracker process and its heap stay once they are needed."""
    resource_tracker.ensure_running()
    multiprocessing.Barrier(1)


def test_the_package_s_own_functions_make_them_too():
    with manycore.Semaphore(1), manycore.BoundedSemaphore(1):
        pass


def test_a_queue_of_the_standard_librarys_counts_with_our_semaphores(ctx):
    queue = standard_queues.Queue(2, ctx=ctx)
    process = ctx.Process(target=targets.put, args=(queue, 1, 2))
    process.start()
    process.join()
    assert queue.full()
    assert queue.qsize() == 2
    assert [queue.get(), queue.get()] == [1, 2]
    assert not queue.full()
    queue.close()


@pytest.mark.parametrize(
    "method", ["fork", pytest.param("spawn", marks=pytest.mark.slow), "forkserver"]
)
def test_the_standard_librarys_executor_runs_on_our_context(method):
    context = manycore.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        assert list(executor.map(targets.square, range(20))) == [n * n for n in range(20)]
        assert executor.submit(os.getpid).result() != os.getpid()
