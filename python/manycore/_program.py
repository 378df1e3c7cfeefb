"""Running an unchanged program on manycore, in place of the interpreter's own start of it."""

from __future__ import annotations

import os
import pkgutil
import runpy
import sys
import types
from collections.abc import Sequence

from manycore._install import install


def run_script(path: str, arguments: Sequence[str]) -> None:
    """Does what `python PATH ARGUMENT...` does, with the name `multiprocessing` leading to us.

    Args:
        path: Of a file, or of a folder or an archive that has a `__main__.py`.
        arguments: The program's own.

    Raises:
        OSError: When it cannot be read.
    """
    install()
    sys.argv[:] = [path, *arguments]
    if pkgutil.get_importer(path) is not None:
        _enter(os.path.abspath(path))
        runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]
        return
    with open(path, "rb") as file:
        source = file.read()
    main = _enter(os.path.dirname(os.path.realpath(path)))
    main.__file__ = os.path.abspath(path)
    exec(compile(source, main.__file__, "exec", dont_inherit=True), vars(main))


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Does what `python -m NAME ARGUMENT...` does, with `multiprocessing` leading to us."""
    install()
    sys.argv[:] = [name, *arguments]
    _enter(os.getcwd())
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _enter(folder: str) -> types.ModuleType:
    """A new main module, which stays to the end of the process; modules are sought in a folder."""
    if not sys.flags.safe_path:
        sys.path[0] = folder
    main = types.ModuleType("__main__")
    main.__builtins__ = sys.modules["builtins"]  # type: ignore[attr-defined]
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    return main
