"""Whether children may import the main module, as `multiprocessing` has them do it."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

MAIN_NAMES = ("__main__", "__mp_main__")

_LAUNCHERS = ("ipython", "ipykernel_launcher")
"""Scripts that are a terminal's or a notebook's: what the user defines is not in them."""

_known: tuple[ModuleType, bool] | None = None


def is_importable() -> bool:
    """Whether importing the main module again gives its functions and classes and does no more.

    It does when the part that is to run only once stands behind `if __name__ == "__main__":`.
    Where there is no file (a notebook, the prompt, `python -c`, standard input) or no such line,
    what is defined there has to travel by value.
    """
    global _known
    main = sys.modules["__main__"]
    if _known is None or _known[0] is not main:
        _known = main, _look_at(main)
    return _known[1]


def _look_at(main: ModuleType) -> bool:
    spec = getattr(main, "__spec__", None)
    if spec is not None and (spec.name == "__main__" or spec.name.endswith(".__main__")):
        return False  # of a package, a folder or an archive: never imported by children
    path = spec.origin if spec is not None else getattr(main, "__file__", None)
    if not path or os.path.splitext(os.path.basename(path))[0] in _LAUNCHERS:
        return False
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except OSError:
        return False  # it was no file, as standard input, or is none any more
    except (SyntaxError, ValueError):
        return True  # it has been compiled: nobody can say
    return _is_guarded(tree)


def _is_guarded(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.If) and _asks_for_main(node.test) for node in _run_at_import(tree.body)
    )


def _run_at_import(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements, and those within them that belong to no function or class."""
    for statement in statements:
        yield statement
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            nested: Any
            for _, nested in ast.iter_fields(statement):
                if isinstance(nested, list):
                    yield from _run_at_import([it for it in nested if isinstance(it, ast.stmt)])


def _asks_for_main(test: ast.expr) -> bool:
    """Whether a condition compares `__name__` with the main module's."""
    for node in ast.walk(test):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            names = {side.id for side in sides if isinstance(side, ast.Name)}
            texts = {side.value for side in sides if isinstance(side, ast.Constant)}
            if "__name__" in names and "__main__" in texts:
                return True
    return False
