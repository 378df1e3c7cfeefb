"""What the tests of kills have in common."""

import pytest

import manycore


@pytest.fixture(params=["fork", "forkserver"])
def ctx(request):
    """Has a child inherit what is used, or be sent it. `spawn` sends it, too, but takes longer."""
    return manycore.get_context(request.param)
