"""Functions and tasks in words."""

from __future__ import annotations

import reprlib
from typing import Any

from manycore import _engine


class _Short(reprlib.Repr):
    """What is long is told in short, and not made long first."""

    def __init__(self) -> None:
        super().__init__()
        self.maxother = self.maxstring = 60

    def _begin(self, value: Any, level: int) -> str:
        start = repr(value[: self.maxstring])
        return start if len(value) <= self.maxstring else f"{start}..."

    repr_bytes = repr_bytearray = _begin


_SHORT = _Short()


def name_of(function: Any) -> str | None:
    """How a function is called in messages."""
    if function is None or isinstance(function, str):
        return function  # the name itself
    inner = getattr(function, "func", function)  # functools.partial
    name: str = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return name


def describe(job: _engine.Job, task: int, item: int | None = None) -> str:
    """A task in words, or an item of it: its function and its arguments in short."""
    name = name_of(job._function) or "this task"
    if name is job._function:
        return name  # it says enough
    try:
        about = job._about(task, item)
        if about is None:
            return name
        args, kwargs = about
        texts = [_SHORT.repr(it) for it in args]
        texts += [f"{key}={_SHORT.repr(it)}" for key, it in kwargs.items()]
    except Exception:  # whatever the arguments do when they are asked
        return name
    return f"{name}({', '.join(texts)})"


_PLACES = {
    "not_handed_out": "This was raised here, when {} was handed out to a worker.",
    "undecodable_answer": (
        "This was raised here, when the answer of {} was unpickled, which a worker had run."
    ),
}


def note(error: BaseException, place: str, job: _engine.Job, task: int) -> None:
    """Has an error that was raised in this process say with which task that was."""
    error.add_note(_PLACES[place].format(describe(job, task)))
