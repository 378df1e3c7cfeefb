"""PyTorch's DataLoader with our context. Too large to be installed for it: skipped without it."""

import pytest

import manycore

torch = pytest.importorskip("torch", reason="PyTorch is not installed; its DataLoader did not run")


class Squares(torch.utils.data.Dataset):
    def __len__(self):
        return 100

    def __getitem__(self, number):
        return torch.full((8,), number * number)


@pytest.mark.beyond_stdlib
def test_a_data_loader_gets_every_item_from_our_workers(ctx):
    loader = torch.utils.data.DataLoader(
        Squares(), batch_size=10, num_workers=2, multiprocessing_context=ctx
    )
    assert isinstance(ctx, manycore.context.BaseContext)
    firsts = [int(row[0]) for batch in loader for row in batch]
    assert firsts == [number * number for number in range(100)]
