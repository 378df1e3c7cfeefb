"""How many threads numerical libraries start in a worker: its share of the CPUs.

BLAS and OpenMP libraries start a thread for each CPU, in each process. They look at these variables
when they are loaded, so that a worker has to have them before it imports anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from manycore._cpus import available_cpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)

SWITCH = "MANYCORE_LIMIT_THREADS"
"""The variable that, set to 0, turns all of this off."""

_given: dict[str, str] = {}
"""What this process was given itself: it is to be shared with workers of its own."""


def for_workers(count: int) -> dict[str, str]:
    """The variables that each of a number of workers gets; none that the user has set."""
    if os.environ.get(SWITCH) == "0":
        return {}
    cpus = available_cpus()
    shares = {}
    for name in VARIABLES:
        value = os.environ.get(name)
        if value is None:
            shares[name] = str(max(1, cpus // count))
        elif value == _given.get(name):
            shares[name] = str(max(1, int(value) // count))
    return shares


def for_executors_worker(target: object, arguments: tuple[Any, ...]) -> dict[str, str]:
    """The variables for a process, if it is a worker of a `ProcessPoolExecutor`; else none."""
    executors: Any = sys.modules.get("concurrent.futures.process")
    if executors is None or target is not executors._process_worker:
        return {}
    # The executor does not say how many workers it has, but its queue is made for them.
    return for_workers(arguments[0]._maxsize - executors.EXTRA_QUEUED_CALLS)


def begin(variables: Mapping[str, str]) -> None:
    """In a worker: sets what it was given."""
    for name, value in variables.items():
        # Numba looks again later, and refuses another number than its threads were started with.
        if name != "NUMBA_NUM_THREADS" or "numba" not in sys.modules:
            os.environ[name] = _given[name] = value
