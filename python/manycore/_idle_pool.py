"""A pool that stays when a call of joblib's is over, for the next call under the same conditions.

There is one at most. It has no thread: its workers sleep until they are needed or the program ends.
"""

from __future__ import annotations

import atexit
import os
import sys

from manycore._by_value import definitions
from manycore.pool import RUN, TERMINATE, Pool  # type: ignore[attr-defined]  # constants

_idle: list[tuple[object, Pool]] = []  # `pop` and `append` are single steps for all threads


def conditions(method: str, count: int, environment: dict[str, str]) -> object:
    """What workers depend on that are started now. They would do for whoever needs the same.

    A worker has the variables, the folders and the main module's definitions of its start.
    """
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        folder = None
    surroundings = (dict(os.environ), folder, list(sys.path), definitions())
    return method, count, environment, surroundings


def take(wanted: object) -> Pool | None:
    """The pool that is kept, if it was made under these conditions; any other is ended."""
    try:
        known, pool = _idle.pop()
    except IndexError:
        return None
    if known == wanted and pool._state == RUN and not pool._workers.is_broken():
        return pool
    end(pool)
    return None


def keep(known: object, pool: Pool) -> None:
    """Keeps a pool instead of the one before, unless it still has something to do."""
    end_all()
    if pool._crew.open:
        end(pool)
        return
    pool._attendant.keeper.rest()
    _idle.append((known, pool))


def end(pool: Pool) -> None:
    """Ends a pool now."""
    pool.terminate()
    pool.join()


def end_all() -> None:
    """Ends the pool that is kept."""
    while _idle:
        _, pool = _idle.pop()
        end(pool)


def _leave_to_parent() -> None:
    for _, pool in _idle:
        pool._state = TERMINATE  # only in this copy: nothing is to be ended here
    _idle.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
atexit.register(end_all)
