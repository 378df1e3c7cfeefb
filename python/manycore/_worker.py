"""Which worker of a pool this code runs in, and what its pool has set up there."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace

from manycore._pickling import loads_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Worker:
    """A worker of a pool, as the functions see it that run there.

    Attributes:
        id: Its place in the pool: 0, 1, and so on. A worker that replaces another has the same.
        state: What the functions want to keep from one task to the next. A new worker has none.
    """

    __slots__ = ("id", "state")

    def __init__(self, id: int) -> None:
        self.id = id
        self.state = SimpleNamespace()

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} id={self.id}>"


_current: tuple[int, Worker] | None = None


def current_worker() -> Worker | None:
    """As the package's."""
    if _current is None or _current[0] != os.getpid():  # a child of a worker is none
        return None
    return _current[1]


@contextlib.contextmanager
def being(worker: Worker) -> Iterator[None]:
    """Has code run as a worker's."""
    global _current
    before, _current = _current, (os.getpid(), worker)
    try:
        yield
    finally:
        _current = before


Pins = bool | Iterable[int | Iterable[int]]
"""Which CPUs the workers have: one each; or, by worker, one or several."""


class Surroundings:
    """What a pool sets up in each worker.

    Args:
        initializer: Called before the first task.
        initargs: Its arguments.
        finalizer: Called when the worker leaves in order.
        finalargs: Its arguments.
        pins: The CPUs of each worker, by its number; after the last one the first again.
        passes_worker: Whether functions get the worker as their first argument.
        measures: Whether the worker measures what its time is spent on.
    """

    def __init__(
        self,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        finalizer: Callable[..., object] | None = None,
        finalargs: tuple[Any, ...] = (),
        pins: tuple[frozenset[int], ...] = (),
        passes_worker: bool = False,
        measures: bool = False,
    ) -> None:
        self.initializer = initializer
        self.initargs = initargs
        self.finalizer = finalizer
        self.finalargs = finalargs
        self.pins = pins
        self.passes_worker = passes_worker
        self.measures = measures

    def check(self) -> None:
        """Raises TypeError when what is to be called cannot be."""
        for name in ("initializer", "finalizer"):
            function = getattr(self, name)
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a callable")

    def pin(self, worker: Worker) -> None:
        """Binds this process to the CPUs of a worker."""
        if self.pins:
            os.sched_setaffinity(0, self.pins[worker.id % len(self.pins)])

    def begin(self) -> None:
        """Does what is done before the first task."""
        if self.initializer is not None:
            self.initializer(*self.initargs)

    def end(self) -> None:
        """Does what is done after the last task. An error in it is printed, and changes nothing."""
        if self.finalizer is not None:
            try:
                self.finalizer(*self.finalargs)
            except Exception:
                import traceback  # workers start without

                traceback.print_exc()

    def settle(self, seat: Any, worker: Worker) -> None:
        """Has a seat run functions as the pool wants it."""
        if self.passes_worker:
            seat.load_by(functools.partial(_load_for, worker))
        if self.measures:
            seat.measure()


def _load_for(worker: Worker, pickled: bytes) -> Callable[..., object]:
    return functools.partial(loads_function(pickled), worker)


def pins_of(pin: Pins) -> tuple[frozenset[int], ...]:
    """The CPUs of each worker.

    Raises:
        ValueError: When this process may not use one of them.
    """
    mine = os.sched_getaffinity(0)
    if isinstance(pin, bool):
        return tuple(frozenset({cpu}) for cpu in sorted(mine)) if pin else ()
    pins = tuple(frozenset({it} if isinstance(it, int) else it) for it in pin)
    if not pins:
        raise ValueError("pin names no CPU: give True for one each, or leave it out")
    for cpus in pins:
        if not cpus or not cpus <= mine:
            raise ValueError(
                f"a worker cannot be pinned to the CPUs {sorted(cpus)}: this process may use "
                f"{sorted(mine)}"
            )
    return pins


def checked_environment(environment: Mapping[str, str] | None) -> dict[str, str]:
    """The variables that workers shall have besides.

    Raises:
        TypeError, ValueError: When they cannot be variables.
    """
    variables = dict(environment or {})
    for name, value in variables.items():
        if not isinstance(name, str) or not isinstance(value, str):  # type: ignore[redundant-expr]
            raise TypeError(f"environment is of texts, not {name!r}: {value!r}")
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"environment cannot have {name!r}: {value!r}")
    return variables
