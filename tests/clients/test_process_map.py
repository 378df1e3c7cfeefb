"""`tqdm.contrib.concurrent.process_map`, which makes an executor of its own."""

import pytest
import work
from tqdm.auto import tqdm
from tqdm.contrib.concurrent import process_map

import manycore

pytestmark = pytest.mark.beyond_stdlib

PROGRAM = """
    import multiprocessing
    import sys
    from tqdm.contrib.concurrent import process_map

    def work(x):
        return x * x, type(multiprocessing.current_process()).__mro__[1].__module__

    if __name__ == "__main__":
        multiprocessing.set_start_method(sys.argv[1])
        results = process_map(work, range(10), max_workers=2, file=sys.stdout)
        print([square for square, _ in results], {module for _, module in results})
"""


@pytest.mark.parametrize("method", manycore.get_all_start_methods())
def test_in_a_program_that_has_our_names(run_script, method):
    done = run_script(PROGRAM, method, run_by=("-m", "manycore"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "10/10" in done.stdout
    assert done.stdout.endswith(f"{[x * x for x in range(10)]} {{'manycore.process'}}\n")


@pytest.fixture
def lock_of_tqdm():
    yield tqdm.set_lock
    del tqdm._lock


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_with_our_context(lock_of_tqdm, method):
    context = manycore.get_context(method)
    lock_of_tqdm(context.RLock())  # tqdm's own is for `fork`
    seen = process_map(
        work.whose_process, range(10), max_workers=2, mp_context=context, disable=True
    )
    assert {module for _, module in seen} == {"manycore.process"}


def test_a_pool_of_ours_needs_no_executor(lock_of_tqdm):
    with manycore.get_context("fork").Pool(2) as pool:
        squares = list(tqdm(pool.imap(work.square, range(50)), total=50, disable=True))
    pool.join()
    assert squares == [x * x for x in range(50)]
