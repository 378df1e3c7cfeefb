"""What a pipeline says: where an error comes from, and how far each stage is."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import Any

from manycore._stages import Stage


def no_end(error: BaseException) -> BaseException:
    """The error, to be raised where `StopIteration` would say that all is done."""
    if not isinstance(error, StopIteration):
        return error
    other = RuntimeError("a stage raised StopIteration, which would end the pipeline")
    other.__cause__ = error
    for note in getattr(error, "__notes__", ()):
        other.add_note(note)
    return other


def name_place(error: BaseException, of: Stage, index: int, number: int | None, text: str) -> None:
    """Notes at an error where in a pipeline it comes from."""
    where = f"in stage {index} of the pipeline, {of.name}"
    if number is not None:
        where += f", at item {number}: {text}"
    with suppress(Exception):  # of a class that refuses
        error.add_note(where)


def bars_of(stages: list[Stage], total: int | None) -> list[Any]:
    """A bar of progress for each stage.

    Raises:
        ModuleNotFoundError: When tqdm is not there.
    """
    from manycore import _progress

    bar = _progress.kind()
    totals = itertools.chain([total], itertools.repeat(None))
    return [
        bar(desc=it.name, total=length, position=line, leave=True)
        for line, (it, length) in enumerate(zip(stages, totals, strict=False))
    ]
