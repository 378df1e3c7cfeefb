"""The standard library under our name, to see which tests describe it.

    PYTHONPATH=$PWD/tests/stdlib_as_manycore pytest -m 'not beyond_stdlib' tests

It goes before an installed manycore. What fails here describes the standard library wrongly.
"""

from multiprocessing import *  # noqa: F403
from multiprocessing import __all__  # noqa: F401


class WorkerDied(RuntimeError):
    """Never raised: the standard library's pool hangs instead."""


class LockOwnerDied(RuntimeWarning):
    """Never given: the standard library's lock stays locked instead."""


class HandleError(ValueError):
    """Never raised: the standard library's handles cannot be pickled at all."""
