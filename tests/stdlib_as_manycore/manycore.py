"""The standard library under our name, to see which tests describe it.

    PYTHONPATH=$PWD/tests/stdlib_as_manycore pytest -m 'not beyond_stdlib' tests

It goes before an installed manycore. What fails here describes the standard library wrongly.
"""

import sys
from multiprocessing import *  # noqa: F403
from multiprocessing import (  # noqa: F401
    __all__,
    connection,
    heap,
    pool,
    queues,
    reduction,
    shared_memory,
    sharedctypes,
)

__path__: list[str] = []  # a package, of modules that are there already
sys.modules |= {
    f"{__name__}.connection": connection,
    f"{__name__}.pool": pool,
    f"{__name__}.queues": queues,
    f"{__name__}.reduction": reduction,
    f"{__name__}.shared_memory": shared_memory,
    f"{__name__}.sharedctypes": sharedctypes,
}

# Its heap keeps what is free for later; `leftovers` would take that for a leak.
heap.Heap._DISCARD_FREE_SPACE_LARGER_THAN = 0


def install() -> None:
    """Not needed."""


class WorkerDied(RuntimeError):
    """Never raised: the standard library's pool hangs instead."""


class LockOwnerDied(RuntimeWarning):
    """Never given: the standard library's lock stays locked instead."""


class HandleError(ValueError):
    """Never raised: the standard library's handles cannot be pickled at all."""
