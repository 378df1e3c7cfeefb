"""Looking for `if __name__ == "__main__":` in a program's text."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Any


def behind_guard(source: bytes) -> frozenset[str] | None:
    """The functions and classes that a program defines only where `__name__` is `"__main__"`.

    None if there is no part of it that runs only there.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return frozenset()  # it has been compiled: nobody can say
    guards: list[ast.stmt] = [
        node
        for node in _run_at_import(tree.body)
        if isinstance(node, ast.If) and _asks_for_main(node.test)
    ]
    if not guards:
        return None
    behind = set(_run_at_import(guards))  # whichever side of it that is
    elsewhere = set(_run_at_import(tree.body)) - behind
    return _definitions(behind) - _definitions(elsewhere)


def _definitions(statements: Iterable[ast.stmt]) -> frozenset[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return frozenset(it.name for it in statements if isinstance(it, kinds))


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
