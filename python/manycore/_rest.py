"""What a module of the standard library's has besides, under the name of ours."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def pass_on_rest(name: str) -> None:
    """Has a module of ours answer for each name that only the standard library's of that name has.

    Called at the module's end, since it could not tell a name that comes later. The standard
    library's is imported when it is asked for something.
    """
    module = sys.modules[name]
    part = name.partition(".")[2]

    def __getattr__(known: str) -> Any:
        found = None if known.startswith("__") else getattr(_standard(part), known, module)
        if found is None or found is module:
            raise AttributeError(f"module {name!r} has no attribute {known!r}")
        return found

    vars(module)["__getattr__"] = __getattr__


def _standard(part: str) -> ModuleType:
    """The standard library's module, which has another name where `install` was called."""
    moved = sys.modules.get(f"manycore._standard.{part}")
    return moved or importlib.import_module(f"multiprocessing.{part}")
