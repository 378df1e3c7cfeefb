"""The implementations of ``multiprocessing``'s interface that are compared."""

import importlib
from typing import Any, Protocol

SERIAL = "serial"
STANDARD = "multiprocessing"
OURS = "manycore"
BACKENDS = (SERIAL, STANDARD, OURS)


class Backend(Protocol):
    """The part of ``multiprocessing``'s interface that this job uses."""

    def Process(self, *, target: Any, args: Any, name: str, daemon: bool) -> Any: ...
    def Queue(self, maxsize: int = 0) -> Any: ...
    def Pool(self, processes: int, *, initializer: Any) -> Any: ...
    def cpu_count(self) -> int: ...


Backends = dict[str, Backend | None]
"""The backends of a run by name; ``None`` does everything in one process."""


class BackendMissing(Exception):
    """A backend cannot be imported."""


def load(name: str, start_method: str | None) -> Backend:
    """Import the backend only now, so that each works without the other.

    Raises:
        BackendMissing: The module is not installed, or not built.
    """
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise BackendMissing(
            f"cannot import {name} ({error}); build and install it, or leave it out with "
            f"--backend {STANDARD}"
        ) from error
    return module.get_context(start_method)
