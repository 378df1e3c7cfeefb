"""Functions and tasks in words."""

from __future__ import annotations

import reprlib
from typing import Any

from manycore import _engine

_SHORT = reprlib.Repr()
_SHORT.maxother = _SHORT.maxstring = 60


def name_of(function: Any) -> str | None:
    """How a function is called in messages."""
    if function is None or isinstance(function, str):
        return function  # the name itself
    inner = getattr(function, "func", function)  # functools.partial
    name: str = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return name


def describe(job: _engine.Job, task: int) -> str:
    """A task in words: its function and its arguments in short."""
    name = name_of(job.function) or "this task"
    if name is job.function:
        return name  # it says enough
    try:
        about = job.about(task)
    except Exception:
        about = None
    if about is None:
        return name
    args, kwargs = about
    texts = [_SHORT.repr(it) for it in args]
    texts += [f"{key}={_SHORT.repr(it)}" for key, it in kwargs.items()]
    return f"{name}({', '.join(texts)})"
