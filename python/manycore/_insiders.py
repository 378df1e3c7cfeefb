"""Packages that look into the standard library's own queues and locks, and so are given these.

Where the name `multiprocessing` leads to us, it goes on to lead to the standard library for modules
of such packages, as for `concurrent.futures.process`, which is one of this kind.
"""

from __future__ import annotations

import builtins
import importlib
import sys
import types
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

_INSIDERS = ("loky", "joblib.externals.loky")
"""Packages with subclasses of the standard library's that use its private attributes."""

_PACKAGE = "multiprocessing"
_MOVED = "manycore._standard"


class Finder(MetaPathFinder):
    """Finds the modules of these packages, and has them import what they look into."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        """What `PathFinder` finds, with another loader."""
        if not any(fullname == name or fullname.startswith(f"{name}.") for name in _INSIDERS):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Runs a module with an import of its own."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        """As the loader does that is used otherwise."""
        module: types.ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """The same, and the `import` statements of the module, later ones too, are ours."""
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import}
        self._loader.exec_module(module)


def _import(
    name: str,
    globals: Any = None,
    locals: Any = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> types.ModuleType:
    package, _, rest = name.partition(".")
    if level or package != _PACKAGE:
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    module = importlib.import_module(f"{_MOVED}.{rest}" if rest else _MOVED)
    return module if fromlist else sys.modules[_MOVED]
