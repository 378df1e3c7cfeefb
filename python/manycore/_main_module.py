"""Whether children may import the main module, as `multiprocessing` has them do it."""

from __future__ import annotations

import os
import sys
from types import ModuleType

MAIN_NAMES = ("__main__", "__mp_main__")

_LAUNCHERS = ("ipython", "ipykernel_launcher")
"""Scripts that are a terminal's or a notebook's: what the user defines is not in them."""

_known: tuple[ModuleType, frozenset[str] | None] | None = None
"""The main module that was looked at, and what was found."""


def is_importable() -> bool:
    """Whether importing the main module again gives its functions and classes and does no more.

    It does when the part that is to run only once stands behind `if __name__ == "__main__":`.
    Where there is no file (a notebook, the prompt, `python -c`, standard input) or no such line,
    what is defined there has to travel by value.
    """
    return _looked_at() is not None


def behind_guard() -> frozenset[str]:
    """The functions and classes that a main module which may be imported defines only when run."""
    return _looked_at() or frozenset()


def _looked_at() -> frozenset[str] | None:
    global _known
    main = sys.modules["__main__"]
    if _known is None or _known[0] is not main:
        _known = main, _look_at(main)
    return _known[1]


def _look_at(main: ModuleType) -> frozenset[str] | None:
    """What of the main module an import does not define; None where it may not be imported."""
    spec = getattr(main, "__spec__", None)
    if spec is not None and (spec.name == "__main__" or spec.name.endswith(".__main__")):
        return None  # of a package, a folder or an archive: never imported by children
    path = spec.origin if spec is not None else getattr(main, "__file__", None)
    if not path or os.path.splitext(os.path.basename(path))[0] in _LAUNCHERS:
        return None
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError:
        return None  # it was no file, as standard input, or is none any more
    from manycore._guard import behind_guard  # children, who look at nothing, start without

    return behind_guard(source)
