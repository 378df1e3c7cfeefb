"""PyTorch's DataLoader with our context. Too large to be installed for it: skipped without it."""

from multiprocessing import resource_sharer

import pytest

import manycore

torch = pytest.importorskip("torch", reason="PyTorch is not installed; its DataLoader did not run")

pytestmark = pytest.mark.beyond_stdlib

FIRSTS = [number * number for number in range(100)]


@pytest.fixture(autouse=True)
def ends_what_hands_out_descriptors():
    """A thread of the standard library's, by which tensors travel, and its socket."""
    yield
    resource_sharer.stop()


class Squares(torch.utils.data.Dataset):
    def __len__(self):
        return 100

    def __getitem__(self, number):
        return torch.full((8,), number * number)


def firsts(loader):
    return [int(row[0]) for batch in loader for row in batch]


def test_a_data_loader_gets_every_item_from_our_workers(ctx):
    loader = torch.utils.data.DataLoader(
        Squares(), batch_size=10, num_workers=2, multiprocessing_context=ctx
    )
    assert isinstance(ctx, manycore.context.BaseContext)
    assert firsts(loader) == FIRSTS


def test_workers_that_stay_serve_each_epoch(ctx):
    loader = torch.utils.data.DataLoader(
        Squares(),
        batch_size=10,
        num_workers=2,
        multiprocessing_context=ctx,
        persistent_workers=True,
    )
    assert firsts(loader) == FIRSTS
    workers = [worker.pid for worker in loader._iterator._workers]
    assert firsts(loader) == FIRSTS
    assert [worker.pid for worker in loader._iterator._workers] == workers


def add_one(tensor):
    tensor += 1


def double(tensor):
    return tensor * 2


def test_a_tensor_in_shared_memory_is_the_same_in_our_processes(ctx):
    tensor = torch.zeros(1000).share_memory_()
    process = ctx.Process(target=add_one, args=(tensor,))
    process.start()
    process.join()
    assert tensor.sum() == 1000


def test_tensors_travel_to_a_pool_and_back(ctx):
    with ctx.Pool(2) as pool:
        results = pool.map(double, [torch.ones(1000) * number for number in range(5)])
        assert [int(result.sum()) for result in results] == [2000 * n for n in range(5)]


PROGRAM = """
    import multiprocessing
    import sys
    import torch

    class Whose(torch.utils.data.Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, number):
            process = type(multiprocessing.current_process()).__mro__[1]
            return torch.tensor([number]), process.__module__

    if __name__ == "__main__":
        how = dict(num_workers=2, multiprocessing_context=sys.argv[1])
        loader = torch.utils.data.DataLoader(Whose(), 5, **how)
        print([(numbers.sum().item(), *set(modules)) for numbers, modules in loader])
"""


@pytest.mark.parametrize("method", manycore.get_all_start_methods())
def test_in_a_program_that_has_our_names(run_script, method):
    done = run_script(PROGRAM, method, run_by=("-m", "manycore"))
    assert done.stderr == ""
    assert done.stdout == "[(10, 'manycore.process'), (35, 'manycore.process')]\n"
