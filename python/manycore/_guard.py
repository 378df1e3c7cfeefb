"""Looking for `if __name__ == "__main__":` in a program's text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any


def is_guarded(source: bytes) -> bool:
    """Whether a program has a part that only runs where `__name__` is `"__main__"`."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return True  # it has been compiled: nobody can say
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
