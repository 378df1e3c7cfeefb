"""Random numbers that depend on the task, and not on who runs it and when.

The seed of a task is a digest of the seed that was given, the number of the call where the pool has
the seed, and the number of the item within the call.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import itertools
import random
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

Seed = tuple[int, ...]
"""What the seeds of the tasks of one call are made of."""

_now: int | None = None

_restore: list[functools.partial[None]] | None = None
"""What sets the program's own generators back, once a task in its process had a seed."""


def task_seed() -> int:
    """As the package's."""
    if _now is None:
        raise RuntimeError("this task has no seed: give the call, or the pool, a `seed`")
    return _now


def of_item(seed: Seed, item: int) -> int:
    """The seed of one item."""
    text = repr((*seed, item)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16, person=b"manycore.seed").digest())


def plant(seed: Seed | None = None, item: int = 0) -> None:
    """In a worker: what is random from now on follows from the seed and the number of an item.

    Without a seed: there is none any more.
    """
    global _now
    if seed is None:
        _now = None
        return
    _now = of_item(seed, item)
    if _restore is not None and not _restore:  # what the first of them finds is set back
        _restore.append(functools.partial(random.setstate, random.getstate()))
    random.seed(_now)
    if "numpy" in sys.modules:
        _plant_in_numpy(importlib.import_module("numpy.random"))  # which it imports when it is used
    elif _waits_for_numpy not in sys.meta_path:
        sys.meta_path.insert(0, _waits_for_numpy)


def _plant_in_numpy(numpys: Any) -> None:
    if _now is None:
        return  # what imports it is no task
    if _restore is not None and not any(it.func is numpys.set_state for it in _restore):
        _restore.append(functools.partial(numpys.set_state, numpys.get_state()))
    numpys.seed([_now >> shift & 0xFFFFFFFF for shift in (0, 32, 64, 96)])


class _WaitsForNumpy:
    """Has NumPy's generator be seeded also in the task that is the first to import it."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """What others find; `numpy.random` is seeded then when it has been run."""
        if fullname != "numpy.random":
            return None
        sys.meta_path.remove(self)
        with contextlib.suppress(Exception):  # by a loader that is not to be changed: without seed
            found = (it.find_spec(fullname, path, target) for it in sys.meta_path)
            spec = next(it for it in found if it is not None)
            loader: Any = spec.loader
            run = loader.exec_module

            def run_and_plant(module: Any) -> None:
                run(module)
                _plant_in_numpy(module)

            loader.exec_module = run_and_plant
            return spec
        return None


_waits_for_numpy = _WaitsForNumpy()


@contextlib.contextmanager
def set_back() -> Iterator[None]:
    """In the program's own process: its generators go on after tasks as if these had no seed."""
    global _restore
    before, _restore = _restore, []
    try:
        yield
    finally:
        mine, _restore = _restore, before
        for restore in mine:
            restore()


class Seeds:
    """Gives each call to a pool what its seeds are made of.

    Args:
        seed: The pool's, if it has one: then no two calls have the same numbers.
    """

    def __init__(self, seed: int | None) -> None:
        check(seed)
        self._seed = seed
        self._calls = itertools.count()

    def for_call(self, seed: int | None) -> Seed | None:
        """The seed of the next call, which may have one of its own."""
        if seed is not None:
            return (seed,)
        return None if self._seed is None else (self._seed, next(self._calls))


def check(seed: Any) -> None:
    """Raises TypeError when that cannot be a seed."""
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise TypeError(f"seed must be an integer, not {seed!r}")
